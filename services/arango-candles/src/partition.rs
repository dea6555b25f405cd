//! One partition of an assignment: what is to be done with each message, what may be committed, whether it ended.
//!
//! Pure. The reader starts one message before the commit: that message is not written again, it only tells the
//! last number and whether it was a marker.

use streamforge_utils::protocol::Marker;

use crate::{
    end::{self, End},
    note::CommitNote,
    offsets::OffsetTracker,
    record::{Content, Reading, Rejection},
    sequence::{Lost, Sequence, Step},
};

/// Where a partition is taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// The group has no commit: from the first message that there is.
    AtFirst {
        /// Its offset.
        low: i64,
    },
    /// From the group's commit.
    AfterCommit {
        /// The committed offset.
        offset: i64,
        /// What its commit says, unless somebody else made it.
        note: Option<CommitNote>,
    },
}

/// The state of one assigned partition.
#[derive(Debug)]
pub struct Partition {
    run: u32,
    /// Below it everything was done by an earlier assignment.
    start: i64,
    /// Whether `start` is the first offset that there was.
    from_start: bool,
    was_finished: bool,
    sequence: Sequence,
    offsets: OffsetTracker,
    end: Option<End>,
    at_end: bool,
    /// What the broker has confirmed.
    committed: i64,
    /// What was sent to be committed.
    submitted: i64,
}

/// What to do with a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Write it under this key.
    Write {
        /// The document key.
        key: Box<str>,
    },
    /// Send it to the dead-letter topic.
    Reject(Rejection),
    /// Nothing: it was done by an earlier assignment, is a marker, or comes after the end.
    Nothing,
    /// Nothing: it was read before.
    Duplicate,
}

impl Partition {
    /// Starts where the group left off, for a writer of run `run`.
    pub fn new(resume: Resume, run: u32) -> Self {
        let (start, sequence, note) = match resume {
            Resume::AtFirst { low } => (low, Sequence::after(0), None),
            Resume::AfterCommit { offset, note } => {
                let last = note.map(|note| Sequence::after(note.last_seq));
                (offset, last.unwrap_or(Sequence::unknown()), note)
            }
        };
        let note = note.unwrap_or(CommitNote {
            run,
            ..CommitNote::default()
        });
        Self {
            run,
            start,
            from_start: matches!(resume, Resume::AtFirst { .. }),
            was_finished: end::of_note(&note).is_some_and(|end| end.is_final()),
            sequence,
            offsets: OffsetTracker::new(start, note, run),
            end: end::of_note(&note),
            at_end: false,
            committed: start,
            submitted: start,
        }
    }

    /// Takes the next message and says what to do with it.
    ///
    /// # Errors
    /// If records before it are lost.
    pub fn accept(&mut self, offset: i64, reading: Reading) -> Result<Action, Lost> {
        self.at_end = false;
        if offset < self.start {
            self.prime(&reading);
            return Ok(Action::Nothing);
        }
        if self.end.is_some_and(|end| end.is_final()) {
            return Ok(Action::Nothing);
        }
        if let Some(seq) = reading.seq
            && self.sequence.take(seq)? == Step::Duplicate
        {
            self.offsets.skip(offset);
            self.end = None;
            return Ok(Action::Duplicate);
        }
        match reading.content {
            Content::Marker(marker) => {
                self.sequence.end(marker.last_seq)?;
                self.offsets.mark(offset, &marker);
                self.end = Some(End::of_marker(&marker));
                Ok(Action::Nothing)
            }
            Content::Candle { key } => {
                self.offsets.take(offset, reading.seq);
                self.end = None;
                Ok(Action::Write { key })
            }
            Content::Rejected(rejection) => {
                self.offsets.take(offset, reading.seq);
                self.end = None;
                Ok(Action::Reject(rejection))
            }
        }
    }

    /// Learns from the message before the commit.
    fn prime(&mut self, reading: &Reading) {
        let (last_seq, marker): (Option<u64>, Option<&Marker>) = match &reading.content {
            Content::Marker(marker) => (Some(marker.last_seq), Some(marker)),
            _ => (reading.seq, None),
        };
        if let Some(last_seq) = last_seq {
            // A duplicate may stand there, which has a smaller number than came before it.
            self.sequence = Sequence::after(last_seq.max(self.sequence.last().unwrap_or(0)));
        }
        self.end = marker.map(End::of_marker);
    }

    /// Takes the news that nothing follows the last message, for now.
    pub fn reach_end(&mut self) {
        self.at_end = true;
    }

    /// Whether there is nothing to read, write or commit, for now.
    pub fn is_drained(&self) -> bool {
        (self.at_end || self.end.is_some_and(|end| end.is_final()))
            && self.offsets.outstanding() == 0
            && self.committed >= self.offsets.position()
    }

    /// Its end, once the broker has confirmed the commit past the marker.
    pub fn ended(&self) -> Option<End> {
        let end = self.end.filter(|end| end.holds(self.run, self.at_end))?;
        let is_committed =
            self.offsets.outstanding() == 0 && self.committed >= self.offsets.position();
        is_committed.then_some(end)
    }

    /// Whether all up to its marker is done and that is still to be committed.
    pub fn has_urgent_commit(&self) -> bool {
        let position = self.offsets.position();
        self.end.is_some() && self.offsets.outstanding() == 0 && position > self.submitted
    }

    /// Whether it was finished, and committed past its marker, when it was taken up.
    pub fn was_finished(&self) -> bool {
        self.was_finished
    }

    /// The first offset that there was, if it was read from its start.
    pub fn first_offset(&self) -> Option<i64> {
        self.from_start.then_some(self.start)
    }

    /// Its offsets.
    pub fn offsets(&self) -> &OffsetTracker {
        &self.offsets
    }

    /// Its offsets, to acknowledge them.
    pub fn offsets_mut(&mut self) -> &mut OffsetTracker {
        &mut self.offsets
    }

    /// The next commit, if there is one to make.
    pub fn next_commit(&mut self) -> Option<(i64, CommitNote)> {
        let position = self.offsets.position();
        if position <= self.submitted {
            return None;
        }
        self.submitted = position;
        Some((position, self.offsets.note()))
    }

    /// What the broker has not confirmed yet, also what was submitted before.
    pub fn unconfirmed(&self) -> Option<(i64, CommitNote)> {
        let position = self.offsets.position();
        (position > self.committed).then(|| (position, self.offsets.note()))
    }

    /// The broker confirmed a commit.
    pub fn confirm(&mut self, offset: i64) {
        self.committed = self.committed.max(offset);
    }

    /// The broker refused a commit: it is to be made again.
    pub fn resubmit(&mut self) {
        self.submitted = self.committed;
    }
}

#[cfg(test)]
mod tests;
