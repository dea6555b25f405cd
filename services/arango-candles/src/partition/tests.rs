//! What becomes of messages, in the order in which they come.

use std::collections::BTreeSet;

use proptest::prelude::*;
use streamforge_utils::protocol::MarkerOutcome::{self, Finished, Interrupted};

use super::*;
use crate::{offsets::Outcome, record::RejectReason};

fn candle(seq: u64) -> Reading {
    Reading {
        seq: Some(seq),
        is_replayed: false,
        content: Content::Candle {
            key: format!("k{seq}").into(),
        },
    }
}

fn poison(seq: Option<u64>) -> Reading {
    Reading {
        seq,
        is_replayed: false,
        content: Content::Rejected(Rejection::new(RejectReason::NotACandle, "no")),
    }
}

fn marker(outcome: MarkerOutcome, run: u32, last_seq: u64) -> Reading {
    Reading {
        seq: None,
        is_replayed: false,
        content: Content::Marker(Box::new(Marker {
            queue_id: "wf-x".parse().unwrap(),
            run,
            producer: "loader".to_owned(),
            last_seq,
            first_open_time: None,
            last_open_time: None,
            partitions: 1,
            time_range: "2024-08-01:2024-08-01".parse().unwrap(),
            outcome,
        })),
    }
}

fn replayed() -> Reading {
    Reading {
        seq: None,
        is_replayed: true,
        content: Content::Candle { key: "k1".into() },
    }
}

/// Answers what a partition asks, for one that ends at `high` and has no message behind its position.
fn look_up(partition: &mut Partition, high: i64) {
    while let Some(look) = partition.look() {
        match look.to {
            None => partition.see_high_watermark(look, high),
            Some(_) => partition.pass_gap(look),
        }
    }
}

fn fresh() -> Partition {
    Partition::new(Resume::AtFirst { low: 0 }, 1)
}

fn resumed(offset: i64, note: Option<CommitNote>) -> Partition {
    Partition::new(Resume::AfterCommit { offset, note }, 1)
}

fn write(partition: &mut Partition, offset: i64, seq: u64) {
    let action = partition.accept(offset, candle(seq)).unwrap();
    assert!(matches!(action, Action::Write { .. }), "{action:?}");
    partition
        .offsets_mut()
        .acknowledge(offset, Outcome::Written);
}

/// Commits what can be committed, as if the broker confirmed it.
fn commit(partition: &mut Partition) -> Option<(i64, CommitNote)> {
    let commit = partition.next_commit()?;
    partition.confirm(commit.0);
    Some(commit)
}

#[test]
fn it_has_ended_once_the_commit_past_a_finished_marker_is_confirmed() {
    let mut partition = fresh();
    write(&mut partition, 0, 1);
    partition.accept(1, marker(Finished, 1, 1)).unwrap();
    look_up(&mut partition, 2);
    assert_eq!(partition.ended(), None);
    let (offset, note) = partition.next_commit().unwrap();
    assert_eq!((offset, note.eos), (2, Some(Finished)));
    assert_eq!(partition.ended(), None, "submitted is not confirmed");
    partition.confirm(2);
    assert_eq!(partition.ended().unwrap().outcome, Finished);
}

#[test]
fn nothing_after_a_finished_marker_is_read() {
    let mut partition = fresh();
    write(&mut partition, 0, 1);
    partition.accept(1, marker(Finished, 1, 1)).unwrap();
    look_up(&mut partition, 2);
    commit(&mut partition);
    assert_eq!(partition.accept(2, candle(2)), Ok(Action::Nothing));
    assert_eq!(
        partition.accept(3, candle(9)),
        Ok(Action::Nothing),
        "not even lost data"
    );
    assert_eq!(commit(&mut partition), None);
    assert!(partition.ended().is_some());
}

#[test]
fn an_interrupted_marker_counts_only_while_it_is_the_last_message() {
    let mut partition = fresh();
    write(&mut partition, 0, 1);
    partition.accept(1, marker(Interrupted, 1, 1)).unwrap();
    commit(&mut partition);
    assert_eq!(partition.ended(), None, "more may be there");
    look_up(&mut partition, 2);
    assert_eq!(partition.ended().unwrap().outcome, Interrupted);
    write(&mut partition, 2, 2);
    look_up(&mut partition, 3);
    partition.reach_end();
    commit(&mut partition);
    assert_eq!(partition.ended(), None);
}

