//! A broker, and dummy services as processes of their own: started, signalled, scraped, awaited.

use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rdkafka::message::OwnedMessage;
use rustix::process::{Pid, Signal, kill_process};
use streamforge_devstack::kafka::{MockKafka, read_topic, wait_for_events};
use streamforge_utils::{
    config::Vars,
    protocol::{Command, CommandKind, CommandPayload, Event, EventKind, InterruptReason},
};
use tempfile::TempDir;
use tokio::process::Child;

pub(crate) const QUEUE_ID: &str = "wf-btcusdt-dummy-20240801-abc123";
pub(crate) const TOPIC: &str = "wf-btcusdt-dummy-20240801-abc123-data";

/// Nothing in these tests takes this long.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

pub(crate) struct Rig {
    pub(crate) kafka: MockKafka,
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
        Self {
            kafka: MockKafka::start().unwrap(),
            logs: TempDir::new().unwrap(),
        }
    }

    /// With a data topic of so many partitions.
    pub(crate) fn with_topic(partitions: i32) -> Self {
        let rig = Self::new();
        rig.kafka.create_topic(TOPIC, partitions).unwrap();
        rig
    }

    fn vars(&self, changes: &[(&str, &str)]) -> Vars {
        let mut vars = self.kafka.vars();
        for (name, value) in [
            ("QUEUE_ID", QUEUE_ID),
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
        let command = Command::new(kind, QUEUE_ID);
        self.kafka.send_command(&command).await.unwrap();
    }

    pub(crate) async fn send_fail_after(&self, seconds: f64) {
        let mut command = Command::new(CommandKind::FailAfter, QUEUE_ID);
        command.payload = Some(CommandPayload {
            seconds: Some(seconds),
            drain: false,
        });
        self.kafka.send_command(&command).await.unwrap();
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
        let all =
            wait_for_events(&self.kafka.config(), LIMIT, |events| enough(&ours(events))).await;
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
        read_topic(&self.kafka.config(), TOPIC).await.unwrap()
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
