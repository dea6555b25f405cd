//! Objects one by one: made, read, changed, deleted, and what a pod said.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::{
    Shared,
    answers::{Served, status},
    listing::{Parameters, list_or_watch},
    lock,
    node::logs,
    scheduler::{condition, set_condition},
    store::{self, JOBS, NODES, PODS, name},
};

/// Namespace, kind and name.
type At = Path<(String, String, String)>;

fn no_kind(kind: &str) -> Response {
    let message = format!("the server could not find the requested resource: {kind}");
    status(404, "NotFound", &message)
}

fn not_there(kind: &str, named: &str) -> Response {
    let group = if kind == JOBS { "jobs.batch" } else { kind };
    status(404, "NotFound", &format!("{group} {named:?} not found"))
}

pub(super) async fn create(
    State(shared): Served,
    Path((_, kind)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    create_one(&shared, &kind, &body)
}

pub(super) async fn create_node(
    State(shared): Served,
    Path(kind): Path<String>,
    body: Bytes,
) -> Response {
    create_one(&shared, &kind, &body)
}

fn create_one(shared: &Shared, kind: &str, body: &Bytes) -> Response {
    let Some(kind) = store::kind(kind) else {
        return no_kind(kind);
    };
    let object: Value = match serde_json::from_slice(body) {
        Ok(object) => object,
        Err(error) => return status(400, "BadRequest", &error.to_string()),
    };
    let named = name(&object).to_owned();
    let mut cluster = lock(&shared.cluster);
    let made = match kind {
        JOBS => cluster.create_job(object).ok(),
        _ if cluster.store.get(kind, &named).is_some() => None,
        _ => Some(cluster.store.add(kind, object)),
    };
    cluster.schedule();
    match made {
        Some(made) => (StatusCode::CREATED, Json(made)).into_response(),
        None => {
            let group = if kind == JOBS { "jobs.batch" } else { kind };
            let message = format!("{group} {named:?} already exists");
            status(409, "AlreadyExists", &message)
        }
    }
}

pub(super) async fn get(State(shared): Served, Path((_, kind, named)): At) -> Response {
    get_one(&shared, &kind, &named)
}

pub(super) async fn get_node(State(shared): Served, Path(named): Path<String>) -> Response {
    get_one(&shared, NODES, &named)
}

fn get_one(shared: &Shared, kind: &str, named: &str) -> Response {
    let Some(kind) = store::kind(kind) else {
        return no_kind(kind);
    };
    match lock(&shared.cluster).store.get(kind, named) {
        Some(object) => Json(object).into_response(),
        None => not_there(kind, named),
    }
}

pub(super) async fn list(
    State(shared): Served,
    Path((_, kind)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> Response {
    match store::kind(&kind) {
        Some(kind) => list_or_watch(shared, kind, &parameters),
        None => no_kind(&kind),
    }
}

pub(super) async fn list_all(
    State(shared): Served,
    Path(kind): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Response {
    match store::kind(&kind) {
        Some(kind) => list_or_watch(shared, kind, &parameters),
        None => no_kind(&kind),
    }
}

pub(super) async fn delete(
    State(shared): Served,
    Path((_, kind, named)): At,
    body: Bytes,
) -> Response {
    let Some(kind) = store::kind(&kind) else {
        return no_kind(&kind);
    };
    let options: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut cluster = lock(&shared.cluster);
    let Some(object) = cluster.store.get(kind, &named).cloned() else {
        return not_there(kind, &named);
    };
    let wanted = &options["preconditions"]["uid"];
    if !wanted.is_null() && *wanted != object["metadata"]["uid"] {
        let message = format!(
            "Operation cannot be fulfilled on {kind} {named:?}: Precondition failed: UID in precondition: {wanted}"
        );
        return status(409, "Conflict", &message);
    }
    match kind {
        JOBS => cluster.delete_job(&named, options["propagationPolicy"] == "Foreground"),
        PODS => cluster.delete_pod(&object, options["gracePeriodSeconds"].as_i64()),
        _ => cluster.store.remove(kind, &named),
    }
    Json(object).into_response()
}

/// A node is gone, and with it what ran there.
pub(super) async fn delete_node(State(shared): Served, Path(named): Path<String>) -> Response {
    let mut cluster = lock(&shared.cluster);
    match cluster.store.get(NODES, &named).cloned() {
        Some(node) => {
            cluster.remove_node(&named);
            Json(node).into_response()
        }
        None => not_there(NODES, &named),
    }
}

pub(super) async fn patch_status(
    State(shared): Served,
    Path((_, kind, named)): At,
    Json(patch): Json<Value>,
) -> Response {
    patch_one(&shared, &kind, &named, patch)
}

pub(super) async fn patch_node_status(
    State(shared): Served,
    Path(named): Path<String>,
    Json(patch): Json<Value>,
) -> Response {
    patch_one(&shared, NODES, &named, patch)
}

/// A strategic merge patch, as far as a status needs it: conditions are told apart by their type, other lists are
/// replaced.
fn patch_one(shared: &Shared, kind: &str, named: &str, mut patch: Value) -> Response {
    let Some(kind) = store::kind(kind) else {
        return no_kind(kind);
    };
    let mut cluster = lock(&shared.cluster);
    let Some(there) = cluster.store.get(kind, named) else {
        return not_there(kind, named);
    };
    let uid = &patch["metadata"]["uid"];
    if !uid.is_null() && *uid != there["metadata"]["uid"] {
        let message = format!("Precondition failed: UID in precondition: {uid}");
        return status(409, "Conflict", &message);
    }
    let mut status = patch["status"].take();
    let conditions = status
        .as_object_mut()
        .and_then(|status| status.remove("conditions"));
    cluster.store.change(kind, named, |object| {
        json_patch::merge(&mut object["status"], &status);
        for condition in conditions
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            set_condition(object, condition.clone());
        }
    });
    cluster.changed(kind, named);
    Json(cluster.store.get(kind, named).cloned()).into_response()
}

/// As when a node is drained: nothing here has a disruption budget.
pub(super) async fn evict(
    State(shared): Served,
    Path((_, named)): Path<(String, String)>,
) -> Response {
    let mut cluster = lock(&shared.cluster);
    if cluster.store.get(PODS, &named).is_none() {
        return not_there(PODS, &named);
    }
    cluster.store.change(PODS, &named, |pod| {
        set_condition(
            pod,
            json!({
                "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
            }),
        );
    });
    if let Some(pod) = cluster.store.get(PODS, &named).cloned() {
        cluster.delete_pod(&pod, None);
    }
    let done = json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201});
    (StatusCode::CREATED, Json(done)).into_response()
}

/// What a test says that the pod said; else what its node has of it.
pub(super) async fn log(
    State(shared): Served,
    Path((namespace, named)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> Response {
    let (told, node, container) = {
        let cluster = lock(&shared.cluster);
        let Some(pod) = cluster.store.get(PODS, &named) else {
            return not_there(PODS, &named);
        };
        let own = pod["spec"]["containers"][0]["name"].as_str();
        let own = own.unwrap_or_default().to_owned();
        let asked = parameters.get("container").unwrap_or(&own);
        if *asked != own {
            let message = format!("container {asked} is not valid for pod {named}");
            return status(400, "BadRequest", &message);
        }
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let told = pod["log"].as_str().map(str::to_owned);
        (told, cluster.store.get(NODES, node).cloned(), own)
    };
    let no_log = || {
        let message = format!(
            "container {container:?} in pod {named:?} is waiting to start: ContainerCreating"
        );
        status(400, "BadRequest", &message)
    };
    match (told, node) {
        (Some(text), _) => {
            let number = |name: &str| parameters.get(name)?.parse::<usize>().ok();
            logs::part(text.as_bytes(), number("tailLines"), number("limitBytes"))
                .to_vec()
                .into_response()
        }
        (None, Some(node)) => {
            match of_node(&node, &namespace, &named, &container, &parameters).await {
                Ok(text) => text.into_response(),
                Err(error) => {
                    tracing::debug!(%error, pod = %named, "No log");
                    no_log()
                }
            }
        }
        (None, None) => no_log(),
    }
}

async fn of_node(
    node: &Value,
    namespace: &str,
    pod: &str,
    container: &str,
    parameters: &Parameters,
) -> anyhow::Result<String> {
    let address = node["status"]["addresses"][0]["address"].as_str();
    let port = &node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"];
    let url = format!("http://{}:{port}", address.unwrap_or_default());
    let client = Client::try_from(Config::new(url.parse()?))?;
    let wanted = |name: &str| {
        let value = parameters.get(name)?.parse::<u64>().ok()?;
        Some(format!("{name}={value}&"))
    };
    let query: String = ["tailLines", "limitBytes"]
        .into_iter()
        .filter_map(wanted)
        .collect();
    let request = axum::http::Request::get(format!(
        "/containerLogs/{namespace}/{pod}/{container}?{query}"
    ))
    .body(Vec::new())?;
    Ok(client.request_text(request).await?)
}

impl super::controller::Cluster {
    /// What follows from a change of a status.
    pub(super) fn changed(&mut self, kind: &'static str, named: &str) {
        if kind == PODS
            && let Some(pod) = self.store.get(PODS, named)
        {
            let owner = pod["metadata"]["ownerReferences"][0]["name"].clone();
            self.reconcile(owner.as_str().unwrap_or_default());
        }
        if kind == NODES && self.store.get(NODES, named).is_some_and(is_ready) {
            self.schedule();
        }
    }
}

fn is_ready(node: &Value) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready["status"] == "True")
}
