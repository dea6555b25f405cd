//! A broker, workers of one queue on it, and what they said.

use std::{process::ExitCode, time::Duration};

use prometheus::Registry;
use streamforge_devstack::kafka::{MockKafka, wait_for_events};
use streamforge_utils::{
    config::{Reader, Vars},
    protocol::{Command, CommandKind, Event, TimestampMs},
    worker::{Failure, Outcome, WorkerContext, WorkerSettings, run_worker},
};

pub(crate) const QUEUE: &str = "wf-btcusdt-api_candles_1m-20240801-abc123";
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Probe {
    pub(crate) kafka: MockKafka,
}

impl Probe {
    pub(crate) fn start() -> Self {
        Self {
            kafka: MockKafka::start().unwrap(),
        }
    }

    /// Settings of a worker of `service`, with `changes` to its environment.
    pub(crate) fn settings(
        &self,
        service: &'static str,
        changes: &[(&str, &str)],
    ) -> WorkerSettings {
        let mut vars: Vars = self.kafka.vars();
        let id = format!("{service}__abc123");
        let ours = [
            ("QUEUE_ID", QUEUE),
            ("SYMBOL", "BTCUSDT"),
            ("TYPE", "api_candles_1m"),
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

    /// Waits until the events so far are enough, and gives them.
    pub(crate) async fn events(&self, enough: impl FnMut(&[Event]) -> bool) -> Vec<Event> {
        wait_for_events(&self.kafka.config(), LIMIT, enough)
            .await
            .unwrap()
    }

    /// Waits until a worker has said how it ended, and gives all events.
    pub(crate) async fn until_ended(&self) -> Vec<Event> {
        self.events(|events| events.iter().any(|event| event.finished))
            .await
    }

    pub(crate) async fn send(&self, command: Command) {
        self.kafka.send_command(&command).await.unwrap();
    }

    pub(crate) async fn stop_all(&self) {
        self.send(Command::new(CommandKind::Stop, QUEUE)).await;
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
