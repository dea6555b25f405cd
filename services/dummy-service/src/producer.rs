//! Publishing with a look at every delivery report: what was acknowledged, how long it took, what failed.
//!
//! Idempotent and acknowledged by all replicas in sync, with no time-out of single records, as a loader publishes; a
//! partition always holds a gapless prefix. Held in memory: 2.5 MiB. What is published, and when, is not its job.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rdkafka::{error::KafkaError, message::OwnedHeaders};
use streamforge_utils::{
    config::KafkaConfig,
    kafka::{self, BatchProducer, KafkaContext, Receipts, Target},
    latency::{Latencies, LatencySummary},
};
use tokio::time::Instant;

pub use streamforge_utils::kafka::PublishError;

use crate::{metrics::Metrics, rate::Count};

/// What may wait for its acknowledgement, in KiB. At 50,000 candles a second it is an eighth of a second's worth.
const QUEUE_KIB: u32 = 2 * 1024 + 512;
/// The most records that may wait: each costs a few hundred bytes besides its own.
const QUEUE_RECORDS: &str = "6000";
/// How long a record may wait for others that share its batch. It is part of every latency that is reported.
const LINGER: Duration = Duration::from_millis(1);

/// What a message is to its delivery report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A record whose latency counts.
    Timed,
    /// A record whose latency does not: it waited for the connection.
    First,
    /// No record.
    Marker,
}

/// What goes through librdkafka and comes back with the report: for a timed record, the microseconds at which it was
/// sent, so that nothing has to be allocated for it.
const FIRST: usize = usize::MAX - 1;
const MARKER: usize = usize::MAX;

/// Publishes to one topic.
pub struct Producer {
    inner: BatchProducer<Deliveries>,
    target: Target,
    sent: u64,
}

impl Producer {
    /// A producer to `target`. Connects in the background.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(
        kafka: &KafkaConfig,
        client_id: &str,
        target: Target,
        metrics: Metrics,
    ) -> Result<Self, KafkaError> {
        let mut settings = kafka::data_producer_config(kafka, client_id, QUEUE_KIB);
        settings
            .set("batch.size", target.batch_bytes().to_string())
            .set("queue.buffering.max.messages", QUEUE_RECORDS);
        let deliveries = Deliveries {
            begun: Instant::now(),
            metrics,
            state: Mutex::default(),
        };
        let log = KafkaContext::default();
        let inner = BatchProducer::new(settings, target.name(), LINGER, log, deliveries)?;
        Ok(Self {
            inner,
            target,
            sent: 0,
        })
    }

    /// Queues a message; whether there was room for it.
    ///
    /// # Errors
    /// The client takes no more: an earlier message failed for good.
    pub fn send(
        &mut self,
        partition: i32,
        key: Option<&str>,
        value: &[u8],
        headers: OwnedHeaders,
        kind: Kind,
    ) -> Result<bool, PublishError> {
        let key = key.map(str::as_bytes);
        if !self.inner.has_room(key, value) {
            return Ok(false);
        }
        let deliveries = self.inner.receipts();
        let opaque = match kind {
            Kind::Timed => deliveries.now_micros(),
            Kind::First => FIRST,
            Kind::Marker => MARKER,
        };
        let failed = {
            let mut state = deliveries.state();
            if state.settled == self.sent {
                state.moved_at = Some(Instant::now());
            }
            state.failed.clone()
        };
        if let Some(error) = failed {
            return Err(self.fail(&error));
        }
        self.inner.send(partition, key, value, headers, opaque);
        self.sent += 1;
        Ok(true)
    }

    /// Messages that were queued and not reported on.
    pub fn in_flight(&self) -> u64 {
        let settled = self.inner.receipts().state().settled;
        self.sent.saturating_sub(settled)
    }

    /// Records that were acknowledged.
    pub fn acknowledged(&self) -> Count {
        self.inner.receipts().state().acknowledged
    }

    /// When the last record was acknowledged.
    pub fn acknowledged_at(&self) -> Option<Instant> {
        self.inner.receipts().state().acknowledged_at
    }

    /// How long timed records took.
    pub fn latencies(&self) -> Option<LatencySummary> {
        self.inner.receipts().state().latencies.summary()
    }

    /// Looks at what was reported.
    ///
    /// # Errors
    /// A message failed, the broker refuses this client, or nothing was acknowledged for too long.
    pub async fn check(&self) -> Result<(), PublishError> {
        let deliveries = self.inner.receipts();
        let (failed, moved_at) = {
            let state = deliveries.state();
            (state.failed.clone(), state.moved_at)
        };
        if let Some(error) = failed {
            return Err(self.fail(&error));
        }
        if self.in_flight() == 0 {
            return Ok(());
        }
        // librdkafka itself goes on for ever after a wrong password.
        if let Some(reason) = self.inner.log().permanent_error() {
            self.abandon();
            return Err(self.target.refused(reason));
        }
        if moved_at.is_some_and(|at| at.elapsed() >= self.target.deadline()) {
            self.abandon();
            return Err(self.target.unacknowledged(self.inner.log()).await);
        }
        Ok(())
    }

    /// Drops what is queued and what is on its way. Nothing may be sent afterwards.
    pub fn abandon(&self) {
        self.inner.abandon();
    }

    /// Drops what is queued, and says why the producer stopped.
    fn fail(&self, error: &KafkaError) -> PublishError {
        let fatal = self.inner.fatal_error();
        self.abandon();
        self.target.failed(error, fatal)
    }
}

