//! Publishing load: so many synthetic records a second, acknowledged, counted and timed, until something ends it.
//!
//! It ends as a loader does: a `finished` marker in every partition when it ends by itself, an `interrupted` one after a
//! stop, none after a signal or a failure, so that a restart goes on.

mod close;

use std::time::Duration;

use streamforge_utils::{
    kafka::headers,
    protocol::{SEQ, Symbol, partition_of},
    telemetry::Progress,
    worker::{Failure, Outcome},
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    SERVICE,
    config::{Config, Publish},
    cue::{Cue, Cues},
    metrics::Metrics,
    pace::Pace,
    producer::{Kind, Producer, PublishError},
    rate::{Count, Rate, Window},
    synthetic::Synthetic,
    topic::{self, Opened},
};

/// The most records between two looks at what ends the load: 400,000 a second while it catches up.
const MOST_AT_ONCE: u64 = 2_000;
/// How often counts, rate and message are brought up to date.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// What the end of the grace is kept for.
const CLOSING: Duration = Duration::from_secs(3);

/// Publishes until something ends it.
///
/// # Errors
/// The failure that was asked for, a topic that can't be written to, brokers that are away for too long.
pub async fn run(
    cues: &mut Cues,
    config: &Config,
    publish: Publish,
    progress: Progress,
    metrics: Metrics,
) -> Result<Outcome, Failure> {
    progress.set_message(format!("opening topic {}", publish.topic));
    let Opened { last, target } = tokio::select! {
        biased;
        cue = cues.next() => return match cue {
            Cue::End(ending) => ending.outcome(),
            Cue::Simulate => unreachable!("a load does not simulate"),
        },
        opened = topic::open(config, &publish) => opened?,
    };
    if last > 0 {
        tracing::info!(last, "Going on after an earlier attempt");
    }
    let producer = Producer::new(
        &config.kafka,
        &config.queue.producer_id(SERVICE),
        target,
        metrics.clone(),
    )
    .map_err(Failure::permanent)?;
    let grace = config.ops.shutdown_grace();
    let load = Load {
        partition: partition_of(config.queue.symbol.as_str(), publish.partitions),
        synthetic: Synthetic::new(config.queue.symbol.clone(), publish.interval, publish.bytes),
        symbol: config.queue.symbol.clone(),
        config,
        publish,
        producer,
        earlier: last,
        last,
        pace: None,
        grace: grace.saturating_sub(CLOSING).max(grace / 2),
        window: Window::open(),
        progress,
        metrics,
    };
    load.run(cues).await
}

struct Load<'a> {
    config: &'a Config,
    publish: Publish,
    symbol: Symbol,
    partition: i32,
    synthetic: Synthetic,
    producer: Producer,
    /// Number of the last record of earlier attempts.
    earlier: u64,
    /// Number of the last record that was queued.
    last: u64,
    /// From the acknowledgement of the first record on: what it takes to connect is not a matter of the rate.
    pace: Option<Pace>,
    /// How long acknowledgements are waited for after a stop.
    grace: Duration,
    window: Window,
    progress: Progress,
    metrics: Metrics,
}

impl Load<'_> {
    async fn run(mut self, cues: &mut Cues) -> Result<Outcome, Failure> {
        self.progress.set_total(self.publish.total);
        self.report();
        let mut ticks = interval(Pace::tick(self.publish.rate));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut reports = interval(REPORT_INTERVAL);
        reports.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut logs = interval(self.config.ops.progress_interval());
        logs.set_missed_tick_behavior(MissedTickBehavior::Skip);
        logs.reset();
        loop {
            if self.publish.total.is_some_and(|total| self.last >= total) {
                return self.finish(cues.stop()).await;
            }
            tokio::select! {
                biased;
                cue = cues.next() => match cue {
                    Cue::Simulate => {}
                    Cue::End(ending) => return self.end(ending, cues.stop()).await,
                },
                _ = reports.tick() => self.report(),
                _ = logs.tick() => tracing::info!("{}", self.summary()),
                _ = ticks.tick() => {
                    self.producer.check().await.map_err(failure)?;
                    self.publish_due().map_err(failure)?;
                }
            }
        }
    }

    /// Queues what is due by now, as far as there is room.
    fn publish_due(&mut self) -> Result<(), PublishError> {
        let queued = self.last - self.earlier;
        let Some(pace) = self.pace else {
            if queued == 0 {
                self.publish_next(Kind::First)?;
            } else if self.producer.acknowledged().records > 0 {
                self.pace = Some(Pace::new(Instant::now(), self.publish.rate));
            }
            return Ok(());
        };
        let mut due = (1 + pace.due(Instant::now())).saturating_sub(queued);
        if let Some(total) = self.publish.total {
            due = due.min(total - self.last);
        }
        for _ in 0..due.min(MOST_AT_ONCE) {
            if !self.publish_next(Kind::Timed)? {
                break;
            }
        }
        Ok(())
    }

    fn publish_next(&mut self, kind: Kind) -> Result<bool, PublishError> {
        let number = self.last + 1;
        let value = self.synthetic.record(number);
        let headers = headers::with(&[(SEQ, &number.to_string())]);
        let key = Some(self.symbol.as_str());
        let taken = self
            .producer
            .send(self.partition, key, &value, headers, kind)?;
        self.last += u64::from(taken);
        Ok(taken)
    }

    fn report(&mut self) {
        let count = self.producer.acknowledged();
        let rate = self.window.next(count);
        self.metrics.publish_rate.set(rate.records.round() as i64);
        self.progress.set_written(self.earlier + count.records);
        self.progress.set_message(self.summary());
    }

    /// What was reached so far, of the whole time.
    fn summary(&self) -> String {
        let count = self.producer.acknowledged();
        let written = self.earlier + count.records;
        let reached = match (self.pace, self.producer.acknowledged_at()) {
            (Some(pace), Some(until)) => {
                // The first record came before the schedule.
                let bytes = count.bytes.checked_div(count.records).unwrap_or(0);
                let timed = Count {
                    records: count.records.saturating_sub(1),
                    bytes: count.bytes.saturating_sub(bytes),
                };
                Rate::of(timed, until.saturating_duration_since(pace.start()))
            }
            _ => Rate::default(),
        };
        let latency = self
            .producer
            .latencies()
            .map(|latency| format!("; delivery {latency}"));
        format!(
            "{written} records published; {:.1} of {} records/s, {:.3} MB/s{}",
            reached.records,
            self.publish.rate,
            reached.bytes / 1e6,
            latency.unwrap_or_default()
        )
    }
}

fn failure(error: PublishError) -> Failure {
    let permanent = error.is_permanent();
    Failure::new(error, !permanent)
}
