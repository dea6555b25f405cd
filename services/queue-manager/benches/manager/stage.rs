//! queue-manager as a process of its own, and all that it stands on.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use queue_manager::{state::Workflow, store::Store};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::SecretString;
use serde_json::{Value, json};
use streamforge_arango::{ArangoConfig, AuthMode, Database, Retry, Session};
use streamforge_devstack::{
    arango::ArangoServer,
    exchange::Exchange,
    kafka::{Broker, KAFKA_DIR},
};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::Args;

const PASSWORD: &str = "correct horse";
const DATABASE: &str = "streamforge";
const LIMIT: Duration = Duration::from_secs(120);
pub(crate) const TOPIC: &str = "queue-events";
pub(crate) const KIND: &str = "api_candles_1m";
pub(crate) const RANGE: &str = "2024-08-01:2024-08-31";
pub(crate) const SYMBOLS: [&str; 4] = ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"];

pub(crate) struct Stage {
    pub(crate) broker: Broker,
    pub(crate) store: Store,
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    arango: ArangoServer,
    exchange: Exchange,
    dir: TempDir,
    running: u32,
    manager: Option<Child>,
}

impl Stage {
    pub(crate) async fn set(args: &Args) -> Self {
        let broker = Broker::start().unwrap();
        assert!(
            broker.is_real(),
            "the dev stack's broker keeps too little: run ci/kafka.sh start, and set {KAFKA_DIR}"
        );
        let events = broker.read_topic(TOPIC).await.unwrap();
        assert!(
            events.is_empty(),
            "the broker is to be new: others' events would count"
        );
        let arango = ArangoServer::builder().root_password(PASSWORD);
        let arango = arango.start().await.unwrap();
        let exchange = Exchange::builder().symbols(SYMBOLS).start().await.unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", port.local_addr().unwrap());
        drop(port);
        let mut stage = Self {
            broker,
            store: store(&arango),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            url,
            arango,
            exchange,
            dir: TempDir::new().unwrap(),
            running: args.running,
            manager: None,
        };
        stage.start().await;
        stage
    }

    /// Workers that do nothing.
    fn sleeper(&self) -> PathBuf {
        let path = self.dir.path().join("sleeper");
        fs::write(&path, "#!/bin/sh\nexec sleep 86400\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        path
    }

    /// Starts it; how long until it was ready.
    pub(crate) async fn start(&mut self) -> Duration {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let mut vars = self.broker.manager_vars().unwrap();
        let own = [
            ("ARANGO_URL", self.arango.url()),
            ("ARANGO_DB", DATABASE.to_owned()),
            ("ARANGO_USER", "root".to_owned()),
            ("ARANGO_PASSWORD", PASSWORD.to_owned()),
            ("BINANCE_API_URL", self.exchange.url().to_string()),
            ("LAUNCHER", "process".to_owned()),
            ("JOBS_DIR", path(&self.dir.path().join("jobs"))),
            ("WORKER_PROGRAM", path(&self.sleeper())),
            ("STOP_JOBS_AT_EXIT", "true".to_owned()),
            ("API_LISTEN", self.url.replace("http://", "")),
            ("MAX_WORKFLOWS", self.running.to_string()),
            ("MAX_LOADERS", self.running.to_string()),
            // The broker is shared, the database is not.
            (
                "QUEUE_EVENTS_GROUP",
                format!("queue-manager-bench-{}", std::process::id()),
            ),
            ("LOG_LEVEL", "warn".to_owned()),
        ];
        vars.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let begun = Instant::now();
        let manager = Command::new(env!("CARGO_BIN_EXE_queue-manager"))
            .env_clear()
            .envs(vars)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.manager = Some(manager);
        let ready = format!("{}/health/ready", self.url);
        self.until("it is ready", || async {
            let answer = self.http.get(&ready).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        begun.elapsed()
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Kills it, so that it can tidy up nothing.
    pub(crate) async fn kill(&mut self) {
        self.manager.take().unwrap().kill().await.unwrap();
    }

    /// Lets it stand still.
    pub(crate) fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    pub(crate) fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// Ends it, and its workers with it.
    pub(crate) async fn end(mut self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let mut manager = self.manager.take().unwrap();
        let ended = tokio::time::timeout(LIMIT, manager.wait()).await;
        assert!(ended.unwrap().unwrap().success(), "{}", self.said());
        let said = self.said();
        if !said.is_empty() {
            eprintln!("What it warned of:\n{said}");
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn pid(&self) -> Pid {
        let id = self.manager.as_ref().and_then(Child::id).unwrap();
        Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
    }

    pub(crate) fn memory_mib(&self) -> f64 {
        self.mib("VmRSS:")
    }

    /// The most that this process of it ever had.
    pub(crate) fn peak_memory_mib(&self) -> f64 {
        self.mib("VmHWM:")
    }

    fn mib(&self, field: &str) -> f64 {
        let path = format!("/proc/{}/status", self.pid().as_raw_nonzero());
        let status = fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib: f64 = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .and_then(|kib| kib.parse().ok())
            .unwrap();
        kib / 1024.0
    }

    /// Waits for something.
    pub(crate) async fn until<F: Future<Output = bool>>(&self, what: &str, is_so: impl Fn() -> F) {
        let waiting = async {
            while !is_so().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, waiting).await;
        assert!(
            waited.is_ok(),
            "not until {what} within {LIMIT:?}:\n{}",
            self.said()
        );
    }

    /// The body of a request for a workflow.
    pub(crate) fn request(number: u32) -> Value {
        let symbol = SYMBOLS[number as usize % SYMBOLS.len()];
        json!({"symbol": symbol, "type": KIND, "time_range": RANGE})
    }

    /// Starts workflows, and waits until their workers are launched.
    pub(crate) async fn start_running(&self, count: u32) -> Vec<Workflow> {
        for number in 0..count {
            let request = self.http.post(format!("{}/queues/start", self.url));
            let answer = request.json(&Self::request(number)).send().await.unwrap();
            assert!(answer.status().is_success(), "{answer:?}\n{}", self.said());
        }
        let all = || self.store.workflows::<Workflow>();
        let filter = queue_manager::store::Filter::default();
        self.until("all are launched", || async {
            let found = all().all(&filter).await.unwrap();
            let mut parts = found.iter().flat_map(|found| &found.content.parts);
            parts.all(|part| part.status == queue_manager::state::Status::Starting)
        })
        .await;
        let found = all().all(&filter).await.unwrap();
        found.into_iter().map(|found| found.content).collect()
    }
}

fn store(arango: &ArangoServer) -> Store {
    let config = ArangoConfig {
        url: arango.url().parse().unwrap(),
        database: DATABASE.to_owned(),
        user: "root".to_owned(),
        password: SecretString::from(PASSWORD),
        ca_path: None,
        auth: AuthMode::Jwt,
    };
    let session = Arc::new(Session::new(&config, LIMIT).unwrap());
    Store::new(Database::new(
        session,
        Arc::new(Retry::new(LIMIT)),
        DATABASE,
    ))
}
