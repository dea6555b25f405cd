//! What a Job and its pods mean: phase, what of it still runs, and what is wrong, in words for people. Pure.
//!
//! Pods belong to a Job by its uid, not by its name: those of an earlier Job of the same name count as alive, and nothing
//! else of them counts.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;
use streamforge_utils::protocol::TimestampMs;

use super::{
    identity::{self, Identity},
    job::OLD_CONTAINER,
};
use crate::launcher::{JobPhase, JobStatus, Trouble, TroubleKind};

mod pod;

/// A Job without a pod for so long is kept from making one: a quota, an admission webhook, a missing service account. After
/// a pod that failed or was evicted its controller waits for less than that.
const POD_WITHIN_MS: i64 = 60_000;

/// What was seen of Jobs before, by uid. A pod that was evicted goes without a trace in its Job, and the next is made only
/// after a pause.
pub(super) type Memory = HashMap<String, Seen>;

/// What was seen of one Job.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Uids of pods that were started.
    started: HashSet<String>,
    /// Since when there is no pod of it.
    without_since: Option<TimestampMs>,
}

impl Seen {
    fn note(&mut self, pods: &[&Pod], now: TimestampMs) {
        let started = pods.iter().filter(|pod| pod::has_started(pod));
        self.started.extend(started.filter_map(|pod| pod.uid()));
        if pods.is_empty() {
            self.without_since.get_or_insert(now);
        } else {
            self.without_since = None;
        }
    }
}

/// All Jobs with their pods, and those of which only pods are left.
pub(super) fn join(
    jobs: &[Arc<Job>],
    pods: &[Arc<Pod>],
    memory: &mut Memory,
    now: TimestampMs,
) -> Vec<JobStatus> {
    let there: HashSet<&str> = jobs
        .iter()
        .filter_map(|job| job.metadata.uid.as_deref())
        .collect();
    memory.retain(|uid, _| there.contains(uid.as_str()));
    let mut by_owner: HashMap<&str, Vec<&Pod>> = HashMap::new();
    for pod in pods {
        if let Some((_, uid)) = owner(pod) {
            by_owner.entry(uid).or_default().push(pod);
        }
    }
    let mut statuses: Vec<JobStatus> = jobs
        .iter()
        .filter_map(|job| {
            let uid = job.metadata.uid.as_deref()?;
            let pods = by_owner.remove(uid).unwrap_or_default();
            let seen = memory.entry(uid.to_owned()).or_default();
            seen.note(&pods, now);
            of(job, &pods, seen, now)
        })
        .collect();
    for pods in by_owner.into_values() {
        let Some(left) = leftover(&pods, now) else {
            continue;
        };
        match statuses.iter_mut().find(|status| status.name == left.name) {
            Some(status) => status.alive += left.alive,
            None => statuses.push(left),
        }
    }
    statuses.sort_by(|a, b| a.name.cmp(&b.name));
    statuses
}

/// Name and uid of the Job that a pod is of.
pub(super) fn owner(pod: &Pod) -> Option<(&str, &str)> {
    let owners = pod.metadata.owner_references.as_ref()?;
    let owner = owners
        .iter()
        .find(|owner| owner.controller == Some(true) && owner.kind == "Job")?;
    Some((&owner.name, &owner.uid))
}

/// Something of it may run. Of a pod on a lost node that is not known, so it counts until it is gone.
pub(super) fn is_alive(pod: &Pod) -> bool {
    !matches!(phase(pod), "Succeeded" | "Failed")
}

/// In the order in which they were made.
pub(super) fn sort_by_age(pods: &mut [&Pod]) {
    pods.sort_by_key(|pod| {
        (
            created(pod.metadata.creation_timestamp.as_ref()),
            pod.name_any(),
        )
    });
}

/// The worker's container among those of a pod. It bears the target's name; in Jobs of older releases another.
pub(super) fn container_name(pod: &Pod) -> &str {
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice());
    identity::target(&pod.metadata)
        .filter(|target| {
            let mut containers = containers.unwrap_or_default().iter();
            containers.any(|container| container.name == *target)
        })
        .unwrap_or(OLD_CONTAINER)
}

