//! What is found to be missing, whatever partition a record is in, and whatever was deleted.

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
        std::time::Duration::ZERO,
    )
    .unwrap()
}

fn found(plan: &Plan) -> Found {
    Found::new(
        plan.grid,
        plan.first_slot..plan.end_slot,
        GapTracker::new(plan),
    )
}

/// What a tracker knows of `hours`, counted from the plan's start, spread over `partitions`, of each of which the first
/// `deleted` records can no longer be read.
fn replayed(hours: &BTreeSet<i64>, partitions: i64, deleted: usize) -> GapTracker {
    let plan = plan();
    let mut found = found(&plan);
    let mut left = Vec::new();
    for partition in 0..partitions {
        let mine = hours.iter().filter(|hour| *hour % partitions == partition);
        let records: Vec<(u64, TimestampMs)> = (1..)
            .zip(mine.map(|hour| plan.grid.open(plan.first_slot + hour)))
            .collect();
        let (last_seq, last_open) = *records.last().unwrap();
        let mut part = Part::new(&PartitionState {
            last_seq,
            last_open: Some(last_open),
            ..PartitionState::default()
        });
        match records.get(deleted) {
            Some((seq, open_time)) => part.offer(*seq, *open_time, &mut found),
            None => part.end(&mut found),
        }
        left.extend(records.into_iter().skip(deleted));
    }
    left.sort_by_key(|(_, open_time)| *open_time);
    for (_, open_time) in left {
        found.see(open_time);
    }
    found.tell_unlisted();
    let mut tracker = found.tracker;
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
fn where_every_record_was_deleted_the_numbers_tell() {
    let hours = (0..72).filter(|hour| ![5, 6, 40].contains(hour)).collect();
    let tracker = replayed(&hours, 1, 100);
    assert_eq!((tracker.missing(), tracker.gaps().len()), (3, 0));
}

#[test]
fn a_second_record_of_a_slot_is_extra() {
    let plan = plan();
    let mut found = found(&plan);
    found.see(plan.start);
    found.see(plan.start + 60_000);
    found.tell_unlisted();
    assert_eq!(found.tracker.extra(), 1);
}

proptest! {
    #[test]
    fn what_is_missing_does_not_depend_on_the_partitions(
        hours in proptest::collection::btree_set(0_i64..72, 12..72),
        partitions in 1_i64..4,
        deleted in 0_usize..3,
    ) {
        let all_have_more = (0..partitions).all(|partition| {
            hours.iter().filter(|hour| *hour % partitions == partition).count() > deleted
        });
        prop_assume!(all_have_more);
        let tracker = replayed(&hours, partitions, deleted);
        prop_assert_eq!(tracker.missing(), 72 - hours.len() as u64);
    }
}
