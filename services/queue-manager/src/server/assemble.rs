//! Makes the parts of queue-manager from its configuration, and each ready for the next.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use axum::Router;
use prometheus::{IntGauge, Registry};
use streamforge_arango::{Database, Retry, Session};
use streamforge_utils::{
    config::{KafkaConfig, Section, Vars},
    control::Commander,
    kafka::Topics,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    SERVICE,
    admission::Limits as RunLimits,
    auth::{Access, TokenFile},
    conductor::{Conductor, ConductorMetrics, ConductorSettings},
    config::{Config, HealConfig, JobsConfig, LauncherKind},
    connections::Bounds,
    descriptors,
    flows::{self, Flows},
    heal::HealSettings,
    launcher::{
        Launcher,
        kubernetes::{
            self, JobSettings, KubernetesLauncher, KubernetesSettings, Overrides, SecretKey,
        },
        process::{ProcessLauncher, ProcessSettings},
    },
    leading::LEASE,
    limits::Limits,
    live::Hub,
    metrics::ApiMetrics,
    plan::Planner,
    readiness::{Needs, Readiness},
    routes::{self, Api},
    service::{Parts, Service},
    store::{Lease, LeaseTimes, Store},
    symbols::Symbols,
};

/// How long the database may take before this replica gives up at its start, and for each request later.
const DATABASE_DEADLINE: Duration = Duration::from_secs(30);
/// How long a broker may take for a command; healing sends it again.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the exchange may take to say whether it has a symbol.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Most streams of one replica.
const MOST_STREAMS: usize = 512;

/// Everything, ready to run.
pub(super) struct Assembled {
    pub(super) conductor: Conductor,
    pub(super) lease: Lease,
    pub(super) router: Router,
    /// Health and metrics, if they have a listener of their own.
    pub(super) health: Option<Router>,
    /// How many connections the API may have.
    pub(super) bounds: Bounds,
    /// Shows how many it has.
    pub(super) connections: IntGauge,
    pub(super) hub: Arc<Hub>,
    pub(super) readiness: Readiness,
    pub(super) launcher: Arc<dyn Launcher>,
}

/// Makes everything, and the collections in the database.
///
/// # Errors
/// Something is not as the configuration says, or does not answer.
pub(super) async fn assemble(
    config: &Config,
    vars: &Vars,
    stopping: CancellationToken,
    registry: Registry,
) -> anyhow::Result<Assembled> {
    let access = access(config)?;
    let planner = config.planner();
    let flows = flows(config, &planner)?;
    let store = store(config).await?;
    let quarantine = store.quarantine();
    quarantine.register(&registry).context("register metrics")?;
    let launcher = launcher(config, vars, &store).await?;
    let kafka = &config.kafka;
    let topics = Topics::new(kafka, SERVICE).context("make a client of Kafka")?;
    let events_topic = config.topics.queue_events_topic.as_str().to_owned();
    let nudge = Arc::new(Notify::new());
    let changed = Arc::new(Notify::new());
    let bounds = bounds(config);
    let metrics = ApiMetrics::register(&registry).context("register metrics")?;
    let conductor = Conductor {
        store: store.clone(),
        launcher: Arc::clone(&launcher),
        kafka: kafka.clone(),
        topics: topics.clone(),
        commander: Commander::new(
            kafka,
            SERVICE,
            config.topics.queue_control_topic.as_str(),
            COMMAND_TIMEOUT,
        )
        .context("make a client of Kafka")?,
        settings: conductor_settings(config),
        nudge: Arc::clone(&nudge),
        changed: Arc::clone(&changed),
        metrics: ConductorMetrics::register(&registry).context("register metrics")?,
    };
    let hub = Arc::new(Hub::new(
        &store,
        // So that streams never keep requests out.
        (bounds.connections / 2).min(MOST_STREAMS),
        metrics.listeners.clone(),
        Arc::clone(&changed),
        stopping,
    ));
    let readiness = readiness(&store, &topics, &events_topic, &launcher);
    let symbols = Symbols::new(config.exchange.binance_api_url.url(), EXCHANGE_TIMEOUT)
        .context("make a client of the exchange (BINANCE_API_URL)")?;
    let service = Service::new(Parts {
        telemetry: store.telemetry(config.heal.keep_events_secs.duration()),
        store: store.clone(),
        launcher: Arc::clone(&launcher),
        symbols,
        planner,
        flows,
        run_limits: run_limits(config),
        nudge,
        changed,
    });
    let connections = metrics.connections.clone();
    let (router, health) = routers(
        config,
        Api {
            service: Arc::new(service),
            hub: Arc::clone(&hub),
            access: Arc::new(access),
            limits: request_limits(config),
            readiness: readiness.clone(),
            metrics: Arc::new(metrics),
            registry,
        },
    );
    let holder = uuid::Uuid::now_v7().to_string();
    Ok(Assembled {
        lease: store.lease(LEASE, &holder, lease_times(&config.heal)),
        conductor,
        router,
        health,
        bounds,
        connections,
        hub,
        readiness,
        launcher,
    })
}

