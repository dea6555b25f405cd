//! The form of every JSON answer: `{"status":"success|error","message":…,"data":…}`.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// Whether it went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It did.
    Success,
    /// It did not: nothing was changed, unless the message says so.
    Error,
}

/// An answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Envelope<T> {
    /// Whether it went well.
    pub status: Outcome,
    /// For people.
    pub message: String,
    /// What was asked for, or what went wrong in detail.
    pub data: T,
}

impl<T> Envelope<T> {
    /// It went well.
    pub fn success(message: impl Into<String>, data: T) -> Self {
        Self {
            status: Outcome::Success,
            message: message.into(),
            data,
        }
    }

    /// It did not.
    pub fn error(message: impl Into<String>, data: T) -> Self {
        Self {
            status: Outcome::Error,
            message: message.into(),
            data,
        }
    }
}

/// 200; handlers that mean another code put it before: `(StatusCode::ACCEPTED, envelope)`.
impl<T: Serialize> IntoResponse for Envelope<T> {
    fn into_response(self) -> Response {
        (StatusCode::OK, Json(self)).into_response()
    }
}
