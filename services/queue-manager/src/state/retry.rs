//! The next run of a workflow: what did not finish is run again.
//!
//! **Which parts.** Those that did not finish, and no others:
//! - A loader that finished has written a `finished` marker to every partition before it said so. Such a marker is final
//!   in every run, so writers alone can read to it.
//! - A loader that was stopped left `interrupted` markers of its run, which count for no later run, and one that failed
//!   left none: without it the writers would wait for ever. It goes on after what it has published.
//! - A writer that finished has committed past a `finished` marker in every partition, and nothing after that counts.
//!   It need not run again even if the loader must, having died between its markers and its last event: the loader
//!   finds its markers and publishes nothing.
//! - A loader that finished runs again in one case: its topic was deleted and a writer still needs it. The committed
//!   offsets went with the topic.

use streamforge_utils::protocol::{TimestampMs, job_name};

use super::{Part, Retention, Status, Workflow};
use crate::plan::Role;

/// Why there is no next run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRetry {
    /// A part still runs, or waits to: stop it first, or wait.
    #[error("it has not ended yet")]
    NotEnded,
    /// It is about to be forgotten.
    #[error("it is being removed")]
    Removed,
    /// Everything is done.
    #[error("all its parts have finished")]
    AllFinished,
}

impl Workflow {
    /// The telemetry ids of the parts that the next run would run.
    ///
    /// # Errors
    /// There is no next run.
    pub fn retryable_parts(&self) -> Result<Vec<&str>, NoRetry> {
        if self.removal.is_some() {
            return Err(NoRetry::Removed);
        }
        if !self.status.is_final() {
            return Err(NoRetry::NotEnded);
        }
        let needs_run = |part: &&Part| {
            let is_unread = self.retention.deleted_at.is_some()
                && part.role == Role::Loader
                && self
                    .of_role(Role::Writer)
                    .any(|writer| writer.status != Status::Finished);
            part.status != Status::Finished || is_unread
        };
        let parts: Vec<&str> = self
            .parts
            .iter()
            .filter(needs_run)
            .map(|part| part.telemetry_id.as_str())
            .collect();
        if parts.is_empty() {
            return Err(NoRetry::AllFinished);
        }
        Ok(parts)
    }

    /// Begins the next run, which waits for its turn like a new workflow. Its Jobs have names of their own.
    ///
    /// # Errors
    /// There is no next run; nothing was changed.
    pub fn begin_retry(&mut self, now: TimestampMs) -> Result<(), NoRetry> {
        let again: Vec<String> = self
            .retryable_parts()?
            .into_iter()
            .map(str::to_owned)
            .collect();
        self.run += 1;
        for part in &mut self.parts {
            if again.contains(&part.telemetry_id) {
                let mut worker = part.worker();
                worker.job_name = job_name(
                    &worker.target,
                    &self.symbol,
                    &self.queue_id,
                    worker.nth(),
                    self.run,
                );
                *part = Part::new(&worker, self.run);
            }
        }
        self.queued_at = now;
        self.admitted_at = None;
        self.prepared_at = None;
        self.prepare_tried = None;
        self.prepare_problem = None;
        self.stop = None;
        self.retention = Retention::default();
        self.changed(now);
        Ok(())
    }
}
