//! Sending commands.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use rdkafka::{
    ClientContext,
    error::KafkaError,
    producer::{FutureProducer, FutureRecord},
};

use crate::{
    config::KafkaConfig,
    kafka::{self, KafkaContext, headers},
    protocol::Command,
};

/// Whether a command reached the broker.
pub type Delivery = BoxFuture<'static, Result<(), KafkaError>>;

/// Sends commands to workers. Clones send over the same connection.
#[derive(Clone)]
pub struct Commander<C: ClientContext + 'static = KafkaContext> {
    producer: FutureProducer<C>,
    topic: String,
}

impl Commander {
    /// Sends to `topic`, and gives each command up after `timeout`. Connects in the background.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(
        kafka: &KafkaConfig,
        client_id: &str,
        topic: &str,
        timeout: Duration,
    ) -> Result<Self, KafkaError> {
        Self::with_context(kafka, client_id, topic, timeout, KafkaContext::default())
    }
}

impl<C: ClientContext + 'static> Commander<C> {
    /// The same, and `context` hears what the client has to say.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn with_context(
        kafka: &KafkaConfig,
        client_id: &str,
        topic: &str,
        timeout: Duration,
        context: C,
    ) -> Result<Self, KafkaError> {
        // An idempotent producer waits half a second for its number; a command that is repeated does no harm.
        let producer = kafka::producer_config(kafka, client_id, kafka::CONTROL_QUEUE_KIB)
            .set("enable.idempotence", "false")
            .set("linger.ms", "0")
            .set(
                "message.timeout.ms",
                timeout.as_millis().clamp(1, 3_600_000).to_string(),
            )
            .create_with_context(context)?;
        Ok(Self {
            producer,
            topic: topic.to_owned(),
        })
    }

    /// Where commands go.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The client below, to ask the brokers by.
    pub fn producer(&self) -> &FutureProducer<C> {
        &self.producer
    }

    /// Sends a command at once. What comes of it is told later.
    pub fn send(&self, command: &Command) -> Delivery {
        let payload =
            serde_json::to_string(command).expect("a command has no key that is not text");
        let record = FutureRecord::to(&self.topic)
            .key(&command.queue_id)
            .payload(&payload)
            .headers(headers::with(&[]));
        match self.producer.send_result(record) {
            Err((error, _)) => std::future::ready(Err(error)).boxed(),
            Ok(delivery) => async move {
                match delivery.await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err((error, _))) => Err(error),
                    Err(_) => Err(KafkaError::Canceled),
                }
            }
            .boxed(),
        }
    }
}
