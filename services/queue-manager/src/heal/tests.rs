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

mod endings;
mod stalls;
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
    assert_eq!(launches[0].0, 60, "a list of Jobs may be as old as that");
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
fn no_job_is_replaced_before_its_last_events_were_read() {
    let (mut workflow, mut feed, jobs) = running();
    for secs in [100, 200, 600] {
        let seen = Seen {
            jobs: &jobs[1..],
            now: at(secs),
            events_until: at(3),
        };
        assert_eq!(observe(&mut workflow, &seen, &HealSettings::default()), []);
    }
    feed.say(&mut workflow, finished(LOADER, 1, 5));
    assert_eq!(look(&mut workflow, 601, &jobs[1..]), [], "it had finished");
    assert_eq!(status(&workflow, LOADER), Status::Finished);
}

#[test]
fn a_job_whose_node_went_is_deleted_and_replaced_once_nothing_of_it_lives() {
    for kind in [
        TroubleKind::NodeLost,
        TroubleKind::Evicted,
        TroubleKind::Alone,
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
