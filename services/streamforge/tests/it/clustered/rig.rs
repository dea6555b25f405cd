//! A workflow over a dev stack of its own and a cluster, and queue-managers that look after it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use streamforge_devstack::exchange::{Exchange, Latency};
use tempfile::TempDir;

use super::{
    cluster::{CA, Cluster, WORKER, text},
    given::Given,
};
use crate::{
    flow::{Flow, LOADER, PASSWORD, Plan, WRITER},
    managed::{Manager, connections},
    process::LIMIT,
};

/// Three days, a page in 2 s: there is time to do something while it goes on, also on a machine that is busy.
pub(super) fn slow() -> Plan {
    let latency = Latency::fixed(Duration::from_secs(2));
    Plan {
        exchange: Exchange::builder().seed(7).latency(latency),
        ..Plan::three_days()
    }
}

pub(super) struct Clustered {
    pub(super) flow: Flow,
    pub(super) cluster: Cluster,
    dir: TempDir,
    program: PathBuf,
    group: String,
    kafka_password: Option<String>,
    has_ca: bool,
    given: Option<Given>,
}

impl Clustered {
    pub(super) async fn set(plan: Plan) -> Self {
        let streamforge = Path::new(env!("CARGO_BIN_EXE_streamforge"));
        let program = streamforge.with_file_name("queue-manager");
        assert!(
            program.is_file(),
            "{} is not built: these tests need `cargo test --workspace`, or cargo build -p queue-manager",
            program.display()
        );
        let given = Given::find();
        let plan = match &given {
            Some(_) => Given::plan(plan),
            None => plan,
        };
        let flow = Flow::start_without_topic(plan).await;
        let dir = TempDir::new().unwrap();
        let cluster = Cluster::start(dir.path()).await;
        // The rights of workers are not those of queue-manager.
        let mut workers = match &given {
            Some(given) => given.connections(),
            None => flow.kafka.vars().unwrap(),
        };
        if given.is_none() {
            workers.extend(connections(&flow));
        }
        let ca = workers.remove("KAFKA_CA_PATH");
        let kafka_password = workers.get("KAFKA_PASSWORD").cloned();
        workers.extend(
            [
                ("PROGRESS_INTERVAL_SECS", "0.2"),
                ("RETRY_DEADLINE_SECS", "60"),
                ("FETCH_IN_FLIGHT", "1"),
                ("LOG_FORMAT", "text"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let ca = ca.map(|path| fs::read_to_string(path).unwrap());
        cluster
            .put_environment(&workers.into_iter().collect(), ca.as_deref())
            .await;
        let group = format!("queue-manager-{}", flow.queue_id);
        Self {
            flow,
            cluster,
            dir,
            program,
            group,
            kafka_password,
            has_ca: ca.is_some(),
            given,
        }
    }

    pub(super) async fn manager(&self, name: &str) -> Manager {
        self.manager_with(name, &[]).await
    }

    /// Starts one, and waits until it is ready.
    pub(super) async fn manager_with(&self, name: &str, more: &[(&str, &str)]) -> Manager {
        let log = self.dir.path().join(format!("{name}.log"));
        let mut vars = match &self.given {
            Some(given) => given.connections(),
            None => self.flow.kafka.manager_vars().unwrap(),
        };
        match &self.given {
            Some(given) => vars.extend(given.images()),
            None => vars.extend(connections(&self.flow)),
        }
        let ca = format!("{CA}/ca.crt");
        let own = [
            ("LAUNCHER", "kubernetes"),
            (
                "KUBECONFIG",
                self.cluster.kubeconfig.to_str().unwrap_or_default(),
            ),
            ("K8S_NAMESPACE", &self.cluster.namespace),
            ("K8S_CONFIG_MAP", WORKER),
            ("K8S_SECRET", WORKER),
            ("IMAGES_ALLOWED", "registry.invalid/*"),
            ("RECONCILE_INTERVAL_SECS", "1"),
            // The broker is shared, the database is not.
            ("QUEUE_EVENTS_GROUP", &self.group),
            ("LEASE_SECS", "3"),
            ("STOP_GRACE_SECS", "40"),
            (
                "LOG_LEVEL",
                "info,queue_manager=debug,queue_manager::observe=warn",
            ),
            ("LOG_FORMAT", "text"),
        ];
        if self.has_ca {
            vars.insert("K8S_KAFKA_CA".to_owned(), ca);
        }
        let given = own.iter().chain(more);
        vars.extend(given.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Manager::start(&self.program, vars, log).await
    }

    /// Asks for the plan's workflow, and takes on its names.
    pub(super) async fn start(&mut self, manager: &Manager) {
        let body = json!({
            "symbol": self.flow.plan.symbol,
            "type": format!("api_candles_{}", self.flow.plan.interval),
            "time_range": self.flow.plan.range,
        });
        let answer = manager.post("/queues/start", &body).await;
        self.named(&answer["data"]["queues"][0]).await;
    }

    /// The same as a pipeline, where each part may have something of its own.
    pub(super) async fn start_with(&mut self, manager: &Manager, loader: Value, writer: Value) {
        let kind = format!("api_candles_{}", self.flow.plan.interval);
        let part = |target: &str, own: Value| {
            let mut part = json!({"target": target, "type": kind});
            for (name, value) in own.as_object().unwrap() {
                part[name] = value.clone();
            }
            part
        };
        let body = json!({
            "symbol": self.flow.plan.symbol,
            "time_range": self.flow.plan.range,
            "microservices": [part(LOADER, loader), part(WRITER, writer)],
        });
        let answer = manager.post("/queues/start-pipeline", &body).await;
        self.named(&answer["data"]).await;
    }

    async fn named(&mut self, queue: &Value) {
        self.flow.queue_id = queue["queue_id"].as_str().unwrap().parse().unwrap();
        self.flow.topic = queue["kafka_topic"].as_str().unwrap().to_owned();
        self.flow.collection = queue["workers"][1]["collection_name"]
            .as_str()
            .unwrap()
            .to_owned();
        if self.given.is_none() && !self.flow.kafka.is_real() {
            // There queue-manager can make none.
            self.flow.create_topic().await;
        }
    }

    pub(super) fn id(&self) -> &str {
        self.flow.queue_id.as_str()
    }

    pub(super) fn path(&self) -> String {
        format!("/queues/{}", self.flow.queue_id)
    }

    pub(super) async fn stop(&self, manager: &Manager, drain: bool) {
        let body = json!({"queue_id": self.id(), "drain": drain});
        manager.post("/queues/stop", &body).await;
    }

    /// Waits until the workflow's writer has written this much.
    pub(super) async fn until_written(&self, manager: &Manager, records: u64) {
        let enough = |queue: &Value| queue["totals"]["written"].as_u64() >= Some(records);
        manager.until("it has written", &self.path(), enough).await;
    }

    pub(super) async fn ends_as(&self, manager: &Manager, status: &str) -> Value {
        let is_over = |queue: &Value| {
            ["finished", "interrupted", "error"].contains(&queue["status"].as_str().unwrap())
        };
        let queue = manager.until("it has ended", &self.path(), is_over).await;
        assert_eq!(queue["status"], status, "{queue:#}\n{}", manager.said());
        queue
    }

    /// It ends well, everything is where it should be, and then it is removed.
    pub(super) async fn completes(self, manager: Manager) -> Value {
        let queue = self.ends_as(&manager, "finished").await;
        match &self.given {
            Some(given) => given.assert_complete(&self.flow).await,
            None => self.flow.assert_complete().await,
        }
        self.remove(manager).await;
        queue
    }

    /// What was published so far is stored.
    pub(super) async fn assert_stored_is_published(&self) {
        match &self.given {
            Some(_) => {
                eprintln!("NOT RUN: comparing topic and collection: they are not ours to look into")
            }
            None => self.flow.assert_stored_is_published().await,
        }
    }

    /// Puts something into the topic that is no record.
    pub(super) async fn poison(&self) {
        let (kafka, topic) = (&self.flow.kafka, &self.flow.topic);
        match &self.given {
            Some(given) => given.publish(topic, "poison").await,
            None => {
                let put = kafka.publish(topic, Some(0), "BTCUSDT", "poison", &[]);
                put.await.unwrap();
            }
        }
    }

    /// No password was to be seen; after a DELETE nothing is left of it.
    pub(super) async fn remove(self, manager: Manager) {
        self.assert_no_password().await;
        let answer = manager
            .http
            .delete(format!("{}{}", manager.url, self.path()))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
        let gone = async {
            loop {
                let url = format!("{}{}", manager.url, self.path());
                let is_gone = manager.http.get(url).send().await.unwrap().status() == 404;
                let (jobs, pods) = (
                    self.cluster.jobs(self.id()).await.len(),
                    self.cluster.pods(self.id()).await.len(),
                );
                if is_gone && jobs == 0 && pods == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let gone = tokio::time::timeout(LIMIT * 2, gone).await;
        assert!(
            gone.is_ok(),
            "left over: {:#?}\n{:#?}\n{}",
            self.cluster.jobs(self.id()).await,
            self.cluster.pods(self.id()).await,
            manager.said()
        );
        manager.end().await;
        self.cluster.remove_environment().await;
    }

    pub(super) async fn assert_no_password(&self) {
        let jobs = self.cluster.jobs(self.id()).await;
        let pods = self.cluster.pods(self.id()).await;
        let all = jobs.iter().map(text).chain(pods.iter().map(text));
        for said in all {
            assert!(!said.contains(PASSWORD), "{said}");
            let kafka = self.kafka_password.as_deref();
            assert!(!kafka.is_some_and(|word| said.contains(word)), "{said}");
        }
    }

    /// A file beside the others.
    pub(super) fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    }
}
