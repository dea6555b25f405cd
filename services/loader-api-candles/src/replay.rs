//! What earlier attempts have seen missing, found again in what they published.
//!
//! `records_missing` and the list of gaps count the whole run. Where the numbers of the records tell that nothing was
//! missing, nothing is read. Else the records of all partitions are read once, in the order of their open times: each
//! partition is in that order, so one record of each is all that is held. Records that retention has deleted are known
//! by number only: what was missing among them is counted, and not listed.

use std::{ops::Range, time::Duration};

use rdkafka::message::{BorrowedMessage, Message};
use streamforge_utils::{
    kafka::{Stretch, TopicReader, Visit},
    protocol::{Gap, Grid, TimestampMs},
};

use crate::{
    gaps::GapTracker,
    load::Reporter,
    plan::Plan,
    resume::{Entry, ResumeError, contradiction, entry},
    stream::{PartitionState, StreamSpec},
};

/// Progress is reported after so many messages.
const REPORT_EVERY: u64 = 10_000;

/// What is looked back on, and how.
pub struct LookBack<'a> {
    /// Reads the topic.
    pub reader: &'a TopicReader,
    /// The data topic.
    pub topic: &'a str,
    /// What is loaded.
    pub spec: &'a StreamSpec,
    /// What each partition holds.
    pub states: &'a [PartitionState],
    /// What is expected.
    pub plan: &'a Plan,
    /// Every partition has what opens up to this, inclusive.
    pub through: TimestampMs,
    /// The longest time without a message.
    pub deadline: Duration,
}

impl LookBack<'_> {
    /// What a tracker knows that has seen what the topic holds. Gaps and progress are reported.
    ///
    /// # Errors
    /// The topic can't be read, or holds what is not of this load.
    pub async fn run(self, reporter: &Reporter) -> Result<GapTracker, ResumeError> {
        let slots = self.plan.first_slot..self.plan.grid.index(self.through) + 1;
        let mut tracker = GapTracker::new(self.plan);
        let reachable: Vec<(i32, &PartitionState)> = self
            .spec
            .reachable()
            .into_iter()
            .map(|partition| {
                let index = usize::try_from(partition).expect("counted from 0");
                (partition, &self.states[index])
            })
            .collect();
        let is_ahead = |state: &PartitionState| state.last_open > Some(self.through);
        let published: u64 = reachable.iter().map(|(_, state)| state.last_seq).sum();
        if !reachable.iter().any(|(_, state)| is_ahead(state))
            && i64::try_from(published) == Ok(slots.end - slots.start)
        {
            tracker.pass_to(slots.end, 0);
            return Ok(tracker);
        }
        let stretches: Vec<Stretch> = reachable
            .iter()
            .map(|(partition, state)| Stretch {
                partition: *partition,
                from: state.low,
                to: state.high,
            })
            .collect();
        let total = stretches.iter().map(|stretch| stretch.to - stretch.from);
        let total = u64::try_from(total.sum::<i64>()).unwrap_or(0);
        tracing::info!(messages = total, "Reading what was published, to find gaps");
        let (on_gap, on_progress) = (reporter.clone(), reporter.clone());
        let merge = Merge {
            parts: reachable
                .iter()
                .map(|(_, state)| Part::new(state))
                .collect(),
            spec: self.spec.clone(),
            found: Found::new(self.plan.grid, slots, tracker),
            problem: None,
            messages: 0,
            on_gap: Box::new(move |gap| on_gap.gap(gap)),
            on_progress: Box::new(move |messages| on_progress.looked_back(messages, total)),
        };
        let visited = self
            .reader
            .visit(self.topic, stretches, self.deadline, merge);
        let merged = visited.await?;
        reporter.done_looking_back();
        match merged.problem {
            Some((partition, problem)) => Err(contradiction(self.topic, partition, problem)),
            None => Ok(merged.found.tracker),
        }
    }
}

/// Takes the records of all partitions in the order of their open times.
struct Merge {
    parts: Vec<Part>,
    spec: StreamSpec,
    found: Found,
    /// The first message that contradicts the load, and its partition.
    problem: Option<(i32, String)>,
    messages: u64,
    on_gap: Box<dyn FnMut(&Gap) + Send>,
    on_progress: Box<dyn FnMut(u64) + Send>,
}

/// One partition.
struct Part {
    /// Number of its last record, as the end of the topic tells.
    last_seq: u64,
    last_open: Option<TimestampMs>,
    /// Number of the last record that was read.
    seen_seq: Option<u64>,
    /// The record that is to be taken next.
    head: Option<TimestampMs>,
    has_ended: bool,
}

impl Part {
    fn new(state: &PartitionState) -> Self {
        Self {
            last_seq: state.last_seq,
            last_open: state.last_open,
            seen_seq: None,
            head: None,
            has_ended: false,
        }
    }

