//! Whole workflows by queue-manager, asked over REST only, with real processes: whatever is killed in between, it ends
//! right.

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
struct Managed {
    flow: Flow,
    dir: TempDir,
    program: PathBuf,
    group: String,
}

/// A queue-manager.
struct Manager {
    child: Child,
    url: String,
    http: reqwest::Client,
    log: PathBuf,
}

impl Managed {
    async fn set(plan: Plan) -> Self {
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
    async fn manager(&self, name: &str) -> Manager {
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
    async fn start(&mut self, manager: &Manager) {
        let body = json!({
            "symbol": self.flow.plan.symbol,
            "type": format!("api_candles_{}", self.flow.plan.interval),
            "time_range": self.flow.plan.range,
        });
        let answer = manager.post("/queues/start", &body).await;
        self.named(&answer["data"]["queues"][0]).await;
    }

    /// Takes on the names of a workflow.
    async fn named(&mut self, queue: &Value) {
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

    fn path(&self) -> String {
        format!("/queues/{}", self.flow.queue_id)
    }

    /// Waits until the workflow's writer has written this much.
    async fn until_written(&self, manager: &Manager, records: u64) {
        let enough = |queue: &Value| queue["totals"]["written"].as_u64() >= Some(records);
        manager.until("it has written", &self.path(), enough).await;
    }

    /// Waits until it has ended; how.
    async fn ended(&self, manager: &Manager) -> Value {
        let is_over = |queue: &Value| {
            ["finished", "interrupted", "error"].contains(&queue["status"].as_str().unwrap())
        };
        manager.until("it has ended", &self.path(), is_over).await
    }

    async fn ends_as(&self, manager: &Manager, status: &str) -> Value {
        let queue = self.ended(manager).await;
        assert_eq!(queue["status"], status, "{queue:#}\n{}", manager.said());
        queue
    }

    /// Kills the process of a worker, as when memory is short.
    fn kill_worker(&self, service: &str) {
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
    async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.http.post(format!("{}{path}", self.url)).json(body);
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{status}: {text}\n{}", self.said());
        serde_json::from_str(&text).unwrap()
    }

    /// Waits until what is at `path` is as wanted, and gives its `data`.
    async fn until(&self, what: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
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

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills it, so that it can tidy up nothing.
    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Ends it in order.
    async fn end(mut self) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
        let ended = tokio::time::timeout(LIMIT, self.child.wait()).await;
        assert_eq!(ended.unwrap().unwrap().code(), Some(0), "{}", self.said());
    }
}

#[tokio::test]
async fn a_workflow_is_loaded_by_rest_alone() {
    let mut managed = Managed::set(Plan::three_days()).await;
    let manager = managed.manager("one").await;
    managed.start(&manager).await;
    let queue = managed.ends_as(&manager, "finished").await;
    managed.flow.assert_complete().await;
    assert_eq!(queue["totals"]["percentage"], 100.0, "{queue:#}");
    let events = manager
        .until(
            "its events are kept",
            &format!("{}/events", managed.path()),
            |page| {
                page["events"]
                    .as_array()
                    .is_some_and(|events| events.len() >= 4)
            },
        )
        .await;
    let kinds = events["events"].as_array().unwrap().iter();
    let finished = kinds.filter(|event| event["event"]["event"] == "finished");
    assert_eq!(finished.count(), 2, "{events:#}");
    manager.end().await;
}

#[tokio::test]
async fn a_manager_that_is_killed_at_any_stage_is_as_if_it_had_waited() {
    let mut managed = Managed::set(Plan::slow_three_days()).await;
    let manager = managed.manager("one").await;
    managed.start(&manager).await;
    // Before anything is launched, or in the middle of that.
    manager.kill().await;
    let manager = managed.manager("two").await;
    managed.until_written(&manager, 1).await;
    manager.kill().await;
    let manager = managed.manager("three").await;
    managed.until_written(&manager, 1_500).await;
    manager.kill().await;
    // Its workers go on without one, and end; what they said meanwhile is read by the next.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let manager = managed.manager("four").await;
    managed.ends_as(&manager, "finished").await;
    managed.flow.assert_complete().await;
    manager.end().await;
}

#[tokio::test]
async fn workers_that_are_killed_are_started_again() {
    let mut managed = Managed::set(Plan::slow_three_days()).await;
    let manager = managed.manager("one").await;
    managed.start(&manager).await;
    managed.until_written(&manager, 1).await;
    managed.kill_worker("arango-candles");
    managed.kill_worker("loader-api-candles");
    managed.ends_as(&manager, "finished").await;
    managed.flow.assert_complete().await;
    manager.end().await;
}

#[tokio::test]
async fn a_stopped_workflow_goes_on_in_its_next_run() {
    let mut managed = Managed::set(Plan::slow_three_days()).await;
    let manager = managed.manager("one").await;
    managed.start(&manager).await;
    managed.until_written(&manager, 1).await;
    let body = json!({"queue_id": managed.flow.queue_id.as_str(), "drain": true});
    manager.post("/queues/stop", &body).await;
    managed.ends_as(&manager, "interrupted").await;
    managed.flow.assert_stored_is_published().await;
    manager
        .post(&format!("{}/retry", managed.path()), &Value::Null)
        .await;
    let queue = managed.ends_as(&manager, "finished").await;
    assert_eq!(queue["run"], 2, "{queue:#}");
    managed.flow.assert_complete().await;
    manager.end().await;
}

#[tokio::test]
async fn of_two_replicas_one_takes_over_when_the_other_is_killed() {
    let mut managed = Managed::set(Plan::slow_three_days()).await;
    let first = managed.manager("one").await;
    let second = managed.manager("two").await;
    // Any may serve; the first one has the lease.
    managed.start(&second).await;
    managed.until_written(&second, 1).await;
    first.kill().await;
    managed.ends_as(&second, "finished").await;
    managed.flow.assert_complete().await;
    second.end().await;
}

#[tokio::test]
async fn a_worker_that_fails_for_good_ends_its_workflow() {
    let mut managed = Managed::set(Plan::slow_three_days()).await;
    let manager = managed.manager("one").await;
    let kind = format!("api_candles_{}", managed.flow.plan.interval);
    let body = json!({
        "symbol": managed.flow.plan.symbol,
        "time_range": managed.flow.plan.range,
        "microservices": [
            {"target": "loader-api-candles", "type": kind},
            // Not one record may be rejected.
            {"target": "arango-candles", "type": kind, "env": {"MAX_REJECTED": "0"}},
        ],
    });
    let answer = manager.post("/queues/start-pipeline", &body).await;
    managed.named(&answer["data"]).await;
    managed.until_written(&manager, 1).await;
    let topic = managed.flow.topic.clone();
    let kafka = &managed.flow.kafka;
    let put = kafka.publish(&topic, Some(0), "BTCUSDT", "poison", &[]);
    put.await.unwrap();
    let queue = managed.ends_as(&manager, "error").await;
    let reason = queue["reason"].as_str().unwrap();
    assert!(reason.contains("arango-candles"), "{reason}");
    let parts = queue["parts"].as_array().unwrap();
    assert_eq!(
        parts[0]["status"], "interrupted",
        "its loader was stopped: {queue:#}"
    );
    manager.end().await;
}
