use std::collections::BTreeMap;

use streamforge_utils::protocol::{EventKind, InterruptReason};

use super::*;
use crate::{
    launcher::{JobPhase, LaunchError, Trouble, TroubleKind},
    state::{
        Stall, Status,
        tests::{
            Feed, LOADER, SECOND, T0, WRITER, at, event, failed, finished, interrupted, loading,
            plan, workflow,
        },
    },
};

mod storm;

/// A Job of a part as it is after its first pod came up.
pub(super) fn job(workflow: &Workflow, telemetry_id: &str, phase: JobPhase) -> JobStatus {
    let part = workflow.part(telemetry_id).unwrap();
    JobStatus {
        name: part.job_name.clone(),
        queue_id: workflow.queue_id.clone(),
        run: workflow.run,
        attempt: part.attempts.max(1),
        telemetry_id: telemetry_id.to_owned(),
        phase,
        is_deleting: false,
        trouble: None,
        starts: 1,
        alive: u32::from(matches!(phase, JobPhase::Running)),
        created: T0,
        ended: None,
    }
}

fn troubled(job: JobStatus, kind: TroubleKind, message: &str) -> JobStatus {
    let message = message.to_owned();
    JobStatus {
        trouble: Some(Trouble { kind, message }),
        ..job
    }
}

/// A look at second `secs`, all events of then read.
fn look(workflow: &mut Workflow, secs: i64, jobs: &[JobStatus]) -> Vec<Action> {
    let (now, events_until) = (at(secs), at(secs));
    let seen = Seen {
        jobs,
        now,
        events_until,
    };
    observe(workflow, &seen, &HealSettings::default())
}

fn launch(telemetry_id: &str, attempt: u32) -> Action {
    let telemetry_id = telemetry_id.to_owned();
    Action::Launch {
        telemetry_id,
        attempt,
    }
}

fn stop(telemetry_id: &str, drain: bool) -> Action {
    let telemetry_id = telemetry_id.to_owned();
    Action::SendStop {
        telemetry_id,
        drain,
    }
}

fn deleted<'a>(actions: &'a [Action]) -> Vec<&'a str> {
    let name = |action: &'a Action| match action {
        Action::DeleteJob { name, .. } => Some(name.as_str()),
        _ => None,
    };
    actions.iter().filter_map(name).collect()
}

fn status(workflow: &Workflow, telemetry_id: &str) -> Status {
    workflow.part(telemetry_id).unwrap().status
}

fn reason<'a>(workflow: &'a Workflow, telemetry_id: &str) -> &'a str {
    workflow
        .part(telemetry_id)
        .unwrap()
        .reason
        .as_deref()
        .unwrap_or_default()
}

/// Loader and writer launched at 0, both up and heard of at about 2.
fn running() -> (Workflow, Feed, Vec<JobStatus>) {
    let mut workflow = workflow(1);
    let mut feed = Feed::new();
    look(&mut workflow, 0, &[]);
    feed.say(&mut workflow, event(LOADER, 1, EventKind::Started));
    feed.say(&mut workflow, event(WRITER, 2, EventKind::Started));
    let jobs = [LOADER, WRITER].map(|part| job(&workflow, part, JobPhase::Running));
    assert_eq!(look(&mut workflow, 2, &jobs), []);
    (workflow, feed, jobs.to_vec())
}

#[test]
fn a_workflow_is_prepared_then_launched_once_it_is_its_turn() {
    let mut workflow = Workflow::new(&plan(1), "process", T0);
    assert_eq!(look(&mut workflow, 0, &[]), [], "it waits");
    workflow.admit(at(1));
    assert_eq!(look(&mut workflow, 1, &[]), [Action::Prepare]);
    assert_eq!(look(&mut workflow, 2, &[]), [], "not every second");
    assert_eq!(look(&mut workflow, 11, &[]), [Action::Prepare]);
    workflow.prepared(at(12));
    assert_eq!(
        look(&mut workflow, 12, &[]),
        [launch(LOADER, 1), launch(WRITER, 1)]
    );
    assert_eq!(workflow.status, Status::Starting);
    assert_eq!(workflow.part(LOADER).unwrap().queue_started_at, Some(at(1)));
    assert_eq!(look(&mut workflow, 13, &[]), [], "it is under way");
    assert_eq!(
        look(&mut workflow, 17, &[]),
        [launch(LOADER, 1), launch(WRITER, 1)],
        "it may not have been done"
    );
    let jobs = [LOADER, WRITER].map(|part| job(&workflow, part, JobPhase::Running));
    assert_eq!(look(&mut workflow, 30, &jobs), []);
    assert_eq!(workflow.part(LOADER).unwrap().attempts, 1);
    let before = workflow.clone();
    assert_eq!(look(&mut workflow, 31, &jobs), []);
    assert_eq!(workflow, before, "nothing new, nothing to store");
}

