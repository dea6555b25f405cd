//! What was read of each partition, and what is missing there. Pure.
//!
//! Loaders number records by a header: a number that is left out is lost data. Kafka's offsets prove nothing: the control
//! records of transactions have one too, and so had what was compacted. Those without a message are only counted.

use std::{collections::BTreeMap, fmt};

use streamforge_utils::protocol::{End, Lost, Sequence, Step, Verdict, judge_ends};

/// Holes that are kept to be named; more are only counted.
const MAX_NAMED: usize = 10;

/// Records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// The partition.
    pub partition: i32,
    /// What had to come.
    pub expected: u64,
    /// What came.
    pub found: u64,
}

impl Hole {
    /// How many are missing.
    pub fn missing(&self) -> u64 {
        self.found.saturating_sub(self.expected)
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "partition {}: {} sequence numbers missing, expected {}, found {}",
            self.partition,
            self.missing(),
            self.expected,
            self.found
        )
    }
}

/// What a message was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// A record with this number.
    Record(u64),
    /// A message without a number that is no marker.
    Unnumbered,
    /// A marker.
    Marker(End),
}

/// What one message told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// It came after the end of the stream, and does not count.
    pub is_behind_the_end: bool,
    /// What is missing before it.
    pub hole: Option<Hole>,
    /// Offsets before it that have no message.
    pub skipped_offsets: u64,
    /// Its number was seen before.
    pub is_duplicate: bool,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Tally {
    run: u32,
    partitions: BTreeMap<i32, Partition>,
    missing: u64,
    named: Vec<Hole>,
    /// Offsets without a message.
    pub skipped_offsets: u64,
    /// Records whose number had been seen before.
    pub duplicates: u64,
    /// Messages without a number that are no marker.
    pub unnumbered: u64,
}

#[derive(Debug)]
struct Partition {
    next_offset: i64,
    sequence: Sequence,
    end: Option<End>,
    is_at_end: bool,
}

impl Tally {
    /// For a reader of this run of the workflow.
    pub fn new(run: u32) -> Self {
        Self {
            run,
            ..Self::default()
        }
    }

    /// Takes the next message of a partition.
    pub fn take(&mut self, partition: i32, offset: i64, body: Body) -> Seen {
        let state = self.partitions.entry(partition).or_insert(Partition {
            next_offset: offset,
            // What retention has deleted before we came is no hole.
            sequence: if offset == 0 {
                Sequence::after(0)
            } else {
                Sequence::unknown()
            },
            end: None,
            is_at_end: false,
        });
        let mut seen = Seen::default();
        if state.end.is_some_and(|end| end.is_final()) {
            seen.is_behind_the_end = true;
            return seen;
        }
        seen.skipped_offsets = u64::try_from(offset - state.next_offset).unwrap_or(0);
        self.skipped_offsets += seen.skipped_offsets;
        state.next_offset = offset + 1;
        state.is_at_end = false;
        // What no loader wrote undoes no end.
        if body != Body::Unnumbered {
            state.end = None;
        }
        let lost = match body {
            Body::Record(number) => match state.sequence.take(number) {
                Ok(Step::Next) => None,
                Ok(Step::Duplicate) => {
                    seen.is_duplicate = true;
                    self.duplicates += 1;
                    None
                }
                Err(lost) => {
                    state.sequence = Sequence::after(number);
                    Some(lost)
                }
            },
            Body::Unnumbered => {
                self.unnumbered += 1;
                None
            }
            Body::Marker(end) => {
                state.end = Some(end);
                let lost = state.sequence.end(end.last_seq).err();
                if lost.is_some() {
                    state.sequence = Sequence::after(end.last_seq);
                }
                lost
            }
        };
        seen.hole = lost.map(|Lost { expected, found }| Hole {
            partition,
            expected,
            found,
        });
        if let Some(hole) = seen.hole {
            self.missing += hole.missing();
            if self.named.len() < MAX_NAMED {
                self.named.push(hole);
            }
        }
        seen
    }

