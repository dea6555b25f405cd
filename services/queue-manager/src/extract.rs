//! Reads requests: bodies, queries and paths, with every failure as an [`ApiError`].

mod query;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::IntoResponse,
};
use serde_json::Value;
use streamforge_utils::protocol::QueueId;

use crate::{error::ApiError, request::FieldErrors};
pub use query::Query;

/// A queue id, for people.
pub const EXPECTED_ID: &str = "wf- and then up to 125 of a-z A-Z 0-9 . _ -";

/// A body; None if there is none.
#[derive(Debug, Clone)]
pub struct Body(pub Option<Value>);

impl Body {
    /// What it says, where there has to be something.
    ///
    /// # Errors
    /// There is nothing.
    pub fn required(self) -> Result<Value, ApiError> {
        self.0
            .ok_or_else(|| ApiError::NotJson("it is empty".to_owned()))
    }
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let is_json = is_json(request.headers());
        let names_a_type = request.headers().contains_key(header::CONTENT_TYPE);
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|rejection| {
            if rejection.into_response().status() == StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::TooLarge
            } else {
                ApiError::Unreadable
            }
        })?;
        if bytes.is_empty() && (is_json || !names_a_type) {
            return Ok(Self(None));
        }
        if !is_json {
            return Err(ApiError::ContentType);
        }
        serde_json::from_slice(&bytes)
            .map(|value| Self(Some(value)))
            .map_err(|error| ApiError::NotJson(error.to_string()))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let Some(kind) = kind.and_then(|kind| kind.to_str().ok()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// The queue that the path names.
#[derive(Debug, Clone)]
pub struct QueuePath(pub QueueId);

impl<S: Send + Sync> FromRequestParts<S> for QueuePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        // What is no UTF-8 is no id either.
        let text = path.map_or_else(|_| "no text".to_owned(), |Path(text)| text);
        text.parse().map(Self).map_err(|_| {
            let mut errors = FieldErrors::default();
            errors.wrong("queue_id", &text, EXPECTED_ID);
            errors.into()
        })
    }
}