#[test]
fn a_workflow_that_can_not_be_prepared_says_why_and_is_given_up() {
    let mut workflow = Workflow::new(&plan(1), "process", T0);
    workflow.admit(T0);
    look(&mut workflow, 0, &[]);
    workflow.prepare_delayed("no broker", at(1));
    assert_eq!(workflow.status, Status::Pending);
    assert_eq!(
        workflow.reason.as_deref(),
        Some("it could not be prepared: no broker")
    );
    assert_eq!(look(&mut workflow, 599, &[]), [Action::Prepare]);
    assert_eq!(look(&mut workflow, 600, &[]), []);
    assert_eq!(workflow.status, Status::Error);
    assert_eq!(
        reason(&workflow, WRITER),
        "given up after 10 min: no broker"
    );
}

#[test]
fn a_job_that_the_document_does_not_know_is_adopted() {
    let mut workflow = workflow(1);
    let jobs = [LOADER, WRITER].map(|part| JobStatus {
        attempt: 2,
        ..job(&workflow, part, JobPhase::Running)
    });
    assert_eq!(look(&mut workflow, 1, &jobs), []);
    let part = workflow.part(LOADER).unwrap();
    assert_eq!(
        (part.status, part.attempts, part.starts),
        (Status::Starting, 2, 1)
    );
}

#[test]
fn a_failed_job_ends_its_part_with_what_is_known() {
    use TroubleKind::{Deadline, ExitCode, OutOfMemory, Program, Signal};
    for (kind, said, words) in [
        (
            ExitCode(78),
            None,
            "its configuration is wrong (exit code 78): x",
        ),
        (ExitCode(1), None, "it ended with exit code 1: x"),
        (ExitCode(1), Some(true), "no broker"),
        (OutOfMemory, None, "it used more memory than it may: x"),
        (
            OutOfMemory,
            Some(true),
            "it used more memory than it may: x; it said before: no broker",
        ),
        (Deadline, None, "it took longer than its deadline: x"),
        (Signal(9), None, "signal 9 killed it: x"),
        (Program, None, "its program can't be started: x"),
    ] {
        let (mut workflow, mut feed, mut jobs) = running();
        if let Some(retryable) = said {
            feed.say(&mut workflow, failed(LOADER, 1, retryable));
        }
        jobs[0] = troubled(job(&workflow, LOADER, JobPhase::Failed), kind, "x");
        look(&mut workflow, 5, &jobs);
        assert!(
            !status(&workflow, LOADER).is_final(),
            "its last event may be on the way"
        );
        look(&mut workflow, 15, &jobs);
        assert_eq!(status(&workflow, LOADER), Status::Error);
        assert_eq!(reason(&workflow, LOADER), words);
        let code = if let ExitCode(code) = kind {
            Some(code)
        } else {
            None
        };
        assert_eq!(workflow.part(LOADER).unwrap().exit_code, code);
    }
}