    /// A number at or below the last is a record that is there twice.
    fn offer(&mut self, seq: u64, open_time: TimestampMs, found: &mut Found) {
        if self.seen_seq.is_some_and(|last| seq <= last) {
            return;
        }
        if self.seen_seq.is_none() {
            found.lacks(seq - 1, found.grid.index(open_time));
        }
        self.seen_seq = Some(seq);
        self.head = Some(open_time);
    }

    fn end(&mut self, found: &mut Found) {
        self.has_ended = true;
        if let (None, Some(last_open)) = (self.seen_seq, self.last_open) {
            found.lacks(self.last_seq, found.grid.index(last_open) + 1);
        }
    }
}

impl Merge {
    /// The partition whose next record has to be known, if any: all have to offer one before the earliest is taken.
    fn unknown(&self) -> Option<usize> {
        self.parts
            .iter()
            .position(|part| part.head.is_none() && !part.has_ended)
    }

    fn take_earliest(&mut self) -> bool {
        let heads = self.parts.iter_mut().filter(|part| part.head.is_some());
        let Some(earliest) = heads.min_by_key(|part| part.head) else {
            return false;
        };
        let Some(open_time) = earliest.head.take() else {
            return false;
        };
        if self.found.is_past(open_time) {
            // So is all that follows in any partition.
            return false;
        }
        if let Some(gap) = self.found.see(open_time) {
            (self.on_gap)(&gap);
        }
        true
    }
}

impl Visit for Merge {
    fn wants(&mut self) -> Option<usize> {
        loop {
            if self.problem.is_some() {
                return None;
            }
            if let Some(index) = self.unknown() {
                return Some(index);
            }
            if !self.take_earliest() {
                self.found.tell_unlisted();
                return None;
            }
        }
    }

    fn take(&mut self, index: usize, message: &BorrowedMessage<'_>) {
        self.messages += 1;
        if self.messages.is_multiple_of(REPORT_EVERY) {
            (self.on_progress)(self.messages);
        }
        match entry(message, &self.spec) {
            Ok(Entry::Record { seq, open_time }) => {
                self.parts[index].offer(seq, open_time, &mut self.found);
            }
            Ok(Entry::Marker(_) | Entry::Foreign) => {}
            Err(problem) => {
                let problem = format!("the message at offset {} {problem}", message.offset());
                self.problem.get_or_insert((message.partition(), problem));
            }
        }
    }

    fn end(&mut self, index: usize) {
        self.parts[index].end(&mut self.found);
    }
}

/// What was found of the expected candles, told to a tracker in order.
struct Found {
    grid: Grid,
    slots: Range<i64>,
    tracker: GapTracker,
    /// Records before the first that can still be read.
    deleted: u64,
    /// The first slot that can be listed: before it records were deleted.
    listed_from: i64,
    /// The slot of the last record before that.
    last_unlisted: Option<i64>,
    /// Slots before that which are occupied.
    unlisted: u64,
    are_unlisted_told: bool,
}

impl Found {
    fn new(grid: Grid, slots: Range<i64>, tracker: GapTracker) -> Self {
        Self {
            grid,
            listed_from: slots.start,
            slots,
            tracker,
            deleted: 0,
            last_unlisted: None,
            unlisted: 0,
            are_unlisted_told: false,
        }
    }

    /// Of a partition `deleted` records can no longer be read, all of which are in slots before `slot`. Known before the
    /// first record is seen.
    fn lacks(&mut self, deleted: u64, slot: i64) {
        if deleted > 0 {
            self.deleted += deleted;
            self.listed_from = self.listed_from.max(slot.min(self.slots.end));
        }
    }

    /// Whether the record opens after what every partition has.
    fn is_past(&self, open_time: TimestampMs) -> bool {
        self.grid.index(open_time) >= self.slots.end
    }

    /// The next record in the order of open times. Returns the gap that it ends, if any.
    fn see(&mut self, open_time: TimestampMs) -> Option<Gap> {
        let slot = self.grid.index(open_time);
        if slot >= self.listed_from {
            self.tell_unlisted();
            return self.tracker.seen(open_time);
        }
        if slot < self.slots.start || self.last_unlisted == Some(slot) {
            self.tracker.count_extra(1);
        } else {
            self.last_unlisted = Some(slot);
            self.unlisted += 1;
        }
        None
    }

    fn tell_unlisted(&mut self) {
        if !self.are_unlisted_told {
            self.are_unlisted_told = true;
            let expected = u64::try_from(self.listed_from - self.slots.start).unwrap_or(0);
            let missing = expected.saturating_sub(self.unlisted + self.deleted);
            self.tracker.pass_to(self.listed_from, missing);
        }
    }
}

#[cfg(test)]
mod tests;
