//! What is wrong with one pod, in words for people. Pure.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition,
};
use kube::ResourceExt;
use serde_json::Value;
use streamforge_utils::protocol::TimestampMs;

use super::{created, is_alive, phase};
use crate::launcher::{
    JobPhase, Trouble, TroubleKind,
    kubernetes::{
        identity,
        job::{FINAL_EXIT_CODES, OLD_CONTAINER},
    },
};

/// A container that is not made for so long after its node was chosen waits for a volume or the network.
const CONTAINER_WITHIN_MS: i64 = 120_000;
/// A pod that is not gone so long after it should be is on a node that does not answer.
const OVERDUE_MS: i64 = 30_000;
/// A pod whose worker has ended for so long is kept by another container, and ends no more by itself: sidecars of
/// Kubernetes' own kind are ended within that.
const ALONE_MS: i64 = 30_000;
/// Most characters of a log in a message.
const SAID_MAX: usize = 400;

/// Its program was started, and may have ended.
pub(super) fn has_started(pod: &Pod) -> bool {
    matches!(phase(pod), "Running" | "Succeeded")
        || state(pod).is_some_and(|state| state.running.is_some() || state.terminated.is_some())
}

/// Its container waits to be started again.
pub(super) fn has_restarted(pod: &Pod) -> bool {
    container(pod).is_some_and(|container| {
        let state = container.state.as_ref();
        container.restart_count > 0 && state.is_some_and(|state| state.waiting.is_some())
    })
}

/// How its worker ended, where another container keeps the pod from ending: neither does its Job end then, nor does it
/// try again. None while the pod may still end by itself.
pub(super) fn ended_alone(pod: &Pod, now: TimestampMs) -> Option<JobPhase> {
    let end = left_alone(pod)?;
    match end.exit_code {
        0 => Some(JobPhase::Succeeded),
        code if FINAL_EXIT_CODES.contains(&code) => Some(JobPhase::Failed),
        _ => {
            let since = end.finished_at.as_ref().map(|at| created(Some(at)));
            let since = since.map_or(0, TimestampMs::as_millis);
            (now.as_millis() - since >= ALONE_MS).then_some(JobPhase::Failed)
        }
    }
}

/// How its worker ended, if other containers run on and nobody ends them.
fn left_alone(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let is_ending = pod.metadata.deletion_timestamp.is_some() || disrupted(pod).is_some();
    if !is_alive(pod) || is_ending {
        return None;
    }
    state(pod)?.terminated.as_ref()
}

/// What its worker ended with, while the pod goes on. What a new Job may mend is of a kind of its own.
fn alone(pod: &Pod) -> Option<Found> {
    let end = left_alone(pod).filter(|end| end.exit_code != 0)?;
    let (kind, message) = ended(end);
    let kind = match kind {
        TroubleKind::ExitCode(code) if FINAL_EXIT_CODES.contains(&code) => kind,
        _ => TroubleKind::Alone,
    };
    let message = format!(
        "{message}; another container of the pod runs on, so that its Job does not try again"
    );
    Some((kind, message))
}

/// What is wrong with it, if anything is.
pub(super) fn trouble(pod: &Pod, now: TimestampMs) -> Option<Trouble> {
    let found = match phase(pod) {
        "Succeeded" => None,
        "Failed" => Some(failed(pod)),
        _ => lost(pod, now)
            .or_else(|| alone(pod))
            .or_else(|| waiting(pod, now)),
    };
    let (kind, message) = found?;
    let node = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .map(|node| format!(" on node {node}"))
        .unwrap_or_default();
    Some(Trouble {
        kind,
        message: format!("pod {}{node}: {message}", pod.name_any()),
    })
}

type Found = (TroubleKind, String);

fn failed(pod: &Pod) -> Found {
    let terminated = state(pod).and_then(|state| state.terminated.as_ref());
    // A worker that says that no retry can mend it is believed, also while its node is drained.
    if let Some(terminated) = terminated.filter(|end| FINAL_EXIT_CODES.contains(&end.exit_code)) {
        return ended(terminated);
    }
    if let Some(found) = disrupted(pod).or_else(|| refused_by_node(pod)) {
        return found;
    }
    match terminated {
        Some(terminated) => ended(terminated),
        None => (
            TroubleKind::Unknown,
            said(pod).unwrap_or_else(|| "it failed, and nothing says why".to_owned()),
        ),
    }
}