#[test]
fn a_job_that_ended_well_waits_for_its_last_event_and_then_says_that_none_came() {
    let (mut workflow, mut feed, mut jobs) = running();
    jobs[0] = job(&workflow, LOADER, JobPhase::Succeeded);
    look(&mut workflow, 5, &jobs);
    feed.say(&mut workflow, finished(LOADER, 1, 9));
    look(&mut workflow, 60, &jobs);
    assert_eq!(status(&workflow, LOADER), Status::Finished);

    let (mut workflow, _, mut jobs) = running();
    jobs[0] = job(&workflow, LOADER, JobPhase::Succeeded);
    look(&mut workflow, 5, &jobs);
    let patience = [(500, 5, false), (604, 5, false), (605, 5, true)];
    for (secs, read, is_final) in patience {
        let seen = Seen {
            jobs: &jobs,
            now: at(secs),
            events_until: at(read),
        };
        observe(&mut workflow, &seen, &HealSettings::default());
        assert_eq!(
            status(&workflow, LOADER).is_final(),
            is_final,
            "{secs}, events read until {read}"
        );
    }
    assert_eq!(status(&workflow, LOADER), Status::Error);
    assert!(reason(&workflow, LOADER).contains("last event was never seen"));

    let (mut workflow, _, mut jobs) = running();
    workflow.request_stop(false, "ann", at(3));
    jobs[0] = job(&workflow, LOADER, JobPhase::Succeeded);
    look(&mut workflow, 5, &jobs);
    look(&mut workflow, 15, &jobs);
    assert_eq!(status(&workflow, LOADER), Status::Interrupted);
}

#[test]
fn a_job_that_vanished_is_made_again_after_growing_pauses_and_not_for_ever() {
    let (mut workflow, _, jobs) = running();
    let writer = &jobs[1..];
    let mut launches: Vec<(i64, Action)> = Vec::new();
    let mut is_there = false;
    for secs in 3..2_000 {
        let all = [job(&workflow, LOADER, JobPhase::Running), jobs[1].clone()];
        let actions = look(&mut workflow, secs, if is_there { &all } else { writer });
        // Each is seen once, then vanishes.
        is_there = actions
            .iter()
            .any(|action| matches!(action, Action::Launch { .. }));
        launches.extend(
            actions
                .into_iter()
                .filter(|_| is_there)
                .map(|action| (secs, action)),
        );
        if status(&workflow, LOADER).is_final() {
            break;
        }
    }
    let expected = [2, 3, 4].map(|attempt| launch(LOADER, attempt));
    let made: Vec<Action> = launches.iter().map(|(_, action)| action.clone()).collect();
    assert_eq!(made, expected);
    assert_eq!(status(&workflow, LOADER), Status::Error);
    assert_eq!(
        reason(&workflow, LOADER),
        "given up after 4 Jobs: the last vanished"
    );
}

#[test]
fn a_job_whose_node_went_is_deleted_and_replaced_once_nothing_of_it_lives() {
    for kind in [
        TroubleKind::NodeLost,
        TroubleKind::Evicted,
        TroubleKind::Unknown,
    ] {
        let (mut workflow, _, mut jobs) = running();
        jobs[0] = JobStatus {
            alive: 1,
            ..troubled(job(&workflow, LOADER, JobPhase::Failed), kind, "node a")
        };
        look(&mut workflow, 5, &jobs);
        let name = jobs[0].name.clone();
        assert_eq!(deleted(&look(&mut workflow, 15, &jobs)), [name.as_str()]);
        assert_eq!(look(&mut workflow, 16, &jobs), [], "not every second");
        assert_eq!(
            deleted(&look(&mut workflow, 45, &jobs)),
            [name.as_str()],
            "it is still there"
        );
        jobs[0].is_deleting = true;
        assert_eq!(look(&mut workflow, 50, &jobs), [], "its pod may live");
        assert_eq!(status(&workflow, LOADER), Status::Starting);
        look(&mut workflow, 100, &jobs[1..]);
        assert_eq!(look(&mut workflow, 110, &jobs[1..]), [launch(LOADER, 2)]);
    }
}

