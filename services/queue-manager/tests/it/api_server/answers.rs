//! The routes.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    http::{StatusCode, header::RETRY_AFTER},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Answer, BOOKMARK_EVERY, JOBS, NAMESPACE, PAGE, PODS, Shared, lock,
    store::{Store, name},
};

type Served = State<Arc<Shared>>;
type Parameters = HashMap<String, String>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route(
            "/apis/batch/v1/namespaces/{namespace}/jobs",
            get(list_jobs).post(create_job),
        )
        .route(
            "/apis/batch/v1/namespaces/{namespace}/jobs/{name}",
            get(get_job).delete(delete_job),
        )
        .route("/api/v1/namespaces/{namespace}/pods", get(list_pods))
        .route("/api/v1/namespaces/{namespace}/pods/{name}/log", get(log))
        .route(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            post(review),
        )
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shared),
            interfere,
        ))
        .with_state(shared)
}

/// Notes the request, and answers it otherwise if it is told to.
async fn interfere(State(shared): Served, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let target = request.uri().to_string();
    lock(&shared.requests).push(format!("{method} {target}"));
    if let Some(refusal) = refuse(&shared, method.as_str(), &target) {
        return refusal;
    }
    let answer = {
        let mut faults = lock(&shared.faults);
        let found = faults.iter_mut().find(|fault| {
            fault.times > 0 && fault.method == method.as_str() && target.contains(fault.path)
        });
        found.map(|fault| {
            fault.times -= 1;
            fault.answer
        })
    };
    match answer {
        None => next.run(request).await,
        Some(Answer::Status(code, retry_after)) => {
            let mut answer = status(code, "Told", "told to fail by the test");
            if let Some(secs) = retry_after {
                answer.headers_mut().insert(RETRY_AFTER, secs.into());
            }
            answer
        }
        Some(Answer::Silence) => std::future::pending().await,
        Some(Answer::DoneAndLost) => {
            next.run(request).await;
            shared.cut.send_modify(|cuts| *cuts += 1);
            std::future::pending().await
        }
    }
}

/// 403 and 404 by right and namespace.
fn refuse(shared: &Shared, method: &str, target: &str) -> Option<Response> {
    let rest = target.split("/namespaces/").nth(1)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut parts = path.split('/');
    let (namespace, kind) = (parts.next()?, parts.next()?);
    if namespace != NAMESPACE {
        let message = format!("namespaces {namespace:?} not found");
        return Some(status(404, "NotFound", &message));
    }
    let resource = if path.ends_with("/log") {
        "pods/log"
    } else {
        kind
    };
    let verb = match (method, parts.next()) {
        ("POST", _) => "create",
        ("DELETE", _) => "delete",
        (_, Some(_)) => "get",
        _ if query.contains("watch=true") => "watch",
        _ => "list",
    };
    lock(&shared.rights).insert((resource.to_owned(), verb.to_owned()));
    is_forbidden(shared, verb, resource).then(|| {
        let message = format!(
            "{resource} is forbidden: User \"queue-manager\" cannot {verb} resource \"{resource}\""
        );
        status(403, "Forbidden", &message)
    })
}

fn is_forbidden(shared: &Shared, verb: &str, resource: &str) -> bool {
    let forbidden = lock(&shared.forbidden);
    forbidden
        .iter()
        .any(|(no_verb, no_resource)| no_verb == verb && no_resource == resource)
}

fn status(code: u16, reason: &str, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    });
    (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
}

async fn create_job(State(shared): Served, body: Bytes) -> Response {
    let job: Value = match serde_json::from_slice(&body) {
        Ok(job) => job,
        Err(error) => return status(400, "BadRequest", &error.to_string()),
    };
    let named = name(&job).to_owned();
    match lock(&shared.cluster).create_job(job) {
        Ok(made) => (StatusCode::CREATED, Json(made)).into_response(),
        Err(()) => {
            let message = format!("jobs.batch {named:?} already exists");
            status(409, "AlreadyExists", &message)
        }
    }
}

async fn get_job(State(shared): Served, Path((_, named)): Path<(String, String)>) -> Response {
    match lock(&shared.cluster).store.get(JOBS, &named) {
        Some(job) => Json(job).into_response(),
        None => no_job(&named),
    }
}

