//! Sending single messages, for people and tests.

use std::time::Duration;

use rdkafka::producer::{FutureProducer, FutureRecord};
use streamforge_utils::{config::KafkaConfig, kafka, protocol::Command};

/// How long a broker may take for one message.
const LIMIT: Duration = Duration::from_secs(10);

/// Sends a command on `queue-control`.
///
/// # Errors
/// The broker does not take it within 10 s.
pub async fn send_command(kafka: &KafkaConfig, command: &Command) -> anyhow::Result<()> {
    let payload = serde_json::to_string(command)?;
    publish(
        kafka,
        "queue-control",
        Some(0),
        &command.queue_id,
        &payload,
        &[],
    )
    .await
}

/// Publishes one message, with the schema header and `headers`.
///
/// # Errors
/// The broker does not take it within 10 s.
pub async fn publish(
    kafka: &KafkaConfig,
    topic: &str,
    partition: Option<i32>,
    key: &str,
    payload: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<()> {
    let producer: FutureProducer =
        kafka::producer_config(kafka, "devstack", kafka::DATA_PRODUCER_QUEUE_KIB)
            // One message needs no order, and an idempotent producer takes half a second to begin.
            .set("enable.idempotence", "false")
            // A test may send more than a worker would; librdkafka's own bound is a million bytes.
            .set("message.max.bytes", "4194304")
            .set("message.timeout.ms", LIMIT.as_millis().to_string())
            .create()?;
    let mut record = FutureRecord::to(topic)
        .key(key)
        .payload(payload)
        .headers(kafka::headers::with(headers));
    record.partition = partition;
    producer
        .send(record, LIMIT)
        .await
        .map_err(|(error, _)| error)?;
    Ok(())
}