#[test]
fn a_job_that_can_not_start_is_stalled_and_then_given_up() {
    use TroubleKind::{Container, Image, Unschedulable};
    for (kind, words, limit) in [
        (Image, "its image can't be pulled: x", 900),
        (Container, "its container can't be made: x", 900),
        (Unschedulable, "no node takes it: x", 3_600),
    ] {
        let mut workflow = workflow(1);
        look(&mut workflow, 0, &[]);
        let pending = JobStatus {
            alive: 1,
            ..job(&workflow, LOADER, JobPhase::Pending)
        };
        let other = job(&workflow, WRITER, JobPhase::Running);
        let bad = [troubled(pending.clone(), kind, "x"), other.clone()];
        let good = [pending, other];
        look(&mut workflow, 1, &bad);
        assert_eq!(status(&workflow, LOADER), Status::Stalled);
        assert_eq!(reason(&workflow, LOADER), words);
        assert_eq!(workflow.status, Status::Stalled);
        look(&mut workflow, 2, &good);
        assert_eq!(status(&workflow, LOADER), Status::Starting, "it has passed");
        look(&mut workflow, 10, &bad);
        look(&mut workflow, 9 + limit, &bad);
        assert_eq!(status(&workflow, LOADER), Status::Stalled);
        look(&mut workflow, 10 + limit, &bad);
        assert_eq!(status(&workflow, LOADER), Status::Error);
        let actions = look(&mut workflow, 80 + limit, &bad);
        assert!(
            deleted(&actions).contains(&bad[0].name.as_str()),
            "it keeps no place"
        );
    }
}

#[test]
fn a_second_pod_that_can_not_start_shows_as_the_first_would() {
    let (mut workflow, mut feed, mut jobs) = running();
    feed.say(
        &mut workflow,
        interrupted(LOADER, 1, InterruptReason::Signal),
    );
    jobs[0] = troubled(jobs[0].clone(), TroubleKind::Unschedulable, "x");
    look(&mut workflow, 5, &jobs);
    assert_eq!(reason(&workflow, LOADER), "no node takes it: x");
    assert_eq!(workflow.part(LOADER).unwrap().stall, Some(Stall::Job));
    feed.say(&mut workflow, event(LOADER, 3, EventKind::Started));
    look(&mut workflow, 6, &jobs);
    assert_eq!(
        status(&workflow, LOADER),
        Status::Running,
        "what was wrong at last is past"
    );
}

#[test]
fn a_job_that_is_in_the_way_and_can_not_be_deleted_ends_its_part() {
    let (mut workflow, _, mut jobs) = running();
    let lost = job(&workflow, LOADER, JobPhase::Failed);
    jobs[0] = troubled(lost, TroubleKind::NodeLost, "node a");
    look(&mut workflow, 5, &jobs);
    look(&mut workflow, 15, &jobs);
    look(&mut workflow, 314, &jobs);
    assert!(!status(&workflow, LOADER).is_final());
    look(&mut workflow, 315, &jobs);
    assert_eq!(
        reason(&workflow, LOADER),
        "its node was lost: node a; its Job could not be deleted"
    );
}

#[test]
fn a_job_that_is_deleted_for_ever_is_stalled() {
    let (mut workflow, mut feed, mut jobs) = running();
    feed.say(
        &mut workflow,
        interrupted(LOADER, 1, InterruptReason::Signal),
    );
    jobs[0].is_deleting = true;
    assert_eq!(look(&mut workflow, 5, &jobs), []);
    assert_eq!(look(&mut workflow, 100, &jobs), []);
    assert_eq!(status(&workflow, LOADER), Status::Stalled);
    let words = reason(&workflow, LOADER).to_owned();
    assert!(
        words.ends_with("nothing was heard of it since 2024-08-01T08:13:23Z"),
        "{words}"
    );
    look(&mut workflow, 200, &jobs);
    assert_eq!(reason(&workflow, LOADER), words);
}

#[test]
fn silence_is_a_stall_and_never_a_new_job() {
    let (mut workflow, mut feed, jobs) = running();
    for secs in [20, 60, 10_000] {
        let away = Seen {
            jobs: &jobs,
            now: at(secs),
            events_until: at(3),
        };
        assert_eq!(observe(&mut workflow, &away, &HealSettings::default()), []);
        assert_eq!(
            status(&workflow, LOADER),
            Status::Running,
            "nobody could be heard"
        );
    }
    assert_eq!(look(&mut workflow, 61, &jobs), []);
    let part = workflow.part(LOADER).unwrap();
    assert_eq!(
        (part.status, part.stall),
        (Status::Stalled, Some(Stall::Silent))
    );
    assert_eq!(look(&mut workflow, 100_000, &jobs), []);
    feed.say(&mut workflow, event(LOADER, 1, EventKind::Pong));
    assert_eq!(status(&workflow, LOADER), Status::Running);
}

