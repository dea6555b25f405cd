use std::collections::BTreeMap;

use streamforge_utils::protocol::{Event, EventKind, InterruptReason, TimestampMs};

use super::*;
use crate::launcher::LaunchError;

mod fixtures;
mod storm;

pub(crate) use fixtures::*;

fn status_of(workflow: &Workflow, telemetry_id: &str) -> Status {
    workflow.part(telemetry_id).unwrap().status
}

#[test]
fn a_part_is_final_as_the_contract_says() {
    use InterruptReason::{Signal, Stop, Upstream};
    for (last, status, applied) in [
        (
            event(LOADER, 1, EventKind::Started),
            Status::Running,
            Applied::Lifecycle,
        ),
        (
            loading(LOADER, 1, 5, None),
            Status::Running,
            Applied::Lifecycle,
        ),
        (
            event(LOADER, 1, EventKind::Pong),
            Status::Running,
            Applied::Lifecycle,
        ),
        (finished(LOADER, 1, 5), Status::Finished, Applied::Lifecycle),
        (
            interrupted(LOADER, 1, Stop),
            Status::Interrupted,
            Applied::Lifecycle,
        ),
        (
            interrupted(LOADER, 1, Upstream),
            Status::Interrupted,
            Applied::Lifecycle,
        ),
        (
            interrupted(LOADER, 1, Signal),
            Status::Starting,
            Applied::Lifecycle,
        ),
        (
            failed(LOADER, 1, true),
            Status::Starting,
            Applied::Lifecycle,
        ),
        (failed(LOADER, 1, false), Status::Error, Applied::Lifecycle),
    ] {
        let mut workflow = workflow(1);
        let mut feed = Feed::new();
        assert_eq!(feed.say(&mut workflow, last.clone()), applied, "{last:?}");
        assert_eq!(status_of(&workflow, LOADER), status, "{last:?}");
        if status.is_final() {
            let before = workflow.part(LOADER).unwrap().clone();
            for nth in [1, 2] {
                for late in [
                    loading(LOADER, nth, 9, None),
                    finished(LOADER, nth, 9),
                    failed(LOADER, nth, false),
                ] {
                    assert_eq!(feed.say(&mut workflow, late), Applied::PositionOnly);
                }
            }
            assert_eq!(*workflow.part(LOADER).unwrap(), before);
        }
    }
}

#[test]
fn an_event_that_says_nothing_new_moves_the_position_only() {
    let mut workflow = workflow(1);
    let mut feed = Feed::new();
    feed.say(&mut workflow, event(LOADER, 2, EventKind::Started));
    assert_eq!(
        feed.say(&mut workflow, loading(LOADER, 2, 5, None)),
        Applied::Heartbeat
    );
    let stranger = "loader-api-candles__other0";
    for (what, event) in [
        (
            "another run",
            Event {
                run: 2,
                ..finished(LOADER, 2, 9)
            },
        ),
        (
            "another workflow",
            Event {
                queue_id: "wf-x".to_owned(),
                ..finished(LOADER, 2, 9)
            },
        ),
        ("an unknown part", finished(stranger, 2, 9)),
        (
            "a number that was seen",
            Event {
                seq: 2,
                ..finished(LOADER, 2, 9)
            },
        ),
        (
            "an earlier process",
            Event {
                seq: 9,
                ..finished(LOADER, 1, 9)
            },
        ),
    ] {
        let before = workflow.clone();
        let position = feed.position();
        assert_eq!(
            workflow.apply(position, &event, at(99)),
            Applied::PositionOnly,
            "{what}"
        );
        assert_eq!(workflow.positions[&0], position.offset, "{what}");
        assert_eq!(
            workflow.parts[0].progress, before.parts[0].progress,
            "{what}"
        );
        assert_eq!(workflow.parts[0].status, Status::Running, "{what}");
        let stored = workflow.clone();
        assert_eq!(
            workflow.apply(position, &event, at(99)),
            Applied::Nothing,
            "{what}"
        );
        assert_eq!(workflow, stored, "{what}");
    }
    assert_eq!(workflow.unknown_events, 1);
}

