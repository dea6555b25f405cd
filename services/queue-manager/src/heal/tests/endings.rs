//! Stops, whoever asks for them, and what is left after the end.

use super::*;

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
    assert_eq!(
        deleted(&look(&mut workflow, 51, &jobs[1..])),
        Vec::<&str>::new(),
        "its time begins anew"
    );
    assert_eq!(
        deleted(&look(&mut workflow, 52, &jobs[1..])),
        [jobs[1].name.as_str()]
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
    workflow.begin_retry(at(9)).unwrap();
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