#[test]
fn a_worker_that_lives_is_idle_only_if_there_is_something_to_do() {
    let (mut workflow, mut feed, jobs) = running();
    let mut beat = |workflow: &mut Workflow, secs: i64, loaded, written| {
        feed.secs = secs - 2;
        feed.say(workflow, loading(LOADER, 1, loaded, Some(100)));
        feed.say(workflow, loading(WRITER, 2, written, None));
        assert_eq!(look(workflow, secs, &jobs), []);
        [LOADER, WRITER].map(|part| status(workflow, part))
    };
    use Status::{Running, Stalled};
    // Nothing to write for the writer; the loader waits for the exchange.
    assert_eq!(beat(&mut workflow, 100, 0, 0), [Running, Running]);
    assert_eq!(beat(&mut workflow, 890, 0, 0), [Running, Running]);
    assert_eq!(beat(&mut workflow, 910, 0, 0), [Stalled, Running]);
    assert_eq!(workflow.part(LOADER).unwrap().stall, Some(Stall::Idle));
    // Something to write, and the writer has not moved for long: it has its time from now.
    assert_eq!(beat(&mut workflow, 1_000, 50, 0)[1], Running);
    assert_eq!(beat(&mut workflow, 1_890, 50, 0)[1], Running);
    assert_eq!(beat(&mut workflow, 1_900, 50, 0)[1], Stalled);
    assert_eq!(
        beat(&mut workflow, 1_910, 50, 0)[1],
        Stalled,
        "a heartbeat alone does not end it"
    );
    assert_eq!(beat(&mut workflow, 1_920, 50, 50)[1], Running);
}

#[test]
fn a_process_that_died_without_a_word_shows_and_its_successor_counts_whatever_its_clock() {
    let (mut workflow, mut feed, mut jobs) = running();
    feed.say(&mut workflow, event(LOADER, 7, EventKind::Started));
    let between = JobStatus {
        alive: 0,
        ..jobs[0].clone()
    };
    jobs[0] = troubled(between, TroubleKind::OutOfMemory, "pod a");
    look(&mut workflow, 9, &jobs);
    assert_eq!(status(&workflow, LOADER), Status::Starting);
    assert_eq!(
        reason(&workflow, LOADER),
        "it used more memory than it may: pod a; its Job starts it again"
    );
    feed.say(&mut workflow, event(LOADER, 5, EventKind::Started));
    assert_eq!(status(&workflow, LOADER), Status::Running);
    feed.say(&mut workflow, finished(LOADER, 5, 3));
    assert_eq!(status(&workflow, LOADER), Status::Finished);
}

#[test]
fn a_loader_that_fails_for_good_stops_its_writers_which_empty_what_there_is() {
    for (published, drain) in [(0, false), (5, true)] {
        let (mut workflow, mut feed, jobs) = running();
        feed.say(&mut workflow, loading(LOADER, 1, published, None));
        feed.say(&mut workflow, failed(LOADER, 1, true));
        assert_eq!(look(&mut workflow, 9, &jobs), [], "its Job tries again");
        feed.say(&mut workflow, failed(LOADER, 2, false));
        assert_eq!(workflow.status, Status::Running, "a worker runs");
        assert!(workflow.reason.as_ref().unwrap().contains("no broker"));
        assert_eq!(look(&mut workflow, 10, &jobs), [stop(WRITER, drain)]);
        assert_eq!(look(&mut workflow, 11, &jobs), []);
        assert_eq!(look(&mut workflow, 20, &jobs), [stop(WRITER, drain)]);
        feed.say(&mut workflow, interrupted(WRITER, 2, InterruptReason::Stop));
        assert_eq!(workflow.status, Status::Error);
        assert_eq!(
            reason(&workflow, WRITER),
            "stopped, since its loader failed"
        );
    }
}

