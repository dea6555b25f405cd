//! What a node says of itself and its pods, in the words of a kubelet. Pure.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use serde_json::{Value, json};

use super::super::store::at;

/// A node that takes pods, and serves logs on `port`.
pub(super) fn node(port: u16) -> Value {
    let resources =
        json!({"cpu": "64", "memory": "64Gi", "pods": "500", "ephemeral-storage": "64Gi"});
    json!({"status": {
        "capacity": resources,
        "allocatable": resources,
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady",
            "message": "it runs pods as processes", "lastHeartbeatTime": at(0),
        }],
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {
            "architecture": std::env::consts::ARCH, "operatingSystem": std::env::consts::OS,
            "kubeletVersion": concat!("v0.0.0-streamforge-", env!("CARGO_PKG_VERSION")),
            "containerRuntimeVersion": "process://0", "kubeProxyVersion": "", "kernelVersion": "",
            "osImage": "", "machineID": "", "systemUUID": "", "bootID": "",
        },
    }})
}

/// How a program ended, as a container's exit code.
pub(super) fn exit_code(status: ExitStatus) -> i32 {
    let by_signal = || status.signal().map(|signal| 128 + signal);
    status.code().or_else(by_signal).unwrap_or(-1)
}

/// A status of a pod with one container.
pub(super) struct OfPod<'a> {
    pub(super) container: &'a str,
    pub(super) image: &'a str,
}

impl OfPod<'_> {
    /// Its container is not there yet.
    pub(super) fn waiting(&self, reason: &str, message: &str) -> Value {
        let state = json!({"waiting": {"reason": reason, "message": message}});
        self.with("Pending", &state, false)
    }

    /// Its program runs since then.
    pub(super) fn running(&self, since: &str) -> Value {
        self.with("Running", &json!({"running": {"startedAt": since}}), true)
    }

    /// Its program has ended; `said` is the end of its log.
    pub(super) fn ended(&self, since: &str, code: i32, said: &str) -> Value {
        let (phase, reason) = match code {
            0 => ("Succeeded", "Completed"),
            _ => ("Failed", "Error"),
        };
        let end = json!({
            "exitCode": code, "reason": reason, "message": said, "startedAt": since,
            "finishedAt": at(0), "containerID": "",
        });
        self.with(phase, &json!({"terminated": end}), false)
    }

    /// It was told to go before its program ran.
    pub(super) fn never_ran(&self) -> Value {
        let end = json!({
            "exitCode": 137, "reason": "ContainerStatusUnknown", "startedAt": null, "finishedAt": null,
            "message": "The container could not be located when the pod was terminated",
        });
        self.with("Failed", &json!({"terminated": end}), false)
    }

    fn with(&self, phase: &str, state: &Value, is_ready: bool) -> Value {
        let truth = if is_ready { "True" } else { "False" };
        let ready =
            |kind: &str| json!({"type": kind, "status": truth, "lastTransitionTime": at(0)});
        json!({
            "phase": phase,
            "hostIP": "127.0.0.1",
            "podIP": "127.0.0.1",
            "conditions": [
                {"type": "Initialized", "status": "True"},
                ready("Ready"),
                ready("ContainersReady"),
            ],
            "containerStatuses": [{
                "name": self.container, "image": self.image, "imageID": self.image, "restartCount": 0,
                "ready": is_ready, "started": is_ready, "state": state, "lastState": {},
            }],
        })
    }
}

/// Adds that the node has ended it, for want of something.
pub(super) fn evicted(mut status: Value, message: &str) -> Value {
    status["phase"] = json!("Failed");
    status["reason"] = json!("Evicted");
    status["message"] = json!(message);
    if let Some(conditions) = status["conditions"].as_array_mut() {
        conditions.push(json!({
            "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet",
            "message": message, "lastTransitionTime": at(0),
        }));
    }
    status
}
