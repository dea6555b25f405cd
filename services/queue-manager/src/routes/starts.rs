//! Routes that begin a run: they take an `Idempotency-Key`.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{FromRequest, FromRequestParts, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::Value;

use super::{
    Api,
    refusals::{Refusals, RefusedChanges},
};
use crate::{
    audit::Audited,
    auth::Caller,
    envelope::Envelope,
    error::ApiError,
    extract::{Body, Query, QueuePath},
    request::{Start, StartPipeline, StartTestFlow},
    service::{Answer, Key, Once, Service, Shorts},
    state::Workflow,
    store::Fingerprint,
    view::{Started, StartedQueues},
};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A request to start something.
pub(super) struct Asked {
    service: Arc<Service>,
    key: Option<Key>,
    fingerprint: Fingerprint,
    body: Value,
}

impl FromRequest<Api> for Asked {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        Query::from_request_parts(&mut parts, api).await?.finish()?;
        let caller = parts
            .extensions
            .get::<Caller>()
            .ok_or(ApiError::Unauthorized)?;
        let key = key_of(caller, &parts.headers)?;
        let path = parts.uri.path().to_owned();
        let request = Request::from_parts(parts, body);
        let body = Body::from_request(request, api).await?.required()?;
        // The same for bodies that say the same.
        let text = serde_json::to_vec(&body).expect("a JSON value is JSON");
        Ok(Self {
            service: Arc::clone(&api.service),
            key,
            fingerprint: Fingerprint::of(&[path.as_bytes(), &text]),
            body,
        })
    }
}

impl Asked {
    async fn once<F>(
        self,
        work: impl FnOnce(Arc<Service>, Value, Shorts) -> F,
    ) -> Result<Response, ApiError>
    where
        F: Future<Output = Result<Answer, ApiError>> + Send + 'static,
    {
        let shorts = Shorts::of(self.key.as_ref());
        let work = work(Arc::clone(&self.service), self.body, shorts);
        let once = self.service.once(self.key, self.fingerprint, work);
        Ok(respond(once.await?))
    }
}

/// Starts a workflow, worker by worker.
#[utoipa::path(post, path = "/queues/start-pipeline", tag = "start",
    params(("Idempotency-Key" = Option<String>, Header, description = "Asked again with the same key within a day, the first answer comes again", min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    request_body = StartPipeline,
    responses(
        (status = 202, description = "Taken on; it starts when it is its turn", body = Envelope<Started>,
            headers(("Idempotency-Replayed" = Option<bool>, description = "true if nothing was done this time"))),
        Refusals, RefusedChanges,
    ))]
pub(super) async fn start_pipeline(asked: Asked) -> Result<Response, ApiError> {
    asked
        .once(|service, body, shorts| async move {
            one(&service.start_pipeline(&body, shorts).await?)
        })
        .await
}

/// Starts a loader and a writer for one type; of a list of symbols one workflow each.
#[utoipa::path(post, path = "/queues/start", tag = "start",
    params(("Idempotency-Key" = Option<String>, Header, description = "Asked again with the same key within a day, the first answer comes again", min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    request_body = Start,
    responses(
        (status = 202, description = "Taken on, all of them; each starts when it is its turn", body = Envelope<StartedQueues>,
            headers(("Idempotency-Replayed" = Option<bool>, description = "true if nothing was done this time"))),
        Refusals, RefusedChanges,
    ))]
pub(super) async fn start(asked: Asked) -> Result<Response, ApiError> {
    asked
        .once(|service, body, shorts| async move {
            let workflows = service.start(&body, shorts).await?;
            let queues: Vec<Started> = workflows.iter().map(Started::from).collect();
            let message = match queues.as_slice() {
                [one] => format!("{} was taken on", one.queue_id),
                all => format!("{} queues were taken on", all.len()),
            };
            answer(&workflows, &message, StartedQueues { queues })
        })
        .await
}

/// Starts a workflow that the operator has written down.
#[utoipa::path(post, path = "/queues/start-test-flow", tag = "start",
    params(("Idempotency-Key" = Option<String>, Header, description = "Asked again with the same key within a day, the first answer comes again", min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    request_body = StartTestFlow,
    responses(
        (status = 202, description = "Taken on; it starts when it is its turn", body = Envelope<Started>,
            headers(("Idempotency-Replayed" = Option<bool>, description = "true if nothing was done this time"))),
        Refusals, RefusedChanges,
    ))]
pub(super) async fn start_test_flow(asked: Asked) -> Result<Response, ApiError> {
    asked
        .once(|service, body, shorts| async move {
            one(&service.start_test_flow(&body, shorts).await?)
        })
        .await
}

/// Runs again what did not finish, as the next run of the same workflow.
#[utoipa::path(post, path = "/queues/{queue_id}/retry", tag = "start",
    params(
        ("queue_id" = String, Path, pattern = "^wf-[a-zA-Z0-9._-]{1,125}$"),
        ("Idempotency-Key" = Option<String>, Header, description = "Asked again with the same key within a day, the first answer comes again", min_length = 1, max_length = 255, pattern = "^[ -~]+$")
    ),
    responses(
        (status = 202, description = "Taken on; it starts when it is its turn", body = Envelope<Started>,
            headers(("Idempotency-Replayed" = Option<bool>, description = "true if nothing was done this time"))),
        (status = 404, description = "There is no such queue", body = Envelope<crate::error::ErrorDetails>),
        Refusals, RefusedChanges,
    ))]
pub(super) async fn retry(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    QueuePath(queue_id): QueuePath,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, ApiError> {
    query.finish()?;
    let key = key_of(&caller, &headers)?;
    let request = Fingerprint::of(&[b"retry", queue_id.as_str().as_bytes()]);
    let worker = Arc::clone(&service);
    let once = service.once(key, request, async move {
        let workflow = worker.retry(&queue_id).await?;
        let message = format!("run {} of {queue_id} was taken on", workflow.run);
        let started = Started::from(&workflow);
        answer(&[workflow], &message, started)
    });
    Ok(respond(once.await?))
}

fn one(workflows: &[Workflow]) -> Result<Answer, ApiError> {
    let Some(first) = workflows.first() else {
        return Err(ApiError::Internal("a start without a workflow".to_owned()));
    };
    let message = format!("{} was taken on", first.queue_id);
    answer(workflows, &message, Started::from(first))
}

fn answer<T: Serialize>(
    workflows: &[Workflow],
    message: &str,
    data: T,
) -> Result<Answer, ApiError> {
    let body = serde_json::to_value(Envelope::success(message, data))
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let queues = workflows.iter().map(|workflow| workflow.queue_id.clone());
    Ok(Answer {
        code: StatusCode::ACCEPTED.as_u16(),
        body,
        queues: queues.collect(),
    })
}

fn respond(once: Once) -> Response {
    let Once {
        answer,
        is_replayed,
    } = once;
    let code = StatusCode::from_u16(answer.code).unwrap_or(StatusCode::ACCEPTED);
    let mut response = (code, Json(answer.body)).into_response();
    if is_replayed {
        let headers = response.headers_mut();
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Audited::about(answer.queues).add_to(&mut response);
    response
}

fn key_of(caller: &Caller, headers: &HeaderMap) -> Result<Option<Key>, ApiError> {
    headers
        .get(KEY)
        .map(|key| Key::new(&caller.name, key.to_str().unwrap_or_default()))
        .transpose()
}