/// Its container waits to be started again, so that what it said stands in the log of the one before.
pub(super) fn has_restarted(pod: &Pod) -> bool {
    pod::has_restarted(pod)
}

/// None if the Job is none of ours.
fn of(job: &Job, pods: &[&Pod], seen: &Seen, now: TimestampMs) -> Option<JobStatus> {
    let identity = Identity::read(&job.metadata)?;
    let mut pods = pods.to_vec();
    sort_by_age(&mut pods);
    let status = job.status.clone().unwrap_or_default();
    let count = |number: Option<i32>| u32::try_from(number.unwrap_or(0)).unwrap_or(0);

    let alive = counted(pods.iter().filter(|pod| is_alive(pod)));
    let started = counted(pods.iter().filter(|pod| pod::has_started(pod)));
    let started = started.max(counted(seen.started.iter()));
    let running = counted(
        pods.iter()
            .filter(|pod| is_alive(pod) && pod::has_started(pod)),
    );
    // Pods of earlier tries may be gone. Jobs and pods are heard of one by one: for a moment one may be counted twice.
    let starts = started.max(count(status.failed) + count(status.succeeded) + running);
    let end = End::of(job);
    let alone = pods.iter().rev().find_map(|pod| pod::ended_alone(pod, now));
    let phase = match (&end, alone) {
        (Some(End::Succeeded(_)), _) => JobPhase::Succeeded,
        (Some(End::Failed(_)), _) => JobPhase::Failed,
        // Its pod goes on without its worker, and the Job waits for it.
        (None, Some(ended)) => ended,
        (None, None) if starts == 0 => JobPhase::Pending,
        (None, None) => JobPhase::Running,
    };
    let trouble = match &end {
        Some(End::Succeeded(_)) => None,
        None if phase == JobPhase::Succeeded => None,
        Some(End::Failed(condition)) => Some(failure(job, condition, &pods, now)),
        // Its pods are ended by whoever suspended it.
        None if is_suspended(job) => Some(suspended()),
        None => pods
            .iter()
            .rev()
            .find_map(|pod| pod::trouble(pod, now))
            .or_else(|| without_pods(job, &pods, seen, now)),
    };
    let ended = match &end {
        Some(End::Succeeded(condition) | End::Failed(condition))
            if matches!(condition.type_.as_str(), "Complete" | "Failed") =>
        {
            let at = status
                .completion_time
                .as_ref()
                .or(condition.last_transition_time.as_ref());
            at.map(|at| created(Some(at)))
        }
        _ => None,
    };
    Some(JobStatus {
        name: job.name_any(),
        queue_id: identity.queue_id,
        run: identity.run,
        attempt: identity.attempt,
        telemetry_id: identity.telemetry_id,
        phase,
        is_deleting: job.metadata.deletion_timestamp.is_some(),
        trouble,
        starts,
        // Of a pod that the Job counts and that was not heard of yet, too.
        alive: alive.max(count(status.active) + count(status.terminating)),
        created: created(job.metadata.creation_timestamp.as_ref()),
        ended,
    })
}

/// A Job of which there are only pods: somebody deleted it without waiting for them.
fn leftover(pods: &[&Pod], now: TimestampMs) -> Option<JobStatus> {
    let mut alive: Vec<&Pod> = pods.iter().copied().filter(|pod| is_alive(pod)).collect();
    sort_by_age(&mut alive);
    let last = alive.last()?;
    let identity = Identity::read(&last.metadata)?;
    let (name, _) = owner(last)?;
    let trouble = pod::trouble(last, now).unwrap_or_else(|| Trouble {
        kind: TroubleKind::Unknown,
        message: format!(
            "its Job was deleted, and pod {} still runs",
            last.name_any()
        ),
    });
    Some(JobStatus {
        name: name.to_owned(),
        queue_id: identity.queue_id,
        run: identity.run,
        attempt: identity.attempt,
        telemetry_id: identity.telemetry_id,
        phase: JobPhase::Running,
        is_deleting: true,
        trouble: Some(trouble),
        starts: counted(pods.iter().filter(|pod| pod::has_started(pod))),
        alive: counted(alive.iter()),
        created: created(last.metadata.creation_timestamp.as_ref()),
        ended: None,
    })
}