#[test]
fn a_loader_goes_on_until_no_writer_can_use_it() {
    use Status::{Error, Finished, Interrupted};
    for (writers, stops) in [
        ([Error, Status::Running], false),
        ([Error, Finished], false),
        ([Interrupted, Interrupted], false),
        ([Error, Interrupted], true),
        ([Error, Error], true),
    ] {
        let mut workflow = workflow(2);
        let mut feed = Feed::new();
        look(&mut workflow, 0, &[]);
        let jobs = [LOADER, WRITER, SECOND].map(|part| job(&workflow, part, JobPhase::Running));
        for (nth, producer) in [LOADER, WRITER, SECOND].into_iter().enumerate() {
            feed.say(
                &mut workflow,
                event(producer, nth as u64, EventKind::Started),
            );
        }
        look(&mut workflow, 3, &jobs);
        for (nth, (producer, status)) in [WRITER, SECOND].into_iter().zip(writers).enumerate() {
            let nth = nth as u64 + 1;
            match status {
                Error => feed.say(&mut workflow, failed(producer, nth, false)),
                Finished => feed.say(&mut workflow, finished(producer, nth, 5)),
                Interrupted => feed.say(
                    &mut workflow,
                    interrupted(producer, nth, InterruptReason::Stop),
                ),
                _ => feed.say(&mut workflow, loading(producer, nth, 1, None)),
            };
        }
        let expected = if stops {
            vec![stop(LOADER, false)]
        } else {
            Vec::new()
        };
        assert_eq!(look(&mut workflow, 9, &jobs), expected, "{writers:?}");
    }
}

#[test]
fn a_writer_whose_loader_left_no_markers_is_stopped_after_a_while() {
    let (mut workflow, mut feed, jobs) = running();
    feed.say(&mut workflow, interrupted(LOADER, 1, InterruptReason::Stop));
    assert_eq!(look(&mut workflow, 50, &jobs[1..]), []);
    assert_eq!(look(&mut workflow, 63, &jobs[1..]), [stop(WRITER, true)]);
}

#[test]
fn a_stop_goes_to_all_that_run_and_what_outlasts_it_is_deleted() {
    let (mut workflow, mut feed, mut jobs) = running();
    workflow.request_stop(false, "ann", at(5));
    assert_eq!(
        look(&mut workflow, 5, &jobs),
        [stop(LOADER, false), stop(WRITER, false)]
    );
    feed.say(&mut workflow, interrupted(WRITER, 2, InterruptReason::Stop));
    assert_eq!(look(&mut workflow, 49, &jobs), [stop(LOADER, false)]);
    let actions = look(&mut workflow, 50, &jobs);
    assert_eq!(deleted(&actions), [jobs[0].name.as_str()]);
    jobs[0].is_deleting = true;
    feed.say(
        &mut workflow,
        interrupted(LOADER, 1, InterruptReason::Signal),
    );
    look(&mut workflow, 60, &jobs);
    assert!(!status(&workflow, LOADER).is_final(), "its pod may live");
    look(&mut workflow, 61, &jobs[1..]);
    look(&mut workflow, 71, &jobs[1..]);
    assert_eq!(status(&workflow, LOADER), Status::Interrupted);
    assert_eq!(
        reason(&workflow, LOADER),
        "stopped by ann; its Job was deleted"
    );
    assert_eq!(workflow.status, Status::Interrupted);
}

#[test]
fn what_waits_for_a_pod_is_deleted_at_once_when_it_is_stopped() {
    let (mut workflow, mut feed, mut jobs) = running();
    feed.say(&mut workflow, interrupted(WRITER, 2, InterruptReason::Stop));
    jobs[0] = JobStatus {
        alive: 1,
        starts: 0,
        ..job(&workflow, LOADER, JobPhase::Pending)
    };
    workflow.request_stop(false, "ann", at(5));
    let actions = look(&mut workflow, 5, &jobs);
    assert_eq!(deleted(&actions), [jobs[0].name.as_str()]);
    // It never goes away: the part ends all the same, and says so.
    jobs[0].is_deleting = true;
    look(&mut workflow, 304, &jobs);
    assert!(!status(&workflow, LOADER).is_final());
    look(&mut workflow, 305, &jobs);
    assert_eq!(
        reason(&workflow, LOADER),
        "stopped by ann; its Job does not go away, and may still run"
    );
}