fn bounds(config: &Config) -> Bounds {
    Bounds::of(descriptors::connections(
        usize_of(config.api.api_max_connections.get()),
        usize_of(config.api.api_max_in_flight.get()),
    ))
}

fn request_limits(config: &Config) -> Limits {
    Limits::new(
        usize_of(config.api.api_max_body_bytes.get()),
        config.api.api_timeout_secs.duration(),
        usize_of(config.api.api_max_in_flight.get()),
    )
}

/// The API, and health and metrics if they have a listener of their own.
fn routers(config: &Config, api: Api) -> (Router, Option<Router>) {
    if config.api.health_listen.is_none() {
        return (routes::router(api), None);
    }
    let (router, health) = routes::routers(api);
    (router, Some(health))
}

fn flows(config: &Config, planner: &Planner) -> anyhow::Result<Flows> {
    let text = match &config.images.test_flows_file {
        None => flows::DEFAULT.to_owned(),
        Some(path) => fs::read_to_string(path)
            .with_context(|| format!("read {} (TEST_FLOWS_FILE)", path.display()))?,
    };
    Flows::read(&text, planner).context("read the test flows (TEST_FLOWS_FILE)")
}

fn run_limits(config: &Config) -> RunLimits {
    RunLimits {
        workflows: usize_of(config.heal.max_workflows.get()),
        loaders_per_exchange: usize_of(config.heal.max_loaders.get()),
    }
}

fn conductor_settings(config: &Config) -> ConductorSettings {
    ConductorSettings {
        heal: heal_settings(&config.heal),
        limits: run_limits(config),
        look_interval: config.heal.reconcile_interval_secs.duration(),
        job_deadline: config.heal.job_deadline_secs.duration(),
        events_kept: config.heal.keep_events_secs.duration(),
        events_topic: config.topics.queue_events_topic.as_str().to_owned(),
        events_group: config.topics.queue_events_group.as_str().to_owned(),
    }
}

fn access(config: &Config) -> anyhow::Result<Access> {
    Ok(match &config.api.api_tokens_file {
        // The configuration has seen to it that only this machine can ask.
        None => Access::Open,
        Some(path) => Access::Tokens(
            TokenFile::open(path)
                .with_context(|| format!("read {} (API_TOKENS_FILE)", path.display()))?,
        ),
    })
}

async fn store(config: &Config) -> anyhow::Result<Store> {
    let session = Session::new(&config.arango, DATABASE_DEADLINE)?;
    let retry = Retry::new(DATABASE_DEADLINE);
    let database = Database::new(Arc::new(session), Arc::new(retry), &config.arango.database);
    let store = Store::new(database);
    let times = lease_times(&config.heal);
    let prepared = store.prepare(times).await;
    prepared.context("prepare the database")?;
    Ok(store)
}

/// Ready when the events can be found, the database answers, and something could be launched.
fn readiness(
    store: &Store,
    topics: &Topics,
    events_topic: &str,
    launcher: &Arc<dyn Launcher>,
) -> Readiness {
    let (store, topics) = (store.clone(), topics.clone());
    let (events_topic, launcher) = (events_topic.to_owned(), Arc::clone(launcher));
    let needs = Needs::default()
        .and("kafka", move || {
            let (topics, topic) = (topics.clone(), events_topic.clone());
            async move {
                match topics.partitions(&topic).await {
                    Ok(Some(_)) => Ok(()),
                    Ok(None) => Err(format!("the topic {topic:?} is not there")),
                    Err(error) => Err(error.to_string()),
                }
            }
        })
        .and("arangodb", move || {
            let store = store.clone();
            async move { store.check().await.map_err(|error| error.to_string()) }
        })
        .and("launcher", move || {
            let launcher = Arc::clone(&launcher);
            async move { launcher.ready().await.map_err(|error| error.to_string()) }
        });
    Readiness::new(needs)
}

async fn launcher(
    config: &Config,
    vars: &Vars,
    store: &Store,
) -> anyhow::Result<Arc<dyn Launcher>> {
    let installation = store.installation().await;
    let installation = installation.context("read the installation id")?;
    Ok(match config.jobs.launcher {
        LauncherKind::Process => Arc::new(process_launcher(&config.jobs, vars, installation)?),
        LauncherKind::Kubernetes => {
            let found = kubernetes::config(None).await?;
            let client = kubernetes::client(found)?;
            let mut settings = kubernetes_settings(config)?;
            settings.job.installation = Some(installation);
            let launcher = KubernetesLauncher::new(client, settings);
            launcher.check_installation().await?;
            Arc::new(launcher)
        }
    })
}

