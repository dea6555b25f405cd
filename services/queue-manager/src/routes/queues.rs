//! Routes that look at workflows, stop and remove them.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use streamforge_utils::protocol::{QueueId, Symbol, TimestampMs, WorkflowKind};

use super::refusals::{Refusals, RefusedChanges};
use crate::{
    audit::Audited,
    auth::Caller,
    envelope::Envelope,
    error::{ApiError, ErrorDetails},
    extract::{Body, EXPECTED_ID, Query, QueuePath},
    request::{FieldErrors, Stop},
    service::{Service, Stopping, Wanted},
    state::{Status, Workflow},
    store::{Cursor, Filter},
    view::{EventList, LogList, Queue, QueueList},
};

/// Rows of a page if nothing is said.
const ROWS: u32 = 50;
/// Most rows of a page.
const MOST_ROWS: u32 = 500;
/// Lines of a log if nothing is said.
const LINES: u32 = 100;
/// Most lines of a log.
const MOST_LINES: u32 = 1_000;

/// Stops a workflow. Named in the body, or in the query.
#[utoipa::path(post, path = "/queues/stop", tag = "queues",
    params(
        ("queue_id" = Option<String>, Query, pattern = "^wf-[a-zA-Z0-9._-]{1,125}$", description = "Instead of a body"),
        ("drain" = Option<bool>, Query, description = "Without a body: whether the writers empty the topic first"),
    ),
    request_body(content = Option<Stop>),
    responses(
        (status = 200, description = "It had ended before", body = Envelope<Workflow>),
        (status = 202, description = "It is being stopped", body = Envelope<Workflow>),
        (status = 404, description = "There is no such queue", body = Envelope<ErrorDetails>),
        Refusals, RefusedChanges,
    ))]
pub(super) async fn stop(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    mut query: Query,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let named: Option<QueueId> = query.parsed("queue_id", EXPECTED_ID);
    let drain = query.flag("drain");
    if body.is_some() && !query.is_empty() {
        query.wrong(
            "queue_id",
            "a body beside it",
            "a body or a query, not both",
        );
    }
    query.finish()?;
    let (queue_id, drain) = match (body, named) {
        (Some(body), _) => Stop::checked(&body)?,
        (None, Some(queue_id)) => (queue_id, drain),
        (None, None) => {
            let mut errors = FieldErrors::default();
            errors.missing("queue_id", EXPECTED_ID);
            return Err(errors.into());
        }
    };
    let stopped = service.stop(&queue_id, drain, &caller.name).await;
    let mut response = match stopped {
        Ok((stopping, workflow)) => {
            let (code, message) = match stopping {
                Stopping::Begun => (StatusCode::ACCEPTED, "is being stopped"),
                Stopping::AlreadyAsked => (StatusCode::ACCEPTED, "is being stopped already"),
                Stopping::AlreadyEnded => (StatusCode::OK, "has ended already"),
            };
            let envelope = Envelope::success(format!("{queue_id} {message}"), workflow);
            (code, Json(envelope)).into_response()
        }
        Err(error) => error.into_response(),
    };
    Audited::about([queue_id]).add_to(&mut response);
    Ok(response)
}

/// Workflows, newest first.
#[utoipa::path(get, path = "/queues", tag = "queues",
    params(
        ("status" = Option<Vec<Status>>, Query, style = Form, explode = false, description = "Any of these"),
        ("symbol" = Option<String>, Query, pattern = "^[A-Z0-9]{2,20}$"),
        ("type" = Option<String>, Query, description = "As in a start: api_candles_1m"),
        ("created_from" = Option<String>, Query, description = "Unix ms, or an ISO 8601 instant; inclusive"),
        ("created_before" = Option<String>, Query, description = "Unix ms, or an ISO 8601 instant; exclusive"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "Most workflows of an answer, 50 if nothing is said"),
        ("cursor" = Option<String>, Query, description = "next_cursor of an earlier answer with the same filter"),
    ),
    responses((status = 200, description = "A page of them", body = Envelope<QueueList>), Refusals))]
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    mut query: Query,
) -> Result<Envelope<QueueList>, ApiError> {
    let statuses = query.list("status");
    for status in &statuses {
        if Status::ALL.iter().all(|known| known.as_str() != status) {
            let known: Vec<_> = Status::ALL.iter().map(|known| known.as_str()).collect();
            query.wrong("status", status, &format!("one of {}", known.join(", ")));
        }
    }
    let symbol: Option<Symbol> = query.parsed("symbol", "2 to 20 of A-Z and 0-9");
    let kind: Option<WorkflowKind> = query.parsed("type", "a type, such as api_candles_1m");
    let filter = Filter {
        statuses,
        symbol: symbol.map(|symbol| symbol.to_string()),
        kind: kind.map(|kind| kind.to_string()),
        created_from: instant(&mut query, "created_from"),
        created_before: instant(&mut query, "created_before"),
        ..Filter::default()
    };
    let page = page(&mut query);
    query.finish()?;
    let queues = service.list(&filter, &page).await?;
    let message = format!("{} queues", queues.queues.len());
    Ok(Envelope::success(message, queues))
}

