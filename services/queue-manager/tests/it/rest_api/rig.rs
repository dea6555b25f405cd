//! A replica's API, and who asks it.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use queue_manager::{
    admission::Limits as RunLimits,
    auth::{Access, TokenFile},
    connections::{Bounds, Server},
    flows::{DEFAULT, Flows},
    launcher::{JobSpec, JobStatus, LaunchError, Launched, Launcher},
    limits::Limits,
    live::Hub,
    metrics::ApiMetrics,
    plan::Planner,
    readiness::{Needs, Readiness},
    routes::{Api, router, routers},
    service::{Parts, Service},
    state::Workflow,
    store::{LeaseTimes, Store},
    symbols::Symbols,
};
use reqwest::{Method, RequestBuilder, header::HeaderMap};
use secrecy::SecretString;
use serde_json::Value;
use streamforge_arango::{ArangoConfig, AuthMode, Database, Query, Retry, Session};
use streamforge_devstack::{arango::ArangoServer, exchange::Exchange};
use streamforge_utils::protocol::QueueId;
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

pub(super) const READ: &str = "token-that-may-read";
pub(super) const FULL: &str = "token-that-may-all";
const PASSWORD: &str = "correct horse";
const DATABASE: &str = "streamforge";

/// Launches nothing, and has the logs that it is given.
#[derive(Default)]
pub(super) struct Logs {
    by_job: Mutex<BTreeMap<String, String>>,
    is_away: Mutex<bool>,
}

impl Logs {
    pub(super) fn set(&self, job: &str, text: &str) {
        let mut logs = self.by_job.lock().unwrap();
        logs.insert(job.to_owned(), text.to_owned());
    }

    pub(super) fn set_away(&self) {
        *self.is_away.lock().unwrap() = true;
    }
}

#[async_trait]
impl Launcher for Logs {
    fn name(&self) -> &'static str {
        "process"
    }

    async fn ready(&self) -> Result<(), LaunchError> {
        Ok(())
    }

    async fn launch(&self, _job: &JobSpec) -> Result<Launched, LaunchError> {
        Err(LaunchError::Refused("it only has logs".to_owned()))
    }

    async fn jobs(&self) -> Result<Vec<JobStatus>, LaunchError> {
        Ok(Vec::new())
    }

    async fn delete(&self, _name: &str) -> Result<(), LaunchError> {
        Ok(())
    }

    async fn logs(&self, name: &str, lines: u32) -> Result<Option<String>, LaunchError> {
        if *self.is_away.lock().unwrap() {
            return Err(LaunchError::Unavailable("at 10.0.0.1".to_owned()));
        }
        let logs = self.by_job.lock().unwrap();
        Ok(logs.get(name).map(|text| {
            let all: Vec<&str> = text.lines().collect();
            let first = all.len().saturating_sub(lines as usize);
            all[first..].join("\n")
        }))
    }

    async fn changed(&self) {
        std::future::pending().await
    }
}

/// What tests turn.
pub(super) struct Settings {
    pub(super) with_tokens: bool,
    pub(super) limits: Limits,
    pub(super) run_limits: RunLimits,
    pub(super) store_deadline: Duration,
    pub(super) bounds: Bounds,
    /// Streams at a time.
    pub(super) streams: usize,
    /// Health and metrics have a listener of their own.
    pub(super) own_health: bool,
    /// Instead of the dev stack's.
    pub(super) exchange: Option<Url>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            with_tokens: false,
            limits: Limits::new(64 * 1024, Duration::from_secs(20), 64),
            run_limits: RunLimits {
                workflows: 50,
                loaders_per_exchange: 4,
            },
            store_deadline: Duration::from_secs(20),
            bounds: Bounds::of(256),
            streams: 512,
            own_health: false,
            exchange: None,
        }
    }
}

/// A replica, and all that it stands on.
pub(super) struct Rig {
    pub(super) url: String,
    /// Where health and metrics are.
    pub(super) health_url: String,
    pub(super) arango: ArangoServer,
    pub(super) exchange: Exchange,
    pub(super) store: Store,
    pub(super) logs: Arc<Logs>,
    pub(super) nudge: Arc<Notify>,
    pub(super) readiness: Readiness,
    http: reqwest::Client,
    token: Option<&'static str>,
    /// Has the token file.
    pub(super) folder: tempfile::TempDir,
    _stop: DropGuard,
}

pub(super) fn planner() -> Planner {
    Planner {
        image_registry: "registry.example/streamforge".to_owned(),
        image_tag: "1.2.3".to_owned(),
        images_allowed: vec!["ours/*".to_owned()],
        control_topic: "queue-control".to_owned(),
        events_topic: "queue-events".to_owned(),
        replication: None,
        retention_hours: 168,
        partition_records: None,
        metrics_port: Some(0),
    }
}

fn token_file(folder: &Path) -> TokenFile {
    use std::os::unix::fs::PermissionsExt;

    // printf %s token-that-may-read | sha256sum; printf %s token-that-may-all | sha256sum
    let text = "ui read 954b812af3b204f0a110863cf4004f20846188bb7cc48861f860cd54772fbe87\n\
        ops full baf66724c8bdf56bf8d5faaa2b5d5414de3298383b611249f39832e78b7c42f8\n";
    let path = folder.join("tokens");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    TokenFile::open(&path).unwrap()
}

