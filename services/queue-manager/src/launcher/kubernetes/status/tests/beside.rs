//! Pods with more containers than the worker's.

use super::*;

/// Its worker ended so at that time, and an injected proxy runs on.
fn beside(name: &str, code: i32, reason: &str, at: &str) -> Value {
    let end = json!({"exitCode": code, "reason": reason, "finishedAt": at});
    json!({
        "phase": "Running",
        "containerStatuses": [
            {"name": "proxy", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}}},
            {"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": end}},
        ],
    })
}

fn named(mut pod: Pod, target: &str) -> Pod {
    let labels = [("app.kubernetes.io/name".to_owned(), target.to_owned())];
    pod.metadata.labels = Some(labels.into());
    pod
}

#[test]
fn a_worker_that_ended_beside_a_running_sidecar_counts_as_ended() {
    use JobPhase::{Failed, Running, Succeeded};
    use TroubleKind::{Alone, ExitCode};
    let (long_ago, just_now) = ("2024-08-01T11:59:30Z", "2024-08-01T11:59:45Z");
    // Code, reason, when; phase, kind of trouble, words.
    let table = [
        (
            137,
            "OOMKilled",
            long_ago,
            Failed,
            Some(Alone),
            "more memory than its limit",
        ),
        (1, "Error", long_ago, Failed, Some(Alone), "exit code 1"),
        (143, "Error", long_ago, Failed, Some(Alone), "SIGTERM"),
        // A sidecar of Kubernetes' own kind ends by itself, and then the Job tries again.
        (137, "OOMKilled", just_now, Running, Some(Alone), "runs on"),
        (
            70,
            "Error",
            just_now,
            Failed,
            Some(ExitCode(70)),
            "no retry can mend it",
        ),
        (
            78,
            "Error",
            just_now,
            Failed,
            Some(ExitCode(78)),
            "configuration",
        ),
        (0, "Completed", just_now, Succeeded, None, ""),
    ];
    for (code, reason, at, phase, kind, words) in table {
        for name in ["arango-candles", "worker"] {
            let pod = pod(1, beside(name, code, reason, at));
            let pod = named(pod, "arango-candles");
            let status = one(job(json!({"active": 1})), vec![pod]);
            assert_eq!(status.phase, phase, "{name} {code} {at}");
            assert_eq!(status.alive, 1, "its pod is there");
            let trouble = status.trouble.as_ref();
            assert_eq!(trouble.map(|trouble| trouble.kind), kind, "{code} {at}");
            let said = trouble.map_or("", |trouble| trouble.message.as_str());
            assert!(said.contains(words), "{said}");
        }
    }
}

#[test]
fn a_pod_that_is_being_ended_is_not_alone() {
    let old = "2024-08-01T11:00:00Z";
    let status = beside("worker", 137, "OOMKilled", old);
    let going = deleting(pod(1, status.clone()), "2024-08-01T12:00:10Z");
    let evicted = pod(1, disrupted(status, "EvictionByEvictionAPI"));
    for pod in [going, evicted] {
        assert_eq!(
            one(job(json!({"active": 1})), vec![pod]).phase,
            JobPhase::Running
        );
    }
    // The end of a sidecar alone says nothing.
    let mut status = beside("proxy", 1, "Error", old);
    status["containerStatuses"][0] = running()["containerStatuses"][0].clone();
    let status = one(job(json!({"active": 1})), vec![pod(1, status)]);
    assert_eq!((status.phase, status.trouble), (JobPhase::Running, None));
}

#[test]
fn the_container_of_an_older_release_is_found_too() {
    let with = |containers: &[&str]| {
        let mut pod = named(pod(1, running()), "arango-candles");
        let containers = containers.iter().map(|name| json!({"name": name}));
        let containers = Value::Array(containers.collect());
        pod.spec.as_mut().unwrap().containers = serde_json::from_value(containers).unwrap();
        pod
    };
    assert_eq!(
        container_name(&with(&["proxy", "arango-candles"])),
        "arango-candles"
    );
    assert_eq!(container_name(&with(&["worker", "proxy"])), "worker");
    assert_eq!(container_name(&pod(1, running())), "worker");
}
