//! Parts that stand still.

use super::*;

#[test]
fn a_job_that_can_not_start_is_stalled_and_then_given_up() {
    use TroubleKind::{Container, Image, NoPod, Unschedulable};
    for (kind, words, limit) in [
        (Image, "its image can't be pulled: x", 900),
        (Container, "its container can't be made: x", 900),
        (NoPod, "no pod of it is made: x", 3_600),
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
fn a_suspended_job_is_queued_without_limit() {
    const QUEUED: &str = "queued: the Job is suspended";
    let mut workflow = workflow(1);
    look(&mut workflow, 0, &[]);
    let suspended = |job| troubled(job, TroubleKind::Suspended, "the Job is suspended");
    let loader = job(&workflow, LOADER, JobPhase::Pending);
    let writer = job(&workflow, WRITER, JobPhase::Pending);
    let both = [suspended(loader.clone()), suspended(writer.clone())];
    for secs in [1, 1_000, 400_000] {
        assert_eq!(look(&mut workflow, secs, &both), []);
        for part in [LOADER, WRITER] {
            assert_eq!(status(&workflow, part), Status::Starting);
            assert_eq!(reason(&workflow, part), QUEUED);
        }
    }
    // The writer is admitted before its loader, and waits as long.
    let mut feed = Feed::new();
    let admitted = JobStatus {
        alive: 1,
        ..job(&workflow, WRITER, JobPhase::Running)
    };
    let one = [suspended(loader.clone()), admitted.clone()];
    look(&mut workflow, 400_001, &one);
    for secs in [400_002, 900_000] {
        feed.secs = secs - 2;
        feed.say(&mut workflow, event(WRITER, 1, EventKind::Started));
        assert_eq!(look(&mut workflow, secs, &one), []);
        assert_eq!(status(&workflow, WRITER), Status::Running);
        assert_eq!(
            reason(&workflow, WRITER),
            "it waits for its loader, whose Job is queued"
        );
    }
    let all = [
        JobStatus {
            alive: 1,
            ..job(&workflow, LOADER, JobPhase::Running)
        },
        admitted.clone(),
    ];
    look(&mut workflow, 900_003, &all);
    assert_eq!(workflow.part(LOADER).unwrap().reason, None);
    assert_eq!(workflow.part(WRITER).unwrap().reason, None);
    // A loader that ran is put back into its queue.
    feed.secs = 900_004;
    feed.say(&mut workflow, event(LOADER, 1, EventKind::Started));
    let back = suspended(job(&workflow, LOADER, JobPhase::Running));
    look(&mut workflow, 900_005, &[back.clone(), admitted.clone()]);
    assert_eq!(reason(&workflow, LOADER), QUEUED);
    assert_eq!(look(&mut workflow, 1_900_000, &[back, admitted]), []);
    assert_eq!(status(&workflow, LOADER), Status::Starting);
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