async fn delete_job(
    State(shared): Served,
    Path((_, named)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let options: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut cluster = lock(&shared.cluster);
    let Some(job) = cluster.store.get(JOBS, &named).cloned() else {
        return no_job(&named);
    };
    let wanted = &options["preconditions"]["uid"];
    if !wanted.is_null() && *wanted != job["metadata"]["uid"] {
        let message = format!(
            "Operation cannot be fulfilled on jobs.batch {named:?}: Precondition failed: UID in precondition: {wanted}"
        );
        return status(409, "Conflict", &message);
    }
    cluster.delete_job(&named, options["propagationPolicy"] == "Foreground");
    Json(job).into_response()
}

fn no_job(named: &str) -> Response {
    status(404, "NotFound", &format!("jobs.batch {named:?} not found"))
}

async fn log(
    State(shared): Served,
    Path((_, named)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> Response {
    let cluster = lock(&shared.cluster);
    let Some(pod) = cluster.store.get(PODS, &named) else {
        return status(404, "NotFound", &format!("pods {named:?} not found"));
    };
    let Some(text) = pod["log"].as_str() else {
        let message =
            format!("container \"worker\" in pod {named:?} is waiting to start: ContainerCreating");
        return status(400, "BadRequest", &message);
    };
    let lines: Vec<&str> = text.lines().collect();
    let tail = parameters
        .get("tailLines")
        .map(|tail| tail.parse().unwrap());
    let first = lines.len().saturating_sub(tail.unwrap_or(usize::MAX));
    lines[first..].join("\n").into_response()
}

async fn review(State(shared): Served, Json(mut review): Json<Value>) -> Response {
    let asked = &review["spec"]["resourceAttributes"];
    let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
    let allowed = !is_forbidden(&shared, &text("verb"), &text("resource"));
    review["status"] = json!({"allowed": allowed});
    (StatusCode::CREATED, Json(review)).into_response()
}

async fn list_jobs(State(shared): Served, Query(parameters): Query<Parameters>) -> Response {
    list_or_watch(shared, JOBS, &parameters)
}

async fn list_pods(State(shared): Served, Query(parameters): Query<Parameters>) -> Response {
    list_or_watch(shared, PODS, &parameters)
}

fn list_or_watch(shared: Arc<Shared>, kind: &'static str, parameters: &Parameters) -> Response {
    let selector = parameters.get("labelSelector").cloned().unwrap_or_default();
    if parameters.get("watch").is_some_and(|watch| watch == "true") {
        return watch(shared, kind, selector, parameters);
    }
    let cluster = lock(&shared.cluster);
    list(&cluster.store, kind, &selector, parameters)
}

/// A page, and where the next one begins: version and last name. All pages are of the version of the first.
fn list(store: &Store, kind: &'static str, selector: &str, parameters: &Parameters) -> Response {
    let (version, after) = match parameters.get("continue") {
        None => (store.version, String::new()),
        Some(token) => {
            let (version, after) = token.split_once(':').unwrap();
            (version.parse().unwrap(), after.to_owned())
        }
    };
    if version < store.forgotten {
        return status(410, "Expired", "The provided continue parameter is too old");
    }
    let limit = parameters
        .get("limit")
        .map_or(PAGE, |limit| limit.parse().unwrap());
    let mut found: Vec<&Value> = store
        .list(kind)
        .filter(|object| name(object) > after.as_str() && is_selected(object, selector))
        .collect();
    let is_last = found.len() <= limit.min(PAGE);
    found.truncate(limit.min(PAGE));
    let token = match found.last() {
        Some(last) if !is_last => format!("{version}:{}", name(last)),
        _ => String::new(),
    };
    Json(json!({
        "kind": "List", "apiVersion": "v1",
        "metadata": {"resourceVersion": version.to_string(), "continue": token},
        "items": found,
    }))
    .into_response()
}

fn is_selected(object: &Value, selector: &str) -> bool {
    selector
        .split(',')
        .filter(|part| !part.is_empty())
        .all(|part| {
            let (key, value) = part
                .split_once('=')
                .expect("selectors here are of equality");
            object["metadata"]["labels"][key] == value
        })
}

fn watch(
    shared: Arc<Shared>,
    kind: &'static str,
    selector: String,
    parameters: &Parameters,
) -> Response {
    let mut version: u64 = parameters["resourceVersion"].parse().unwrap();
    let secs = parameters
        .get("timeoutSeconds")
        .map_or(60, |secs| secs.parse().unwrap());
    let end = Instant::now() + std::time::Duration::from_secs(secs);
    let wants_bookmarks = parameters
        .get("allowWatchBookmarks")
        .is_some_and(|it| it == "true");
    let mut changes = lock(&shared.cluster).store.changes();
    let stream = async_stream::stream! {
        loop {
            changes.mark_unchanged();
            let news = {
                let cluster = lock(&shared.cluster);
                let news = cluster.store.since(kind, version);
                version = cluster.store.version;
                news
            };
            let Some(news) = news else {
                yield line("ERROR", &json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "code": 410, "reason": "Expired", "message": "too old resource version",
                }));
                return;
            };
            for change in news {
                if is_selected(&change.object, &selector) {
                    yield line(change.event, &change.object);
                }
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(end) => return,
                () = tokio::time::sleep(BOOKMARK_EVERY), if wants_bookmarks => {
                    let api = if kind == JOBS { ("batch/v1", "Job") } else { ("v1", "Pod") };
                    yield line("BOOKMARK", &json!({
                        "apiVersion": api.0, "kind": api.1,
                        "metadata": {"resourceVersion": version.to_string()},
                    }));
                }
            }
        }
    };
    Body::from_stream(stream).into_response()
}

fn line(event: &str, object: &Value) -> Result<Bytes, std::convert::Infallible> {
    let event = json!({"type": event, "object": object});
    Ok(Bytes::from(format!("{event}\n")))
}
