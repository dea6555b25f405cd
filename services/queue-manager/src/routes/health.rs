//! What probes and Prometheus ask. Needs no token, and is not bounded: a busy replica is not a dead one.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header::CONTENT_TYPE};
use prometheus::Registry;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    envelope::Envelope,
    error::ApiError,
    readiness::{Answer, Readiness},
};

/// How a replica is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Health {
    /// What it needs, and whether that answers; why not stands in its log.
    pub needs: Vec<Answer>,
}

fn answer(is_well: bool, word: &str, needs: Vec<Answer>) -> Response {
    let health = Health { needs };
    if is_well {
        Envelope::success(word, health).into_response()
    } else {
        let envelope = Envelope::error(format!("not {word}"), health);
        (StatusCode::SERVICE_UNAVAILABLE, axum::Json(envelope)).into_response()
    }
}

/// Whether the process works at all.
#[utoipa::path(get, path = "/health/live", tag = "health", security(()),
    responses((status = 200, description = "It does", body = Envelope<Health>)))]
pub(super) async fn live() -> Response {
    answer(true, "live", Vec::new())
}

/// Whether it can do its work: Kafka, ArangoDB and the launcher answer.
#[utoipa::path(get, path = "/health/ready", tag = "health", security(()),
    responses(
        (status = 200, description = "It can", body = Envelope<Health>),
        (status = 503, description = "It starts or ends, or something does not answer", body = Envelope<Health>),
    ))]
pub(super) async fn ready(State(readiness): State<Readiness>) -> Response {
    let (is_ready, needs) = readiness.answers().await;
    answer(is_ready, "ready", needs)
}

/// Whether its start is over.
#[utoipa::path(get, path = "/health/startup", tag = "health", security(()),
    responses(
        (status = 200, description = "It is", body = Envelope<Health>),
        (status = 503, description = "It is not", body = Envelope<Health>),
    ))]
pub(super) async fn startup(State(readiness): State<Readiness>) -> Response {
    answer(readiness.is_started(), "started", Vec::new())
}

/// Metrics, in the text form of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", security(()),
    responses((status = 200, description = "All metrics", body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(registry): State<Registry>) -> Result<Response, ApiError> {
    let (text, content_type) = streamforge_utils::metrics::encode(&registry.gather())
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, content_type)], text).into_response())
}