/// Reason and message of a pod's status.
fn said(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    match (status.reason.as_deref(), status.message.as_deref()) {
        (Some(reason), Some(message)) => Some(format!("{reason}: {message}")),
        (Some(text), None) | (None, Some(text)) => Some(text.to_owned()),
        (None, None) => None,
    }
}

/// It was ended for the sake of others, or with its node.
fn disrupted(pod: &Pod) -> Option<Found> {
    let status = pod.status.as_ref()?;
    let target = condition(pod, "DisruptionTarget").filter(|target| target.status == "True");
    let message = status
        .message
        .as_deref()
        .or(target.and_then(|target| target.message.as_deref()));
    let explain = |what: &str| match message {
        Some(message) => format!("{what}: {message}"),
        None => what.to_owned(),
    };
    let by_status = match status.reason.as_deref() {
        Some("Evicted") => Some((TroubleKind::Evicted, "evicted by its node")),
        Some("NodeLost") => Some((TroubleKind::NodeLost, "its node does not answer")),
        Some("Preempting" | "Preempted") => Some((
            TroubleKind::Evicted,
            "preempted by a pod of higher priority",
        )),
        Some("Shutdown" | "NodeShutdown" | "Terminated") => {
            Some((TroubleKind::Evicted, "its node shut down"))
        }
        _ => None,
    };
    let by_condition = target.map(|target| match target.reason.as_deref() {
        Some("PreemptionByScheduler") => (
            TroubleKind::Evicted,
            "preempted by a pod of higher priority",
        ),
        Some("DeletionByTaintManager") => (
            TroubleKind::NodeLost,
            "its node does not answer or no longer bears it",
        ),
        Some("DeletionByPodGC") => (TroubleKind::NodeLost, "its node is gone"),
        Some("EvictionByEvictionAPI") => {
            (TroubleKind::Evicted, "evicted, as when its node is drained")
        }
        _ => (TroubleKind::Evicted, "evicted by its node"),
    });
    let (kind, what) = by_status.or(by_condition)?;
    Some((kind, explain(what)))
}

/// Its node turned it away after the scheduler had chosen that.
fn refused_by_node(pod: &Pod) -> Option<Found> {
    let reason = pod.status.as_ref()?.reason.as_deref()?;
    let is_refusal = reason.starts_with("OutOf")
        || matches!(
            reason,
            "NodeAffinity" | "NodeName" | "NodePorts" | "UnexpectedAdmissionError"
        );
    is_refusal.then(|| {
        (
            TroubleKind::Unschedulable,
            format!(
                "its node does not take it: {}",
                said(pod).unwrap_or_default()
            ),
        )
    })
}

/// By how its program ended.
fn ended(end: &ContainerStateTerminated) -> Found {
    let code = end.exit_code;
    let reason = end.reason.as_deref().unwrap_or_default();
    let last = end.message.as_deref().and_then(last_words);
    let with = |what: String| match &last {
        Some(last) => format!("{what}: {last}"),
        None => what,
    };
    match reason {
        "OOMKilled" => (
            TroubleKind::OutOfMemory,
            "it used more memory than its limit and was killed".to_owned(),
        ),
        "StartError" | "ContainerCannotRun" => (
            TroubleKind::Program,
            with("its program can't be started".to_owned()),
        ),
        "ContainerStatusUnknown" => (
            TroubleKind::Unknown,
            "its node does not know any more how it ended".to_owned(),
        ),
        // A container tells of a signal by 128 and its number.
        _ if (129..=192).contains(&code) => {
            let signal = code - 128;
            (
                TroubleKind::Signal(signal),
                with(format!(
                    "ended by {} (exit code {code})",
                    signal_name(signal)
                )),
            )
        }
        _ => {
            let meaning = match code {
                0 => ", yet its pod failed",
                1 => ", which another try may mend",
                70 => ", no retry can mend it",
                78 => ", its configuration is wrong",
                _ => "",
            };
            (
                TroubleKind::ExitCode(code),
                with(format!("exit code {code}{meaning}")),
            )
        }
    }
}

fn signal_name(signal: i32) -> String {
    match signal {
        2 => "SIGINT".to_owned(),
        6 => "SIGABRT".to_owned(),
        9 => "SIGKILL".to_owned(),
        11 => "SIGSEGV".to_owned(),
        15 => "SIGTERM".to_owned(),
        _ => format!("signal {signal}"),
    }
}

