//! What is wrong with single pods.

use super::*;

#[test]
fn what_a_pod_waits_for_is_said_in_words() {
    use TroubleKind::{Container, Image, Program, Unschedulable};
    check_trouble([
        (
            waits("ErrImagePull"),
            Image,
            "its image can't be pulled (ErrImagePull: why)",
        ),
        (waits("ImagePullBackOff"), Image, "ImagePullBackOff"),
        (waits("InvalidImageName"), Image, "InvalidImageName"),
        (
            waits("CreateContainerConfigError"),
            Container,
            "its container can't be made (CreateContainerConfigError: why)",
        ),
        (waits("RunContainerError"), Program, "can't be started"),
        (
            scheduled("False", "0/3 nodes are available", NOW),
            Unschedulable,
            "no node takes it: 0/3 nodes are available",
        ),
        (
            scheduled("True", "", "2024-08-01T11:50:00Z"),
            Container,
            "not there after 600 s",
        ),
    ]);
}

#[test]
fn what_ended_a_pod_from_outside_is_said_in_words() {
    use TroubleKind::{Evicted, ExitCode, NodeLost, Unschedulable};
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
    let refused =
        json!({"phase": "Failed", "reason": "OutOfmemory", "message": "Node didn't have enough"});
    let shut = json!({"phase": "Failed", "reason": "Terminated", "message": "Pod was terminated in response to imminent node shutdown."});
    check_trouble([
        (
            evicted,
            Evicted,
            "evicted by its node: The node was low on resource: memory.",
        ),
        (
            refused,
            Unschedulable,
            "its node does not take it: OutOfmemory: Node didn't have enough",
        ),
        (shut, Evicted, "its node shut down: Pod was terminated"),
        (
            disrupted(exited(143), "EvictionByEvictionAPI"),
            Evicted,
            "evicted, as when its node is drained: why",
        ),
        (
            disrupted(exited(143), "PreemptionByScheduler"),
            Evicted,
            "preempted by a pod of higher priority: why",
        ),
        (
            disrupted(exited(143), "TerminationByKubelet"),
            Evicted,
            "evicted by its node: why",
        ),
        (
            disrupted(exited(143), "DeletionByTaintManager"),
            NodeLost,
            "its node does not answer or no longer bears it: why",
        ),
        (
            disrupted(json!({"phase": "Failed"}), "DeletionByPodGC"),
            NodeLost,
            "its node is gone: why",
        ),
        // What is final is final on a drained node, too.
        (
            disrupted(exited(70), "EvictionByEvictionAPI"),
            ExitCode(70),
            "no retry can mend it",
        ),
        (
            disrupted(running(), "DeletionByTaintManager"),
            NodeLost,
            "does not answer",
        ),
        (json!({"phase": "Unknown"}), NodeLost, "may still run"),
        (
            json!({"phase": "Running", "reason": "NodeLost"}),
            NodeLost,
            "may still run",
        ),
    ]);
}

#[test]
fn how_a_program_ended_is_said_in_words() {
    use TroubleKind::{ExitCode, OutOfMemory, Program, Signal, Unknown};
    let killed = container(
        "Failed",
        json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
    );
    let start = container(
        "Failed",
        json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec: \"x\": not found"}}),
    );
    let logged = container(
        "Failed",
        json!({"terminated": {"exitCode": 70, "reason": "Error",
        "message": "{\"level\":\"INFO\"}\n{\"level\":\"ERROR\",\"fields\":{\"message\":\"Ended\",\"error\":\"unknown symbol\"}}\n"}}),
    );
    let plain = container(
        "Failed",
        json!({"terminated": {"exitCode": 78, "message": "KAFKA_TOPIC is missing\n"}}),
    );
    let bare = json!({"phase": "Failed"});
    check_trouble([
        (killed, OutOfMemory, "used more memory than its limit"),
        (
            start,
            Program,
            "its program can't be started: exec: \"x\": not found",
        ),
        (
            exited(1),
            ExitCode(1),
            "exit code 1, which another try may mend",
        ),
        (exited(3), ExitCode(3), "exit code 3"),
        (exited(137), Signal(9), "ended by SIGKILL (exit code 137)"),
        (exited(143), Signal(15), "SIGTERM"),
        (
            logged,
            ExitCode(70),
            "no retry can mend it: Ended: unknown symbol",
        ),
        (
            plain,
            ExitCode(78),
            "its configuration is wrong: KAFKA_TOPIC is missing",
        ),
        (bare, Unknown, "nothing says why"),
    ]);
}

fn check_trouble<const N: usize>(cases: [(Value, TroubleKind, &str); N]) {
    for (status, kind, expected) in cases {
        let trouble = one(job(json!({"active": 1})), vec![pod(1, status.clone())])
            .trouble
            .unwrap_or_else(|| panic!("no trouble in {status}"));
        assert_eq!(trouble.kind, kind, "{status}: {}", trouble.message);
        assert!(trouble.message.contains(expected), "{}", trouble.message);
        assert!(
            trouble.message.starts_with("pod job-a-1 on node node-1: "),
            "{}",
            trouble.message
        );
    }
}

#[test]
fn a_pod_that_is_well_has_no_trouble() {
    let cases = [
        running(),
        waits("ContainerCreating"),
        scheduled("True", "", "2024-08-01T11:59:00Z"),
        json!({"phase": "Pending"}),
        json!({"phase": "Succeeded"}),
    ];
    for status in cases {
        let found = one(job(json!({"active": 1})), vec![pod(1, status.clone())]);
        assert_eq!(found.trouble, None, "{status}");
    }
}

#[test]
fn a_pod_that_does_not_go_is_on_a_lost_node() {
    let in_time = deleting(pod(1, running()), "2024-08-01T12:00:20Z");
    assert_eq!(one(job(json!({})), vec![in_time]).trouble, None);
    let overdue = deleting(pod(1, running()), "2024-08-01T11:58:00Z");
    let found = one(job(json!({})), vec![overdue]);
    let trouble = found.trouble.unwrap();
    assert_eq!((trouble.kind, found.alive), (TroubleKind::NodeLost, 1));
    assert!(trouble.message.contains("should have ended 120 s ago"));
}
