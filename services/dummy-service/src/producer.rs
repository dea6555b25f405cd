//! Publishing with a look at every delivery report: what was acknowledged, how long it took, what failed.
//!
//! Idempotent and acknowledged by all replicas in sync, with no time-out of single records, as a loader publishes; a
//! partition always holds a gapless prefix. Held in memory: 2.5 MiB. What is published, and when, is not its job.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::{DeliveryResult, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use streamforge_utils::{
    config::KafkaConfig,
    kafka::{self, KafkaContext, Target},
    latency::{Latencies, LatencySummary},
};
use tokio::time::Instant;

pub use streamforge_utils::kafka::PublishError;

use crate::{metrics::Metrics, rate::Count};

/// What may wait for its acknowledgement, in KiB. At 50,000 candles a second it is an eighth of a second's worth.
const QUEUE_KIB: u32 = 2 * 1024 + 512;
/// The most records that may wait: each costs a few hundred bytes besides its own.
const QUEUE_RECORDS: &str = "6000";
/// How long a record may wait for others that share its batch, in ms. It is part of every latency that is reported.
const LINGER_MS: &str = "5";

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
    inner: ThreadedProducer<Deliveries>,
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
        let inner = kafka::data_producer_config(kafka, client_id, QUEUE_KIB)
            .set("batch.size", target.batch_bytes().to_string())
            .set("queue.buffering.max.messages", QUEUE_RECORDS)
            .set("linger.ms", LINGER_MS)
            .create_with_context(Deliveries {
                log: KafkaContext::default(),
                begun: Instant::now(),
                metrics,
                state: Arc::default(),
            })?;
        Ok(Self {
            inner,
            target,
            sent: 0,
        })
    }

    /// Queues a message; whether there was room for it.
    ///
    /// # Errors
    /// The client takes no more: an earlier message failed for good, or this one is refused.
    pub fn send(
        &mut self,
        partition: i32,
        key: Option<&str>,
        value: &[u8],
        headers: OwnedHeaders,
        kind: Kind,
    ) -> Result<bool, PublishError> {
        let deliveries = self.inner.context();
        let opaque = match kind {
            Kind::Timed => deliveries.now_micros(),
            Kind::First => FIRST,
            Kind::Marker => MARKER,
        };
        let mut record: BaseRecord<'_, str, [u8], usize> =
            BaseRecord::with_opaque_to(self.target.name(), opaque)
                .partition(partition)
                .payload(value)
                .headers(headers);
        record.key = key;
        match self.inner.send(record) {
            Ok(()) => {
                if self.in_flight() == 0 {
                    self.inner.context().state().moved_at = Some(Instant::now());
                }
                self.sent += 1;
                Ok(true)
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(false),
            Err((error, _)) => Err(self.fail(&error)),
        }
    }

    /// Messages that were queued and not reported on.
    pub fn in_flight(&self) -> u64 {
        let settled = self.inner.context().state().settled;
        self.sent.saturating_sub(settled)
    }

    /// Records that were acknowledged.
    pub fn acknowledged(&self) -> Count {
        self.inner.context().state().acknowledged
    }

    /// When the last record was acknowledged.
    pub fn acknowledged_at(&self) -> Option<Instant> {
        self.inner.context().state().acknowledged_at
    }

    /// How long timed records took.
    pub fn latencies(&self) -> Option<LatencySummary> {
        self.inner.context().state().latencies.summary()
    }

    /// Looks at what was reported.
    ///
    /// # Errors
    /// A message failed, the broker refuses this client, or nothing was acknowledged for too long.
    pub async fn check(&self) -> Result<(), PublishError> {
        let deliveries = self.inner.context();
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
        if let Some(reason) = deliveries.log.permanent_error() {
            self.abandon();
            return Err(self.target.refused(reason));
        }
        if moved_at.is_some_and(|at| at.elapsed() >= self.target.deadline()) {
            self.abandon();
            return Err(self.target.unacknowledged(&deliveries.log).await);
        }
        Ok(())
    }

    /// Drops what is queued and what is on its way. Nothing may be sent afterwards.
    pub fn abandon(&self) {
        self.inner.purge(PurgeConfig::default().queue().inflight());
    }

    /// Drops what is queued, and says why the producer stopped.
    fn fail(&self, error: &KafkaError) -> PublishError {
        let fatal = self.inner.client().fatal_error();
        self.abandon();
        self.target.failed(error, fatal)
    }
}

/// Hears what became of each message, on the client's own thread.
struct Deliveries {
    log: KafkaContext,
    begun: Instant,
    metrics: Metrics,
    state: Arc<Mutex<State>>,
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

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let mut state = self.state();
        let message = match result {
            Ok(message) => message,
            Err((error, _)) => {
                state.failed.get_or_insert_with(|| error.clone());
                return;
            }
        };
        // One broker of several that refuses us is no reason to end as long as another acknowledges.
        self.log.accepted();
        state.settled += 1;
        let now = Some(Instant::now());
        state.moved_at = now;
        if opaque == MARKER {
            return;
        }
        state.acknowledged_at = now;
        let bytes = message.payload_len() as u64;
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
        producer.inner.context().error(refused, "one of several");
        assert!(producer.check().await.is_ok(), "it was refused just now");
        tokio::time::advance(Duration::from_secs(10)).await;
        let error = producer.check().await.unwrap_err();
        assert!(error.is_permanent(), "{error}");
    }
}
