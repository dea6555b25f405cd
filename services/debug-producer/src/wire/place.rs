//! Finding both topics, and the end of the events topic. Blocking, as librdkafka's requests are.

use std::time::Duration;

use rdkafka::{
    consumer::{Consumer, StreamConsumer},
    error::KafkaError,
    producer::{FutureProducer, Producer},
    types::RDKafkaErrorCode as Code,
};

use super::hearing::Hearing;

/// How long one request to the broker may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A partition, and the offset that its next message will get.
pub(super) type Place = (i32, i64);

/// What was not found.
#[derive(Debug)]
pub(super) enum NotFound {
    /// A topic that is not there, and what names it.
    Topic {
        topic: String,
        variable: &'static str,
    },
    /// Anything else about a topic.
    Kafka { topic: String, error: KafkaError },
}

/// The places of the events topic, if there is one to listen to, once the control topic is found.
pub(super) fn find(
    consumer: &StreamConsumer<Hearing>,
    producer: &FutureProducer<Hearing>,
    control: &str,
    events: Option<&str>,
) -> Result<Vec<Place>, NotFound> {
    partitions(consumer, control, "QUEUE_CONTROL_TOPIC")?;
    // So that the first command finds a connection.
    let found = producer
        .client()
        .fetch_metadata(Some(control), REQUEST_TIMEOUT);
    found.map_err(|error| about(control, error))?;
    let Some(events) = events else {
        return Ok(Vec::new());
    };
    let partitions = partitions(consumer, events, "QUEUE_EVENTS_TOPIC")?;
    let places = (0..partitions).map(|partition| {
        let ends = consumer.fetch_watermarks(events, partition, REQUEST_TIMEOUT);
        ends.map(|(_, end)| (partition, end))
            .map_err(|error| about(events, error))
    });
    places.collect()
}

fn about(topic: &str, error: KafkaError) -> NotFound {
    NotFound::Kafka {
        topic: topic.to_owned(),
        error,
    }
}

/// How many partitions a topic has.
fn partitions(
    consumer: &StreamConsumer<Hearing>,
    topic: &str,
    variable: &'static str,
) -> Result<i32, NotFound> {
    let missing = || NotFound::Topic {
        topic: topic.to_owned(),
        variable,
    };
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT);
    let metadata = metadata.map_err(|error| about(topic, error))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.ok_or_else(missing)?;
    match found.error().map(Code::from) {
        None if found.partitions().is_empty() => Err(missing()),
        None => Ok(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX)),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Err(missing()),
        Some(code) => Err(about(topic, KafkaError::MetadataFetch(code))),
    }
}
