//! A broker, and dummy services as processes of their own: started, signalled, scraped, awaited.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rdkafka::message::OwnedMessage;
use rustix::process::{Pid, Signal, kill_process};
use streamforge_devstack::kafka::Broker;
use streamforge_utils::{
    config::Vars,
    protocol::{
        Command, CommandKind, CommandPayload, Event, EventKind, InterruptReason, QueueId,
        TimestampMs, WorkflowKind, data_topic, new_queue_id,
    },
};
use tempfile::TempDir;
use tokio::process::Child;

/// Nothing in these tests takes this long.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

pub(crate) struct Rig {
    pub(crate) kafka: Broker,
    pub(crate) queue_id: QueueId,
    /// The data topic, which need not be there.
    pub(crate) topic: String,
    pub(crate) control: String,
    pub(crate) events: String,
    logs: TempDir,
}

/// A dummy service that runs.
pub(crate) struct Dummy {
    pub(crate) id: String,
    child: Child,
    pid: Pid,
    log: PathBuf,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::on(Broker::start().unwrap())
    }

    /// On a broker that may be taken down.
    pub(crate) async fn with_broker_alone() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ci/kafka.sh");
        Self::on(Broker::alone(&script).await.unwrap())
    }

    fn on(kafka: Broker) -> Self {
        let symbol = "BTCUSDT".parse().unwrap();
        let queue_id = new_queue_id(&symbol, WorkflowKind::Dummy, TimestampMs::now());
        Self {
            kafka,
            topic: data_topic(&queue_id),
            queue_id,
            control: "queue-control".to_owned(),
            events: "queue-events".to_owned(),
            logs: TempDir::new().unwrap(),
        }
    }

    /// With queue topics of its own, for what would disturb other tests on the same broker, or be disturbed by them.
    pub(crate) async fn apart() -> Self {
        let mut rig = Self::new();
        rig.control = format!("{}-control", rig.queue_id);
        rig.events = format!("{}-events", rig.queue_id);
        for topic in [&rig.control, &rig.events] {
            rig.kafka.create_topic(topic, 1).await.unwrap();
        }
        rig
    }

    /// With a data topic of so many partitions.
    pub(crate) async fn with_topic(partitions: i32) -> Self {
        let rig = Self::new();
        rig.create_topic(partitions).await;
        rig
    }

    pub(crate) async fn create_topic(&self, partitions: i32) {
        let made = self.kafka.create_topic(&self.topic, partitions);
        made.await.unwrap();
    }

    /// The variable that names the data topic.
    pub(crate) fn here(&self) -> (&str, &str) {
        ("KAFKA_TOPIC", &self.topic)
    }

    fn vars(&self, changes: &[(&str, &str)]) -> Vars {
        let mut vars = self.kafka.vars().unwrap();
        for (name, value) in [
            ("QUEUE_ID", self.queue_id.as_str()),
            ("QUEUE_CONTROL_TOPIC", &self.control),
            ("QUEUE_EVENTS_TOPIC", &self.events),
            ("SYMBOL", "BTCUSDT"),
            ("TYPE", "dummy"),
            ("METRICS_PORT", "0"),
            ("LOG_FORMAT", "json"),
            ("PROGRESS_INTERVAL_SECS", "0.2"),
            ("RETRY_DEADLINE_SECS", "20"),
            ("SHUTDOWN_GRACE_SECS", "10"),
        ]
        .iter()
        .chain(changes)
        {
            vars.insert((*name).to_owned(), (*value).to_owned());
        }
        vars
    }

    /// Starts one with these flags.
    pub(crate) fn start(&self, flags: &str) -> Dummy {
        self.start_with(flags, &[])
    }

    /// Starts one with these flags and variables.
    pub(crate) fn start_with(&self, flags: &str, changes: &[(&str, &str)]) -> Dummy {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let id = format!("dummy-service__{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let log = self.logs.path().join(format!("{id}.log"));
        let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_dummy-service"))
            .args(flags.split_whitespace())
            .env_clear()
            .env("TELEMETRY_PRODUCER_ID", &id)
            .envs(self.vars(changes))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
        Dummy {
            id,
            child,
            pid,
            log,
        }
    }

    pub(crate) async fn send(&self, kind: CommandKind) {
        self.command(&self.order(kind)).await;
    }

    /// A command to all workers of this queue.
    pub(crate) fn order(&self, kind: CommandKind) -> Command {
        Command::new(kind, self.queue_id.as_str())
    }

    pub(crate) async fn command(&self, command: &Command) {
        self.publish_command(&serde_json::to_string(command).unwrap())
            .await;
    }

    /// Puts something on the topic of commands, whatever it is.
    pub(crate) async fn publish_command(&self, payload: &str) {
        let (topic, key) = (&self.control, self.queue_id.as_str());
        let sent = self.kafka.publish(topic, Some(0), key, payload, &[]);
        sent.await.unwrap();
    }

    pub(crate) async fn send_fail_after(&self, seconds: f64) {
        let mut command = self.order(CommandKind::FailAfter);
        command.payload = Some(CommandPayload {
            seconds: Some(seconds),
            drain: false,
        });
        self.command(&command).await;
    }

    /// The events of this one, once there are `enough`.
    pub(crate) async fn events(
        &self,
        dummy: &Dummy,
        mut enough: impl FnMut(&[Event]) -> bool,
    ) -> Vec<Event> {
        let ours = |events: &[Event]| -> Vec<Event> {
            let ours = events.iter().filter(|event| event.producer == dummy.id);
            ours.cloned().collect()
        };
        let queue = self.queue_id.as_str();
        let all = self
            .kafka
            .events_of(queue, &self.events, LIMIT, |events| enough(&ours(events)))
            .await;
        match all {
            Ok(events) => ours(&events),
            Err(error) => panic!("{error}\n{}", dummy.log()),
        }
    }

    /// Waits until it has said this kind of event.
    pub(crate) async fn until(&self, dummy: &Dummy, kind: EventKind) -> Vec<Event> {
        self.events(dummy, |events| {
            events.iter().any(|event| event.event == kind)
        })
        .await
    }

    /// Waits until it is up and hears commands: it answers a ping.
    pub(crate) async fn until_it_listens(&self, dummy: &Dummy) {
        self.until(dummy, EventKind::Started).await;
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            self.send(CommandKind::Ping).await;
            let answered =
                tokio::time::timeout(Duration::from_secs(1), self.until(dummy, EventKind::Pong));
            if answered.await.is_ok() {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{}", dummy.log());
        }
    }

    /// Waits until it has counted so many records.
    pub(crate) async fn until_written(&self, dummy: &Dummy, records: u64) {
        self.events(dummy, |events| {
            events.iter().any(|event| event.records.written >= records)
        })
        .await;
    }

    /// Its last event, after checking that it is the only one of its kind, that nothing follows it, and that none before
    /// it is lost.
    pub(crate) async fn ending(&self, dummy: &Dummy) -> Event {
        self.events(dummy, |events| events.iter().any(|event| event.finished))
            .await;
        // Whatever else was on its way is there now: it has exited.
        let events = self.events(dummy, |_| true).await;
        let endings = events.iter().filter(|event| event.finished).count();
        assert_eq!(endings, 1, "{events:#?}");
        assert_eq!(events[0].event, EventKind::Started);
        let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        let last = events.last().unwrap();
        assert!(last.finished && last.status == Some(last.event), "{last:?}");
        last.clone()
    }

    /// What the data topic has now.
    pub(crate) async fn messages(&self) -> Vec<OwnedMessage> {
        self.kafka.read_topic(&self.topic).await.unwrap()
    }
}

