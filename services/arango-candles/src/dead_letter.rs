//! Records that can't be written go to the dead-letter topic, with headers that say why and where they came from.
//!
//! A dead letter counts once the broker acknowledged it. It is never skipped: if the topic does not take it until
//! the deadline, the worker fails, and the record is redelivered. One that is too large goes without its value.

mod letter;
mod log;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    Message,
    error::KafkaError,
    message::OwnedMessage,
    producer::{FutureProducer, FutureRecord},
    types::RDKafkaErrorCode,
};
use streamforge_utils::{
    config::KafkaConfig,
    kafka::{self, KafkaContext, TopicError, TopicSpec, Topics},
    protocol::dead_letter_topic,
};
use tokio::sync::{OnceCell, Semaphore};
use tracing::warn;

use crate::{metrics::Metrics, record::Rejection};
use letter::Letter;
use log::RejectLog;

/// What may wait for an acknowledgement, in KiB. Rejected records come one by one, not in floods.
const QUEUE_KIB: u32 = 4 * 1024;
/// The largest dead letter with a value, in bytes before compression. It must fit into the queue, or would wait for room in
/// vain.
const MAX_LETTER_BYTES: &str = "4000000";
/// Dead letters that are with librdkafka. An idempotent producer has five messages of a partition in flight, and spins while
/// a broker is frozen if more wait behind them.
const MAX_IN_FLIGHT: usize = 5;
/// Dead letters stay this much longer than a week, the default of the records themselves.
const RETENTION_HOURS: u64 = 14 * 24;

/// The dead-letter topic did not take a record.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The topic is not there and can't be made.
    #[error("dead-letter topic is unavailable: {0}")]
    Topic(#[from] TopicError),
    /// The broker did not take it.
    #[error(
        "dead-letter topic {topic:?} did not take the record at partition {partition} offset {offset}: {error}"
    )]
    Send {
        /// The dead-letter topic.
        topic: String,
        /// Where the record came from.
        partition: i32,
        /// Where the record came from.
        offset: i64,
        /// What librdkafka said.
        error: KafkaError,
    },
}

impl DeadLetterError {
    /// Whether trying again later can help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Topic(error) => !error.is_permanent(),
            Self::Send { error, .. } => !kafka::is_permanent(error),
        }
    }
}

/// Sends rejected records to the dead-letter topic, which is made at the first one.
pub struct DeadLetters {
    kafka: KafkaConfig,
    topic: String,
    producer_id: String,
    deadline: Duration,
    producer: OnceCell<FutureProducer<KafkaContext>>,
    in_flight: Semaphore,
    log: Mutex<RejectLog>,
    metrics: Metrics,
}

impl DeadLetters {
    /// For the records of `data_topic`, in the name of `producer_id`. Connects at the first one.
    pub fn new(
        kafka: &KafkaConfig,
        data_topic: &str,
        producer_id: &str,
        deadline: Duration,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            kafka: kafka.clone(),
            topic: dead_letter_topic(data_topic),
            producer_id: producer_id.to_owned(),
            deadline,
            producer: OnceCell::new(),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            log: Mutex::default(),
            metrics,
        })
    }

    /// Sends one record and waits for its acknowledgement.
    ///
    /// # Errors
    /// If the topic did not take it until the deadline, or never will.
    pub async fn send(
        &self,
        message: &OwnedMessage,
        rejection: &Rejection,
    ) -> Result<(), DeadLetterError> {
        let producer = self.producer.get_or_try_init(|| self.connect()).await?;
        // It is never closed.
        let _permit = self.in_flight.acquire().await;
        self.log(message, rejection);
        let letter = Letter::of(message, rejection, &self.producer_id);
        let sent = match self.try_send(producer, message, letter).await {
            Err(error) if is_too_large(&error) => {
                let letter = Letter::without_value(message, rejection, &self.producer_id);
                self.try_send(producer, message, letter).await
            }
            sent => sent,
        };
        sent.map_err(|error| self.failed(message, error))?;
        self.metrics.rejected(rejection.reason);
        Ok(())
    }

    async fn try_send(
        &self,
        producer: &FutureProducer<KafkaContext>,
        message: &OwnedMessage,
        letter: Letter<'_>,
    ) -> Result<(), KafkaError> {
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.topic).headers(letter.headers);
        record.key = letter.key;
        record.payload = letter.payload;
        // The producer's own deadline ends it; one for the queue besides would only drop it early.
        let sent = producer.send(record, self.deadline).await;
        sent.map(|_| ())
            .map_err(|(error, _)| error)
            .inspect_err(|error| {
                if is_too_large(error) {
                    warn!(
                        topic = self.topic,
                        partition = message.partition(),
                        offset = message.offset(),
                        bytes = message.payload().map_or(0, <[u8]>::len),
                        "Dead letter is larger than its topic allows; sending it without its value"
                    );
                }
            })
    }

    fn log(&self, message: &OwnedMessage, rejection: &Rejection) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = log.admit(Instant::now()) {
            warn!(
                topic = message.topic(),
                partition = message.partition(),
                offset = message.offset(),
                reason = rejection.reason.as_str(),
                error = rejection.error,
                suppressed,
                "Sending a record that can't be written to the dead-letter topic"
            );
        }
    }

    async fn connect(&self) -> Result<FutureProducer<KafkaContext>, DeadLetterError> {
        let topics =
            Topics::new(&self.kafka, &self.producer_id).map_err(|error| self.no_client(error))?;
        let spec = TopicSpec {
            name: self.topic.clone(),
            partitions: 1,
            replication: None,
            retention_hours: RETENTION_HOURS,
        };
        topics.ensure(&spec, self.deadline).await?;
        let deadline_ms = self.deadline.as_millis().to_string();
        kafka::producer_config(&self.kafka, &self.producer_id, QUEUE_KIB)
            .set("message.timeout.ms", deadline_ms)
            // A batch of one message leaves nothing to wait for.
            .set("linger.ms", "0")
            // A record that was small enough for its topic must fit with its new headers, too, where the broker
            // allows it: it came compressed.
            .set("message.max.bytes", MAX_LETTER_BYTES)
            .set("compression.type", "zstd")
            // One that is too large must not take others with it.
            .set("batch.num.messages", "1")
            .create_with_context(KafkaContext::default())
            .map_err(|error| self.no_client(error))
    }

    fn no_client(&self, error: KafkaError) -> DeadLetterError {
        DeadLetterError::Topic(TopicError::Refused {
            doing: "connecting to topic",
            topic: self.topic.clone(),
            reason: error.to_string(),
        })
    }

    fn failed(&self, message: &OwnedMessage, error: KafkaError) -> DeadLetterError {
        DeadLetterError::Send {
            topic: self.topic.clone(),
            partition: message.partition(),
            offset: message.offset(),
            error,
        }
    }
}

fn is_too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

impl Drop for DeadLetters {
    fn drop(&mut self) {
        let log = self.log.get_mut().unwrap_or_else(PoisonError::into_inner);
        let suppressed = log.suppressed();
        if suppressed > 0 {
            warn!(
                suppressed,
                topic = self.topic,
                "More records went to the dead-letter topic"
            );
        }
    }
}

#[cfg(test)]
mod tests;
