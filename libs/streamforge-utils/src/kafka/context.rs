//! What librdkafka says by itself goes to our log.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::{
    ClientContext, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError,
};

use super::is_permanent;

/// Logs through `tracing`, and remembers an error that no retry can mend: librdkafka itself goes on for ever after
/// a wrong password, so whoever waits has to look here.
#[derive(Debug, Clone, Default)]
pub struct KafkaContext {
    permanent: Arc<Mutex<Option<String>>>,
}

impl KafkaContext {
    /// The last error that no retry can mend.
    pub fn permanent_error(&self) -> Option<String> {
        self.permanent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ClientContext for KafkaContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::warn!(target: "rdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Warning => tracing::info!(target: "rdkafka", facility, "{message}"),
            _ => tracing::debug!(target: "rdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if is_permanent(&error) {
            tracing::error!(target: "rdkafka", %error, reason, "Kafka refuses this client");
            let message = format!("{error}: {reason}");
            *self
                .permanent
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(message);
        } else {
            tracing::debug!(target: "rdkafka", %error, reason, "Kafka client error, librdkafka tries again");
        }
    }
}

impl ConsumerContext for KafkaContext {}