#[test]
fn a_later_process_takes_over_and_an_earlier_one_ends_nothing() {
    let mut workflow = workflow(1);
    let mut feed = Feed::new();
    feed.say(&mut workflow, event(LOADER, 5, EventKind::Started));
    feed.say(&mut workflow, event(LOADER, 6, EventKind::Started));
    for late in [
        failed(LOADER, 5, false),
        finished(LOADER, 5, 9),
        finished(LOADER, 4, 9),
    ] {
        assert_eq!(feed.say(&mut workflow, late), Applied::PositionOnly);
        assert_eq!(status_of(&workflow, LOADER), Status::Running);
    }
    feed.say(&mut workflow, failed(LOADER, 6, true));
    let after_its_last = feed.say(&mut workflow, loading(LOADER, 6, 9, None));
    assert_eq!(after_its_last, Applied::PositionOnly);
    assert_eq!(
        feed.say(&mut workflow, finished(LOADER, 5, 9)),
        Applied::PositionOnly
    );
    assert_eq!(
        feed.say(&mut workflow, finished(LOADER, 4, 9)),
        Applied::PositionOnly
    );
    // Its clock is behind, and nobody has heard of it: it can only have come after the one that ended.
    assert_eq!(
        feed.say(&mut workflow, event(LOADER, 3, EventKind::Started)),
        Applied::Lifecycle
    );
    assert_eq!(
        feed.say(&mut workflow, finished(LOADER, 6, 9)),
        Applied::PositionOnly
    );
    feed.say(&mut workflow, finished(LOADER, 3, 9));
    assert_eq!(status_of(&workflow, LOADER), Status::Finished);
}

#[test]
fn the_workflow_is_final_when_all_its_parts_are_and_the_worst_counts() {
    use Status::{Error, Finished, Interrupted, Pending, Running, Stalled, Starting};
    for (parts, status) in [
        ([Pending, Pending], Pending),
        ([Starting, Pending], Starting),
        ([Running, Starting], Running),
        ([Running, Stalled], Stalled),
        ([Error, Stalled], Stalled),
        ([Error, Running], Running),
        ([Finished, Running], Running),
        ([Finished, Finished], Finished),
        ([Finished, Interrupted], Interrupted),
        ([Interrupted, Error], Error),
        ([Finished, Error], Error),
    ] {
        let mut workflow = workflow(1);
        for (part, status) in workflow.parts.iter_mut().zip(parts) {
            if status.is_final() {
                part.end(status, None, at(5));
            } else {
                part.status = status;
                part.started_at = (status == Running).then_some(at(1));
            }
        }
        workflow.refresh();
        assert_eq!(workflow.status, status, "{parts:?}");
        assert_eq!(workflow.ended_at.is_some(), status.is_final(), "{parts:?}");
    }
}

#[test]
fn a_writer_is_as_far_as_what_its_loader_will_publish() {
    let mut workflow = workflow(2);
    let mut feed = Feed::new();
    let mut half = loading(LOADER, 1, 40, Some(100));
    half.records.missing = 20;
    feed.say(&mut workflow, half);
    feed.say(&mut workflow, loading(WRITER, 2, 20, None));
    feed.say(&mut workflow, loading(SECOND, 3, 10, None));
    let percentages = workflow.parts.iter().map(|part| part.progress.percentage);
    let percentages: Vec<f64> = percentages.flatten().collect();
    assert_eq!(percentages, [60.0, 25.0, 12.5]);
    assert_eq!(
        workflow.totals.written, 10,
        "as far as the one that is least far"
    );
    assert_eq!(workflow.totals.total, Some(80));
    assert_eq!(workflow.totals.missing, 20);
    assert_eq!(workflow.totals.percentage, Some(12.5));
}

#[test]
fn writers_of_one_collection_have_written_no_more_than_there_is() {
    let mut workflow = workflow(2);
    workflow.parts[2].collection = workflow.parts[1].collection.clone();
    let mut feed = Feed::new();
    let mut all = loading(LOADER, 1, 80, Some(100));
    all.records.missing = 20;
    feed.say(&mut workflow, all);
    let mut first = loading(WRITER, 2, 30, None);
    first.records.rejected = 5;
    feed.say(&mut workflow, first);
    feed.say(&mut workflow, loading(SECOND, 3, 20, None));
    assert_eq!(workflow.totals.written, 50, "what both have written");
    // It takes what the first one has ended for its own.
    feed.say(&mut workflow, loading(SECOND, 3, 80, None));
    assert_eq!((workflow.totals.written, workflow.totals.rejected), (75, 5));
    assert_eq!(workflow.totals.percentage, Some(100.0));
}