/// Where the API is, and where health and metrics are.
async fn serve(
    api: Api,
    bounds: Bounds,
    own_health: bool,
    stop: &CancellationToken,
) -> (String, String) {
    let served = async |router, bounds, open| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(Server::new(listener, router, bounds, open).run(stop.clone()));
        url
    };
    let open = api.metrics.connections.clone();
    if !own_health {
        let url = served(router(api), bounds, open).await;
        return (url.clone(), url);
    }
    let (router, health) = routers(api);
    let unseen = prometheus::IntGauge::new("unseen", "in a test").unwrap();
    let health_url = served(health, Bounds::of(8), unseen).await;
    (served(router, bounds, open).await, health_url)
}

fn database(arango: &ArangoServer, deadline: Duration) -> Database {
    let config = ArangoConfig {
        url: arango.url().parse().unwrap(),
        database: DATABASE.to_owned(),
        user: "root".to_owned(),
        password: SecretString::from(PASSWORD),
        ca_path: None,
        auth: AuthMode::Jwt,
    };
    let session = Arc::new(Session::new(&config, deadline).unwrap());
    Database::new(session, Arc::new(Retry::new(deadline)), DATABASE)
}

impl Rig {
    pub(super) async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    pub(super) async fn start_with(settings: Settings) -> Self {
        let arango = ArangoServer::builder().root_password(PASSWORD);
        let arango = arango.start().await.unwrap();
        let exchange = Exchange::builder().symbols(["BTCUSDT", "ETHUSDT"]);
        let exchange = exchange.start().await.unwrap();
        // A deadline that suits a test may be too short for the making of collections.
        let made = Store::new(database(&arango, Duration::from_secs(20)));
        made.prepare(LeaseTimes::default()).await.unwrap();
        let store = Store::new(database(&arango, settings.store_deadline));
        let logs = Arc::new(Logs::default());
        let (nudge, changed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let planner = planner();
        let stop = CancellationToken::new();
        let registry = prometheus::Registry::new();
        let metrics = Arc::new(ApiMetrics::register(&registry).unwrap());
        let listeners = metrics.listeners.clone();
        let hub = Arc::new(Hub::new(
            &store,
            settings.streams,
            listeners,
            Arc::clone(&changed),
            stop.clone(),
        ));
        let flows = Flows::read(DEFAULT, &planner).unwrap();
        let launcher: Arc<dyn Launcher> = Arc::clone(&logs) as _;
        let service = Service::new(Parts {
            telemetry: store.telemetry(Duration::from_secs(3_600)),
            store: store.clone(),
            launcher,
            symbols: Symbols::new(
                settings.exchange.as_ref().unwrap_or(exchange.url()),
                Duration::from_secs(10),
            )
            .unwrap(),
            planner,
            flows,
            run_limits: settings.run_limits,
            nudge: Arc::clone(&nudge),
            changed,
        });
        let folder = tempfile::tempdir().unwrap();
        let access = match settings.with_tokens {
            true => Access::Tokens(token_file(folder.path())),
            false => Access::Open,
        };
        let readiness = Readiness::new(Needs::default().and("arangodb", {
            let store = store.clone();
            move || {
                let store = store.clone();
                async move { store.check().await.map_err(|error| error.to_string()) }
            }
        }));
        let api = Api {
            service: Arc::new(service),
            hub: Arc::clone(&hub),
            access: Arc::new(access),
            limits: settings.limits,
            readiness: readiness.clone(),
            metrics,
            registry,
        };
        tokio::spawn(async move { hub.run().await });
        let (url, health_url) = serve(api, settings.bounds, settings.own_health, &stop).await;
        Self {
            url,
            health_url,
            arango,
            exchange,
            store,
            logs,
            nudge,
            readiness,
            http: reqwest::Client::new(),
            token: settings.with_tokens.then_some(FULL),
            folder,
            _stop: stop.drop_guard(),
        }
    }

    /// A request with the token that may do everything, if there are tokens.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.bare(method, path);
        match self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(super) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    pub(super) async fn get(&self, path: &str) -> Answered {
        answered(self.request(Method::GET, path)).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answered {
        answered(self.request(Method::POST, path).json(body)).await
    }

    /// Starts a dummy, which asks nobody.
    pub(super) async fn started(&self) -> QueueId {
        let body = serde_json::json!({"flow_name": "dummy_flow"});
        let answer = self.post("/queues/start-test-flow", &body).await;
        assert_eq!(answer.code, 202, "{:?}", answer.body);
        let id = answer.body["data"]["queue_id"].as_str().unwrap();
        id.parse().unwrap()
    }

    /// As if the answers to requests with a key had never been stored.
    pub(super) async fn forget_answers(&self) {
        let database = database(&self.arango, Duration::from_secs(20));
        let query = Query::new("FOR d IN @@answers REMOVE d IN @@answers");
        let query = query.bind("@answers", "streamforge-idempotency");
        database
            .execute("forgetting answers", &query)
            .await
            .unwrap();
    }

    /// Changes a document as the conductor would.
    pub(super) async fn change(&self, id: &QueueId, change: impl Fn(&mut Workflow)) {
        let workflows = self.store.workflows::<Workflow>();
        let changed = workflows.update(id, |workflow| {
            change(workflow);
            true
        });
        changed.await.unwrap();
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) code: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

pub(super) async fn answered(request: RequestBuilder) -> Answered {
    let response = request.send().await.unwrap();
    Answered {
        code: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.json().await.unwrap(),
    }
}

/// The fields that an answer calls wrong.
pub(super) fn fields(answer: &Answered) -> Vec<String> {
    let errors = answer.body["data"]["errors"].as_array().unwrap();
    let field = |error: &Value| error["field"].as_str().unwrap().to_owned();
    errors.iter().map(field).collect()
}
