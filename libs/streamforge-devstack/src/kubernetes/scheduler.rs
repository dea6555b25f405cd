//! Finds a node for each pod, by the labels that the pod asks for. Before there is any node, pods just wait, so that a
//! test may tell them what to do.

use serde_json::{Value, json};

use super::{
    controller::Cluster,
    store::{NODES, PODS, at, name},
};

impl Cluster {
    /// Gives every pod that has none a node, or says why there is none.
    pub(super) fn schedule(&mut self) {
        let nodes: Vec<Value> = self.store.list(NODES).cloned().collect();
        if nodes.is_empty() && !self.had_nodes {
            return;
        }
        self.had_nodes = true;
        let waits = |pod: &&Value| {
            pod["spec"]["nodeName"].is_null() && pod["metadata"]["deletionTimestamp"].is_null()
        };
        let waiting: Vec<Value> = self.store.list(PODS).filter(waits).cloned().collect();
        for pod in waiting {
            let node = nodes.iter().find(|node| is_ready(node) && fits(node, &pod));
            let condition = match node {
                Some(_) => json!({"type": "PodScheduled", "status": "True"}),
                None => json!({
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "message": format!(
                        "0/{0} nodes are available: {0} node(s) didn't match Pod's node affinity/selector.",
                        nodes.len()
                    ),
                }),
            };
            self.store.change(PODS, name(&pod), |pod| {
                if let Some(node) = node {
                    pod["spec"]["nodeName"] = json!(name(node));
                }
                set_condition(pod, condition);
            });
        }
    }
}

fn is_ready(node: &Value) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready["status"] == "True")
}

fn fits(node: &Value, pod: &Value) -> bool {
    let wanted = pod["spec"]["nodeSelector"].as_object();
    wanted.is_none_or(|wanted| {
        wanted
            .iter()
            .all(|(key, value)| node["metadata"]["labels"][key] == *value)
    })
}

/// A condition of a status.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// Sets the condition of its type. Its time is that of the last change of its status.
pub(super) fn set_condition(object: &mut Value, mut condition: Value) {
    let conditions = &mut object["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    let there = conditions
        .iter_mut()
        .find(|there| there["type"] == condition["type"]);
    let since = there
        .as_ref()
        .filter(|there| there["status"] == condition["status"])
        .map(|there| there["lastTransitionTime"].clone());
    if condition["lastTransitionTime"].is_null() {
        condition["lastTransitionTime"] = since.unwrap_or_else(|| json!(at(0)));
    }
    match there {
        Some(there) => *there = condition,
        None => conditions.push(condition),
    }
}
