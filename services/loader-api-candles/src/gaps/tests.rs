//! What counts as missing, and how it is told.

use std::collections::BTreeSet;

use proptest::prelude::*;
use streamforge_utils::protocol::Interval;

use super::*;

const HOUR: i64 = 3_600_000;

fn at(text: &str) -> TimestampMs {
    text.parse().unwrap()
}

fn plan(range: &str) -> Plan {
    Plan::new(
        &range.parse().unwrap(),
        Grid::new(Interval::Hour1, TimestampMs(0)),
        Some(TimestampMs(0)),
        at("2024-10-01T00:00:00Z"),
        std::time::Duration::ZERO,
    )
    .unwrap()
}

/// Sees every hour of `plan` but those `left_out`, counted from its start.
fn track(plan: &Plan, left_out: &BTreeSet<i64>) -> GapTracker {
    let mut tracker = GapTracker::new(plan);
    for slot in plan.first_slot..plan.end_slot {
        if !left_out.contains(&(slot - plan.first_slot)) {
            tracker.seen(plan.grid.open(slot));
        }
    }
    tracker.end(plan);
    tracker
}

#[test]
fn a_gap_ends_at_the_first_candle_that_is_there_again() {
    let plan = plan("2020-06-28:2020-06-28");
    let tracker = track(&plan, &[2, 3, 4].into());
    assert_eq!(tracker.missing(), 3);
    assert_eq!(
        tracker.gaps(),
        [Gap {
            start: at("2020-06-28T02:00:00Z"),
            end: at("2020-06-28T05:00:00Z"),
            missing: 3
        }]
    );
    assert_eq!(
        tracker.summary(21),
        "21 candles, 3 missing in 1 gap: 2020-06-28T02:00Z to 05:00Z"
    );
}

#[test]
fn missing_candles_at_both_ends_are_gaps() {
    let plan = plan("2020-06-28:2020-06-28");
    let tracker = track(&plan, &[0, 5, 23].into());
    assert_eq!(
        tracker.summary(21),
        "21 candles, 3 missing in 3 gaps: 2020-06-28T00:00Z to 01:00Z, 2020-06-28T05:00Z to 06:00Z, \
         2020-06-28T23:00Z to 2020-06-29T00:00Z"
    );
}

#[test]
fn many_gaps_are_counted_and_the_first_are_named() {
    let plan = plan("2020-01-01:2020-12-31");
    let every_other: BTreeSet<i64> = (0..400).map(|nth| nth * 2).collect();
    let tracker = track(&plan, &every_other);
    assert_eq!(tracker.gaps().len(), LISTED);
    let summary = tracker.summary(8_384);
    assert!(
        summary.starts_with("8384 candles, 400 missing in 400 gaps: 2020-01-01T00:00Z to 01:00Z, "),
        "{summary}"
    );
    assert!(summary.ends_with(" and 397 more"), "{summary}");
}

#[test]
fn nothing_missing_is_said() {
    let plan = plan("2020-06-28:2020-06-28");
    assert_eq!(
        track(&plan, &BTreeSet::new()).summary(24),
        "24 candles, none missing"
    );
    assert_eq!(GapTracker::new(&plan).summary(1), "1 candle, none missing");
    assert_eq!(GapTracker::new(&plan).summary_so_far(1), "1 candle");
}

#[test]
fn a_candle_off_the_grid_occupies_its_slot() {
    let plan = plan("2020-06-28:2020-06-28");
    let mut tracker = GapTracker::new(&plan);
    for slot in plan.first_slot..plan.end_slot {
        tracker.seen(plan.grid.open(slot) + HOUR / 2);
    }
    tracker.end(&plan);
    assert_eq!((tracker.missing(), tracker.extra()), (0, 0));
}

#[test]
fn a_second_candle_in_a_slot_is_extra() {
    let plan = plan("2020-06-28:2020-06-28");
    let mut tracker = GapTracker::new(&plan);
    tracker.seen(plan.start);
    tracker.seen(plan.start + 1_000);
    assert_eq!((tracker.missing(), tracker.extra()), (0, 1));
}

#[test]
fn what_the_topic_no_longer_holds_is_counted_and_not_listed() {
    let plan = plan("2020-06-28:2020-06-28");
    let mut tracker = GapTracker::new(&plan);
    tracker.pass_to(plan.first_slot + 10, 2);
    assert_eq!(tracker.seen(plan.grid.open(plan.first_slot + 10)), None);
    assert_eq!((tracker.missing(), tracker.gaps()), (2, &[] as &[Gap]));
    assert!(
        tracker
            .summary(9)
            .ends_with("; 2 of them among records that the topic no longer holds")
    );
}

proptest! {
    #[test]
    fn missing_is_what_is_expected_and_not_there(left_out in proptest::collection::btree_set(0_i64..240, 0..240)) {
        let plan = plan("2020-06-01:2020-06-10");
        let tracker = track(&plan, &left_out);
        prop_assert_eq!(tracker.missing(), left_out.len() as u64);
        let listed: u64 = tracker.gaps().iter().map(|gap| gap.missing).sum();
        if tracker.gap_count <= LISTED as u64 {
            prop_assert_eq!(listed, tracker.missing());
        }
        let apart = tracker.gaps().windows(2).all(|pair| pair[0].end < pair[1].start);
        prop_assert!(apart, "neighbours are one gap");
    }
}
