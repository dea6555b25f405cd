//! The routes: who is answered what, and who is answered otherwise because a test says so.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header::RETRY_AFTER},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, patch, post},
};
use serde_json::{Value, json};

use super::{Answer, NAMESPACE, Shared, lock, objects};

pub(super) type Served = State<Arc<Shared>>;

pub(super) fn router(shared: &Arc<Shared>) -> Router {
    let one = get(objects::get).delete(objects::delete);
    let mut router = Router::new();
    for group in ["/apis/batch/v1", "/api/v1"] {
        router = router
            .route(
                &format!("{group}/namespaces/{{namespace}}/{{kind}}"),
                get(objects::list).post(objects::create),
            )
            .route(
                &format!("{group}/namespaces/{{namespace}}/{{kind}}/{{name}}"),
                one.clone(),
            )
            .route(
                &format!("{group}/namespaces/{{namespace}}/{{kind}}/{{name}}/status"),
                patch(objects::patch_status),
            );
    }
    router
        .route(
            "/api/v1/namespaces/{namespace}/pods/{name}/log",
            get(objects::log),
        )
        .route(
            "/api/v1/namespaces/{namespace}/pods/{name}/eviction",
            post(objects::evict),
        )
        // Of the whole cluster: nodes, and pods of all namespaces.
        .route(
            "/api/v1/{kind}",
            get(objects::list_all).post(objects::create_node),
        )
        .route(
            "/api/v1/nodes/{name}",
            get(objects::get_node).delete(objects::delete_node),
        )
        .route(
            "/api/v1/nodes/{name}/status",
            patch(objects::patch_node_status),
        )
        .route(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            post(review),
        )
        .with_state(Arc::clone(shared))
}

/// With what tests do to requests.
pub(super) fn interfered(router: Router, shared: &Arc<Shared>) -> Router {
    router.layer(middleware::from_fn_with_state(
        Arc::clone(shared),
        interfere,
    ))
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
            if let Some(cut) = shared.cut.get() {
                cut.send_modify(|cuts| *cuts += 1);
            }
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
        ("PATCH", _) => "patch",
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

pub(super) fn status(code: u16, reason: &str, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    });
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, Json(body)).into_response()
}

async fn review(State(shared): Served, Json(mut review): Json<Value>) -> Response {
    let asked = &review["spec"]["resourceAttributes"];
    let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
    let allowed = !is_forbidden(&shared, &text("verb"), &text("resource"));
    review["status"] = json!({"allowed": allowed});
    (StatusCode::CREATED, Json(review)).into_response()
}
