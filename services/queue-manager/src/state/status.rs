//! What follows for a workflow from its parts: status, reason, totals; and who was told to stop, and why.

use std::collections::BTreeMap;

use streamforge_utils::protocol::TimestampMs;

use super::{Part, Progress, Status, Workflow};
use crate::plan::Role;

/// Why a writer ends that is left alone.
pub(crate) const UPSTREAM: &str =
    "stopped, since its loader was interrupted and nothing came any more";

/// A part is to end, and this is why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// Whether it may empty the topic first.
    pub(crate) drain: bool,
    /// For people, past tense.
    pub(crate) reason: String,
}

impl Workflow {
    /// Derives all that follows from the parts.
    ///
    /// **Status.** A workflow is final when all its parts are, not earlier: as long as a worker runs it holds its place
    /// and its topic, and a retry would run two workers at once. Then `error` if a part failed, else `interrupted` if
    /// one was, else `finished`. Before: `stalled` if a part is; `running` if any was heard of; `starting` if one was
    /// launched; else `pending`. A part that has failed while others still run shows in the reason.
    pub(crate) fn refresh(&mut self) {
        self.refresh_progress();
        self.started_at = self.of_run().filter_map(|part| part.started_at).min();
        self.status = self.derive_status();
        self.ended_at = if self.status.is_final() {
            self.parts.iter().filter_map(|part| part.ended_at).max()
        } else {
            None
        };
        self.reason = self.derive_reason();
        self.has_topics_to_delete = self.topics_due(std::time::Duration::ZERO).is_some();
    }

    fn derive_reason(&self) -> Option<String> {
        let of = |wanted: Status| self.parts.iter().find(|part| part.status == wanted);
        let says = |part: &Part| {
            let reason = part.reason.as_deref();
            reason.map(|reason| format!("{}: {reason}", part.telemetry_id))
        };
        if self.status.is_final() {
            return match self.status {
                Status::Interrupted => self
                    .stop
                    .as_ref()
                    .map(|stop| format!("stopped by {}", stop.by))
                    .or_else(|| of(Status::Interrupted).and_then(says)),
                status => of(status).and_then(says),
            };
        }
        if let Some(stop) = &self.stop {
            let drain = match stop.drain {
                true => "; what was published is written first",
                false => "",
            };
            return Some(format!("{} stops it{drain}", stop.by));
        }
        if let Some(failed) = of(Status::Error) {
            let others = "the others are to end";
            return Some(says(failed).map_or_else(
                || format!("{} failed, and {others}", failed.telemetry_id),
                |reason| format!("{reason}; {others}"),
            ));
        }
        if let Some(problem) = &self.prepare_problem {
            return Some(format!("it could not be prepared: {problem}"));
        }
        of(Status::Stalled)
            .or_else(|| of(Status::Starting))
            .and_then(says)
    }

    /// Whether this part was, or is to be, told to end, and why.
    ///
    /// By request. Or since its loader failed for good: it reads what was published, then ends. Or, a loader, since
    /// every writer is final and failed, with none that finished: one that finished has read the end of the stream, so
    /// the loader is about to end by itself; and one that somebody stopped on purpose leaves the loader to its work.
    /// Or since it was told before, for a reason that has passed.
    pub(crate) fn told_to_stop(&self, part: &Part) -> Option<Told> {
        if let Some(stop) = &self.stop {
            return Some(Told {
                drain: stop.drain,
                reason: format!("stopped by {}", stop.by),
            });
        }
        let of = |role: Role| self.parts.iter().filter(move |part| part.role == role);
        let failed = |part: &Part| part.status == Status::Error;
        match part.role {
            Role::Writer
                if of(Role::Loader).all(Part::is_final) && of(Role::Loader).any(failed) =>
            {
                Some(Told {
                    drain: of(Role::Loader).any(|loader| loader.progress.written > 0),
                    reason: "stopped, since its loader failed".to_owned(),
                })
            }
            Role::Loader
                if of(Role::Writer).all(Part::is_final)
                    && of(Role::Writer).any(failed)
                    && !of(Role::Writer).any(|writer| writer.status == Status::Finished) =>
            {
                Some(Told {
                    drain: false,
                    reason: "stopped, since its writers failed".to_owned(),
                })
            }
            _ => part.stop_sent.map(|sent| Told {
                drain: sent.drain,
                reason: UPSTREAM.to_owned(),
            }),
        }
    }

