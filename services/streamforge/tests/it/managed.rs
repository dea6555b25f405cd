//! Whole workflows by queue-manager, asked over REST only, with real processes: whatever is killed in between, it ends
//! right.

mod failed;
mod killed;
mod replicas;
mod stopped;
mod whole;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    flow::{DATABASE, Flow, PASSWORD, Plan},
    process::LIMIT,
};

/// Several processes are waited for, one after the other.
const WORKFLOW_LIMIT: Duration = Duration::from_secs(150);

/// The workflow's parts, and queue-managers that look after it.
pub(crate) struct Managed {
    pub(crate) flow: Flow,
    dir: TempDir,
    program: PathBuf,
    group: String,
}

/// A queue-manager.
pub(crate) struct Manager {
    child: Child,
    url: String,
    http: reqwest::Client,
    log: PathBuf,
}

impl Managed {
    pub(crate) async fn set(plan: Plan) -> Self {
        let streamforge = Path::new(env!("CARGO_BIN_EXE_streamforge"));
        let program = streamforge.with_file_name("queue-manager");
        assert!(
            program.is_file(),
            "{} is not built: these tests need `cargo test --workspace`, or cargo build -p queue-manager",
            program.display()
        );
        let flow = Flow::start_without_topic(plan).await;
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
        let log = self.dir.path().join(format!("{name}.log"));
        let path = |name: &str| self.dir.path().join(name).to_string_lossy().into_owned();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap().to_string();
        drop(port);
        let mut vars = self.flow.kafka.manager_vars().unwrap();
        vars.extend(connections(&self.flow));
        let own = [
            ("LAUNCHER", "process".to_owned()),
            ("JOBS_DIR", path("jobs")),
            ("WORKER_ENV_FILE", path("worker.env")),
            ("API_LISTEN", address.clone()),
            ("RECONCILE_INTERVAL_SECS", "1".to_owned()),
            // The broker is shared, the database is not.
            ("QUEUE_EVENTS_GROUP", self.group.clone()),
            ("LEASE_SECS", "3".to_owned()),
            ("STOP_GRACE_SECS", "40".to_owned()),
            (
                "LOG_LEVEL",
                "info,queue_manager=debug,queue_manager::observe=warn".to_owned(),
            ),
            ("LOG_FORMAT", "text".to_owned()),
        ];
        let child = Command::new(&self.program)
            .env_clear()
            .envs(vars)
            .envs(own)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(
                File::options()
                    .create(true)
                    .append(true)
                    .open(&log)
                    .unwrap(),
            )
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let manager = Manager {
            child,
            url: format!("http://{address}"),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            log,
        };
        manager
            .until("it is ready", "/health/ready", |_| true)
            .await;
        manager
    }

    /// Asks for the plan's workflow, and takes on its names.
    pub(crate) async fn start(&mut self, manager: &Manager) {
        let body = json!({
            "symbol": self.flow.plan.symbol,
            "type": format!("api_candles_{}", self.flow.plan.interval),
            "time_range": self.flow.plan.range,
        });
        let answer = manager.post("/queues/start", &body).await;
        self.named(&answer["data"]["queues"][0]).await;
    }

    /// Takes on the names of a workflow.
    pub(crate) async fn named(&mut self, queue: &Value) {
        self.flow.queue_id = queue["queue_id"].as_str().unwrap().parse().unwrap();
        self.flow.topic = queue["kafka_topic"].as_str().unwrap().to_owned();
        self.flow.collection = queue["workers"][1]["collection_name"]
            .as_str()
            .unwrap()
            .to_owned();
        if !self.flow.kafka.is_real() {
            // There queue-manager can make none.
            self.flow.create_topic().await;
        }
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
        let jobs = fs::read_dir(self.dir.path().join("jobs")).unwrap();
        let job = jobs
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().contains(service))
            .unwrap();
        let status: Value =
            serde_json::from_slice(&fs::read(job.join("status.json")).unwrap()).unwrap();
        let starts = status["starts"].as_array().unwrap();
        let pid = starts.last().unwrap()["process"]["pid"].as_i64().unwrap();
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// What both queue-manager and workers need besides Kafka.
fn connections(flow: &Flow) -> Vec<(String, String)> {
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

impl Manager {
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.http.post(format!("{}{path}", self.url)).json(body);
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{status}: {text}\n{}", self.said());
        serde_json::from_str(&text).unwrap()
    }

    /// Waits until what is at `path` is as wanted, and gives its `data`.
    pub(crate) async fn until(
        &self,
        what: &str,
        path: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let url = format!("{}{path}", self.url);
        let mut last = Value::Null;
        let looking = async {
            loop {
                if let Ok(answer) = self.http.get(&url).send().await
                    && answer.status().is_success()
                    && let Ok(body) = answer.json::<Value>().await
                {
                    last = body["data"].clone();
                    if wanted(&last) {
                        return;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let looked = tokio::time::timeout(WORKFLOW_LIMIT, looking).await;
        assert!(
            looked.is_ok(),
            "not until {what} within {WORKFLOW_LIMIT:?}: {last:#}\n{}",
            self.said()
        );
        last
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills it, so that it can tidy up nothing.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Ends it in order.
    pub(crate) async fn end(mut self) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
        let ended = tokio::time::timeout(LIMIT, self.child.wait()).await;
        assert_eq!(ended.unwrap().unwrap().code(), Some(0), "{}", self.said());
    }
}
