//! What acts on Jobs: the controller that makes their pods and settles their end, by their own policies, and the garbage
//! collector.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    scheduler::{condition, set_condition},
    store::{JOBS, NODES, PODS, Store, at, name},
};

/// Seconds from being told to go to being killed, where a pod does not say so.
const DEFAULT_GRACE: i64 = 30;

/// The objects, and how the cluster behaves.
pub(super) struct Cluster {
    pub(super) store: Store,
    pub(super) runs_pods: bool,
    pub(super) ends_pods: bool,
    pub(super) suspends_jobs: bool,
    /// There is a node, or was: then pods without one are not scheduled.
    pub(super) had_nodes: bool,
    /// Between a pod that has ended and the next of the same Job.
    pub(super) pause: Duration,
    /// When Jobs whose pod has ended get the next.
    next_at: HashMap<String, Instant>,
    pods: u64,
    /// Pods that ended and are gone, by the uid of their Job: they count all the same.
    gone: HashMap<String, Vec<Value>>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            store: Store::default(),
            runs_pods: false,
            ends_pods: true,
            suspends_jobs: false,
            had_nodes: false,
            pause: Duration::ZERO,
            next_at: HashMap::new(),
            pods: 0,
            gone: HashMap::new(),
        }
    }
}

impl Cluster {
    /// Err if the name is taken.
    pub(super) fn create_job(&mut self, mut job: Value) -> Result<Value, ()> {
        let name = name(&job).to_owned();
        if self.store.get(JOBS, &name).is_some() {
            return Err(());
        }
        if self.suspends_jobs {
            job["spec"]["suspend"] = json!(true);
        }
        let made = self.store.add(JOBS, job);
        self.reconcile(&name);
        Ok(made)
    }

    /// In the foreground it stays until its pods are gone.
    pub(super) fn delete_job(&mut self, job: &str, in_foreground: bool) {
        let pods = self.pods_of_name(job);
        if in_foreground {
            self.store.change(JOBS, job, |job| {
                let metadata = &mut job["metadata"];
                if metadata["deletionTimestamp"].is_null() {
                    metadata["deletionTimestamp"] = json!(at(0));
                    metadata["finalizers"] = json!(["foregroundDeletion"]);
                }
            });
        } else {
            self.store.remove(JOBS, job);
        }
        for pod in pods {
            self.tell_to_go(&pod);
        }
        self.reconcile(job);
    }

    /// Its pods are told to go; it is failed once they are gone.
    pub(super) fn deadline(&mut self, job: &str) {
        self.store.change(JOBS, job, |job| {
            let message = "Job was active longer than specified deadline";
            push_condition(job, "FailureTarget", "DeadlineExceeded", message);
        });
        for pod in self.pods_of_name(job) {
            self.tell_to_go(&pod);
        }
        self.reconcile(job);
    }

    /// The pods of a Job of this name, the oldest first.
    pub(super) fn pods_of_name(&self, job: &str) -> Vec<Value> {
        let owner = |pod: &&Value| pod["metadata"]["ownerReferences"][0]["name"] == job;
        let mut pods: Vec<Value> = self.store.list(PODS).filter(owner).cloned().collect();
        pods.sort_by_key(|pod| name(pod).to_owned());
        pods
    }

    pub(super) fn remove_pod(&mut self, pod: &Value) {
        self.store.remove(PODS, name(pod));
        let uid = pod["metadata"]["ownerReferences"][0]["uid"].as_str();
        if let Some(uid) = uid.filter(|_| is_ended(pod)) {
            self.gone
                .entry(uid.to_owned())
                .or_default()
                .push(pod.clone());
        }
        let owner = &pod["metadata"]["ownerReferences"][0]["name"];
        self.reconcile(owner.as_str().unwrap_or_default());
    }

