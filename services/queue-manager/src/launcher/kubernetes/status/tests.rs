use serde_json::{Value, json};

use super::*;

mod beside;
mod trouble;

const NOW: &str = "2024-08-01T12:00:00Z";

fn now() -> TimestampMs {
    NOW.parse().unwrap()
}

fn annotations() -> Value {
    json!({
        "streamforge/queue-id": "wf-btcusdt-api_candles_1m-20240801-abc123",
        "streamforge/run": "2",
        "streamforge/attempt": "1",
        "streamforge/telemetry-id": "arango-candles__abc123",
    })
}

/// A Job with this status, made 30 s ago.
fn job(status: Value) -> Job {
    serde_json::from_value(json!({
        "metadata": {
            "name": "job-a", "uid": "uid-1", "annotations": annotations(),
            "creationTimestamp": "2024-08-01T11:59:30Z",
        },
        "spec": {"activeDeadlineSeconds": 3600, "template": {}},
        "status": status,
    }))
    .unwrap()
}

/// The `nth` pod of it.
fn pod(nth: u32, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("job-a-{nth}"), "annotations": annotations(),
            "creationTimestamp": format!("2024-08-01T11:59:3{nth}Z"),
            "ownerReferences": [{
                "apiVersion": "batch/v1", "kind": "Job", "name": "job-a", "uid": "uid-1",
                "controller": true,
            }],
        },
        "spec": {"nodeName": "node-1", "containers": []},
        "status": status,
    }))
    .unwrap()
}

fn deleting(mut pod: Pod, until: &str) -> Pod {
    pod.metadata.deletion_timestamp = Some(Time(until.parse().unwrap()));
    pod
}

fn running() -> Value {
    container("Running", json!({"running": {}}))
}

fn exited(code: i32) -> Value {
    container(
        "Failed",
        json!({"terminated": {"exitCode": code, "reason": "Error"}}),
    )
}

fn waits(reason: &str) -> Value {
    container(
        "Pending",
        json!({"waiting": {"reason": reason, "message": "why"}}),
    )
}

fn container(phase: &str, state: Value) -> Value {
    json!({
        "phase": phase,
        "containerStatuses": [{
            "name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
        }],
    })
}

fn scheduled(status: &str, message: &str, since: &str) -> Value {
    json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": status, "reason": "Unschedulable", "message": message,
        "lastTransitionTime": since,
    }]})
}

fn disrupted(mut status: Value, reason: &str) -> Value {
    status["conditions"] = json!([{
        "type": "DisruptionTarget", "status": "True", "reason": reason, "message": "why",
    }]);
    status
}

fn ends(kind: &str, reason: &str, message: &str) -> Value {
    json!({"conditions": [{
        "type": kind, "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": NOW,
    }]})
}

fn one(job: Job, pods: Vec<Pod>) -> JobStatus {
    let pods: Vec<Arc<Pod>> = pods.into_iter().map(Arc::new).collect();
    let mut statuses = join(&[Arc::new(job)], &pods, &mut Memory::new(), now());
    assert_eq!(statuses.len(), 1);
    statuses.remove(0)
}

#[test]
fn phases_come_from_conditions_and_pods() {
    use JobPhase::{Pending, Running};
    // Status of the Job, of its pods; phase, starts, alive.
    let cases = [
        (json!({}), vec![], Pending, 0, 0),
        (json!({"active": 1}), vec![], Pending, 0, 1),
        (
            json!({"active": 1}),
            vec![waits("ContainerCreating")],
            Pending,
            0,
            1,
        ),
        (json!({"active": 1}), vec![running()], Running, 1, 1),
        // The first one failed, the next one is waited for, then there, then running.
        (json!({"failed": 1}), vec![exited(1)], Running, 1, 0),
        (
            json!({"failed": 1, "active": 1}),
            vec![exited(1), waits("")],
            Running,
            1,
            1,
        ),
        (
            json!({"failed": 1, "active": 1}),
            vec![exited(1), running()],
            Running,
            2,
            1,
        ),
        // The pods of earlier tries are gone already.
        (
            json!({"failed": 2, "active": 1}),
            vec![running()],
            Running,
            3,
            1,
        ),
        // A node that does not answer: nobody knows whether it runs.
        (
            json!({"active": 1}),
            vec![json!({"phase": "Unknown"})],
            Pending,
            0,
            1,
        ),
        (json!({"terminating": 1}), vec![], Pending, 0, 1),
    ];
    check_phases(cases);
}