/// How a Job ended. It is settled before its last pod is gone: then the condition is `FailureTarget` or
/// `SuccessCriteriaMet`, and the other one follows.
enum End<'a> {
    Succeeded(&'a JobCondition),
    Failed(&'a JobCondition),
}

impl<'a> End<'a> {
    fn of(job: &'a Job) -> Option<Self> {
        let conditions = job.status.as_ref()?.conditions.as_ref()?;
        let find = |kind: &str| {
            conditions
                .iter()
                .find(|condition| condition.type_ == kind && condition.status == "True")
        };
        find("Complete")
            .map(Self::Succeeded)
            .or_else(|| find("Failed").map(Self::Failed))
            .or_else(|| find("FailureTarget").map(Self::Failed))
            .or_else(|| find("SuccessCriteriaMet").map(Self::Succeeded))
    }
}

/// Why a Job failed: what its last pod died of, if that is what it failed for.
fn failure(job: &Job, condition: &JobCondition, pods: &[&Pod], now: TimestampMs) -> Trouble {
    let reason = condition.reason.as_deref().unwrap_or_default();
    let message = condition.message.as_deref().unwrap_or_default();
    if reason == "DeadlineExceeded" {
        let deadline = job
            .spec
            .as_ref()
            .and_then(|spec| spec.active_deadline_seconds);
        return Trouble {
            kind: TroubleKind::Deadline,
            message: match deadline {
                Some(deadline) => format!("it took longer than its deadline of {deadline} s"),
                None => "it took longer than its deadline".to_owned(),
            },
        };
    }
    let of_pod = pods
        .iter()
        .rev()
        .filter(|pod| phase(pod) == "Failed")
        .find_map(|pod| pod::trouble(pod, now));
    match (of_pod, reason) {
        (Some(trouble), "BackoffLimitExceeded") => Trouble {
            message: format!(
                "{}; it failed {} times and is not tried again",
                trouble.message,
                job.status
                    .as_ref()
                    .and_then(|status| status.failed)
                    .unwrap_or(1)
            ),
            kind: trouble.kind,
        },
        (Some(trouble), _) => trouble,
        // "Container worker for pod ns/name failed with exit code 70 matching FailJob rule at index 0"
        (None, "PodFailurePolicy") => {
            let code = message.split("exit code ").nth(1).and_then(|rest| {
                let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
                digits.parse().ok()
            });
            Trouble {
                kind: code.map_or(TroubleKind::Unknown, TroubleKind::ExitCode),
                message: message.to_owned(),
            }
        }
        (None, _) => Trouble {
            kind: TroubleKind::Unknown,
            message: format!(
                "the Job failed ({reason}: {message}), and none of its pods is left to say why"
            ),
        },
    }
}

fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true)
}

fn suspended() -> Trouble {
    Trouble {
        kind: TroubleKind::Suspended,
        message: "the Job is suspended until its queue admits it".to_owned(),
    }
}

/// What keeps a Job from making a pod.
fn without_pods(job: &Job, pods: &[&Pod], seen: &Seen, now: TimestampMs) -> Option<Trouble> {
    let status = job.status.clone().unwrap_or_default();
    let waits = seen.without_since.unwrap_or(now);
    let waits = now.as_millis() - waits.as_millis();
    let has_none = pods.is_empty() && status.active.unwrap_or(0) == 0;
    (has_none && waits > POD_WITHIN_MS && job.metadata.deletion_timestamp.is_none()).then(|| {
        Trouble {
            kind: TroubleKind::NoPod,
            message: format!(
                "no pod was made within {} s, a quota, an admission rule or a missing service account may keep it: kubectl describe job {}",
                POD_WITHIN_MS / 1000,
                job.name_any()
            ),
        }
    })
}

fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

/// The API server sets it on all that it stores.
fn created(at: Option<&Time>) -> TimestampMs {
    at.map(|at| TimestampMs(at.0.as_millisecond()))
        .unwrap_or_default()
}

fn counted<T>(list: impl Iterator<Item = T>) -> u32 {
    u32::try_from(list.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
