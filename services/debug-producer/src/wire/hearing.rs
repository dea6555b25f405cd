//! What the Kafka client says of its connections, so that who gets no answer is told why.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::{
    ClientContext, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError,
};
use streamforge_utils::kafka::KafkaContext;

/// Does what [`KafkaContext`] does, and remembers the last failure of a connection as well.
#[derive(Debug, Clone, Default)]
pub(super) struct Hearing {
    inner: KafkaContext,
    last: Arc<Mutex<Option<String>>>,
}

impl Hearing {
    /// The last error that no retry can mend.
    pub(super) fn permanent_error(&self) -> Option<String> {
        self.inner.permanent_error()
    }

    /// A broker has done what it was asked.
    pub(super) fn accepted(&self) {
        self.inner.accepted();
    }

    /// Why the last connection failed, in the client's words.
    pub(super) fn last_failure(&self) -> Option<String> {
        self.last().clone()
    }

    fn last(&self) -> MutexGuard<'_, Option<String>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Hearing {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.inner.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // That all are down follows from what was said of each.
        if !reason.contains("brokers are down") {
            *self.last() = Some(reason.to_owned());
        }
        self.inner.error(error, reason);
    }
}

impl ConsumerContext for Hearing {}
