//! What happens to a pod, as a test tells it.

use serde_json::{Value, json};

use super::{
    ApiServer, PODS,
    store::{at, name},
};

/// One pod. Each call is what its node, the scheduler or an operator does to it; the Job's controller acts at once.
pub struct PodHandle<'a> {
    pub(super) server: &'a ApiServer,
    pub(super) name: String,
}

impl PodHandle<'_> {
    /// No node takes it.
    pub fn unschedulable(&self, message: &str) {
        self.status(json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastTransitionTime": at(0),
        }]}));
    }

    /// Its container waits: `ErrImagePull`, `CreateContainerConfigError`, ….
    pub fn waits(&self, reason: &str, message: &str) {
        let state = json!({"waiting": {"reason": reason, "message": message}});
        self.status(in_state("Pending", &state));
    }

    /// Its program runs.
    pub fn runs(&self) {
        self.status(in_state(
            "Running",
            &json!({"running": {"startedAt": at(0)}}),
        ));
    }

    /// Its program ends with 0.
    pub fn succeeds(&self) {
        self.ends("Succeeded", 0, "Completed", "");
    }

    /// Its program ends with another code, and these were its last words.
    pub fn exits(&self, code: i32, log: &str) {
        self.ends("Failed", code, "Error", log);
    }

    /// Its worker ends, and a container that was put beside it runs on.
    pub fn ends_beside_a_sidecar(&self, code: i32, reason: &str, ago_secs: i64) {
        let end = json!({"exitCode": code, "reason": reason, "finishedAt": at(-ago_secs)});
        let mut status = in_state("Running", &json!({"terminated": end}));
        let sidecar = in_state("Running", &json!({"running": {}}))["containerStatuses"][0].clone();
        if let Some(all) = status["containerStatuses"].as_array_mut() {
            all.push(sidecar);
            all[1]["name"] = json!("proxy");
        }
        self.status(status);
    }

    /// It used more memory than it may.
    pub fn runs_out_of_memory(&self) {
        self.ends("Failed", 137, "OOMKilled", "");
    }

    /// Its node is short of something.
    pub fn is_evicted(&self, message: &str) {
        let mut status = ended("Failed", 143, "Error", "");
        status["reason"] = json!("Evicted");
        status["message"] = json!(message);
        status["conditions"] = disrupted("TerminationByKubelet", message);
        self.status(status);
    }

    /// A pod of higher priority needs its place.
    pub fn is_preempted(&self) {
        let mut status = ended("Failed", 143, "Error", "");
        status["conditions"] = disrupted("PreemptionByScheduler", "preempting to accommodate");
        self.status(status);
    }

    /// Its node does not answer: it is told to go, and nobody knows whether it went.
    pub fn loses_its_node(&self) {
        self.change(|pod| {
            pod["metadata"]["deletionTimestamp"] = json!(at(30));
            pod["status"]["conditions"] = disrupted(
                "DeletionByTaintManager",
                "Taint manager: deleting due to NoExecute taint",
            );
        });
    }

    /// It is gone, after it was told to go or with its node.
    pub fn is_gone(&self) {
        let mut cluster = self.server.cluster();
        if let Some(pod) = cluster.store.get(PODS, &self.name).cloned() {
            cluster.remove_pod(&pod);
        }
    }

    /// What its log holds.
    pub fn logs(&self, text: &str) {
        self.change(|pod| pod["log"] = json!(text));
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn ends(&self, phase: &str, code: i32, reason: &str, log: &str) {
        self.status(ended(phase, code, reason, log));
    }

    fn status(&self, status: Value) {
        self.change(|pod| {
            pod["status"] = status;
            name_container(pod);
            pod["spec"]["nodeName"] = json!("node-1");
        });
    }

    fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut cluster = self.server.cluster();
        cluster.store.change(PODS, &self.name, change);
        let pod = cluster.store.get(PODS, &self.name).cloned();
        let pod = pod.unwrap_or_else(|| panic!("pod {} is gone", self.name));
        let is_going = !pod["metadata"]["deletionTimestamp"].is_null();
        let is_ended = matches!(
            pod["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        );
        if is_going && is_ended {
            cluster.remove_pod(&pod);
        } else {
            cluster.changed(PODS, name(&pod));
        }
    }
}

/// Gives the first container of a status the name that its pod has for it.
pub(super) fn name_container(pod: &mut Value) {
    let name = pod["spec"]["containers"][0]["name"].clone();
    if let Some(container) = pod["status"]["containerStatuses"].get_mut(0) {
        container["name"] = name;
    }
}

/// A status with one container in a state.
pub(super) fn in_state(phase: &str, state: &Value) -> Value {
    json!({
        "phase": phase,
        "containerStatuses": [{
            "name": "", "image": "", "imageID": "", "restartCount": 0,
            "ready": phase == "Running", "state": state,
        }],
    })
}

fn ended(phase: &str, code: i32, reason: &str, log: &str) -> Value {
    let end = json!({"exitCode": code, "reason": reason, "message": log, "finishedAt": at(0)});
    in_state(phase, &json!({"terminated": end}))
}

fn disrupted(reason: &str, message: &str) -> Value {
    json!([{
        "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": at(0),
    }])
}