#[test]
fn a_writer_that_drains_has_time_as_long_as_it_gets_on() {
    let (mut workflow, mut feed, jobs) = running();
    workflow.request_stop(true, "ann", at(5));
    assert_eq!(
        look(&mut workflow, 5, &jobs),
        [stop(LOADER, true), stop(WRITER, true)]
    );
    feed.say(&mut workflow, interrupted(LOADER, 1, InterruptReason::Stop));
    feed.secs = 299;
    let moved = at(300).as_millis() as f64 / 1_000.0;
    let mut moving = loading(WRITER, 2, 5, None);
    moving.last_progress_at = Some(moved);
    feed.say(&mut workflow, moving);
    assert_eq!(
        deleted(&look(&mut workflow, 629, &jobs[1..])),
        Vec::<&str>::new()
    );
    assert_eq!(
        deleted(&look(&mut workflow, 630, &jobs[1..])),
        [jobs[1].name.as_str()]
    );

    let (mut workflow, _, jobs) = running();
    workflow.request_stop(true, "ann", at(5));
    look(&mut workflow, 5, &jobs[1..]);
    workflow.request_stop(false, "ann", at(7));
    let actions = look(&mut workflow, 7, &jobs[1..]);
    assert!(
        actions.contains(&stop(WRITER, false)),
        "it is told at once: {actions:?}"
    );
}

#[test]
fn a_part_that_ended_gives_up_its_place() {
    let (mut workflow, mut feed, mut jobs) = running();
    feed.say(&mut workflow, finished(LOADER, 1, 5));
    feed.say(&mut workflow, finished(WRITER, 2, 5));
    assert_eq!(workflow.status, Status::Finished);
    assert_eq!(look(&mut workflow, 62, &jobs), []);
    let names: Vec<String> = jobs.iter().map(|job| job.name.clone()).collect();
    assert_eq!(deleted(&look(&mut workflow, 64, &jobs)), names);
    assert_eq!(deleted(&look(&mut workflow, 65, &jobs)), Vec::<&str>::new());
    for job in &mut jobs {
        (job.phase, job.alive) = (JobPhase::Succeeded, 0);
    }
    assert_eq!(look(&mut workflow, 500, &jobs), []);
}

#[test]
fn topics_of_a_finished_workflow_go_after_a_while() {
    const DAY: i64 = 86_400;
    let (mut workflow, mut feed, _) = running();
    feed.say(&mut workflow, finished(LOADER, 1, 5));
    feed.say(&mut workflow, finished(WRITER, 2, 5));
    let mut failed = workflow.clone();
    failed.parts[1].status = Status::Error;
    failed.refresh();
    assert_eq!(look(&mut failed, 3 * DAY, &[]), [], "a retry needs them");
    assert_eq!(look(&mut workflow, DAY, &[]), []);
    let lives = [job(&workflow, WRITER, JobPhase::Running)];
    assert!(!look(&mut workflow, DAY + 9, &lives).contains(&Action::DeleteTopics));
    assert_eq!(look(&mut workflow, DAY + 10, &[]), [Action::DeleteTopics]);
    assert_eq!(look(&mut workflow, DAY + 11, &[]), []);
    let mut kept = workflow.clone();
    kept.topics_kept("the broker can't", at(DAY + 12));
    workflow.topics_deleted(at(DAY + 12));
    for settled in [&mut workflow, &mut kept] {
        assert_eq!(look(settled, 3 * DAY, &[]), []);
    }
}