/// Hears what became of each message, on the client's own thread.
struct Deliveries {
    begun: Instant,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    acknowledged: Count,
    /// Messages of any kind that were acknowledged.
    settled: u64,
    latencies: Latencies,
    failed: Option<KafkaError>,
    acknowledged_at: Option<Instant>,
    /// When the last report on any message came, or the first message since then was queued.
    moved_at: Option<Instant>,
}

impl Deliveries {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_micros(&self) -> usize {
        let micros = usize::try_from(self.begun.elapsed().as_micros()).unwrap_or(FIRST);
        micros.min(FIRST - 1)
    }
}

impl Receipts for Deliveries {
    type Opaque = usize;

    fn settled(&self, bytes: usize, outcome: Result<(), KafkaError>, opaque: usize) {
        let mut state = self.state();
        if let Err(error) = outcome {
            state.failed.get_or_insert(error);
            return;
        }
        state.settled += 1;
        let now = Some(Instant::now());
        state.moved_at = now;
        if opaque == MARKER {
            return;
        }
        state.acknowledged_at = now;
        let bytes = bytes as u64;
        state.acknowledged.records += 1;
        state.acknowledged.bytes += bytes;
        self.metrics.published.inc();
        self.metrics.published_bytes.inc_by(bytes);
        if opaque != FIRST {
            let took = self.now_micros().saturating_sub(opaque);
            let took = Duration::from_micros(took as u64);
            state.latencies.record(took);
            self.metrics.delivery_seconds.observe(took.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use rdkafka::{ClientContext, types::RDKafkaErrorCode};
    use streamforge_utils::{
        config::{Reader, Vars},
        kafka::{TopicSettings, Topics},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_goes_on_refusing_ends_the_load() {
        let nobody = ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1");
        let vars = Vars::from([(nobody.0.to_owned(), nobody.1.to_owned())]);
        let kafka = Reader::new(&vars).section().unwrap();
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let deadline = Duration::from_secs(300);
        let topics = Topics::new(&kafka, "test").unwrap();
        let target = Target::new("wf-x-data", TopicSettings::default(), deadline, topics);
        let mut producer = Producer::new(&kafka, "test", target, metrics).unwrap();
        let headers = kafka::headers::with(&[]);
        let sent = producer.send(0, None, b"x", headers, Kind::First);
        assert!(sent.unwrap());
        let refused = KafkaError::Global(RDKafkaErrorCode::Authentication);
        producer.inner.log().error(refused, "one of several");
        assert!(producer.check().await.is_ok(), "it was refused just now");
        tokio::time::advance(Duration::from_secs(10)).await;
        let error = producer.check().await.unwrap_err();
        assert!(error.is_permanent(), "{error}");
    }
}