/// What the last line of a log says; of a line of ours in JSON its message and error, of a last event its error.
fn last_words(log: &str) -> Option<String> {
    let last = log.lines().rev().find(|line| !line.trim().is_empty())?;
    let text = match serde_json::from_str::<Value>(last) {
        Ok(line) => {
            let fields = line.get("fields").unwrap_or(&line);
            let names: &[&str] = match fields.get("error_message") {
                Some(Value::String(_)) => &["error_message"],
                _ => &["message", "error"],
            };
            let parts: Vec<&str> = names
                .iter()
                .filter_map(|field| fields.get(field)?.as_str())
                .collect();
            parts.join(": ")
        }
        Err(_) => last.trim().to_owned(),
    };
    (!text.is_empty()).then(|| text.chars().take(SAID_MAX).collect())
}

/// It may run on, and nobody can tell.
fn lost(pod: &Pod, now: TimestampMs) -> Option<Found> {
    let status = pod.status.as_ref();
    let says_lost = phase(pod) == "Unknown"
        || status.and_then(|status| status.reason.as_deref()) == Some("NodeLost");
    if says_lost {
        return Some((
            TroubleKind::NodeLost,
            "its node does not answer, so it may still run".to_owned(),
        ));
    }
    if let Some(overdue) = overdue(pod, now) {
        return Some((
            TroubleKind::NodeLost,
            format!(
                "it should have ended {} s ago, its node does not answer, so it may still run",
                overdue / 1000
            ),
        ));
    }
    disrupted(pod)
}

/// Milliseconds since it should have been gone, if it was told to go and that was long ago.
fn overdue(pod: &Pod, now: TimestampMs) -> Option<i64> {
    // Not the time at which it was told so: the one by which its grace ends.
    let until = pod.metadata.deletion_timestamp.as_ref()?;
    let overdue = now.as_millis() - created(Some(until)).as_millis();
    (overdue > OVERDUE_MS).then_some(overdue)
}

/// What it waits for before its program can start.
fn waiting(pod: &Pod, now: TimestampMs) -> Option<Found> {
    if let Some(found) = unschedulable(pod) {
        return Some(found);
    }
    let waiting = state(pod).and_then(|state| state.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
    let message = waiting.and_then(|waiting| waiting.message.as_deref());
    let explain = |what: &str| {
        let reason = reason.unwrap_or_default();
        match message {
            Some(message) => format!("{what} ({reason}: {message})"),
            None => format!("{what} ({reason})"),
        }
    };
    match reason {
        Some(
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed",
        ) => Some((TroubleKind::Image, explain("its image can't be pulled"))),
        Some("RunContainerError" | "StartError") => Some((
            TroubleKind::Program,
            explain("its program can't be started"),
        )),
        Some(
            "CreateContainerConfigError"
            | "CreateContainerError"
            | "CreatePodSandboxError"
            | "PreCreateHookError"
            | "PostStartHookError"
            | "PreStartHookError",
        ) => Some((
            TroubleKind::Container,
            explain("its container can't be made"),
        )),
        _ => not_made(pod, now),
    }
}

fn unschedulable(pod: &Pod) -> Option<Found> {
    let scheduled = condition(pod, "PodScheduled").filter(|it| it.status == "False")?;
    let message = scheduled.message.as_deref().unwrap_or("nothing says why");
    if scheduled.reason.as_deref() == Some("SchedulingGated") {
        let message = format!("it is not admitted to the scheduler yet: {message}");
        return Some((TroubleKind::Suspended, message));
    }
    Some((
        TroubleKind::Unschedulable,
        format!("no node takes it: {message}"),
    ))
}

/// A node was chosen long ago, and there is no container yet. Why stands in events only.
fn not_made(pod: &Pod, now: TimestampMs) -> Option<Found> {
    if !is_alive(pod) || has_started(pod) {
        return None;
    }
    let scheduled = condition(pod, "PodScheduled").filter(|it| it.status == "True")?;
    let since = scheduled.last_transition_time.as_ref()?;
    let waited = now.as_millis() - created(Some(since)).as_millis();
    (waited > CONTAINER_WITHIN_MS).then(|| {
        (
            TroubleKind::Container,
            format!(
                "its container is not there after {} s, a volume or the network may be missing: kubectl describe pod {}",
                waited / 1000,
                pod.name_any()
            ),
        )
    })
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Of the worker's container: others may be added by the cluster.
fn state(pod: &Pod) -> Option<&ContainerState> {
    container(pod)?.state.as_ref()
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let named = |name: &str| statuses.iter().find(|status| status.name == name);
    identity::target(&pod.metadata)
        .and_then(named)
        .or_else(|| named(OLD_CONTAINER))
}
