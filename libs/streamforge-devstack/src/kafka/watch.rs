//! Looking at whole topics, for people and tests.

use std::time::Duration;

use rdkafka::message::{Message, OwnedMessage};
use streamforge_utils::{
    config::KafkaConfig,
    kafka::{ReadError, TopicReader, Topics},
    protocol::Event,
};

/// Every message that a topic has now, partition by partition, in order. A topic that is not there has none.
///
/// # Errors
/// The broker does not answer.
pub async fn read_topic(kafka: &KafkaConfig, topic: &str) -> anyhow::Result<Vec<OwnedMessage>> {
    let Some(partitions) = Topics::new(kafka, "watch")?.partitions(topic).await? else {
        return Ok(Vec::new());
    };
    let reader = TopicReader::new(kafka, "watch", "watch")?;
    let mut messages = Vec::new();
    for partition in 0..partitions {
        let ends = reader.watermarks(topic, partition).await?;
        let read = reader.messages(topic, partition, (ends.low, ends.high));
        messages.extend(read.await?);
    }
    Ok(messages)
}

/// Waits until all `partitions` of a topic can be used, which is a moment after a broker has made it.
///
/// # Errors
/// `limit` is over.
pub(super) async fn wait_for_partitions(
    kafka: &KafkaConfig,
    topic: &str,
    partitions: i32,
    limit: Duration,
) -> anyhow::Result<()> {
    let reader = TopicReader::new(kafka, "watch", "watch")?;
    let usable = async {
        for partition in 0..partitions {
            while reader.watermarks(topic, partition).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let waited = tokio::time::timeout(limit, usable).await;
    waited.map_err(|_| anyhow::anyhow!("{topic} can't be used {limit:?} after it was made"))
}

/// Reads a topic of one partition from its beginning until `enough` of all messages so far, or `limit` is over,
/// which is an error that says how many came.
///
/// # Errors
/// The broker does not answer, or `limit` is over.
pub async fn wait_for_messages(
    kafka: &KafkaConfig,
    topic: &str,
    limit: Duration,
    mut enough: impl FnMut(&[OwnedMessage]) -> bool,
) -> anyhow::Result<Vec<OwnedMessage>> {
    let reader = TopicReader::new(kafka, "watch", "watch")?;
    let mut messages: Vec<OwnedMessage> = Vec::new();
    let waited = tokio::time::timeout(limit, async {
        let mut next = 0;
        loop {
            let ends = reader.watermarks(topic, 0).await?;
            let offsets = (next.max(ends.low), ends.high);
            messages.extend(reader.messages(topic, 0, offsets).await?);
            next = ends.high;
            if enough(&messages) {
                return Ok::<_, ReadError>(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    match waited.await {
        Ok(read) => read?,
        Err(_) => anyhow::bail!(
            "{topic} has {} messages after {limit:?}, and that is not enough",
            messages.len()
        ),
    }
    Ok(messages)
}

/// Reads `queue-events` until `enough` of all events so far, or `limit` is over, which is an error.
///
/// # Errors
/// The broker does not answer, a message is no event, or `limit` is over.
pub async fn wait_for_events(
    kafka: &KafkaConfig,
    limit: Duration,
    enough: impl FnMut(&[Event]) -> bool,
) -> anyhow::Result<Vec<Event>> {
    wait_for_events_of(kafka, "queue-events", None, limit, enough).await
}

/// The same of another topic, and of one workflow only if it is named: its messages are known by their key.
pub(super) async fn wait_for_events_of(
    kafka: &KafkaConfig,
    topic: &str,
    queue_id: Option<&str>,
    limit: Duration,
    mut enough: impl FnMut(&[Event]) -> bool,
) -> anyhow::Result<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    let (mut seen, mut malformed) = (0, None);
    wait_for_messages(kafka, topic, limit, |messages| {
        for message in &messages[seen..] {
            seen += 1;
            if queue_id.is_some_and(|queue_id| message.key() != Some(queue_id.as_bytes())) {
                continue;
            }
            match serde_json::from_slice(message.payload().unwrap_or_default()) {
                Ok(event) => events.push(event),
                Err(error) => {
                    malformed = Some(error);
                    return true;
                }
            }
        }
        enough(&events)
    })
    .await?;
    match malformed {
        Some(error) => Err(error.into()),
        None => Ok(events),
    }
}
