//! How the loop ends: whether the stream has, and writing and committing what is held.

use std::time::Duration;

use futures::StreamExt;
use streamforge_utils::{kafka::ReadError, shutdown::StopSignal, worker::Outcome};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{WriteError, Writer};
use crate::{
    consume::{Event, REVOKE_LIMIT},
    end::{self, Verdict},
};

/// How long a topic must be silent before a drain takes it for empty: the loader is gone without a marker.
const DRAIN_QUIET: Duration = Duration::from_secs(10);
/// What the end of the grace period is kept for: the last commit and leaving the group.
const CLOSING: Duration = Duration::from_secs(4);

impl Writer {
    /// Whether the stream has ended, by what is known now. Asks for what is not known of other writers' partitions.
    pub(super) fn outcome(&mut self, stop: &StopSignal) -> Option<Outcome> {
        if let Some(outcome) = self.outcome_without_group(stop) {
            return Some(outcome);
        }
        if !self.was_assigned {
            return None;
        }
        let own = self.assignment.ended();
        let ended = self.others.with(&own);
        match end::judge(&ended) {
            Verdict::Finished => {
                self.progress.set_total(end::total(&ended));
                self.report();
                return Some(Outcome::Done);
            }
            Verdict::Interrupted => return Some(Outcome::UpstreamStopped),
            Verdict::Open(open) => {
                // As long as nobody knows how many partitions there are, others may: also one whose own partition was
                // added later, and stays empty, has to end.
                let is_idle = if open.is_empty() {
                    self.assignment.is_drained()
                } else {
                    !open.iter().any(|partition| self.assignment.has(*partition))
                };
                if is_idle && self.others.ask(&open, &self.assignment) {
                    self.progress
                        .set_message("waiting for the other writers of the group");
                }
            }
        }
        let is_quiet = self.assignment.is_drained()
            && self.in_flight.is_empty()
            && self.last_message.elapsed() >= DRAIN_QUIET;
        if stop.is_draining() && is_quiet {
            info!("The topic is empty and its loader is silent, ending as told");
            return Some(Outcome::Stopped);
        }
        None
    }

    /// A drain can't empty a topic whose group gives no partitions; it does not wait for that.
    fn outcome_without_group(&self, stop: &StopSignal) -> Option<Outcome> {
        let (since, reason) = self.group_trouble.as_ref()?;
        if !stop.is_draining() || since.elapsed() < DRAIN_QUIET {
            return None;
        }
        warn!(
            reason,
            "Told to drain while the consumer group gives no partitions; unread records stay in the topic"
        );
        Some(Outcome::Stopped)
    }

    pub(super) fn on_others(&mut self, found: Result<(), ReadError>) -> Result<(), WriteError> {
        match found {
            Ok(()) => self.check_rejected(),
            Err(error) => Err(WriteError::Read(error)),
        }
    }

    /// Writes what is held, until then at most.
    pub(super) async fn settle(&mut self, until: Instant) -> Result<(), WriteError> {
        let mut is_reading = true;
        loop {
            self.dispatch(true);
            tokio::select! {
                biased;
                landed = self.in_flight.next() => match landed {
                    Some(landed) => self.on_landed(landed?)?,
                    None => return Ok(()),
                },
                event = self.consumer.next_event(), if is_reading => match event {
                    Event::Committed(commits) => self.assignment.confirm(&commits),
                    Event::Revoked(revocation) => {
                        self.let_go(revocation);
                        return Ok(());
                    }
                    Event::Failed(error) => {
                        self.failure = Some(error);
                        is_reading = false;
                    }
                    Event::Assigned {
                        partitions,
                        deliveries,
                        ..
                    } => {
                        // The group has not waited, so what is held is nobody's any more.
                        self.next_assignment = Some((partitions, deliveries));
                        return Ok(());
                    }
                    Event::CommitFailed(_) | Event::NoGroup(_) => {}
                },
                () = tokio::time::sleep_until(until) => return Ok(()),
            }
        }
    }

    /// Writes and commits what is held, as far as the time allows, and leaves the group. The rest comes again.
    pub(super) async fn finish(mut self, result: &Result<Outcome, WriteError>) {
        let grace = self.settings.grace;
        let limit = match result {
            Ok(_) => grace.saturating_sub(CLOSING).max(grace / 2),
            // What the database did not take until now it will not take in the last seconds.
            Err(error) if error.is_of_a_sink() => Duration::ZERO,
            Err(_) => REVOKE_LIMIT.min(grace / 2),
        };
        self.deliveries = None;
        if !limit.is_zero()
            && let Err(error) = self.settle(Instant::now() + limit).await
        {
            warn!(%error, "Not all that was held could be written, it will come again");
        }
        self.report();
        self.metrics.in_flight.set(0);
        let commits = self.assignment.unconfirmed();
        self.consumer
            .close(commits, (CLOSING / 2).min(grace / 4))
            .await;
    }
}
