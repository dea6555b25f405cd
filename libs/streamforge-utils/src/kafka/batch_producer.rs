//! Producing one batch per partition at a time.
//!
//! An idempotent producer of librdkafka sends no further request for a partition while five or more of its messages are in
//! flight. Messages that are queued behind them keep the broker's thread polling without a pause (librdkafka issues 2565
//! and 3692): a whole core for as long as a broker is frozen. Therefore librdkafka is handed one batch per partition,
//! which goes out as one request, and the next one once that is settled. The rest waits here.

mod lanes;

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::{DeliveryResult, Message as _, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer},
    types::RDKafkaErrorCode,
    util::IntoOpaque,
};

use self::lanes::{Lanes, Limits, Next, Waiting};
use super::KafkaContext;

/// librdkafka sends a batch at once when it has as many messages as fit if each takes this many bytes, which is more than
/// a candle takes. A smaller batch goes out [`HAND_OVER_MS`] after its first message.
const MESSAGE_BYTES: usize = 512;
/// How long librdkafka waits for the rest of a batch, which is handed over message by message, in ms.
const HAND_OVER_MS: u64 = 4;
/// What a request takes besides its messages, in bytes; an upper bound.
const REQUEST_OVERHEAD: usize = 512;

/// Hears what became of each message. Called on the client's own threads; it must not block.
pub trait Receipts: Send + Sync + 'static {
    /// What a message carries to its receipt.
    type Opaque: IntoOpaque + 'static;

    /// A message of so many bytes was acknowledged, or failed for good.
    fn settled(&self, bytes: usize, outcome: Result<(), KafkaError>, opaque: Self::Opaque);
}

/// Publishes to one topic. Messages of a partition are acknowledged in order.
pub struct BatchProducer<R: Receipts> {
    producer: Arc<ThreadedProducer<Context<R>>>,
    queue: Arc<Queue<R::Opaque>>,
}

impl<R: Receipts> BatchProducer<R> {
    /// A producer to `topic`. `config` is an idempotent producer's; its `batch.size` and `queue.buffering.max.*` are
    /// bounds of what is queued here too. A message waits for `linger` for others, and some milliseconds in librdkafka.
    /// Connects in the background.
    ///
    /// # Errors
    /// librdkafka refuses the configuration, or the system refuses a thread.
    pub fn new(
        mut config: ClientConfig,
        topic: &str,
        linger: Duration,
        log: KafkaContext,
        receipts: R,
    ) -> Result<Self, KafkaError> {
        let bound = |name: &str, default: usize| {
            let value = config.get(name).and_then(|value| value.parse().ok());
            value.unwrap_or(default)
        };
        // librdkafka's own defaults.
        let batch_bytes = bound("batch.size", 1_000_000);
        let limits = Limits {
            batch_messages: (batch_bytes / MESSAGE_BYTES).max(1),
            batch_bytes: batch_bytes.saturating_sub(REQUEST_OVERHEAD),
            messages: bound("queue.buffering.max.messages", 100_000),
            bytes: bound("queue.buffering.max.kbytes", 1_048_576).saturating_mul(1024),
            linger,
        };
        config
            .set("linger.ms", HAND_OVER_MS.to_string())
            .set("batch.num.messages", limits.batch_messages.to_string());
        let queue = Arc::new(Queue {
            lanes: Mutex::new(Lanes::new(limits)),
            changed: Condvar::new(),
        });
        let context = Context {
            log,
            receipts,
            queue: Arc::clone(&queue),
        };
        let producer: Arc<ThreadedProducer<_>> = Arc::new(config.create_with_context(context)?);
        let (handing, waiting, topic) =
            (Arc::clone(&producer), Arc::clone(&queue), topic.to_owned());
        std::thread::Builder::new()
            .name("producer".to_owned())
            .spawn(move || hand_over(&handing, &waiting, &topic))
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self { producer, queue })
    }

    /// Whether there is room for a message of this key and value. Else there is once others are settled.
    pub fn has_room(&self, key: Option<&[u8]>, value: &[u8]) -> bool {
        self.queue.lanes().has_room(key, value)
    }

    /// Queues a message, whether there is room for it or not.
    pub fn send(
        &self,
        partition: i32,
        key: Option<&[u8]>,
        value: &[u8],
        headers: OwnedHeaders,
        opaque: R::Opaque,
    ) {
        let message = Waiting::new(key, value, headers, opaque);
        let is_due = self.queue.lanes().push(partition, message);
        if is_due {
            self.queue.changed.notify_one();
        }
    }

    /// Messages that are queued or in flight.
    pub fn unsettled(&self) -> usize {
        self.queue.lanes().unsettled()
    }

    /// Where the outcomes go.
    pub fn receipts(&self) -> &R {
        &self.producer.context().receipts
    }

    /// What the client had to say.
    pub fn log(&self) -> &KafkaContext {
        &self.producer.context().log
    }

    /// The error that stopped the producer for good, if any.
    pub fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.producer.client().fatal_error()
    }

    /// Drops what is queued, without a receipt, and what is in flight. Nothing may be sent afterwards: it would leave a
    /// hole.
    pub fn abandon(&self) {
        self.queue.lanes().clear();
        self.producer
            .purge(PurgeConfig::default().queue().inflight());
    }
}