#[test]
fn an_interrupted_marker_of_an_older_run_does_not_count() {
    let mut partition = Partition::new(Resume::AtFirst { low: 0 }, 2);
    partition.accept(0, marker(Interrupted, 1, 0)).unwrap();
    commit(&mut partition);
    look_up(&mut partition, 1);
    partition.reach_end();
    assert_eq!(partition.ended(), None);
}

#[test]
fn restarted_after_the_last_commit_it_knows_from_the_message_before_it() {
    for note in [None, Some(CommitNote::default())] {
        let mut partition = resumed(2, note);
        assert_eq!(
            partition.accept(1, marker(Finished, 1, 1)),
            Ok(Action::Nothing)
        );
        look_up(&mut partition, 2);
        assert!(partition.ended().is_some());
    }
}

#[test]
fn restarted_in_the_middle_it_goes_on_after_the_last_number() {
    let mut partition = resumed(5, None);
    assert_eq!(partition.accept(4, candle(5)), Ok(Action::Nothing));
    write(&mut partition, 5, 6);
    assert_eq!(partition.accept(6, candle(8)).unwrap_err().expected, 7);
}

#[test]
fn restarted_behind_a_record_without_a_number_it_goes_by_the_commit() {
    let note = CommitNote {
        written: 4,
        rejected: 1,
        last_seq: 4,
        run: 1,
        ..CommitNote::default()
    };
    let mut partition = resumed(5, Some(note));
    partition.accept(4, poison(None)).unwrap();
    write(&mut partition, 5, 5);
    assert_eq!(
        (
            partition.offsets().written(),
            partition.offsets().rejected()
        ),
        (5, 1)
    );
}

#[test]
fn restarted_where_all_before_it_was_deleted_it_goes_by_the_commit_or_takes_what_comes() {
    let note = CommitNote {
        last_seq: 4,
        ..CommitNote::default()
    };
    assert_eq!(
        resumed(5, Some(note))
            .accept(5, candle(6))
            .unwrap_err()
            .expected,
        5
    );
    write(&mut resumed(5, None), 5, 77);
}

#[test]
fn lost_records_are_found_before_the_first_in_the_middle_and_before_the_marker() {
    let mut partition = fresh();
    assert_eq!(partition.accept(0, candle(3)).unwrap_err().expected, 1);
    write(&mut partition, 1, 1);
    assert_eq!(
        partition.accept(2, poison(Some(3))).unwrap_err().expected,
        2
    );
    let lost = partition.accept(3, marker(Finished, 1, 2)).unwrap_err();
    assert_eq!((lost.expected, lost.found), (2, 3));
}

#[test]
fn a_duplicate_is_passed_over_and_committed() {
    let mut partition = fresh();
    write(&mut partition, 0, 1);
    assert_eq!(partition.accept(1, candle(1)), Ok(Action::Duplicate));
    let (offset, note) = partition.next_commit().unwrap();
    assert_eq!((offset, note.written, note.last_seq), (2, 1, 1));
}

#[test]
fn a_rejected_record_without_a_number_leaves_the_row_as_it_is() {
    let mut partition = fresh();
    write(&mut partition, 0, 1);
    assert!(matches!(
        partition.accept(1, poison(None)),
        Ok(Action::Reject(_))
    ));
    assert_eq!(
        partition.next_commit().unwrap().0,
        1,
        "the dead letter is not acknowledged"
    );
    partition.offsets_mut().acknowledge(1, Outcome::Rejected);
    write(&mut partition, 2, 2);
    assert_eq!(partition.next_commit().unwrap().0, 3);
}

#[test]
fn a_refused_commit_is_made_again() {
    let mut partition = fresh();
    write(&mut partition, 0, 1);
    assert!(partition.next_commit().is_some());
    assert_eq!(partition.next_commit(), None);
    partition.resubmit();
    assert_eq!(partition.next_commit().unwrap().0, 1);
}