    /// Brings a Job's status in line with its pods, and makes the pod that it lacks.
    pub(super) fn reconcile(&mut self, job: &str) {
        let Some(stored) = self.store.get(JOBS, job).cloned() else {
            return;
        };
        let pods: Vec<Value> = self
            .pods_of_name(job)
            .into_iter()
            .filter(|pod| pod["metadata"]["ownerReferences"][0]["uid"] == stored["metadata"]["uid"])
            .collect();
        if !stored["metadata"]["deletionTimestamp"].is_null() {
            if pods.is_empty() {
                self.store.remove(JOBS, job);
            }
            return;
        }
        let uid = stored["metadata"]["uid"].as_str().unwrap_or_default();
        let mut counted = self.gone.get(uid).cloned().unwrap_or_default();
        counted.extend(pods);
        let is_first = counted.is_empty();
        let tally = Tally::of(&stored, &counted);
        let alive = tally.active + tally.terminating;
        let end = tally.end(&stored);
        self.store.change(JOBS, job, |job| {
            job["status"]["active"] = json!(tally.active);
            job["status"]["terminating"] = json!(tally.terminating);
            job["status"]["failed"] = json!(tally.failed);
            job["status"]["succeeded"] = json!(tally.succeeded);
            if let Some((kind, reason, message)) = end.clone().filter(|_| alive == 0) {
                push_condition(job, kind, &reason, &message);
                if kind == "Complete" {
                    job["status"]["completionTime"] = json!(at(0));
                }
            }
        });
        let is_suspended = stored["spec"]["suspend"] == true;
        if end.is_none() && alive == 0 && !is_suspended && (is_first || self.is_due(job)) {
            self.make_pod(&stored);
        }
    }

    /// Whether a Job has waited long enough since its last pod ended.
    fn is_due(&mut self, job: &str) -> bool {
        let now = Instant::now();
        let at = *self
            .next_at
            .entry(job.to_owned())
            .or_insert(now + self.pause);
        if now >= at {
            self.next_at.remove(job);
        }
        now >= at
    }

    /// Makes the pods whose time has come.
    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        let due = self.next_at.iter().filter(|(_, at)| now >= **at);
        for job in due.map(|(job, _)| job.clone()).collect::<Vec<_>>() {
            self.reconcile(&job);
            self.next_at.remove(&job);
        }
    }

    fn make_pod(&mut self, job: &Value) {
        self.pods += 1;
        let template = &job["spec"]["template"];
        let owner = name(job);
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": template["metadata"].clone(),
            "spec": template["spec"].clone(),
            "status": {"phase": "Pending"},
        });
        let metadata = &mut pod["metadata"];
        metadata["name"] = json!(format!("{owner}-{:05}", self.pods));
        metadata["labels"]["batch.kubernetes.io/job-name"] = json!(owner);
        metadata["ownerReferences"] = json!([{
            "apiVersion": "batch/v1", "kind": "Job", "name": owner,
            "uid": job["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
        }]);
        let pod = self.store.add(PODS, pod);
        if self.runs_pods {
            self.store.change(PODS, name(&pod), |pod| {
                pod["status"] = super::told::in_state("Running", &json!({"running": {}}));
                super::told::name_container(pod);
            });
        }
        self.schedule();
        self.reconcile(owner);
    }

    fn tell_to_go(&mut self, pod: &Value) {
        if self.ends_pods && !self.is_on_node(pod) || is_ended(pod) {
            self.remove_pod(pod);
        } else {
            self.mark(pod, None);
        }
    }

    /// As somebody asks for it, or its node once it is over.
    pub(super) fn delete_pod(&mut self, pod: &Value, grace: Option<i64>) {
        if grace == Some(0) || is_ended(pod) || !self.is_on_node(pod) {
            self.remove_pod(pod);
            return;
        }
        self.mark(pod, grace);
        let owner = &pod["metadata"]["ownerReferences"][0]["name"];
        self.reconcile(owner.as_str().unwrap_or_default());
    }

    /// A node runs it, which ends it in its own time.
    fn is_on_node(&self, pod: &Value) -> bool {
        let node = pod["spec"]["nodeName"].as_str();
        node.is_some_and(|node| self.store.get(NODES, node).is_some())
    }

    fn mark(&mut self, pod: &Value, grace: Option<i64>) {
        self.store.change(PODS, name(pod), |pod| {
            let own = pod["spec"]["terminationGracePeriodSeconds"].as_i64();
            let grace = grace.or(own).unwrap_or(DEFAULT_GRACE);
            let metadata = &mut pod["metadata"];
            if metadata["deletionTimestamp"].is_null() {
                metadata["deletionTimestamp"] = json!(at(grace));
                metadata["deletionGracePeriodSeconds"] = json!(grace);
            }
        });
    }

    /// A node is gone: the pods that it had are failed, and removed.
    pub(super) fn remove_node(&mut self, node: &str) {
        self.store.remove(NODES, node);
        let had = |pod: &&Value| pod["spec"]["nodeName"] == node;
        let pods: Vec<Value> = self.store.list(PODS).filter(had).cloned().collect();
        for pod in pods {
            self.store.change(PODS, name(&pod), |pod| {
                if !is_ended(pod) {
                    pod["status"]["phase"] = json!("Failed");
                    let lost = json!({
                        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                        "message": "PodGC: node no longer exists",
                    });
                    set_condition(pod, lost);
                }
            });
            if let Some(pod) = self.store.get(PODS, name(&pod)).cloned() {
                self.remove_pod(&pod);
            }
        }
    }
}