#[test]
fn what_is_settled_counts_before_the_last_pod_is_gone() {
    use JobPhase::{Failed, Succeeded};
    let done = json!({"phase": "Succeeded"});
    check_phases([
        (
            ends("SuccessCriteriaMet", "", ""),
            vec![done.clone()],
            Succeeded,
            1,
            0,
        ),
        (
            ends("Complete", "", ""),
            vec![exited(1), done],
            Succeeded,
            2,
            0,
        ),
        // It is settled that it fails, and its pod still runs.
        (
            ends("FailureTarget", "DeadlineExceeded", ""),
            vec![running()],
            Failed,
            1,
            1,
        ),
        (
            ends("Failed", "DeadlineExceeded", ""),
            vec![exited(143)],
            Failed,
            1,
            0,
        ),
    ]);
}

fn check_phases<const N: usize>(cases: [(Value, Vec<Value>, JobPhase, u32, u32); N]) {
    for (status, pods, phase, starts, alive) in cases {
        let shown = format!("{status} {pods:?}");
        let pods = (1..).zip(pods).map(|(nth, status)| pod(nth, status));
        let found = one(job(status), pods.collect());
        assert_eq!(
            (found.phase, found.starts, found.alive),
            (phase, starts, alive),
            "{shown}"
        );
        assert_eq!((found.run, found.attempt), (2, 1));
    }
}

#[test]
fn an_end_has_a_time_once_nothing_runs() {
    let cases = [
        (json!({"active": 1}), None),
        (ends("FailureTarget", "DeadlineExceeded", ""), None),
        (ends("Failed", "DeadlineExceeded", ""), Some(now())),
        (ends("Complete", "", ""), Some(now())),
    ];
    for (status, expected) in cases {
        assert_eq!(one(job(status.clone()), vec![]).ended, expected, "{status}");
    }
}

#[test]
fn a_job_that_runs_again_says_what_the_last_one_died_of() {
    let found = one(
        job(json!({"failed": 1, "active": 1})),
        vec![pod(1, exited(1)), pod(2, running())],
    );
    assert_eq!(found.trouble.unwrap().kind, TroubleKind::ExitCode(1));
    // The newest trouble counts.
    let found = one(
        job(json!({"failed": 1, "active": 1})),
        vec![pod(2, waits("ErrImagePull")), pod(1, exited(1))],
    );
    assert_eq!(found.trouble.unwrap().kind, TroubleKind::Image);
}

#[test]
fn a_failed_job_says_why() {
    use TroubleKind::{Deadline, ExitCode, Unknown};
    let policy = "Container worker for pod ns/job-a-1 failed with exit code 78 matching FailJob rule at index 0";
    let limit = "Job has reached the specified backoff limit";
    let cases = [
        (
            ends("Failed", "DeadlineExceeded", ""),
            vec![exited(143)],
            Deadline,
            "longer than its deadline of 3600 s",
        ),
        (
            ends("Failed", "BackoffLimitExceeded", limit),
            vec![exited(2), exited(1)],
            ExitCode(1),
            "exit code 1, which another try may mend; it failed 1 times",
        ),
        (
            ends("Failed", "BackoffLimitExceeded", limit),
            vec![],
            Unknown,
            "none of its pods is left to say why",
        ),
        (
            ends("Failed", "PodFailurePolicy", policy),
            vec![exited(78)],
            ExitCode(78),
            "its configuration is wrong",
        ),
        (
            ends("Failed", "PodFailurePolicy", policy),
            vec![],
            ExitCode(78),
            "FailJob",
        ),
        (
            ends("FailureTarget", "PodFailurePolicy", policy),
            vec![exited(70)],
            ExitCode(70),
            "no retry",
        ),
    ];
    for (status, pods, kind, expected) in cases {
        let pods = (1..).zip(pods).map(|(nth, status)| pod(nth, status));
        let found = one(job(status.clone()), pods.collect());
        let trouble = found.trouble.unwrap();
        assert_eq!(found.phase, JobPhase::Failed);
        assert_eq!(trouble.kind, kind, "{status}");
        assert!(trouble.message.contains(expected), "{}", trouble.message);
    }
    let well = one(job(ends("Complete", "", "")), vec![pod(1, exited(1))]);
    assert_eq!(well.trouble, None);
}