#[test]
fn a_worker_of_an_earlier_run_ends_before_the_next_begins() {
    let (mut workflow, mut feed, mut jobs) = running();
    feed.say(&mut workflow, failed(LOADER, 1, false));
    feed.say(&mut workflow, failed(WRITER, 2, false));
    workflow
        .begin_retry(|worker, run| format!("{}-r{run}", worker.job_name), at(9))
        .unwrap();
    workflow.admit(at(9));
    workflow.prepared(at(9));
    (jobs[1].phase, jobs[1].alive) = (JobPhase::Failed, 0);
    let actions = look(&mut workflow, 10, &jobs);
    assert_eq!(deleted(&actions), [jobs[0].name.as_str()]);
    assert!(
        actions.contains(&launch(WRITER, 1)),
        "nothing of its last Job lives"
    );
    assert!(!actions.contains(&launch(LOADER, 1)));
    assert!(look(&mut workflow, 11, &jobs[1..]).contains(&launch(LOADER, 1)));
}

#[test]
fn a_job_that_can_not_be_made_is_tried_with_growing_pauses_and_given_up() {
    let mut workflow = workflow(1);
    let mut tries = Vec::new();
    for secs in 0..700 {
        for action in look(&mut workflow, secs, &[]) {
            if action == launch(LOADER, 1) {
                tries.push(secs);
                let error = LaunchError::Unavailable("no route".into());
                workflow.launch_failed(LOADER, &error, at(secs));
            }
        }
    }
    assert_eq!(tries[..6], [0, 10, 30, 70, 130, 190]);
    assert_eq!(status(&workflow, LOADER), Status::Error);
    assert_eq!(
        reason(&workflow, LOADER),
        "given up after 10 min: its Job could not be made: no route"
    );
}

#[test]
fn orphans_are_jobs_of_deleted_workflows_and_of_earlier_runs() {
    let workflow = workflow(1);
    let known = BTreeMap::from([(workflow.queue_id.clone(), 2)]);
    let running = job(&workflow, LOADER, JobPhase::Running);
    let ended = job(&workflow, LOADER, JobPhase::Failed);
    let lost = |job: &JobStatus| JobStatus {
        queue_id: "wf-lost".parse().unwrap(),
        ..job.clone()
    };
    for (what, job, secs, is_orphan) in [
        ("of an earlier run", running.clone(), 0, true),
        ("of an earlier run, ended", ended.clone(), 99, false),
        (
            "of this run",
            JobStatus {
                run: 2,
                ..running.clone()
            },
            99,
            false,
        ),
        (
            "of a later run",
            JobStatus {
                run: 3,
                ..running.clone()
            },
            99,
            false,
        ),
        ("of no workflow", lost(&running), 60, true),
        ("of no workflow, ended", lost(&ended), 60, true),
        ("of no workflow, just made", lost(&running), 59, false),
        (
            "going already",
            JobStatus {
                is_deleting: true,
                ..lost(&running)
            },
            60,
            false,
        ),
    ] {
        let names = orphans(
            std::slice::from_ref(&job),
            &known,
            at(secs),
            &HealSettings::default(),
        );
        assert_eq!(names == [job.name], is_orphan, "{what}");
    }
}

#[test]
fn each_state_of_a_part_has_words() {
    use TroubleKind::{Deadline, Evicted, ExitCode, Image, NodeLost, OutOfMemory, Unschedulable};
    let mut states = BTreeMap::new();
    for (phase, kind, message) in [
        (
            JobPhase::Pending,
            Image,
            "ErrImagePull: streamforge/x:1 not found",
        ),
        (JobPhase::Pending, Unschedulable, "0/3 nodes are available"),
        (JobPhase::Running, OutOfMemory, "pod loader-x on node a"),
        (JobPhase::Failed, ExitCode(70), "pod loader-x on node a"),
        (JobPhase::Failed, Deadline, "6 h"),
        (JobPhase::Failed, NodeLost, "node a"),
        (JobPhase::Failed, Evicted, "node a: low on memory"),
    ] {
        let (mut workflow, _, mut jobs) = running();
        jobs[0] = JobStatus {
            alive: 0,
            ..troubled(job(&workflow, LOADER, phase), kind, message)
        };
        look(&mut workflow, 5, &jobs);
        look(&mut workflow, 20, &jobs);
        let part = workflow.part(LOADER).unwrap();
        let state = (
            part.status,
            part.reason.clone(),
            workflow.status,
            workflow.reason.clone(),
        );
        states.insert(format!("{phase:?} {kind:?}"), state);
    }
    insta::assert_json_snapshot!("part_states", states);
}