impl Dummy {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// The same to one that may have ended by itself.
    pub(crate) fn signal_if_alive(&self, signal: Signal) {
        let _ = kill_process(self.pid, signal);
    }

    /// Waits for its end, and gives its exit code.
    pub(crate) async fn wait(&mut self) -> i32 {
        self.child.wait().await.unwrap().code().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for its end, which must be with this code.
    pub(crate) async fn ends_with(&mut self, code: i32) {
        let ended = tokio::time::timeout(LIMIT, self.child.wait()).await;
        let Ok(status) = ended else {
            panic!("it has not ended after {LIMIT:?}:\n{}", self.log())
        };
        assert_eq!(status.unwrap().code(), Some(code), "{}", self.log());
    }

    /// Waits until its log has this.
    pub(crate) async fn until_logged(&self, text: &str) {
        let logged = tokio::time::timeout(LIMIT, async {
            while !self.log().contains(text) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(logged.await.is_ok(), "no {text:?} in\n{}", self.log());
    }

    /// Its `/metrics`, by name and labels, scraped from the port that it logged.
    pub(crate) async fn scrape(&self) -> BTreeMap<String, f64> {
        self.until_logged("Serving /metrics").await;
        let port = self
            .log()
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find_map(|line| line["port"].as_u64())
            .unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client
            .get(format!("http://127.0.0.1:{port}/metrics"))
            .send();
        let text = answer.await.unwrap().text().await.unwrap();
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').expect("a series and its value");
                (series.to_owned(), value.parse().expect("a number"))
            })
            .collect()
    }

    /// Scrapes until `enough`.
    pub(crate) async fn until_scraped(
        &self,
        mut enough: impl FnMut(&BTreeMap<String, f64>) -> bool,
    ) -> BTreeMap<String, f64> {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let scraped = self.scrape().await;
            if enough(&scraped) {
                return scraped;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{scraped:#?}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) fn is_signal(event: &Event) -> bool {
    (event.event, event.reason) == (EventKind::Interrupted, Some(InterruptReason::Signal))
}

pub(crate) fn is_stop(event: &Event) -> bool {
    (event.event, event.reason) == (EventKind::Interrupted, Some(InterruptReason::Stop))
}
