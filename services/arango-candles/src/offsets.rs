//! Which offset of a partition may be committed: everything below it is done.
//!
//! Pure. Acknowledgements come in any order; a commit advances only over a contiguous row of done offsets. What a
//! commit says ([`CommitNote`]) advances with it, so that offset and counts never disagree.

use std::collections::VecDeque;

use streamforge_utils::protocol::Marker;

use crate::note::CommitNote;

/// How many messages of one partition may wait for an acknowledgement. Those behind a record that stays open are kept
/// here although they are written, at 40 bytes each (2 MB in all), and would all be written again after a crash.
pub const MAX_OUTSTANDING: usize = 50_000;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The database acknowledged it.
    Written,
    /// The dead-letter topic acknowledged it.
    Rejected,
}

/// The offsets of one partition that were taken and are not all done yet.
#[derive(Debug)]
pub struct OffsetTracker {
    run: u32,
    position: i64,
    note: CommitNote,
    written: u64,
    rejected: u64,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    offset: i64,
    seq: Option<u64>,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    Done(Outcome),
    /// Needs no acknowledgement, such as a duplicate.
    Skipped,
    Marker(Box<Marker>),
}

impl OffsetTracker {
    /// Starts where the group's commit is, or at the first message if there is none.
    pub fn new(position: i64, note: CommitNote, run: u32) -> Self {
        Self {
            run,
            position,
            note,
            written: note.written,
            rejected: note.rejected,
            waiting: VecDeque::new(),
        }
    }

    /// The offset to commit: the first one that is not done.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// What to commit with it.
    pub fn note(&self) -> CommitNote {
        self.note
    }

    /// How many messages were taken and can't be committed yet.
    pub fn outstanding(&self) -> usize {
        self.waiting.len()
    }

    /// Records written so far, also those that can't be committed yet.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Records rejected so far, also those that can't be committed yet.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Takes a record, which waits for its acknowledgement. Offsets come in ascending order.
    pub fn take(&mut self, offset: i64, seq: Option<u64>) {
        self.push(offset, seq, State::Open);
    }

    /// Takes a message that needs no acknowledgement.
    pub fn skip(&mut self, offset: i64) {
        // A long row of them is one entry, however long one record before it may take.
        if let Some(last) = self.waiting.back_mut()
            && matches!(last.state, State::Skipped)
            && last.offset < offset
        {
            last.offset = offset;
            return;
        }
        self.push(offset, None, State::Skipped);
    }

    /// Takes an end-of-stream marker.
    pub fn mark(&mut self, offset: i64, marker: &Marker) {
        self.push(offset, None, State::Marker(Box::new(marker.clone())));
    }

    fn push(&mut self, offset: i64, seq: Option<u64>, state: State) {
        let last = self
            .waiting
            .back()
            .map_or(self.position - 1, |last| last.offset);
        debug_assert!(offset > last, "offset {offset} came after {last}");
        self.waiting.push_back(Waiting { offset, seq, state });
        self.advance();
    }

    /// Takes the acknowledgement of a record. `false` if it is not waited for.
    pub fn acknowledge(&mut self, offset: i64, outcome: Outcome) -> bool {
        let Ok(index) = self
            .waiting
            .binary_search_by_key(&offset, |waiting| waiting.offset)
        else {
            return false;
        };
        let state = &mut self.waiting[index].state;
        if !matches!(state, State::Open) {
            return false;
        }
        *state = State::Done(outcome);
        match outcome {
            Outcome::Written => self.written += 1,
            Outcome::Rejected => self.rejected += 1,
        }
        self.advance();
        true
    }

    fn advance(&mut self) {
        let is_done = |first: &Waiting| !matches!(first.state, State::Open);
        while self.waiting.front().is_some_and(is_done) {
            let Some(first) = self.waiting.pop_front() else {
                break;
            };
            self.position = first.offset + 1;
            match first.state {
                State::Marker(marker) => self.note.pass_marker(&marker),
                State::Done(Outcome::Written) => {
                    self.note.written += 1;
                    self.note.pass_record(self.run);
                }
                State::Done(Outcome::Rejected) => {
                    self.note.rejected += 1;
                    self.note.pass_record(self.run);
                }
                State::Skipped | State::Open => self.note.pass_record(self.run),
            }
            self.note.last_seq = self.note.last_seq.max(first.seq.unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests;