fn process_launcher(
    jobs: &JobsConfig,
    vars: &Vars,
    installation: String,
) -> anyhow::Result<ProcessLauncher> {
    let common = match &jobs.worker_env_file {
        Some(path) => worker_vars(path)
            .with_context(|| format!("read {} (WORKER_ENV_FILE)", path.display()))?,
        None => connections(vars),
    };
    let dir = jobs
        .jobs_dir
        .as_deref()
        .expect("the configuration was checked");
    // Loaders talk to the exchange, perhaps by a proxy.
    let mut settings = ProcessSettings::new(dir, common, vars, true)?;
    settings.installation = Some(installation);
    if let Some(program) = &jobs.worker_program {
        settings.program.clone_from(program);
    }
    Ok(ProcessLauncher::new(settings)?)
}

/// The connections among these variables: what workers need too.
fn connections(vars: &Vars) -> Vars {
    let names: Vec<&str> = KafkaConfig::VARIABLES
        .iter()
        .chain(streamforge_arango::ArangoConfig::VARIABLES)
        .chain(crate::config::ExchangeConfig::VARIABLES)
        .flat_map(|variable| [Some(variable.name), variable.alias])
        .flatten()
        .collect();
    let is_one = |(name, _): &(&String, &String)| names.contains(&name.as_str());
    vars.iter()
        .filter(is_one)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// `NAME=value` lines as a shell reads them; `#` begins a comment.
fn worker_vars(path: &Path) -> anyhow::Result<Vars> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("others may read it (mode {:o}); chmod 600", mode & 0o777);
    }
    let mut vars = Vars::new();
    for (number, line) in (1..).zip(fs::read_to_string(path)?.lines()) {
        // Neither the line nor its value is shown: it may be a password.
        let words =
            shlex::split(line).with_context(|| format!("line {number}: a quote is open"))?;
        for word in words.iter().take_while(|word| !word.starts_with('#')) {
            let (name, value) = word
                .split_once('=')
                .with_context(|| format!("line {number}: expected NAME=value"))?;
            vars.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(vars)
}

fn kubernetes_settings(config: &Config) -> anyhow::Result<KubernetesSettings> {
    let jobs = &config.jobs;
    let overrides = match &jobs.k8s_overrides_file {
        Some(path) => Overrides::read(path).context("read K8S_OVERRIDES_FILE")?,
        None => Overrides::default(),
    };
    let key = |key: &crate::config::SecretKey| SecretKey {
        secret: key.secret.as_str().to_owned(),
        key: key.key.clone(),
    };
    Ok(KubernetesSettings {
        namespace: jobs
            .k8s_namespace
            .as_ref()
            .map(|name| name.as_str().to_owned()),
        job: JobSettings {
            instance: jobs.k8s_instance.as_str().to_owned(),
            queue_name: jobs
                .k8s_queue_name
                .as_ref()
                .map(|name| name.as_str().to_owned()),
            config_map: jobs.k8s_config_map.names().clone(),
            secret: jobs.k8s_secret.names().clone(),
            kafka_ca: jobs.k8s_kafka_ca.as_ref().map(key),
            arango_ca: jobs.k8s_arango_ca.as_ref().map(key),
            on_worker_nodes: jobs.k8s_node_selector,
            overrides,
            ..JobSettings::default()
        },
        ..KubernetesSettings::default()
    })
}

fn heal_settings(config: &HealConfig) -> HealSettings {
    HealSettings {
        max_relaunches: config.max_relaunches.get(),
        silent_after: config.stalled_after_secs.duration(),
        stop_grace: config.stop_grace_secs.duration(),
        start_limit: config.start_limit_secs.duration(),
        quota_limit: config.quota_limit_secs.duration(),
        schedule_limit: config.schedule_limit_secs.duration(),
        topics_kept: config.keep_topics_secs.duration(),
        ..HealSettings::default()
    }
}

/// In the proportions of Kubernetes' own controllers.
fn lease_times(config: &HealConfig) -> LeaseTimes {
    let length = config.lease_secs.duration();
    LeaseTimes {
        length,
        held_for: length.mul_f64(2.0 / 3.0),
        every: length.mul_f64(2.0 / 15.0),
    }
}

fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_has_its_instance_from_its_settings() {
        let instance_of = |changes: &[(&str, &str)]| {
            let good = [
                ("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092"),
                ("ARANGO_URL", "https://arangodb:8529"),
                ("ARANGO_DB", "streamforge"),
                ("ARANGO_USER", "queue-manager"),
                ("ARANGO_PASSWORD", "hunter2"),
            ];
            let pairs = good.iter().chain(changes);
            let vars = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let config = Config::from_vars(&vars.collect()).unwrap();
            kubernetes_settings(&config).unwrap().job.instance
        };
        assert_eq!(instance_of(&[]), JobSettings::default().instance);
        let staging = [("K8S_INSTANCE", "streamforge-staging")];
        assert_eq!(instance_of(&staging), "streamforge-staging");
    }
}
