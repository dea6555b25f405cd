//! Commits advance only over what is done.

use proptest::prelude::*;
use streamforge_utils::protocol::MarkerOutcome;

use super::*;

fn tracker(position: i64) -> OffsetTracker {
    OffsetTracker::new(position, CommitNote::default(), 1)
}

fn marker(outcome: MarkerOutcome) -> Marker {
    Marker {
        queue_id: "wf-x".parse().unwrap(),
        run: 3,
        producer: "loader".to_owned(),
        last_seq: 2,
        first_open_time: None,
        last_open_time: None,
        partitions: 1,
        time_range: "2024-08-01:2024-08-01".parse().unwrap(),
        outcome,
    }
}

#[test]
fn a_commit_waits_for_the_first_record_that_is_not_done() {
    let mut offsets = tracker(10);
    for (offset, seq) in [(10, 1), (11, 2), (12, 3)] {
        offsets.take(offset, Origin::Numbered(seq));
    }
    assert!(offsets.acknowledge(12, Outcome::Written));
    assert!(offsets.acknowledge(11, Outcome::Rejected));
    assert_eq!((offsets.position(), offsets.note().last_seq), (10, 0));
    assert_eq!((offsets.written(), offsets.rejected()), (1, 1));
    assert!(offsets.acknowledge(10, Outcome::Written));
    assert_eq!(offsets.position(), 13);
    let note = offsets.note();
    assert_eq!((note.written, note.rejected, note.last_seq), (2, 1, 3));
    assert_eq!(offsets.outstanding(), 0);
}

#[test]
fn what_is_not_waited_for_changes_nothing() {
    let mut offsets = tracker(10);
    offsets.take(10, Origin::Numbered(1));
    assert!(!offsets.acknowledge(9, Outcome::Written));
    assert!(!offsets.acknowledge(11, Outcome::Written));
    assert!(offsets.acknowledge(10, Outcome::Written));
    assert!(!offsets.acknowledge(10, Outcome::Written), "twice");
    assert_eq!(offsets.written(), 1);
}

#[test]
fn a_marker_stands_in_the_note_only_while_it_is_the_last_message() {
    let mut offsets = tracker(0);
    offsets.take(0, Origin::Numbered(1));
    offsets.mark(1, &marker(MarkerOutcome::Interrupted));
    assert_eq!(offsets.note().eos, None, "its record is not done");
    offsets.acknowledge(0, Outcome::Written);
    let note = offsets.note();
    assert_eq!((note.eos, note.run), (Some(MarkerOutcome::Interrupted), 3));
    offsets.take(2, Origin::Numbered(2));
    offsets.acknowledge(2, Outcome::Written);
    let note = offsets.note();
    assert_eq!((note.eos, note.partitions, note.run), (None, None, 1));
}

#[test]
fn duplicates_pass_and_a_long_row_of_them_takes_no_room() {
    let mut offsets = tracker(0);
    offsets.skip(0, Origin::Numbered(1));
    assert_eq!(offsets.position(), 1);
    offsets.take(1, Origin::Numbered(1));
    for offset in 2..10_000 {
        offsets.skip(offset, Origin::Numbered(1));
    }
    assert_eq!(offsets.outstanding(), 2);
    offsets.acknowledge(1, Outcome::Written);
    assert_eq!((offsets.position(), offsets.note().last_seq), (10_000, 1));
}

#[test]
fn only_numbered_records_undo_a_marker_in_the_note() {
    let numbered = Origin::Numbered(2);
    for (origins, stands) in [
        (vec![Origin::Foreign], true),
        (vec![Origin::Replayed, Origin::Foreign], true),
        (vec![numbered], false),
        (vec![Origin::Foreign, numbered, Origin::Replayed], false),
    ] {
        for is_skipped in [true, false] {
            let mut offsets = tracker(0);
            offsets.take(0, Origin::Numbered(1));
            offsets.mark(1, &marker(MarkerOutcome::Interrupted));
            for (offset, origin) in (2..).zip(&origins) {
                if is_skipped {
                    offsets.skip(offset, *origin);
                } else {
                    offsets.take(offset, *origin);
                    offsets.acknowledge(offset, Outcome::Written);
                }
            }
            offsets.acknowledge(0, Outcome::Written);
            let note = offsets.note();
            let expected = if stands {
                Some(MarkerOutcome::Interrupted)
            } else {
                None
            };
            assert_eq!(note.eos, expected, "{origins:?} {is_skipped}");
            assert_eq!(note.run, if stands { 3 } else { 1 }, "{origins:?}");
            assert_eq!(
                offsets.position(),
                2 + i64::try_from(origins.len()).unwrap()
            );
        }
    }
}

#[test]
fn replayed_records_are_counted_also_apart() {
    let mut offsets = tracker(0);
    offsets.take(0, Origin::Numbered(1));
    offsets.take(1, Origin::Replayed);
    offsets.take(2, Origin::Replayed);
    offsets.acknowledge(2, Outcome::Rejected);
    offsets.acknowledge(1, Outcome::Written);
    assert_eq!((offsets.replayed(), offsets.note().replayed), (2, 0));
    offsets.acknowledge(0, Outcome::Written);
    let note = offsets.note();
    let counts = (note.written, note.rejected, note.replayed, note.last_seq);
    assert_eq!(counts, (2, 1, 2, 1));
}

#[test]
fn offsets_without_a_message_are_passed_once_all_before_them_is_done() {
    let mut offsets = tracker(5);
    offsets.pass(5);
    assert_eq!((offsets.position(), offsets.outstanding()), (5, 0));
    offsets.pass(8);
    assert_eq!(offsets.position(), 8);
    offsets.take(8, Origin::Numbered(1));
    offsets.pass(9);
    assert_eq!(offsets.outstanding(), 1);
    offsets.pass(12);
    assert_eq!(offsets.position(), 8);
    offsets.acknowledge(8, Outcome::Written);
    assert_eq!(offsets.position(), 12);
}

proptest! {
    #[test]
    fn the_position_is_always_below_all_that_is_not_done(
        kinds in prop::collection::vec((1..4_i64, 0..4_u8), 1..80),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..120),
    ) {
        let mut offsets = tracker(100);
        let (mut at, mut open) = (99, Vec::new());
        for (seq, (step, kind)) in (1..).zip(&kinds) {
            // Offsets may leave some out, as a broker's own records do.
            at += step;
            match kind {
                0 => offsets.skip(at, Origin::Foreign),
                1 => offsets.mark(at, &marker(MarkerOutcome::Interrupted)),
                _ => { offsets.take(at, Origin::Numbered(seq)); open.push(at); }
            }
        }
        let (taken, mut before) = (open.len() as u64, offsets.position());
        for index in &order {
            if open.is_empty() { break; }
            let offset = open.swap_remove(index.index(open.len()));
            let outcome = if offset % 3 == 0 { Outcome::Rejected } else { Outcome::Written };
            prop_assert!(offsets.acknowledge(offset, outcome));
            let position = offsets.position();
            prop_assert!(position >= before, "it never goes back");
            prop_assert!(open.iter().all(|open| *open >= position), "{position} with {open:?} open");
            before = position;
        }
        prop_assert_eq!(offsets.written() + offsets.rejected(), taken - open.len() as u64);
        if open.is_empty() {
            prop_assert_eq!(offsets.position(), at + 1);
            prop_assert_eq!(offsets.note().written, offsets.written());
        }
    }
}