#[test]
fn a_rate_follows_the_pace_and_a_restart_that_begins_lower_does_not_break_it() {
    let mut workflow = workflow(1);
    let mut feed = Feed::new();
    feed.say(&mut workflow, event(LOADER, 1, EventKind::Started));
    for step in 1..=60 {
        feed.say(&mut workflow, loading(LOADER, 1, step * 100, Some(10_000)));
    }
    let rate = |workflow: &Workflow| workflow.parts[0].progress.rate.unwrap();
    assert_eq!(rate(&workflow), 100.0);
    assert_eq!(workflow.parts[0].progress.expected_end, Some(at(61 + 40)));
    feed.say(&mut workflow, event(LOADER, 2, EventKind::Started));
    feed.say(&mut workflow, loading(LOADER, 2, 0, None));
    assert_eq!(
        workflow.parts[0].progress.written, 6_000,
        "what was counted stays"
    );
    assert_eq!(workflow.parts[0].progress.total, Some(10_000));
    for step in 1..=100 {
        feed.say(
            &mut workflow,
            loading(LOADER, 2, 6_000 + step * 10, Some(10_000)),
        );
        assert!(
            (10.0..=100.0).contains(&rate(&workflow)),
            "{}",
            rate(&workflow)
        );
    }
    assert!(rate(&workflow) < 11.0, "the pace of the last half minute");
    feed.say(&mut workflow, finished(LOADER, 2, 7_000));
    assert_eq!(workflow.parts[0].progress.percentage, Some(100.0));
    assert_eq!(workflow.parts[0].progress.expected_end, None);
}

#[test]
fn what_never_started_ends_at_once_when_it_is_stopped() {
    let mut waiting = Workflow::new(&plan(1), "process", T0);
    assert!(waiting.request_stop(true, "ann", at(3)));
    assert_eq!(waiting.status, Status::Interrupted);
    assert_eq!(waiting.ended_at, Some(at(3)));
    assert_eq!(waiting.reason.as_deref(), Some("stopped by ann"));
    assert!(!waiting.request_stop(false, "bob", at(4)), "it has ended");

    let mut running = workflow(1);
    let mut feed = Feed::new();
    feed.say(&mut running, event(LOADER, 1, EventKind::Started));
    assert!(running.request_stop(true, "ann", at(3)));
    assert_eq!(
        running.status,
        Status::Running,
        "a worker runs until it has ended"
    );
    assert_eq!(
        running.reason.as_deref(),
        Some("ann stops it; what was published is written first")
    );
    assert!(!running.request_stop(true, "bob", at(4)));
    assert!(
        running.request_stop(false, "bob", at(5)),
        "without draining counts"
    );
    assert!(!running.request_stop(true, "bob", at(6)));
    feed.say(&mut running, interrupted(LOADER, 1, InterruptReason::Stop));
    assert_eq!(
        running.part(LOADER).unwrap().reason.as_deref(),
        Some("stopped by ann")
    );
    assert_eq!(running.status, Status::Interrupted);
}