/// The same as `GET /queues`.
#[utoipa::path(get, path = "/queues/list", tag = "queues",
    params(
        ("status" = Option<Vec<Status>>, Query, style = Form, explode = false, description = "Any of these"),
        ("symbol" = Option<String>, Query, pattern = "^[A-Z0-9]{2,20}$"),
        ("type" = Option<String>, Query, description = "As in a start: api_candles_1m"),
        ("created_from" = Option<String>, Query, description = "Unix ms, or an ISO 8601 instant; inclusive"),
        ("created_before" = Option<String>, Query, description = "Unix ms, or an ISO 8601 instant; exclusive"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "Most workflows of an answer, 50 if nothing is said"),
        ("cursor" = Option<String>, Query, description = "next_cursor of an earlier answer with the same filter"),
    ),
    responses((status = 200, description = "A page of them", body = Envelope<QueueList>), Refusals))]
pub(super) async fn list_too(
    service: State<Arc<Service>>,
    query: Query,
) -> Result<Envelope<QueueList>, ApiError> {
    list(service, query).await
}

/// A workflow with each of its workers.
#[utoipa::path(get, path = "/queues/{queue_id}", tag = "queues",
    params(("queue_id" = String, Path, pattern = "^wf-[a-zA-Z0-9._-]{1,125}$")),
    responses(
        (status = 200, description = "Its state", body = Envelope<Queue>),
        (status = 404, description = "There is no such queue", body = Envelope<ErrorDetails>),
        Refusals,
    ))]
pub(super) async fn show(
    State(service): State<Arc<Service>>,
    QueuePath(queue_id): QueuePath,
    query: Query,
) -> Result<Envelope<Queue>, ApiError> {
    query.finish()?;
    let queue = service.show(&queue_id).await?;
    let message = format!("{queue_id} is {}", queue.workflow.status.as_str());
    Ok(Envelope::success(message, queue))
}

/// Removes a workflow: its Jobs, topics, history and state. One that has not ended is refused, unless forced.
#[utoipa::path(delete, path = "/queues/{queue_id}", tag = "queues",
    params(
        ("queue_id" = String, Path, pattern = "^wf-[a-zA-Z0-9._-]{1,125}$"),
        ("force" = Option<bool>, Query, description = "Stop it first if it has not ended"),
    ),
    responses(
        (status = 202, description = "It is being removed; once it is gone, asking for it gives 404", body = Envelope<Workflow>),
        (status = 404, description = "There is no such queue", body = Envelope<ErrorDetails>),
        Refusals, RefusedChanges,
    ))]
pub(super) async fn remove(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    QueuePath(queue_id): QueuePath,
    mut query: Query,
) -> Result<Response, ApiError> {
    let force = query.flag("force");
    query.finish()?;
    let workflow = service.remove(&queue_id, force, &caller.name).await?;
    let envelope = Envelope::success(format!("{queue_id} is being removed"), workflow);
    Ok((StatusCode::ACCEPTED, Json(envelope)).into_response())
}

/// What the workers of a workflow have said, oldest first.
#[utoipa::path(get, path = "/queues/{queue_id}/events", tag = "queues",
    params(
        ("queue_id" = String, Path, pattern = "^wf-[a-zA-Z0-9._-]{1,125}$"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "Most events of an answer, 50 if nothing is said"),
        ("cursor" = Option<String>, Query, description = "next_cursor of an earlier answer"),
    ),
    responses(
        (status = 200, description = "A page of them", body = Envelope<EventList>),
        (status = 404, description = "There is no such queue", body = Envelope<ErrorDetails>),
        Refusals,
    ))]
pub(super) async fn events(
    State(service): State<Arc<Service>>,
    QueuePath(queue_id): QueuePath,
    mut query: Query,
) -> Result<Envelope<EventList>, ApiError> {
    let page = page(&mut query);
    query.finish()?;
    let events = service.events(&queue_id, &page).await?;
    let message = format!("{} events", events.events.len());
    Ok(Envelope::success(message, events))
}

/// The ends of the logs of a workflow's workers: of the last pod or process of each.
#[utoipa::path(get, path = "/queues/{queue_id}/logs", tag = "queues",
    params(
        ("queue_id" = String, Path, pattern = "^wf-[a-zA-Z0-9._-]{1,125}$"),
        ("part" = Option<String>, Query, description = "Only of this worker: its telemetry id"),
        ("lines" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Most lines of each, 100 if nothing is said"),
    ),
    responses(
        (status = 200, description = "The logs", body = Envelope<LogList>),
        (status = 404, description = "There is no such queue", body = Envelope<ErrorDetails>),
        Refusals,
    ))]
pub(super) async fn logs(
    State(service): State<Arc<Service>>,
    QueuePath(queue_id): QueuePath,
    mut query: Query,
) -> Result<Envelope<LogList>, ApiError> {
    let part = query.text("part");
    let lines = query.number("lines", LINES, 1, MOST_LINES);
    query.finish()?;
    let logs = service.logs(&queue_id, part.as_deref(), lines).await?;
    let message = format!("logs of {} workers", logs.logs.len());
    Ok(Envelope::success(message, logs))
}

fn page(query: &mut Query) -> Wanted {
    let limit = query.number("limit", ROWS, 1, MOST_ROWS);
    let after: Option<Cursor> = query.parsed("cursor", "next_cursor of an earlier answer");
    Wanted {
        after,
        limit: limit as usize,
    }
}

fn instant(query: &mut Query, name: &'static str) -> Option<TimestampMs> {
    let text = query.text(name)?;
    let parsed = match text.parse::<i64>() {
        Ok(millis) => Some(TimestampMs(millis)),
        Err(_) => text.parse().ok(),
    };
    if parsed.is_none() {
        let expected = "Unix ms, or an ISO 8601 instant such as 2024-08-01T00:00:00Z";
        query.wrong(name, &text, expected);
    }
    parsed
}
