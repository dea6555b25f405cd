//! What becomes of messages, in the order in which they come.

use streamforge_utils::protocol::MarkerOutcome::{self, Finished, Interrupted};

use super::*;
use crate::{offsets::Outcome, record::RejectReason};

fn candle(seq: u64) -> Reading {
    Reading {
        seq: Some(seq),
        content: Content::Candle {
            key: format!("k{seq}").into(),
        },
    }
}

fn poison(seq: Option<u64>) -> Reading {
    Reading {
        seq,
        content: Content::Rejected(Rejection::new(RejectReason::NotACandle, "no")),
    }
}

fn marker(outcome: MarkerOutcome, run: u32, last_seq: u64) -> Reading {
    Reading {
        seq: None,
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
    assert_eq!(partition.ended(), None, "more may come");
    partition.reach_end();
    assert_eq!(partition.ended().unwrap().outcome, Interrupted);
    write(&mut partition, 2, 2);
    partition.reach_end();
    commit(&mut partition);
    assert_eq!(partition.ended(), None);
}

#[test]
fn an_interrupted_marker_of_an_older_run_does_not_count() {
    let mut partition = Partition::new(Resume::AtFirst { low: 0 }, 2);
    partition.accept(0, marker(Interrupted, 1, 0)).unwrap();
    commit(&mut partition);
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
