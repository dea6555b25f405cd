//! One partition of an assignment: what is to be done with each message, what may be committed, whether it ended.
//!
//! Pure. The reader starts before the commit: what stands there is not written again, it only tells the last number and
//! whether a marker came.
//!
//! Behind a marker replayed records may stand, which are written too. They may come for ever, so the partition ends at
//! the high watermark that was seen when its marker was met ([`Look`]).

use streamforge_utils::protocol::Marker;

use crate::{
    end::{self, End},
    note::CommitNote,
    offsets::{OffsetTracker, Origin},
    record::{Content, Reading, Rejection},
    sequence::{Lost, Sequence, Step},
};

/// How many offsets before a commit without a note are searched for the last number and a marker.
pub const LOOK_BACK: i64 = 100;

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
    /// How many markers were met, so that an answer is known to be for this one.
    ends_met: u64,
    /// The high watermark that was seen after the marker was met: up to there is read. `None` until it is known.
    read_to: Option<i64>,
    /// The next offset to read.
    position: i64,
    at_end: bool,
    /// What the broker has confirmed.
    committed: i64,
    /// What was sent to be committed.
    submitted: i64,
}

/// What has to be asked of the broker before a partition can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Which end it is for.
    pub end: u64,
    /// The next offset to read.
    pub from: i64,
    /// `None`: the high watermark is to be looked up. Else: whether there is a message from `from` up to this offset, since
    /// reading ended before it.
    pub to: Option<i64>,
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
        let end = end::of_note(&note);
        Self {
            run,
            start,
            from_start: matches!(resume, Resume::AtFirst { .. }),
            was_finished: end.is_some_and(|end| end.is_final()),
            sequence,
            offsets: OffsetTracker::new(start, note, run),
            end,
            ends_met: 0,
            read_to: None,
            position: start,
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
        self.position = self.position.max(offset + 1);
        if self.is_final() {
            return Ok(self.accept_behind_end(offset, reading));
        }
        if let Some(seq) = reading.seq
            && self.sequence.take(seq)? == Step::Duplicate
        {
            self.offsets.skip(offset, Origin::Numbered(seq));
            self.undo_end();
            return Ok(Action::Duplicate);
        }
        if let Content::Marker(marker) = &reading.content {
            self.sequence.end(marker.last_seq)?;
            self.offsets.mark(offset, marker);
            self.meet(End::of_marker(marker));
            return Ok(Action::Nothing);
        }
        let origin = match reading.seq {
            Some(seq) => Origin::Numbered(seq),
            None if reading.is_replayed => Origin::Replayed,
            None => Origin::Foreign,
        };
        // A foreign message does not: nobody would write the marker again.
        if reading.seq.is_some() {
            self.undo_end();
        }
        Ok(self.take(offset, origin, reading.content))
    }

    /// Behind a final end only what is replayed counts, up to where the partition is read.
    fn accept_behind_end(&mut self, offset: i64, reading: Reading) -> Action {
        if self.read_to.is_some_and(|read_to| offset >= read_to) {
            return Action::Nothing;
        }
        if reading.is_replayed {
            return self.take(offset, Origin::Replayed, reading.content);
        }
        self.offsets.skip(offset, Origin::Foreign);
        Action::Nothing
    }

    fn take(&mut self, offset: i64, origin: Origin, content: Content) -> Action {
        match content {
            Content::Candle { key } => {
                self.offsets.take(offset, origin);
                Action::Write { key }
            }
            Content::Rejected(rejection) => {
                self.offsets.take(offset, origin);
                Action::Reject(rejection)
            }
            Content::Marker(_) => {
                self.offsets.skip(offset, origin);
                Action::Nothing
            }
        }
    }

    /// Learns from a message before the commit.
    fn prime(&mut self, reading: &Reading) {
        if self.is_final() {
            return;
        }
        let (last_seq, marker): (Option<u64>, Option<&Marker>) = match &reading.content {
            Content::Marker(marker) => (Some(marker.last_seq), Some(marker)),
            _ => (reading.seq, None),
        };
        let Some(last_seq) = last_seq else {
            return;
        };
        // A duplicate may stand there, which has a smaller number than came before it.
        self.sequence = Sequence::after(last_seq.max(self.sequence.last().unwrap_or(0)));
        match marker {
            Some(marker) => self.meet(End::of_marker(marker)),
            None => self.undo_end(),
        }
    }

    fn is_final(&self) -> bool {
        self.end.is_some_and(|end| end.is_final())
    }

    fn meet(&mut self, end: End) {
        self.end = Some(end);
        self.ends_met += 1;
        self.read_to = None;
    }

    fn undo_end(&mut self) {
        self.end = None;
        self.read_to = None;
    }

    /// Takes the news that nothing follows the last message, for now.
    pub fn reach_end(&mut self) {
        self.at_end = true;
    }

    /// What has to be looked up before it can end.
    pub fn look(&self) -> Option<Look> {
        self.end?;
        let look = |to| Look {
            end: self.ends_met,
            from: self.position,
            to,
        };
        match self.read_to {
            None => Some(look(None)),
            Some(to) if self.at_end && self.position < to => Some(look(Some(to))),
            Some(_) => None,
        }
    }

    /// Takes the high watermark, as an answer to `look`.
    pub fn see_high_watermark(&mut self, look: Look, high: i64) {
        let is_asked = |now: Look| now.end == look.end && now.to.is_none() && look.to.is_none();
        if self.look().is_some_and(is_asked) {
            self.read_to = Some(high);
        }
    }

    /// Takes the news that no message stands between the two offsets of `look`, as an answer to it.
    pub fn pass_gap(&mut self, look: Look) {
        if let Some(to) = look.to
            && self.look() == Some(look)
        {
            self.position = to;
            self.offsets.pass(to);
        }
    }

    /// Whether all is read that its end leaves to be read.
    fn is_read(&self) -> bool {
        self.end.is_some() && self.read_to.is_some_and(|read_to| self.position >= read_to)
    }

    /// Whether there is nothing to read, write or commit, for now.
    pub fn is_drained(&self) -> bool {
        (self.at_end || (self.is_final() && self.is_read()))
            && self.offsets.outstanding() == 0
            && self.committed >= self.offsets.position()
    }

    /// Its end, once all up to the high watermark that was seen then is read, and the broker has confirmed its commit.
    pub fn ended(&self) -> Option<End> {
        let end = self.end.filter(|end| end.holds(self.run, self.is_read()))?;
        let read_to = self.read_to?;
        (self.is_read() && self.committed >= read_to).then_some(end)
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
