//! What earlier attempts have seen missing, found again in what they published.
//!
//! `records_missing` and the list of gaps count the whole run. Where the numbers of the records tell that nothing was
//! missing, nothing is read. Else the open times of the topic are read once, into one bit for each expected candle
//! (1 MiB for eight million). Records that retention has deleted are known by number only: what was missing among
//! them is counted, and not listed.

use std::ops::Range;

use streamforge_utils::{
    kafka::TopicReader,
    protocol::{Gap, Grid, TimestampMs},
};

use crate::{
    gaps::GapTracker,
    plan::Plan,
    resume::{Entry, ResumeError, contradiction, entry},
    stream::{PartitionState, StreamSpec},
};

/// Lets `tracker` see what the topic holds up to `through`, inclusive, which every partition has. Returns the gaps.
///
/// # Errors
/// The topic can't be read, or holds what is not of this load.
pub async fn replay(
    reader: &TopicReader,
    topic: &str,
    spec: &StreamSpec,
    states: &[PartitionState],
    plan: &Plan,
    through: TimestampMs,
    tracker: &mut GapTracker,
) -> Result<Vec<Gap>, ResumeError> {
    let slots = plan.first_slot..plan.grid.index(through) + 1;
    let reachable = spec.reachable();
    if let [only] = reachable[..] {
        let published = states[usize::try_from(only).expect("counted from 0")].last_seq;
        if i64::try_from(published) == Ok(slots.end - slots.start) {
            tracker.pass_to(slots.end, 0);
            return Ok(Vec::new());
        }
    }
    let mut present = Present::new(plan.grid, slots);
    for partition in reachable {
        let state = &states[usize::try_from(partition).expect("counted from 0")];
        let mut last_seq = None;
        let mut problem = None;
        let each = |message: rdkafka::message::OwnedMessage| match entry(&message, spec) {
            // A number at or below the last is a record that is there twice.
            Ok(Entry::Record { seq, open_time }) if last_seq.is_none_or(|last| seq > last) => {
                present.note(seq, open_time, last_seq.is_none());
                last_seq = Some(seq);
            }
            Ok(_) => {}
            Err(error) => {
                problem.get_or_insert(error);
            }
        };
        reader
            .scan(topic, partition, state.low, state.high, each)
            .await?;
        if let Some(problem) = problem {
            return Err(contradiction(
                topic,
                partition,
                format!("a message {problem}"),
            ));
        }
    }
    Ok(present.tell(tracker))
}

/// The expected candles that are there: a bit a slot.
struct Present {
    grid: Grid,
    slots: Range<i64>,
    bits: Vec<u64>,
    /// Records in a slot that another one occupies.
    extra: u64,
    /// Records before the first that can still be read.
    deleted: u64,
    /// The first slot that can be listed: before it records were deleted.
    listed_from: i64,
}

impl Present {
    fn new(grid: Grid, slots: Range<i64>) -> Self {
        let count = usize::try_from(slots.end - slots.start).unwrap_or(0);
        Self {
            grid,
            listed_from: slots.start,
            slots,
            bits: vec![0; count.div_ceil(64)],
            extra: 0,
            deleted: 0,
        }
    }

    fn place(&self, slot: i64) -> (usize, u64) {
        let bit = usize::try_from(slot - self.slots.start).expect("a slot of the range");
        (bit / 64, 1 << (bit % 64))
    }

    fn has(&self, slot: i64) -> bool {
        let (word, bit) = self.place(slot);
        self.bits[word] & bit != 0
    }

    fn note(&mut self, seq: u64, open_time: TimestampMs, first_of_partition: bool) {
        let slot = self.grid.index(open_time);
        if first_of_partition && seq > 1 {
            self.deleted += seq - 1;
            self.listed_from = self.listed_from.max(slot.min(self.slots.end));
        }
        if slot >= self.slots.end {
            return;
        }
        if slot < self.slots.start || self.has(slot) {
            self.extra += 1;
            return;
        }
        let (word, bit) = self.place(slot);
        self.bits[word] |= bit;
    }

    fn tell(&self, tracker: &mut GapTracker) -> Vec<Gap> {
        let unlisted = self.slots.start..self.listed_from;
        let there = unlisted.clone().filter(|slot| self.has(*slot)).count() as u64;
        let expected = u64::try_from(unlisted.end - unlisted.start).unwrap_or(0);
        let missing = expected.saturating_sub(there + self.deleted);
        tracker.pass_to(self.listed_from, missing);
        tracker.count_extra(self.extra);
        (self.listed_from..self.slots.end)
            .filter(|slot| self.has(*slot))
            .filter_map(|slot| tracker.seen(self.grid.open(slot)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use streamforge_utils::protocol::Interval;

    use super::*;

    fn plan() -> Plan {
        Plan::new(
            &"2020-06-01:2020-06-03".parse().unwrap(),
            Grid::new(Interval::Hour1, TimestampMs(0)),
            Some(TimestampMs(0)),
            "2024-01-01T00:00:00Z".parse().unwrap(),
        )
        .unwrap()
    }

    /// What a tracker knows of `hours`, counted from the plan's start, spread over `partitions`, of each of which the
    /// first `deleted` records can no longer be read.
    fn replayed(hours: &BTreeSet<i64>, partitions: i64, deleted: u64) -> GapTracker {
        let plan = plan();
        let mut present = Present::new(plan.grid, plan.first_slot..plan.end_slot);
        for partition in 0..partitions {
            let mine = hours.iter().filter(|hour| *hour % partitions == partition);
            for (nth, (seq, hour)) in (1..)
                .zip(mine)
                .skip(usize::try_from(deleted).unwrap())
                .enumerate()
            {
                present.note(seq, plan.grid.open(plan.first_slot + hour), nth == 0);
            }
        }
        let mut tracker = GapTracker::new(&plan);
        present.tell(&mut tracker);
        tracker.end(&plan);
        tracker
    }

    #[test]
    fn gaps_of_earlier_attempts_are_listed() {
        let hours = (0..72).filter(|hour| ![5, 6, 40].contains(hour)).collect();
        for partitions in [1, 3] {
            let tracker = replayed(&hours, partitions, 0);
            assert_eq!((tracker.missing(), tracker.gaps().len()), (3, 2));
        }
    }

    #[test]
    fn among_deleted_records_missing_ones_are_counted() {
        let hours = (0..72).filter(|hour| ![5, 6, 40].contains(hour)).collect();
        for partitions in [1, 3] {
            let tracker = replayed(&hours, partitions, 10);
            assert_eq!((tracker.missing(), tracker.gaps().len()), (3, 1));
        }
    }

    #[test]
    fn a_second_record_of_a_slot_is_extra() {
        let plan = plan();
        let mut present = Present::new(plan.grid, plan.first_slot..plan.end_slot);
        present.note(1, plan.start, true);
        present.note(2, plan.start + 60_000, false);
        let mut tracker = GapTracker::new(&plan);
        present.tell(&mut tracker);
        assert_eq!(tracker.extra(), 1);
    }

    proptest! {
        #[test]
        fn what_is_missing_does_not_depend_on_the_partitions(
            hours in proptest::collection::btree_set(0_i64..72, 12..72),
            partitions in 1_i64..4,
            deleted in 0_u64..3,
        ) {
            let all_have_more = (0..partitions).all(|partition| {
                hours.iter().filter(|hour| *hour % partitions == partition).count() as u64 > deleted
            });
            prop_assume!(all_have_more);
            let tracker = replayed(&hours, partitions, deleted);
            prop_assert_eq!(tracker.missing(), 72 - hours.len() as u64);
        }
    }
}