/// The pods of a Job by what became of them.
#[derive(Default)]
struct Tally {
    active: u64,
    terminating: u64,
    succeeded: u64,
    failed: u64,
    /// What the policy says of the pod that fails the Job.
    fatal: Option<String>,
}

impl Tally {
    fn of(job: &Value, pods: &[Value]) -> Self {
        let mut tally = Self::default();
        for pod in pods {
            match pod["status"]["phase"].as_str() {
                Some("Succeeded") => tally.succeeded += 1,
                Some("Failed") => match verdict(job, pod) {
                    Verdict::Counts => tally.failed += 1,
                    Verdict::IsIgnored => {}
                    Verdict::FailsTheJob(why) => {
                        tally.failed += 1;
                        tally.fatal = Some(why);
                    }
                },
                _ if pod["metadata"]["deletionTimestamp"].is_null() => tally.active += 1,
                _ => tally.terminating += 1,
            }
        }
        tally
    }

    /// Condition, reason and message.
    fn end(&self, job: &Value) -> Option<(&'static str, String, String)> {
        let said = |kind| condition(job, kind);
        if let Some(deadline) = said("FailureTarget") {
            let text = |field: &str| deadline[field].as_str().unwrap_or_default().to_owned();
            return Some(("Failed", text("reason"), text("message")));
        }
        if said("Failed").is_some() || said("Complete").is_some() || self.succeeded > 0 {
            let is_failed = said("Failed").is_some();
            let kind = if is_failed { "Failed" } else { "Complete" };
            return Some((kind, String::new(), String::new()));
        }
        if let Some(why) = &self.fatal {
            return Some(("Failed", "PodFailurePolicy".to_owned(), why.clone()));
        }
        let limit = job["spec"]["backoffLimit"].as_u64().unwrap_or(6);
        (self.failed > limit).then(|| {
            let message = "Job has reached the specified backoff limit";
            (
                "Failed",
                "BackoffLimitExceeded".to_owned(),
                message.to_owned(),
            )
        })
    }
}

enum Verdict {
    Counts,
    IsIgnored,
    FailsTheJob(String),
}

/// By the first rule of the Job's own policy that fits.
fn verdict(job: &Value, pod: &Value) -> Verdict {
    let none = Vec::new();
    let rules = job["spec"]["podFailurePolicy"]["rules"].as_array();
    for rule in rules.unwrap_or(&none) {
        let codes = &rule["onExitCodes"];
        let container = &pod["status"]["containerStatuses"][0];
        let code = &container["state"]["terminated"]["exitCode"];
        let by_code = codes["operator"] == "In"
            && codes["containerName"] == container["name"]
            && codes["values"]
                .as_array()
                .is_some_and(|codes| codes.contains(code));
        let patterns = rule["onPodConditions"].as_array().unwrap_or(&none);
        let conditions = pod["status"]["conditions"].as_array().unwrap_or(&none);
        let by_condition = patterns.iter().any(|pattern| {
            conditions
                .iter()
                .any(|it| it["type"] == pattern["type"] && it["status"] == pattern["status"])
        });
        if by_code || by_condition {
            return match rule["action"].as_str() {
                Some("FailJob") => Verdict::FailsTheJob(format!(
                    "Container {} for pod {} failed with exit code {code} matching FailJob rule at index 0",
                    container["name"].as_str().unwrap_or_default(),
                    name(pod)
                )),
                Some("Ignore") => Verdict::IsIgnored,
                _ => Verdict::Counts,
            };
        }
    }
    Verdict::Counts
}

fn is_ended(pod: &Value) -> bool {
    matches!(
        pod["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    )
}

fn push_condition(job: &mut Value, kind: &str, reason: &str, message: &str) {
    if condition(job, kind).is_none() {
        set_condition(
            job,
            json!({"type": kind, "status": "True", "reason": reason, "message": message}),
        );
    }
}