impl<R: Receipts> Drop for BatchProducer<R> {
    fn drop(&mut self) {
        self.queue.lanes().close();
        self.queue.changed.notify_all();
    }
}

struct Queue<O> {
    lanes: Mutex<Lanes<O>>,
    /// A batch may be due, or the queue is closed.
    changed: Condvar,
}

impl<O> Queue<O> {
    fn lanes(&self) -> MutexGuard<'_, Lanes<O>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next batch; `None` once the queue is closed.
    fn next_batch(&self) -> Option<(i32, Vec<Waiting<O>>)> {
        let mut lanes = self.lanes();
        loop {
            lanes = match lanes.next(Instant::now()) {
                Next::Closed => return None,
                Next::Batch(partition, batch) => return Some((partition, batch)),
                Next::At(due) => {
                    let wait = due.saturating_duration_since(Instant::now());
                    let waited = self.changed.wait_timeout(lanes, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Next::Nothing => {
                    let waited = self.changed.wait(lanes);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    fn settled(&self, partition: i32, bytes: usize) {
        if self.lanes().settled(partition, bytes) {
            self.changed.notify_one();
        }
    }
}

fn hand_over<R: Receipts>(
    producer: &ThreadedProducer<Context<R>>,
    queue: &Queue<R::Opaque>,
    topic: &str,
) {
    while let Some((partition, batch)) = queue.next_batch() {
        for message in batch {
            let bytes = message.bytes();
            let Waiting {
                key,
                value,
                headers,
                opaque,
                ..
            } = message;
            let mut record: BaseRecord<'_, [u8], [u8], R::Opaque> =
                BaseRecord::with_opaque_to(topic, opaque)
                    .partition(partition)
                    .payload(value.as_slice())
                    .headers(headers);
            record.key = key.as_deref();
            if let Err((error, record)) = producer.send(record) {
                queue.settled(partition, bytes);
                let context = producer.context();
                context
                    .receipts
                    .settled(value.len(), Err(error), record.delivery_opaque);
            }
        }
    }
}

struct Context<R: Receipts> {
    log: KafkaContext,
    receipts: R,
    queue: Arc<Queue<R::Opaque>>,
}

impl<R: Receipts> ClientContext for Context<R> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl<R: Receipts> ProducerContext for Context<R> {
    type DeliveryOpaque = R::Opaque;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: R::Opaque) {
        let (message, outcome) = match result {
            Ok(message) => (message, Ok(())),
            Err((error, message)) => (message, Err(error.clone())),
        };
        if outcome.is_ok() {
            // One broker of several that refuses us is no reason to end as long as another acknowledges.
            self.log.accepted();
        }
        let bytes = message.payload_len() + message.key_len();
        let (partition, value_bytes) = (message.partition(), message.payload_len());
        self.receipts.settled(value_bytes, outcome, opaque);
        self.queue.settled(partition, bytes);
    }
}
