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

/// What a message is for the numbering of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A record with this number. It undoes an end before it.
    Numbered(u64),
    /// A dead letter that was put back. It is written and counted; the numbering and the end stay as they are.
    Replayed,
    /// Without a number, or behind the end. The numbering and the end stay as they are.
    Foreign,
}

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
    replayed: u64,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    offset: i64,
    origin: Origin,
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
            replayed: note.replayed,
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

    /// How many of those written and rejected so far were replayed.
    pub fn replayed(&self) -> u64 {
        self.replayed
    }

    /// Takes a record, which waits for its acknowledgement. Offsets come in ascending order.
    pub fn take(&mut self, offset: i64, origin: Origin) {
        self.push(offset, origin, State::Open);
    }

    /// Takes the news that no message stands between the last one and `to`: the broker used those offsets for records of
    /// its own.
    pub fn pass(&mut self, to: i64) {
        let next = self
            .waiting
            .back()
            .map_or(self.position, |last| last.offset + 1);
        if to > next {
            self.skip(to - 1, Origin::Foreign);
        }
    }

    /// Takes a message that needs no acknowledgement.
    pub fn skip(&mut self, offset: i64, origin: Origin) {
        // A long row of them is one entry, however long one record before it may take.
        if let Some(last) = self.waiting.back_mut()
            && matches!(last.state, State::Skipped)
            && last.offset < offset
        {
            last.offset = offset;
            if matches!(origin, Origin::Numbered(_)) {
                last.origin = origin;
            }
            return;
        }
        self.push(offset, origin, State::Skipped);
    }

    /// Takes an end-of-stream marker.
    pub fn mark(&mut self, offset: i64, marker: &Marker) {
        let state = State::Marker(Box::new(marker.clone()));
        self.push(offset, Origin::Foreign, state);
    }

    fn push(&mut self, offset: i64, origin: Origin, state: State) {
        let last = self
            .waiting
            .back()
            .map_or(self.position - 1, |last| last.offset);
        debug_assert!(offset > last, "offset {offset} came after {last}");
        self.waiting.push_back(Waiting {
            offset,
            origin,
            state,
        });
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
        let waiting = &mut self.waiting[index];
        if !matches!(waiting.state, State::Open) {
            return false;
        }
        waiting.state = State::Done(outcome);
        if waiting.origin == Origin::Replayed {
            self.replayed += 1;
        }
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
            match &first.state {
                State::Marker(marker) => self.note.pass_marker(marker),
                State::Done(Outcome::Written) => self.note.written += 1,
                State::Done(Outcome::Rejected) => self.note.rejected += 1,
                State::Skipped | State::Open => {}
            }
            match (first.origin, &first.state) {
                (Origin::Numbered(seq), _) => {
                    self.note.pass_record(self.run);
                    self.note.last_seq = self.note.last_seq.max(seq);
                }
                (Origin::Replayed, State::Done(_)) => self.note.replayed += 1,
                _ => {}
            }
            if self.note.eos.is_none() {
                self.note.run = self.run;
            }
        }
    }
}

#[cfg(test)]
mod tests;
