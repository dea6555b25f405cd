//! What came of a demo, as numbers that have to agree: for programs as JSON, for people as a table.
//!
//! Pure. What is in the database was counted there, over HTTP, by somebody else; here it is compared with what the
//! workers say.

mod text;

use serde::Serialize;
use streamforge_utils::{
    protocol::{Event, EventKind, Gap},
    worker::EXIT_CONFIG,
};

use super::{launch::BothEnded, plan::Workflow, workers::Ended};

/// How a demo, or one workflow of it, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// Everything that the exchange has is in the database.
    Finished,
    /// A worker failed, or numbers do not agree.
    Failed,
    /// Ctrl-C, or SIGTERM.
    Interrupted,
}

/// Candles on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct Counts {
    /// Final candles of the range that the loader got from the exchange: of those expected, all but the missing. Of
    /// a loader that did not finish, those published.
    pub(super) fetched: u64,
    /// Acknowledged by the broker, as the loader says.
    pub(super) published: u64,
    /// In the collection, as the database says.
    pub(super) written: u64,
    /// Expected, and the exchange does not have them.
    pub(super) missing: u64,
    /// In the dead-letter topic, as the writer says.
    pub(super) rejected: u64,
}

/// One worker.
#[derive(Debug, Clone, Serialize)]
pub(super) struct WorkerReport {
    service: &'static str,
    /// Its last event.
    last_event: Option<EventKind>,
    #[serde(flatten)]
    ended: Ended,
}

impl WorkerReport {
    fn new(service: &'static str, ended: Ended, last: Option<&Event>) -> Self {
        Self {
            service,
            last_event: last.map(|event| event.event),
            ended,
        }
    }

    /// What is wrong with it, if it did not finish.
    fn failure(&self, last: Option<&Event>) -> Option<String> {
        let service = self.service;
        if self.ended.exit_code == Some(i32::from(EXIT_CONFIG)) {
            return Some(format!("{service} refused its configuration, see its log"));
        }
        let Some(event) = last else {
            return Some(format!("{service} ended ({}) and said nothing", self.ended));
        };
        match event.event {
            EventKind::Finished if self.ended.is_success() => None,
            EventKind::Interrupted if self.ended.is_success() => {
                Some(format!("{service} was stopped before all was done"))
            }
            EventKind::Error => {
                let reason = event.error_message.as_deref().unwrap_or(&event.message);
                Some(format!("{service} failed ({}): {reason}", self.ended))
            }
            last => Some(format!(
                "{service} ended ({}) after its event {:?}",
                self.ended,
                last.as_str()
            )),
        }
    }
}

/// What the database was asked for.
#[derive(Debug)]
pub(super) struct Counted {
    /// Documents in the collection before the demo; more than 0 only in a folder that was used before.
    pub(super) before: u64,
    /// Documents now, or why they can't be counted.
    pub(super) after: anyhow::Result<u64>,
}

/// One workflow.
#[derive(Debug, Clone, Serialize)]
pub(super) struct WorkflowReport {
    pub(super) queue_id: String,
    pub(super) symbol: String,
    pub(super) interval: String,
    pub(super) time_range: String,
    pub(super) collection: String,
    pub(super) outcome: Outcome,
    #[serde(flatten)]
    pub(super) counts: Counts,
    /// The first 100.
    pub(super) gaps: Vec<Gap>,
    /// What the loader said last, for people.
    #[serde(skip)]
    closing_message: String,
    pub(super) seconds: f64,
    pub(super) workers: [WorkerReport; 2],
    /// Why it failed, in words.
    pub(super) failures: Vec<String>,
}

