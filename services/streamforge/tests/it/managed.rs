//! Whole workflows by queue-manager, asked over REST only, with real processes: whatever is killed in between, it ends
//! right.

mod asked;
mod away;
mod failed;
mod frozen;
mod killed;
mod manager;
mod replicas;
mod spoiled;
mod stopped;
mod storms;
mod turns;
mod whole;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use streamforge_devstack::kafka::Broker;
use streamforge_utils::protocol::QueueId;
use tempfile::TempDir;

use crate::flow::{DATABASE, Flow, PASSWORD, Plan};
pub(crate) use manager::{Answer, Manager};

/// Several processes are waited for, one after the other.
const WORKFLOW_LIMIT: Duration = Duration::from_secs(150);

/// The workflow's parts, and queue-managers that look after it.
pub(crate) struct Managed {
    pub(crate) flow: Flow,
    dir: TempDir,
    program: PathBuf,
    group: String,
}

/// The names of one of several workflows, and what it loads.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    queue_id: QueueId,
    topic: String,
    collection: String,
    range: &'static str,
}

impl Named {
    pub(crate) fn path(&self) -> String {
        format!("/queues/{}", self.queue_id)
    }

    pub(crate) fn id(&self) -> &str {
        self.queue_id.as_str()
    }
}

/// A Job, as its folder tells of it.
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) asked: Value,
    pub(crate) status: Value,
}

impl Managed {
    pub(crate) async fn set(plan: Plan) -> Self {
        Self::over(Flow::start_without_topic(plan).await)
    }

