//! When a stream has ended: for a partition, and for all of them.
//!
//! Pure. A `finished` marker is final. An `interrupted` one counts only while it is the last message, and only if
//! it is of this run or a later one: an older one was left by a run that this run goes on from.

use std::collections::BTreeMap;

use super::{Marker, MarkerOutcome};

/// What the last marker of a partition says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// How its loader ended.
    pub outcome: MarkerOutcome,
    /// The run that wrote it.
    pub run: u32,
    /// How many partitions the loader addresses.
    pub partitions: i32,
    /// Number of the partition's last record.
    pub last_seq: u64,
}

impl End {
    /// From the marker itself.
    pub fn of_marker(marker: &Marker) -> Self {
        Self {
            outcome: marker.outcome,
            run: marker.run,
            partitions: marker.partitions,
            last_seq: marker.last_seq,
        }
    }

    /// Whether nothing after it counts.
    pub fn is_final(&self) -> bool {
        self.outcome == MarkerOutcome::Finished
    }

    /// Whether it ends the partition for run `run`, given whether it is the partition's last message.
    pub fn holds(&self, run: u32, is_last: bool) -> bool {
        self.is_final() || (is_last && self.run >= run)
    }
}

/// Whether the whole stream has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// These partitions have not, or it is not known: the first 1,000 of them. Empty as long as nobody knows how many there are.
    Open(Vec<i32>),
    /// The loader published everything.
    Finished,
    /// The loader was stopped.
    Interrupted,
}

/// Most open partitions that are listed. A marker may claim any number of them.
const MAX_OPEN: usize = 1_000;

/// Judges from the partitions that have ended.
///
/// How many partitions count is what a marker says; those that were added later are ignored.
pub fn judge_ends(ended: &BTreeMap<i32, End>) -> Verdict {
    let Some(count) = ended.values().map(|end| end.partitions).min() else {
        return Verdict::Open(Vec::new());
    };
    let open: Vec<i32> = (0..count)
        .filter(|partition| !ended.contains_key(partition))
        .take(MAX_OPEN)
        .collect();
    if !open.is_empty() {
        return Verdict::Open(open);
    }
    let all_finished = ended.range(0..count).all(|(_, end)| end.is_final());
    if all_finished {
        Verdict::Finished
    } else {
        Verdict::Interrupted
    }
}

/// Records of the whole stream, known once every partition has named its last number.
pub fn total_of_ends(ended: &BTreeMap<i32, End>) -> Option<u64> {
    match judge_ends(ended) {
        Verdict::Open(_) => None,
        Verdict::Finished | Verdict::Interrupted => {
            Some(ended.values().map(|end| end.last_seq).sum())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(outcome: MarkerOutcome, run: u32, partitions: i32) -> End {
        End {
            outcome,
            run,
            partitions,
            last_seq: 10,
        }
    }

    #[test]
    fn a_finished_marker_is_final_and_an_interrupted_one_only_as_the_last_of_its_run() {
        use MarkerOutcome::{Finished, Interrupted};
        for (marker, run, is_last, holds) in [
            (end(Finished, 1, 1), 1, true, true),
            (end(Finished, 1, 1), 2, false, true),
            (end(Interrupted, 1, 1), 1, true, true),
            (end(Interrupted, 2, 1), 1, true, true),
            (end(Interrupted, 1, 1), 1, false, false),
            (end(Interrupted, 1, 1), 2, true, false),
        ] {
            assert_eq!(
                marker.holds(run, is_last),
                holds,
                "{marker:?} {run} {is_last}"
            );
        }
    }

    #[test]
    fn a_number_of_partitions_that_no_topic_has_costs_no_memory() {
        let claims = |partitions| [(0, end(MarkerOutcome::Finished, 1, partitions))].into();
        for partitions in [5_000, 50_000_000, i32::MAX] {
            let Verdict::Open(open) = judge_ends(&claims(partitions)) else {
                panic!("{partitions} partitions can't all have ended");
            };
            assert_eq!((open.len(), open[0]), (MAX_OPEN, 1));
        }
    }

    #[test]
    fn every_partition_that_a_marker_names_must_end_and_later_ones_are_ignored() {
        use MarkerOutcome::{Finished, Interrupted};
        let mut ended = BTreeMap::new();
        assert_eq!(judge_ends(&ended), Verdict::Open(Vec::new()));
        ended.insert(2, end(Finished, 1, 3));
        assert_eq!(judge_ends(&ended), Verdict::Open(vec![0, 1]));
        assert_eq!(total_of_ends(&ended), None);
        ended.insert(0, end(Finished, 1, 3));
        ended.insert(1, end(Finished, 1, 3));
        assert_eq!(judge_ends(&ended), Verdict::Finished);
        assert_eq!(total_of_ends(&ended), Some(30));
        ended.insert(1, end(Interrupted, 1, 3));
        assert_eq!(judge_ends(&ended), Verdict::Interrupted);
    }
}