    /// Records that the loaders will have published, where that is known: what is missing never comes.
    pub(crate) fn to_write(&self) -> Option<u64> {
        let mut loaders = self.of_role(Role::Loader).peekable();
        loaders.peek()?;
        loaders
            .map(|loader| {
                let progress = &loader.progress;
                Some(progress.total?.saturating_sub(progress.missing))
            })
            .sum()
    }

    /// Records that the loaders have published so far.
    pub(crate) fn published(&self) -> u64 {
        self.of_role(Role::Loader)
            .map(|loader| loader.progress.written)
            .sum()
    }

    /// Of each collection: what its writers have handled together. Writers of one collection share the topic.
    pub(crate) fn handled(&self) -> BTreeMap<Option<&str>, Progress> {
        let mut sums: BTreeMap<Option<&str>, Progress> = BTreeMap::new();
        for writer in self.of_role(Role::Writer) {
            let sum = sums.entry(writer.collection.as_deref()).or_default();
            sum.written += writer.progress.written;
            sum.rejected += writer.progress.rejected;
            if let (false, Some(rate)) = (writer.is_final(), writer.progress.rate) {
                sum.rate = Some(sum.rate.unwrap_or(0.0) + rate);
            }
        }
        sums
    }

    pub(crate) fn of_role(&self, role: Role) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| part.role == role)
    }

    fn refresh_progress(&mut self) {
        let to_write = self.to_write();
        for part in &mut self.parts {
            let done = part.progress.done();
            let expected = match part.role {
                Role::Writer => part.progress.total.or(to_write),
                Role::Loader | Role::Dummy => part.progress.total,
            };
            part.progress.forecast(done, expected, part.last_event_at);
            if part.is_final() {
                part.progress.expected_end = None;
            }
            if part.status == Status::Finished {
                part.progress.percentage = Some(100.0);
            }
        }
        self.totals = self.derive_totals(to_write);
    }

    /// As far as the collection that is least far; without writers, as far as the others.
    fn derive_totals(&self, to_write: Option<u64>) -> Progress {
        let missing = self.of_role(Role::Loader).map(|part| part.progress.missing);
        let missing = missing.sum();
        let slowest = self.handled().into_values().min_by_key(Progress::done);
        let mut totals = match slowest {
            Some(slowest) => Progress {
                total: to_write,
                missing,
                ..slowest
            },
            None => self.sum_of_others(),
        };
        // A writer that joins when another one has ended a partition takes that for its own work of before.
        if let (Some(to_write), true) = (to_write, slowest.is_some()) {
            let most = to_write.saturating_sub(totals.rejected);
            totals.written = totals.written.min(most);
        }
        let done = if slowest.is_some() {
            totals.written + totals.rejected
        } else {
            totals.done()
        };
        totals.rate = totals
            .rate
            .map(|rate| super::progress::rounded(rate, 1_000.0));
        let heard = self.parts.iter().filter_map(|part| part.last_event_at);
        let heard: Option<TimestampMs> = heard.max();
        totals.forecast(done, totals.total, heard);
        match self.derive_status() {
            Status::Finished => totals.percentage = Some(100.0),
            status if !status.is_final() => return totals,
            _ => {}
        }
        totals.expected_end = None;
        totals
    }

    fn sum_of_others(&self) -> Progress {
        let mut sum = Progress {
            total: self.parts.iter().map(|part| part.progress.total).sum(),
            ..Progress::default()
        };
        for part in &self.parts {
            sum.written += part.progress.written;
            sum.rejected += part.progress.rejected;
            sum.missing += part.progress.missing;
            if let (false, Some(rate)) = (part.is_final(), part.progress.rate) {
                sum.rate = Some(sum.rate.unwrap_or(0.0) + rate);
            }
        }
        sum
    }

    /// The parts that this run is about; the others finished before.
    fn of_run(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.run == self.run)
    }

    fn derive_status(&self) -> Status {
        let any = |wanted: Status| self.parts.iter().any(|part| part.status == wanted);
        if self.parts.iter().all(Part::is_final) {
            return [Status::Error, Status::Interrupted]
                .into_iter()
                .find(|status| any(*status))
                .unwrap_or(Status::Finished);
        }
        if any(Status::Stalled) {
            Status::Stalled
        } else if self.of_run().any(|part| part.started_at.is_some()) {
            Status::Running
        } else if any(Status::Starting) || self.of_run().any(Part::is_final) {
            Status::Starting
        } else {
            Status::Pending
        }
    }
}