/// How the loader and two writers ended, whether the topic is gone, and which run again.
type RetryCase<'a> = ([Status; 3], bool, &'a [&'a str]);

#[test]
fn a_removal_stops_what_runs_and_leaves_no_way_back() {
    let mut workflow = workflow(1);
    assert!(workflow.request_removal("ann", at(5)));
    let stop = workflow.stop.as_ref().unwrap();
    assert_eq!((stop.by.as_str(), stop.drain), ("ann", false));
    assert!(!workflow.request_removal("bob", at(6)));
    assert_eq!(workflow.removal.as_ref().unwrap().by, "ann");
    assert_eq!(workflow.retryable_parts(), Err(NoRetry::Removed));
    let text = serde_json::to_string(&workflow).unwrap();
    let read: Workflow = serde_json::from_str(&text).unwrap();
    assert_eq!(read, workflow);
}

#[test]
fn a_retry_runs_what_did_not_finish() {
    use Status::{Error, Finished, Interrupted};
    let cases: [RetryCase<'_>; 8] = [
        // Its finished markers are final in every run: the writers read to them.
        ([Finished, Error, Finished], false, &[WRITER]),
        ([Finished, Interrupted, Error], false, &[WRITER, SECOND]),
        // Markers of a stop count for no later run, and a failure leaves none.
        (
            [Interrupted, Interrupted, Interrupted],
            false,
            &[LOADER, WRITER, SECOND],
        ),
        (
            [Error, Interrupted, Interrupted],
            false,
            &[LOADER, WRITER, SECOND],
        ),
        // A writer that finished has seen finished markers everywhere: the loader died after them.
        ([Error, Finished, Interrupted], false, &[LOADER, SECOND]),
        ([Error, Finished, Finished], false, &[LOADER]),
        // Nothing to read is left.
        ([Finished, Error, Finished], true, &[LOADER, WRITER]),
        ([Interrupted, Finished, Finished], true, &[LOADER]),
    ];
    for (parts, is_topic_gone, again) in cases {
        let mut workflow = workflow(2);
        assert_eq!(workflow.retryable_parts(), Err(NoRetry::NotEnded));
        for (part, status) in workflow.parts.iter_mut().zip(parts) {
            part.end(status, None, at(9));
            part.progress.written = 7;
        }
        workflow.retention.deleted_at = is_topic_gone.then_some(at(20));
        workflow.request_stop(false, "ann", at(3));
        workflow.refresh();
        assert_eq!(workflow.retryable_parts().unwrap(), again, "{parts:?}");

        workflow.begin_retry(at(30)).unwrap();
        assert_eq!(
            (workflow.run, workflow.status),
            (2, Status::Pending),
            "{parts:?}"
        );
        assert_eq!((workflow.stop.as_ref(), workflow.ended_at), (None, None));
        assert_eq!((workflow.created_at, workflow.queued_at), (T0, at(30)));
        for part in &workflow.parts {
            let is_again = again.contains(&part.telemetry_id.as_str());
            assert_eq!(part.job_name.ends_with("-r2"), is_again, "{parts:?}");
            assert_eq!(part.status == Status::Finished, !is_again, "{parts:?}");
            assert_eq!(part.progress.written, if is_again { 0 } else { 7 });
        }
    }
    let mut done = workflow(1);
    for part in &mut done.parts {
        part.end(Status::Finished, None, at(9));
    }
    done.refresh();
    assert_eq!(done.retryable_parts(), Err(NoRetry::AllFinished));
}

#[test]
fn a_job_has_what_its_launch_sets() {
    let mut workflow = workflow(1);
    workflow.part_mut(LOADER).unwrap().queue_started_at = Some(TimestampMs(1_722_500_000_999));
    let hour = std::time::Duration::from_secs(3_600);
    let job = workflow.job(LOADER, 2, hour).unwrap();
    assert_eq!(job.env["RUN"], "1");
    assert_eq!(job.env["QUEUE_STARTED_AT"], "1722500000");
    assert_eq!(job.env["SYMBOL"], "BTCUSDT");
    assert_eq!((job.attempt, job.deadline), (2, Some(hour)));
    assert_eq!(workflow.job("nobody", 1, hour), None);
}

#[test]
fn a_launch_that_is_refused_ends_its_part_and_one_that_can_pass_does_not() {
    for (error, status) in [
        (
            LaunchError::Unavailable("no route".into()),
            Status::Starting,
        ),
        (
            LaunchError::Taken("run 1 is there".into()),
            Status::Starting,
        ),
        (LaunchError::Refused("no rights".into()), Status::Error),
    ] {
        let mut workflow = workflow(1);
        workflow.launch_failed(LOADER, &error, at(1));
        assert_eq!(status_of(&workflow, LOADER), status);
        let reason = workflow.part(LOADER).unwrap().reason.clone().unwrap();
        assert_eq!(reason, format!("its Job could not be made: {error}"));
    }
}

#[test]
fn a_topic_that_was_made_anew_is_read_from_its_beginning() {
    let mut workflow = workflow(1);
    workflow.positions = BTreeMap::from([(0, 10), (1, 10), (2, 10)]);
    workflow.forget_positions_beyond(&BTreeMap::from([(0, 11), (1, 10)]));
    assert_eq!(workflow.positions, BTreeMap::from([(0, 10)]));
}

#[test]
fn the_document_has_this_shape_and_survives_the_store() {
    let mut workflow = workflow(1);
    let mut feed = Feed::new();
    feed.say(&mut workflow, event(LOADER, 1, EventKind::Started));
    let moved = at(2).as_millis() as f64 / 1_000.0;
    let mut half = loading(LOADER, 1, 700, Some(1_440));
    half.last_progress_at = Some(moved);
    feed.say(&mut workflow, half);
    feed.say(&mut workflow, failed(WRITER, 2, true));
    workflow.request_stop(true, "ann", at(9));
    insta::assert_json_snapshot!("document", workflow);
    let text = serde_json::to_string(&workflow).unwrap();
    assert_eq!(serde_json::from_str::<Workflow>(&text).unwrap(), workflow);
    let newer = text.replace("\"schema\":1", "\"schema\":2");
    let error = serde_json::from_str::<Workflow>(&newer).unwrap_err();
    assert!(error.to_string().contains("newer queue-manager"), "{error}");
}
