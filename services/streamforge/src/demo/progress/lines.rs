//! What is told in plain lines, and nothing twice: how far workflows are, how workers ended, what is waited for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    time::Duration,
};

use indicatif::HumanCount;
use streamforge_utils::protocol::{Event, EventKind, RecordCounts};
use tokio::time::Instant;

use super::{Reading, SERVICES};
use crate::{demo::plan::Workflow, events::Board};

/// Counts that have not moved for so long are told of in the worker's own words, if it has any.
const WORDS_AFTER: Duration = Duration::from_secs(2);
/// And after so long also without.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Lines {
    counts: BTreeMap<String, (u64, u64)>,
    ended: BTreeSet<String>,
    waits: BTreeMap<String, Wait>,
}

/// A workflow whose counts do not move.
#[derive(Debug)]
struct Wait {
    counts: [RecordCounts; 2],
    since: Instant,
    /// What was told of it, and whom it is about.
    told: Option<(&'static str, String)>,
}

impl Lines {
    /// Lines that are due: how a worker ended, at once; how far workflows are, if `now` is the time for it.
    pub(super) fn due(&mut self, workflows: &[Workflow], board: &Board, now: bool) -> Vec<String> {
        let mut lines = Vec::new();
        for workflow in workflows {
            let [loader, writer] = SERVICES.map(|service| Reading::of(board, workflow, service));
            let counts = (loader.done, writer.done);
            if now && counts != (0, 0) && self.counts.get(&workflow.name()) != Some(&counts) {
                self.counts.insert(workflow.name(), counts);
                let mut line = format!("{}: {} ", workflow.name(), HumanCount(loader.done));
                if let Some(total) = loader.total {
                    let _ = write!(line, "of {} ", HumanCount(total));
                }
                let _ = write!(line, "published, {} written", HumanCount(writer.done));
                lines.push(line);
            }
            for service in SERVICES {
                let Some(event) = board.last(&workflow.queue_id, service) else {
                    continue;
                };
                if event.finished && self.ended.insert(event.instance.clone()) {
                    let (name, state) = (workflow.name(), event.event.as_str());
                    lines.push(format!("{name}: {service} {state}: {}", event.message));
                }
            }
        }
        lines
    }

    /// Lines about workflows that have not moved for a while: what they wait for. To be asked every second or so.
    pub(super) fn waits(
        &mut self,
        workflows: &[Workflow],
        board: &Board,
        now: Instant,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        for workflow in workflows {
            let counts = SERVICES.map(|service| {
                let last = board.last(&workflow.queue_id, service);
                last.map(|event| event.records).unwrap_or_default()
            });
            let new = Wait {
                counts,
                since: now,
                told: None,
            };
            let wait = match self.waits.get_mut(&workflow.name()) {
                Some(wait) if wait.counts == counts => wait,
                _ => {
                    self.waits.insert(workflow.name(), new);
                    continue;
                }
            };
            let service = waited_for(board, workflow);
            let text = service.and_then(|service| {
                let text = what_for(board, workflow, service, now - wait.since)?;
                Some((service, text))
            });
            if let Some((_, text)) = &text
                && text != wait.told.as_ref().map_or("", |(_, told)| told)
            {
                lines.push(format!("{}: {text}", workflow.name()));
            }
            // What was told once stays told until a count moves, or all have ended.
            if text.is_some() || service.is_none() {
                wait.told = text;
            }
        }
        lines
    }

    /// Whether it was told that this worker is waited for.
    pub(super) fn is_waited_for(&self, workflow: &Workflow, service: &str) -> bool {
        let told = self
            .waits
            .get(&workflow.name())
            .and_then(|wait| wait.told.as_ref());
        told.is_some_and(|(about, _)| *about == service)
    }
}

/// The worker that holds up a workflow: the loader, unless its writer is behind; none if both have ended.
fn waited_for(board: &Board, workflow: &Workflow) -> Option<&'static str> {
    let [loader, writer] = SERVICES.map(|service| board.last(&workflow.queue_id, service));
    let has_ended = |event: Option<&Event>| event.is_some_and(|event| event.finished);
    let published = loader.map_or(0, |event| event.records.written);
    let taken = writer.map_or(0, |event| event.records.written + event.records.rejected);
    match (has_ended(loader), has_ended(writer)) {
        (true, true) => None,
        (false, true) => Some(loader_api_candles::SERVICE),
        (false, false) if taken >= published => Some(loader_api_candles::SERVICE),
        _ => Some(arango_candles::SERVICE),
    }
}

/// What a workflow waits for that has not moved for `silent`, if it is time to say so.
fn what_for(board: &Board, workflow: &Workflow, service: &str, silent: Duration) -> Option<String> {
    let last = board.last(&workflow.queue_id, service);
    if let Some(words) = last.and_then(own_words) {
        return (silent >= WORDS_AFTER).then(|| format!("{service}: {words}"));
    }
    let to_do = match last {
        None => "start",
        Some(_) if service == arango_candles::SERVICE => "write candles",
        Some(_) => "get candles from the exchange",
    };
    (silent >= SILENCE_LIMIT).then(|| format!("waiting for {service} to {to_do}"))
}

/// What a worker says that is more than its counts: messages about those begin with a number.
fn own_words(event: &Event) -> Option<&str> {
    let message = event.message.as_str();
    let says_more = message
        .chars()
        .next()
        .is_some_and(|first| !first.is_ascii_digit());
    (event.event == EventKind::Loading && says_more).then_some(message)
}
