//! A broker, workers of one queue on it, and what they said.

use std::{process::ExitCode, time::Duration};

use prometheus::Registry;
use streamforge_devstack::kafka::Broker;
use streamforge_utils::{
    config::{Reader, Vars},
    protocol::{
        Command, CommandKind, Event, Interval, QueueId, TimestampMs, WorkflowKind, new_queue_id,
    },
    worker::{Failure, Outcome, WorkerContext, WorkerSettings, run_worker},
};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn queue_id() -> QueueId {
    let kind = WorkflowKind::ApiCandles(Interval::Minute1);
    new_queue_id(&"BTCUSDT".parse().unwrap(), kind, TimestampMs::now())
}

pub(crate) struct Probe {
    pub(crate) kafka: Broker,
    pub(crate) queue: QueueId,
    pub(crate) control: String,
    pub(crate) events: String,
}

impl Probe {
    pub(crate) fn start() -> Self {
        Self::on(Broker::start().unwrap())
    }

    /// On this broker.
    pub(crate) fn on(kafka: Broker) -> Self {
        Self {
            kafka,
            queue: queue_id(),
            control: "queue-control".to_owned(),
            events: "queue-events".to_owned(),
        }
    }

    /// With queue topics of its own, for what would disturb other tests on the same broker, or be disturbed by them.
    pub(crate) async fn apart() -> Self {
        let probe = Self::start();
        let (control, events) = (
            format!("{}-control", probe.queue),
            format!("{}-events", probe.queue),
        );
        for topic in [&control, &events] {
            probe.kafka.create_topic(topic, 1).await.unwrap();
        }
        Self {
            control,
            events,
            ..probe
        }
    }

    /// Settings of a worker of `service`, with `changes` to its environment.
    pub(crate) fn settings(
        &self,
        service: &'static str,
        changes: &[(&str, &str)],
    ) -> WorkerSettings {
        let mut vars: Vars = self.kafka.vars().unwrap();
        let id = format!("{service}__abc123");
        let ours = [
            ("QUEUE_ID", self.queue.as_str()),
            ("SYMBOL", "BTCUSDT"),
            ("TYPE", "api_candles_1m"),
            ("QUEUE_CONTROL_TOPIC", &self.control),
            ("QUEUE_EVENTS_TOPIC", &self.events),
            ("METRICS_PORT", "0"),
            ("PROGRESS_INTERVAL_SECS", "0.05"),
            ("TELEMETRY_PRODUCER_ID", id.as_str()),
        ];
        for (name, value) in ours.iter().chain(changes) {
            vars.insert((*name).to_owned(), (*value).to_owned());
        }
        let mut reader = Reader::new(&vars);
        let (kafka, queue, ops) = (reader.section(), reader.section(), reader.section());
        reader.finish().unwrap();
        WorkerSettings {
            service,
            version: "0.0.0",
            drains: false,
            listens: true,
            observer: None,
            kafka: kafka.unwrap(),
            queue: queue.unwrap(),
            ops: ops.unwrap(),
        }
    }

    /// Runs `body` as a worker in the background.
    pub(crate) fn spawn<F, Fut>(
        &self,
        settings: WorkerSettings,
        body: F,
    ) -> tokio::task::JoinHandle<ExitCode>
    where
        F: FnOnce(WorkerContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Outcome, Failure>> + Send + 'static,
    {
        tokio::spawn(run_worker(settings, Registry::new(), body))
    }

    /// Waits until the events of this queue so far are enough, and gives them.
    pub(crate) async fn events(&self, enough: impl FnMut(&[Event]) -> bool) -> Vec<Event> {
        self.events_of(&self.queue, enough).await
    }

    /// The same of another queue.
    pub(crate) async fn events_of(
        &self,
        queue: &QueueId,
        enough: impl FnMut(&[Event]) -> bool,
    ) -> Vec<Event> {
        let events = self
            .kafka
            .events_of(queue.as_str(), &self.events, LIMIT, enough);
        events.await.unwrap()
    }

    /// Waits until a worker has said how it ended, and gives all events.
    pub(crate) async fn until_ended(&self) -> Vec<Event> {
        self.events(|events| events.iter().any(|event| event.finished))
            .await
    }

    pub(crate) async fn send(&self, command: Command) {
        let payload = serde_json::to_string(&command).unwrap();
        self.command(&payload).await;
    }

    /// Puts something on the topic of commands, whatever it is.
    pub(crate) async fn command(&self, payload: &str) {
        let sent = self
            .kafka
            .publish(&self.control, Some(0), self.queue.as_str(), payload, &[]);
        sent.await.unwrap();
    }

    pub(crate) async fn stop_all(&self) {
        self.send(self.order(CommandKind::Stop)).await;
    }

    /// A command to all workers of this queue.
    pub(crate) fn order(&self, kind: CommandKind) -> Command {
        Command::new(kind, self.queue.as_str())
    }
}

/// A body that works until it is told to end.
pub(crate) async fn until_stopped(ctx: WorkerContext) -> Result<Outcome, Failure> {
    ctx.stop.cancelled().await;
    Ok(Outcome::Stopped)
}

/// Unix seconds, so many seconds from now.
pub(crate) fn seconds_from_now(seconds: i64) -> String {
    (TimestampMs::now().as_millis() / 1_000 + seconds).to_string()
}