    /// The partition has nothing more for now.
    pub fn at_end(&mut self, partition: i32) {
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.is_at_end = true;
        }
    }

    /// Whether the stream has ended, and how.
    pub fn verdict(&self) -> Verdict {
        let ended = self.partitions.iter().filter_map(|(partition, state)| {
            let end = state.end?;
            end.holds(self.run, state.is_at_end)
                .then_some((*partition, end))
        });
        judge_ends(&ended.collect())
    }

    /// What is missing, in words; `None` if nothing is.
    pub fn missing(&self) -> Option<String> {
        if self.named.is_empty() {
            return None;
        }
        let named: Vec<String> = self.named.iter().map(Hole::to_string).collect();
        Some(format!(
            "{} sequence numbers missing: {}",
            self.missing,
            named.join("; ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use streamforge_utils::protocol::MarkerOutcome;

    use super::*;

    fn marker(outcome: MarkerOutcome, last_seq: u64) -> Body {
        Body::Marker(End {
            outcome,
            run: 1,
            partitions: 1,
            last_seq,
        })
    }

    #[test]
    fn finds_what_is_missing_where() {
        let mut tally = Tally::new(1);
        assert_eq!(tally.take(0, 0, Body::Record(1)), Seen::default());
        assert_eq!(tally.take(0, 1, Body::Record(2)), Seen::default());
        assert_eq!(tally.missing(), None);
        let seen = tally.take(0, 2, Body::Record(5));
        assert_eq!(
            seen.hole.unwrap().to_string(),
            "partition 0: 2 sequence numbers missing, expected 3, found 5"
        );
        let seen = tally.take(0, 9, Body::Record(6));
        assert_eq!((seen.hole, seen.skipped_offsets), (None, 6));
        assert!(tally.take(0, 10, Body::Record(6)).is_duplicate);
        assert_eq!(tally.take(0, 11, Body::Unnumbered), Seen::default());
        let seen = tally.take(0, 12, marker(MarkerOutcome::Finished, 8));
        assert_eq!(seen.hole.unwrap().missing(), 2);
        assert!(tally.take(0, 13, Body::Record(99)).is_behind_the_end);
        let said = tally.missing().unwrap();
        assert!(
            said.starts_with("4 sequence numbers missing: partition 0: 2 seq"),
            "{said}"
        );
        assert_eq!((tally.duplicates, tally.unnumbered), (1, 1));
        assert_eq!(tally.skipped_offsets, 6);
        assert_eq!(tally.verdict(), Verdict::Finished);
    }

    #[test]
    fn what_was_deleted_before_is_no_hole() {
        let mut tally = Tally::new(1);
        assert_eq!(tally.take(0, 700, Body::Record(650)), Seen::default());
        assert_eq!(tally.take(0, 701, Body::Record(651)), Seen::default());
        assert_eq!(tally.missing(), None);
        let mut whole = Tally::new(1);
        assert!(whole.take(0, 0, Body::Record(3)).hole.is_some());
    }

    #[test]
    fn offsets_without_a_message_are_not_lost_data() {
        let mut tally = Tally::new(1);
        tally.take(0, 0, Body::Record(1));
        // A transaction's control record is at 1.
        let seen = tally.take(0, 2, Body::Record(2));
        assert_eq!((seen.hole, seen.skipped_offsets), (None, 1));
        assert_eq!(tally.missing(), None);
    }

    #[test]
    fn a_message_that_no_loader_wrote_undoes_no_end() {
        let mut tally = Tally::new(1);
        tally.take(0, 0, Body::Record(1));
        tally.take(0, 1, marker(MarkerOutcome::Interrupted, 1));
        tally.take(0, 2, Body::Unnumbered);
        tally.at_end(0);
        assert_eq!(tally.verdict(), Verdict::Interrupted);
    }

    #[test]
    fn an_interrupted_marker_counts_only_at_the_end() {
        let mut tally = Tally::new(1);
        tally.take(0, 0, marker(MarkerOutcome::Interrupted, 0));
        assert_ne!(tally.verdict(), Verdict::Interrupted);
        tally.at_end(0);
        assert_eq!(tally.verdict(), Verdict::Interrupted);
        tally.take(0, 1, Body::Record(1));
        tally.at_end(0);
        assert_ne!(tally.verdict(), Verdict::Interrupted);
        let mut later = Tally::new(2);
        later.take(0, 0, marker(MarkerOutcome::Interrupted, 0));
        later.at_end(0);
        assert_ne!(later.verdict(), Verdict::Interrupted, "of an earlier run");
    }
}