    /// The same on a broker that may be taken away.
    pub(crate) async fn with_broker_alone(plan: Plan) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ci/kafka.sh");
        let kafka = Broker::alone(&script).await.unwrap();
        Self::over(Flow::start_on(kafka, plan).await)
    }

    fn over(flow: Flow) -> Self {
        let streamforge = Path::new(env!("CARGO_BIN_EXE_streamforge"));
        let program = streamforge.with_file_name("queue-manager");
        assert!(
            program.is_file(),
            "{} is not built: these tests need `cargo test --workspace`, or cargo build -p queue-manager",
            program.display()
        );
        let dir = TempDir::new().unwrap();
        // The rights of workers are not those of queue-manager.
        let mut workers = flow.kafka.vars().unwrap();
        workers.extend(self::connections(&flow));
        workers.extend(
            [
                ("PROGRESS_INTERVAL_SECS", "0.2"),
                ("RETRY_DEADLINE_SECS", "60"),
                ("FETCH_IN_FLIGHT", "1"),
                ("LOG_FORMAT", "text"),
            ]
            .map(owned),
        );
        let lines: String = workers
            .iter()
            .map(|(name, value)| format!("{name}='{value}'\n"))
            .collect();
        let file = dir.path().join("worker.env");
        fs::write(&file, lines).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let group = format!("queue-manager-{}", flow.queue_id);
        Self {
            flow,
            dir,
            program,
            group,
        }
    }

    /// Starts one, and waits until it is ready.
    pub(crate) async fn manager(&self, name: &str) -> Manager {
        self.manager_with(name, &[]).await
    }

    /// The same, with other settings.
    pub(crate) async fn manager_with(&self, name: &str, changes: &[(&str, &str)]) -> Manager {
        let path = |name: &str| self.dir.path().join(name).to_string_lossy().into_owned();
        let mut vars = self.flow.kafka.manager_vars().unwrap();
        vars.extend(connections(&self.flow));
        let (jobs, worker_env) = (path("jobs"), path("worker.env"));
        let own = [
            ("LAUNCHER", "process"),
            ("JOBS_DIR", &jobs),
            ("WORKER_ENV_FILE", &worker_env),
            ("RECONCILE_INTERVAL_SECS", "1"),
            // The broker is shared, the database is not.
            ("QUEUE_EVENTS_GROUP", &self.group),
            ("LEASE_SECS", "5"),
            ("STOP_GRACE_SECS", "40"),
            (
                "LOG_LEVEL",
                "info,queue_manager=debug,queue_manager::observe=warn",
            ),
            ("LOG_FORMAT", "text"),
        ];
        let all = own.iter().chain(changes).copied().map(owned);
        vars.extend(all);
        let log = self.dir.path().join(format!("{name}.log"));
        Manager::start(&self.program, vars, log).await
    }

    /// Asks for the plan's workflow, and takes on its names.
    pub(crate) async fn start(&mut self, manager: &Manager) -> Named {
        self.start_range(manager, self.flow.plan.range).await
    }

    /// Asks for the plan's workflow over another range, and takes on its names.
    pub(crate) async fn start_range(&mut self, manager: &Manager, range: &'static str) -> Named {
        let body = json!({
            "symbol": self.flow.plan.symbol,
            "type": format!("api_candles_{}", self.flow.plan.interval),
            "time_range": range,
        });
        let answer = manager.post("/queues/start", &body).await;
        self.flow.plan.range = range;
        self.named(&answer["data"]["queues"][0]).await
    }

    /// Takes on the names of a workflow that was just asked for.
    pub(crate) async fn named(&mut self, queue: &Value) -> Named {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let named = Named {
            queue_id: text(&queue["queue_id"]).parse().unwrap(),
            topic: text(&queue["kafka_topic"]),
            collection: text(&queue["workers"][1]["collection_name"]),
            range: self.flow.plan.range,
        };
        self.turn_to(&named);
        if !self.flow.kafka.is_real() {
            // There queue-manager can make none.
            self.flow.create_topic().await;
        }
        named
    }

    /// From now on it is about this one of several workflows.
    pub(crate) fn turn_to(&mut self, named: &Named) {
        self.flow.queue_id = named.queue_id.clone();
        self.flow.topic.clone_from(&named.topic);
        self.flow.collection.clone_from(&named.collection);
        self.flow.plan.range = named.range;
    }

    pub(crate) fn path(&self) -> String {
        format!("/queues/{}", self.flow.queue_id)
    }

    /// Waits until the workflow's writer has written this much.
    pub(crate) async fn until_written(&self, manager: &Manager, records: u64) {
        let enough = |queue: &Value| queue["totals"]["written"].as_u64() >= Some(records);
        manager.until("it has written", &self.path(), enough).await;
    }

    /// Waits until it has ended; how.
    pub(crate) async fn ended(&self, manager: &Manager) -> Value {
        let is_over = |queue: &Value| {
            ["finished", "interrupted", "error"].contains(&queue["status"].as_str().unwrap())
        };
        manager.until("it has ended", &self.path(), is_over).await
    }

    pub(crate) async fn ends_as(&self, manager: &Manager, status: &str) -> Value {
        let queue = self.ended(manager).await;
        assert_eq!(queue["status"], status, "{queue:#}\n{}", manager.said());
        queue
    }

    /// Kills the process of a worker, as when memory is short.
    pub(crate) fn kill_worker(&self, service: &str) {
        self.signal_worker(service, Signal::KILL);
    }

    /// Sends this to the last process of a worker.
    pub(crate) fn signal_worker(&self, service: &str, signal: Signal) {
        let job = self
            .jobs()
            .into_iter()
            .rfind(|job| job.name.contains(service))
            .unwrap();
        let starts = job.status["starts"].as_array().unwrap();
        let pid = starts.last().unwrap()["process"]["pid"].as_i64().unwrap();
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Where the folders of all Jobs are.
    pub(crate) fn jobs_dir(&self) -> PathBuf {
        self.dir.path().join("jobs")
    }

    /// The Jobs of the workflow, by name.
    pub(crate) fn jobs(&self) -> Vec<Job> {
        let read = |path: PathBuf| -> Option<Value> {
            serde_json::from_slice(&fs::read(path).ok()?).unwrap()
        };
        let mut jobs: Vec<Job> = fs::read_dir(self.jobs_dir())
            .unwrap()
            .filter_map(|entry| {
                let folder = entry.unwrap().path();
                let name = folder.file_name()?.to_str()?.to_owned();
                // One that begins with a point is being made or removed.
                (!name.starts_with('.')).then_some(())?;
                Some(Job {
                    name,
                    asked: read(folder.join("job.json"))?,
                    status: read(folder.join("status.json"))?,
                })
            })
            .filter(|job| job.asked["queue_id"] == self.flow.queue_id.as_str())
            .collect();
        jobs.sort_by(|one, other| one.name.cmp(&other.name));
        jobs
    }

    /// Each worker had one Job, and that one process.
    pub(crate) fn assert_started_once(&self) {
        let jobs = self.jobs();
        let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names.len(), 2, "a loader and a writer: {names:?}");
        for job in &jobs {
            let starts = job.status["starts"].as_array().unwrap().len();
            let seen = (&job.asked["attempt"], starts);
            assert_eq!(seen, (&json!(1), 1), "{}: {:#}", job.name, job.status);
        }
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// What both queue-manager and workers need besides Kafka.
pub(crate) fn connections(flow: &Flow) -> Vec<(String, String)> {
    let (arango, exchange) = (flow.arango.url(), flow.exchange.url().to_string());
    [
        ("ARANGO_URL", arango.as_str()),
        ("ARANGO_DB", DATABASE),
        ("ARANGO_USER", "root"),
        ("ARANGO_PASSWORD", PASSWORD),
        ("BINANCE_API_URL", exchange.as_str()),
    ]
    .map(owned)
    .to_vec()
}