#[test]
fn only_numbered_records_and_markers_undo_an_end() {
    for (what, undoes) in [
        (poison(None), false),
        (replayed(), false),
        (candle(2), true),
        (candle(1), true),
        (poison(Some(2)), true),
        (marker(Interrupted, 1, 1), false),
    ] {
        let mut partition = fresh();
        write(&mut partition, 0, 1);
        partition.accept(1, marker(Interrupted, 1, 1)).unwrap();
        partition.accept(2, what.clone()).unwrap();
        partition.offsets_mut().acknowledge(2, Outcome::Written);
        look_up(&mut partition, 3);
        let (offset, note) = commit(&mut partition).unwrap();
        assert_eq!(offset, 3, "{what:?} is committed");
        assert_eq!(partition.ended().is_none(), undoes, "{what:?}");
        // The others of the group, and a restarted writer, see the same.
        assert_eq!(note.eos.is_none(), undoes, "{what:?}");
        let mut restarted = resumed(3, Some(note));
        restarted.accept(2, what.clone()).unwrap();
        look_up(&mut restarted, 3);
        assert_eq!(restarted.ended().is_none(), undoes, "{what:?}, restarted");
    }
}

#[test]
fn replayed_records_are_written_before_and_behind_each_marker_up_to_the_high_watermark_seen_then() {
    for outcome in [Finished, Interrupted] {
        let mut partition = fresh();
        write(&mut partition, 0, 1);
        let is_written = |action| matches!(action, Ok(Action::Write { .. }));
        assert!(is_written(partition.accept(1, replayed())));
        partition.offsets_mut().acknowledge(1, Outcome::Written);
        partition.accept(2, marker(outcome, 1, 1)).unwrap();
        let look = partition.look().unwrap();
        // Published while the high watermark is looked up, and before and after it was.
        for offset in [3, 4] {
            assert!(
                is_written(partition.accept(offset, replayed())),
                "{outcome:?}"
            );
        }
        commit(&mut partition);
        partition.see_high_watermark(look, 6);
        assert_eq!(partition.ended(), None, "{outcome:?}: 5 is to be read");
        assert!(is_written(partition.accept(5, replayed())), "{outcome:?}");
        assert_eq!(partition.ended(), None, "{outcome:?}: not written");
        for offset in [3, 4, 5] {
            partition
                .offsets_mut()
                .acknowledge(offset, Outcome::Written);
        }
        assert_eq!(partition.ended(), None, "{outcome:?}: not committed");
        let (offset, note) = commit(&mut partition).unwrap();
        assert_eq!((offset, note.written, note.replayed), (6, 5, 4));
        assert_eq!(partition.ended().unwrap().outcome, outcome);
        // What comes later does not keep it from ending.
        partition.accept(6, replayed()).unwrap();
        assert!(partition.ended().is_some(), "{outcome:?}");

        // A restarted writer reads on from there to the high watermark that it sees itself.
        let mut restarted = resumed(6, Some(note));
        restarted.accept(5, replayed()).unwrap();
        let look = restarted.look().unwrap();
        restarted.see_high_watermark(look, 7);
        assert_eq!(restarted.ended(), None, "{outcome:?}");
        assert!(is_written(restarted.accept(6, replayed())));
        restarted.offsets_mut().acknowledge(6, Outcome::Written);
        commit(&mut restarted);
        assert!(restarted.ended().is_some(), "{outcome:?}");
    }
}

#[test]
fn offsets_without_a_message_behind_a_marker_do_not_keep_it_from_ending() {
    for outcome in [Finished, Interrupted] {
        let mut partition = fresh();
        write(&mut partition, 0, 1);
        partition.accept(1, marker(outcome, 1, 1)).unwrap();
        let look = partition.look().unwrap();
        partition.see_high_watermark(look, 4);
        assert_eq!(partition.look(), None, "more may come");
        partition.reach_end();
        let gap = partition.look().unwrap();
        assert_eq!((gap.from, gap.to), (2, Some(4)));
        partition.pass_gap(gap);
        assert_eq!(commit(&mut partition).unwrap().0, 4);
        assert!(partition.ended().is_some(), "{outcome:?}");
    }
}

