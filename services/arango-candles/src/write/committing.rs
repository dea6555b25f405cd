//! When is committed, and what a failed commit means.

use std::time::Duration;

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};
use streamforge_utils::kafka::is_permanent;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{WriteError, Writer};
use crate::consume::ConsumeError;

/// How often is committed. After a crash this much is written again.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// A topic that is gone is found out, and told, by the consumer, which asks every second.
const TOPIC_CHECK: Duration = Duration::from_secs(5);

impl Writer {
    pub(super) fn on_failed_commit(&mut self, error: KafkaError) -> Result<(), WriteError> {
        if is_permanent(&error) {
            return Err(WriteError::Consume(ConsumeError::Refused {
                topic: self.settings.topic.clone(),
                reason: format!("a commit was refused: {error}"),
            }));
        }
        // As usual while the group changes: then a revocation follows.
        warn!(%error, "Commit failed; retrying");
        self.assignment.resubmit();
        let since = self.commit_trouble.take().map(|(since, _)| since);
        self.commit_trouble = Some((since.unwrap_or_else(Instant::now), error));
        self.commit_at = Instant::now() + COMMIT_INTERVAL;
        Ok(())
    }

    pub(super) fn commit_if_due(&mut self) -> Result<(), WriteError> {
        let now = Instant::now();
        if let Some((since, error)) = &self.commit_trouble
            && now.duration_since(*since) > self.settings.retry_deadline + grace_of(error)
        {
            let seconds = self.settings.retry_deadline.as_secs_f64();
            return Err(WriteError::Consume(ConsumeError::Unavailable {
                topic: self.settings.topic.clone(),
                reason: format!(
                    "no commit was confirmed for {seconds} s (RETRY_DEADLINE_SECS); last error: {error}"
                ),
            }));
        }
        let is_urgent = self.commit_trouble.is_none() && self.assignment.has_urgent_commit();
        if now < self.commit_at && !is_urgent {
            return Ok(());
        }
        self.commit_at = now + COMMIT_INTERVAL;
        let commits = self.assignment.next_commits();
        if !commits.is_empty() {
            debug!(?commits, "Committing");
            self.consumer.commit(commits);
        }
        Ok(())
    }
}

fn grace_of(error: &KafkaError) -> Duration {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::UnknownTopicOrPartition) => TOPIC_CHECK,
        _ => Duration::ZERO,
    }
}