impl WorkflowReport {
    /// `loader` and `writer` are the last events of the two.
    pub(super) fn new(
        workflow: &Workflow,
        ended: &BothEnded,
        [loader, writer]: [Option<&Event>; 2],
        counted: &Counted,
        interrupted: bool,
    ) -> Self {
        let workers = [
            WorkerReport::new(loader_api_candles::SERVICE, ended.loader, loader),
            WorkerReport::new(arango_candles::SERVICE, ended.writer, writer),
        ];
        let (of_loader, of_writer) = (
            loader.map(|event| event.records).unwrap_or_default(),
            writer.map(|event| event.records).unwrap_or_default(),
        );
        let complete = loader.is_some_and(|event| event.event == EventKind::Finished);
        let counts = Counts {
            fetched: match of_loader.total {
                Some(total) if complete => total.saturating_sub(of_loader.missing),
                _ => of_loader.written,
            },
            published: of_loader.written,
            // What was there before can't be told from what was written, so the writer has to be believed.
            written: match counted {
                Counted {
                    before: 0,
                    after: Ok(after),
                } => *after,
                _ => of_writer.written,
            },
            missing: of_loader.missing,
            rejected: of_writer.rejected,
        };
        let mut failures: Vec<String> = workers[0].failure(loader).into_iter().collect();
        // A writer that was told to end because its loader failed did what it should.
        let was_told = !failures.is_empty()
            && ended.writer.is_success()
            && writer.is_some_and(|event| event.event == EventKind::Interrupted);
        if !was_told {
            failures.extend(workers[1].failure(writer));
        }
        // Of a worker that failed it is known already that something is missing.
        let all_finished = failures.is_empty();
        failures.extend(disagreements(
            &counts,
            of_writer.written,
            counted,
            all_finished,
        ));
        let outcome = match (interrupted, failures.is_empty()) {
            (true, _) => Outcome::Interrupted,
            (false, true) => Outcome::Finished,
            (false, false) => Outcome::Failed,
        };
        Self {
            queue_id: workflow.queue_id.to_string(),
            symbol: workflow.symbol.to_string(),
            interval: workflow.interval.to_string(),
            time_range: workflow.range.to_string(),
            collection: workflow.collection.clone(),
            outcome,
            counts,
            gaps: loader
                .and_then(|event| event.gaps.clone())
                .unwrap_or_default(),
            closing_message: loader
                .map(|event| event.message.clone())
                .unwrap_or_default(),
            seconds: millis(ended.took.as_secs_f64()),
            workers,
            failures: if interrupted { Vec::new() } else { failures },
        }
    }

    /// The services that did not end well, or all if it is only that numbers do not agree; none if it did not fail.
    fn culprits(&self) -> Vec<&'static str> {
        if self.outcome != Outcome::Failed {
            return Vec::new();
        }
        let all_well = self.workers.iter().all(|worker| worker.ended.is_success());
        let culprits = self.workers.iter();
        culprits
            .filter(|worker| all_well || !worker.ended.is_success())
            .map(|worker| worker.service)
            .collect()
    }

    fn name(&self) -> String {
        format!("{} {}", self.symbol, self.interval)
    }
}

fn disagreements(counts: &Counts, told: u64, counted: &Counted, all_finished: bool) -> Vec<String> {
    let Counts {
        fetched,
        published,
        rejected,
        ..
    } = *counts;
    let mut found = Vec::new();
    if all_finished && fetched != published {
        found.push(format!(
            "{fetched} candles were fetched and {published} published"
        ));
    }
    if all_finished && published != told + rejected {
        found.push(format!(
            "{published} candles were published, {told} written and {rejected} rejected"
        ));
    }
    match counted {
        Counted {
            after: Err(error), ..
        } => {
            found.push(format!(
                "the documents in the database could not be counted: {error:#}"
            ));
        }
        Counted {
            before: 0,
            after: Ok(after),
        } if *after != told => {
            found.push(format!(
                "the writer says {told} written, and the database has {after}"
            ));
        }
        Counted {
            before,
            after: Ok(after),
        } if *after < told.max(*before) => {
            found.push(format!(
                "the writer says {told} written, and the database, which had {before} before, has {after}"
            ));
        }
        Counted { .. } => {}
    }
    found
}

/// A whole demo.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    pub(super) outcome: Outcome,
    #[serde(flatten)]
    counts: Counts,
    seconds: f64,
    workflows: Vec<WorkflowReport>,
}

impl Report {
    /// `seconds` from the first start of a worker to the last end of one.
    pub(super) fn new(workflows: Vec<WorkflowReport>, seconds: f64) -> Self {
        let mut counts = Counts::default();
        for of in workflows.iter().map(|workflow| workflow.counts) {
            counts.fetched += of.fetched;
            counts.published += of.published;
            counts.written += of.written;
            counts.missing += of.missing;
            counts.rejected += of.rejected;
        }
        let any = |outcome| workflows.iter().any(|workflow| workflow.outcome == outcome);
        let outcome = if any(Outcome::Interrupted) {
            Outcome::Interrupted
        } else if any(Outcome::Failed) {
            Outcome::Failed
        } else {
            Outcome::Finished
        };
        Self {
            outcome,
            counts,
            seconds: millis(seconds),
            workflows,
        }
    }

    /// For each workflow, in their order: the services whose logs may tell why it failed.
    pub(super) fn culprits(&self) -> impl Iterator<Item = Vec<&'static str>> {
        self.workflows.iter().map(WorkflowReport::culprits)
    }
}

fn millis(seconds: f64) -> f64 {
    (seconds * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests;