#[test]
fn an_answer_that_is_of_another_end_or_position_counts_for_nothing() {
    let mut partition = fresh();
    partition.accept(0, marker(Interrupted, 1, 0)).unwrap();
    let first = partition.look().unwrap();
    write(&mut partition, 1, 1);
    partition.accept(2, marker(Interrupted, 1, 1)).unwrap();
    partition.see_high_watermark(first, 1);
    let second = partition.look().unwrap();
    assert_ne!(first.end, second.end);
    partition.see_high_watermark(second, 5);
    partition.reach_end();
    let gap = partition.look().unwrap();
    partition.accept(3, replayed()).unwrap();
    partition.pass_gap(gap);
    partition.offsets_mut().acknowledge(3, Outcome::Written);
    assert_eq!(commit(&mut partition).unwrap().0, 4, "the gap was none");
    assert_eq!(partition.ended(), None);
}

/// What may stand in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thing {
    Next,
    Again,
    Replayed,
    Foreign,
    /// An offset without a message.
    Gap,
    Interrupted,
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        4 => Just(Thing::Next),
        1 => Just(Thing::Again),
        2 => Just(Thing::Replayed),
        1 => Just(Thing::Foreign),
        1 => Just(Thing::Gap),
        1 => Just(Thing::Interrupted),
    ]
}

proptest! {
    /// Whatever stands before and behind the last marker, and wherever the writer is restarted: it ends, every replayed
    /// record was written, and the counts of the last commit are those of the partition.
    #[test]
    fn it_ends_with_all_replayed_records_written(
        before in prop::collection::vec(thing(), 0..30),
        behind in prop::collection::vec(thing(), 0..10),
        is_finished in any::<bool>(),
        restarts in prop::collection::vec(0..45_i64, 0..4),
    ) {
        let is_plain = |thing: &Thing| matches!(thing, Thing::Replayed | Thing::Foreign | Thing::Gap);
        // Behind an `interrupted` marker a numbered record would be more of the stream.
        let behind = behind.into_iter().filter(|thing| is_finished || is_plain(thing));
        let (mut seq, mut log) = (0, Vec::new());
        for thing in before {
            log.push(match thing {
                Thing::Next => { seq += 1; Some(candle(seq)) }
                Thing::Again => (seq > 0).then(|| candle(seq)),
                Thing::Replayed => Some(replayed()),
                Thing::Foreign => Some(poison(None)),
                Thing::Gap => None,
                Thing::Interrupted => Some(marker(Interrupted, 1, seq)),
            });
        }
        log.push(Some(marker(if is_finished { Finished } else { Interrupted }, 1, seq)));
        let last = seq;
        for thing in behind {
            log.push(match thing {
                Thing::Next | Thing::Again => Some(candle(last + 9)),
                Thing::Replayed => Some(replayed()),
                Thing::Foreign => Some(poison(None)),
                Thing::Gap => None,
                Thing::Interrupted => Some(marker(Interrupted, 1, last)),
            });
        }
        let high = i64::try_from(log.len()).unwrap();
        let mut committed: Option<(i64, CommitNote)> = None;
        let mut replays = BTreeSet::new();
        for stop in restarts.into_iter().chain([high]) {
            let resume = match committed {
                Some((offset, note)) => Resume::AfterCommit { offset, note: Some(note) },
                None => Resume::AtFirst { low: 0 },
            };
            let mut partition = Partition::new(resume, 1);
            let from = committed.map_or(0, |(offset, _)| (offset - 1).max(0));
            for offset in from..stop.min(high) {
                let Some(reading) = &log[usize::try_from(offset).unwrap()] else { continue };
                let action = partition.accept(offset, reading.clone()).unwrap();
                if let Action::Write { .. } = action && reading.is_replayed {
                    replays.insert(offset);
                }
                partition.offsets_mut().acknowledge(offset, Outcome::Written);
            }
            if stop >= high {
                partition.reach_end();
                look_up(&mut partition, high);
            }
            committed = commit(&mut partition).or(committed);
            if stop >= high {
                prop_assert!(partition.ended().is_some(), "{partition:?}");
                prop_assert!(partition.is_drained());
            }
        }
        let expected: BTreeSet<i64> = (0..high)
            .filter(|offset| log[usize::try_from(*offset).unwrap()].as_ref().is_some_and(|reading| reading.is_replayed))
            .collect();
        prop_assert_eq!(&replays, &expected);
        let (offset, note) = committed.unwrap();
        prop_assert_eq!((offset, note.last_seq), (high, last));
        prop_assert_eq!(note.replayed, expected.len() as u64);
    }
}