/// The only Job, as it was seen before and is a while later.
fn later(memory: &mut Memory, job: &Job, pods: &[Pod], secs: i64) -> JobStatus {
    let pods: Vec<Arc<Pod>> = pods.iter().cloned().map(Arc::new).collect();
    let mut found = join(&[Arc::new(job.clone())], &pods, memory, now() + secs * 1000);
    found.remove(0)
}

#[test]
fn a_job_that_gets_no_pod_says_so_after_a_while() {
    let mut memory = Memory::new();
    let mut job = job(json!({}));
    // However old it is when it is seen for the first time: it may have had one.
    job.metadata.creation_timestamp = Some(Time("2024-08-01T11:50:00Z".parse().unwrap()));
    assert_eq!(later(&mut memory, &job, &[], 0).trouble, None);
    assert_eq!(later(&mut memory, &job, &[], 60).trouble, None);
    let trouble = later(&mut memory, &job, &[], 61).trouble.unwrap();
    assert_eq!(trouble.kind, TroubleKind::NoPod);
    assert!(trouble.message.contains("kubectl describe job job-a"));
    job.spec.as_mut().unwrap().suspend = Some(true);
    let trouble = one(job.clone(), vec![]).trouble.unwrap();
    assert_eq!(trouble.kind, TroubleKind::Suspended);
    // It ran, and was put back: its pods are ended for that.
    let drained = disrupted(exited(143), "PreemptionByScheduler");
    let found = one(job, vec![pod(1, drained)]);
    assert_eq!(found.phase, JobPhase::Running);
    assert_eq!(found.trouble.unwrap().kind, TroubleKind::Suspended);
}

#[test]
fn a_pod_behind_a_scheduling_gate_blames_no_node() {
    let mut status = scheduled("False", "Scheduling is blocked", NOW);
    status["conditions"][0]["reason"] = json!("SchedulingGated");
    let found = one(job(json!({"active": 1})), vec![pod(1, status)]);
    assert_eq!(found.trouble.unwrap().kind, TroubleKind::Suspended);
}

#[test]
fn a_pod_that_was_drained_is_not_forgotten_with_it() {
    let mut memory = Memory::new();
    let uid = |mut pod: Pod, uid: &str| {
        pod.metadata.uid = Some(uid.to_owned());
        pod
    };
    let job = job(json!({"active": 1}));
    let first = uid(pod(1, running()), "pod-1");
    assert_eq!(later(&mut memory, &job, &[first], 0).starts, 1);
    // It is gone, its Job says nothing of it, and the next one is made after a pause.
    let between = self::job(json!({"ready": 0, "terminating": 0}));
    for secs in [100, 130] {
        let found = later(&mut memory, &between, &[], secs);
        assert_eq!((found.phase, found.starts), (JobPhase::Running, 1));
        assert_eq!((found.alive, found.trouble), (0, None));
    }
    let second = uid(pod(2, running()), "pod-2");
    assert_eq!(later(&mut memory, &job, &[second], 140).starts, 2);
    // Another pause is counted from its own beginning.
    assert_eq!(later(&mut memory, &between, &[], 200).trouble, None);
}

#[test]
fn pods_whose_job_is_gone_keep_their_place() {
    // Alone: they are shown until the last one is gone.
    let left = [Arc::new(pod(1, running()))];
    let found = &join(&[], &left, &mut Memory::new(), now())[0];
    assert_eq!((found.name.as_str(), found.alive), ("job-a", 1));
    assert!(found.is_deleting);
    let ended = [Arc::new(pod(1, exited(1)))];
    assert_eq!(join(&[], &ended, &mut Memory::new(), now()), []);

    // Beside a new Job of the same name: they count, and say nothing about it.
    let mut next = job(json!({"active": 1}));
    next.metadata.uid = Some("uid-2".to_owned());
    let all = [
        Arc::new(pod(1, waits("ErrImagePull"))),
        Arc::new(pod(2, exited(1))),
    ];
    let found = join(&[Arc::new(next)], &all, &mut Memory::new(), now());
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].alive, found[0].starts), (2, 0));
    assert_eq!(found[0].trouble, None);
}

#[test]
fn what_is_not_ours_is_left_out() {
    let mut other = job(json!({}));
    other.metadata.annotations = None;
    let mut broken = job(json!({}));
    broken
        .metadata
        .annotations
        .as_mut()
        .unwrap()
        .insert("streamforge/run".to_owned(), "x".to_owned());
    assert_eq!(
        join(
            &[Arc::new(other), Arc::new(broken)],
            &[],
            &mut Memory::new(),
            now()
        ),
        []
    );
}
