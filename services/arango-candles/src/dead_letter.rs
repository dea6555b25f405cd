//! Records that can't be written go to the dead-letter topic, with headers that say why and where they came from.
//!
//! A dead letter counts once the broker acknowledged it. It is never skipped: if the topic does not take it until
//! the deadline, the worker fails, and the record comes again.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    Message,
    error::KafkaError,
    message::{Header, Headers, OwnedHeaders, OwnedMessage},
    producer::{FutureProducer, FutureRecord},
};
use streamforge_utils::{
    config::KafkaConfig,
    kafka::{self, KafkaContext, TopicError, TopicSpec, Topics},
    protocol::{
        DLQ_ERROR, DLQ_OFFSET, DLQ_PARTITION, DLQ_PRODUCER, DLQ_REASON, DLQ_TOPIC, SCHEMA,
        SCHEMA_VERSION, dead_letter_topic,
    },
    text,
};
use tokio::sync::{OnceCell, Semaphore};
use tracing::warn;

use crate::{metrics::Metrics, record::Rejection};

/// What may wait for an acknowledgement, in KiB. Rejected records come one by one, not in floods.
const QUEUE_KIB: u32 = 2 * 1024;
/// Dead letters that are with librdkafka. An idempotent producer has five messages of a partition in flight, and spins while
/// a broker is frozen if more wait behind them.
const MAX_IN_FLIGHT: usize = 5;
/// Dead letters stay this much longer than a week, the default of the records themselves.
const RETENTION_HOURS: u64 = 14 * 24;

/// The dead-letter topic did not take a record.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The topic is not there and can't be made.
    #[error("the dead-letter topic is not to be had: {0}")]
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
        warn!(
            topic = message.topic(),
            partition = message.partition(),
            offset = message.offset(),
            reason = rejection.reason.as_str(),
            error = rejection.error,
            "A record can't be written, it goes to the dead-letter topic"
        );
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.topic).headers(headers_of(
            message,
            rejection,
            &self.producer_id,
        ));
        record.key = message.key();
        record.payload = message.payload();
        // The producer's own deadline ends it; one for the queue besides would only drop it early.
        let sent = producer.send(record, self.deadline).await;
        sent.map_err(|(error, _)| self.failed(message, error))?;
        self.metrics.rejected(rejection.reason);
        Ok(())
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
            // allows it.
            .set("message.max.bytes", "8000000")
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

/// The record's own headers and what is to be known of its rejection.
fn headers_of(message: &OwnedMessage, rejection: &Rejection, producer_id: &str) -> OwnedHeaders {
    let mut headers = match message.headers() {
        Some(own) => own
            .iter()
            .fold(OwnedHeaders::new(), |headers, own| headers.insert(own)),
        None => OwnedHeaders::new(),
    };
    // An error that quotes a large record does not go into a header whole.
    let error = text::cut(&rejection.error);
    for (key, value) in [
        (DLQ_REASON, rejection.reason.as_str()),
        (DLQ_ERROR, &error),
        (DLQ_TOPIC, message.topic()),
        (DLQ_PARTITION, &message.partition().to_string()),
        (DLQ_OFFSET, &message.offset().to_string()),
        (DLQ_PRODUCER, producer_id),
        // Last, so that it counts even where the record came with another one.
        (SCHEMA, SCHEMA_VERSION),
    ] {
        headers = headers.insert(Header {
            key,
            value: Some(value),
        });
    }
    headers
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use streamforge_utils::{kafka::headers, protocol::SEQ};

    use super::*;
    use crate::record::RejectReason;

    #[test]
    fn a_dead_letter_keeps_its_headers_and_says_why_and_from_where() {
        let own = headers::with(&[(SEQ, "7")]);
        let message = OwnedMessage::new(
            Some(b"not json".to_vec()),
            Some(b"BTCUSDT".to_vec()),
            "wf-x-data".to_owned(),
            Timestamp::NotAvailable,
            2,
            41,
            Some(own),
        );
        let rejection = Rejection::new(RejectReason::NotACandle, "e".repeat(5000));
        let all = headers_of(&message, &rejection, "arango-candles__abc123");
        let letter = message.replace_headers(Some(all));
        for (name, value) in [
            (SEQ, "7"),
            (SCHEMA, "1"),
            (DLQ_REASON, "not-a-candle"),
            (DLQ_TOPIC, "wf-x-data"),
            (DLQ_PARTITION, "2"),
            (DLQ_OFFSET, "41"),
            (DLQ_PRODUCER, "arango-candles__abc123"),
        ] {
            assert_eq!(headers::get(&letter, name), Some(value), "{name}");
        }
        assert_eq!(
            headers::get(&letter, DLQ_ERROR).unwrap().chars().count(),
            text::MAX_CHARS
        );
    }
}
