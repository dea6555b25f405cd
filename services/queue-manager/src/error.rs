//! What goes wrong with a request, and the one answer to it.
//!
//! Every error of the API is this type, also those of the framework. The answer says what the caller can do; causes,
//! which may name hosts and users, are logged and never returned.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use streamforge_utils::protocol::QueueId;
use utoipa::ToSchema;

use crate::{
    envelope::Envelope,
    launcher::LaunchError,
    request::{FieldError, FieldErrors},
};

/// How long a caller is asked to wait when this replica has too much to do, in seconds.
const BUSY_SECS: u64 = 1;
/// How long a caller is asked to wait when something that is needed is away, in seconds.
const AWAY_SECS: u64 = 5;

/// What goes wrong with a request, by what its sender does next.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Say it right: each field that is wrong.
    #[error("the request is not valid: {0}")]
    Invalid(#[from] FieldErrors),
    /// Send JSON.
    #[error("the body is no JSON: {0}")]
    NotJson(String),
    /// The body did not come whole, or is no UTF-8.
    #[error("the body can't be read")]
    Unreadable,
    /// Say that it is JSON.
    #[error("the body's content type is not application/json")]
    ContentType,
    /// Send less.
    #[error("the body is too large")]
    TooLarge,
    /// Send a token.
    #[error("a bearer token is needed: Authorization: Bearer <token>")]
    Unauthorized,
    /// Send another token: this one may only read.
    #[error("this token may only read")]
    ReadOnly,
    /// A web page of another site asked.
    #[error("requests of other sites' pages are refused")]
    ForeignOrigin,
    /// Look at the path.
    #[error("there is no such route")]
    NoRoute,
    /// Look at the method.
    #[error("this route does not take this method")]
    NoMethod,
    /// Ask for an upgrade to a WebSocket.
    #[error("this route speaks WebSocket only")]
    NoUpgrade,
    /// There is nothing of this name.
    #[error("there is no queue {0}")]
    NoQueue(QueueId),
    /// It is not in a state for that, or somebody else was faster: look at it again.
    #[error("{0}")]
    Conflict(String),
    /// The first request with this `Idempotency-Key` has not been answered yet: ask again.
    #[error("a request with this Idempotency-Key is still being worked on")]
    KeyInUse,
    /// Use another `Idempotency-Key`.
    #[error("this Idempotency-Key was used for another request")]
    KeyReused,
    /// Ask again in a moment: this replica has too much to do.
    #[error("too many requests at a time")]
    Busy,
    /// Ask again: it took too long. What was begun may have been done.
    #[error("the request took longer than {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// Ask again later: something that is needed is away.
    #[error("{what} can't be reached at the moment")]
    Unavailable {
        /// What is away, in words.
        what: &'static str,
        /// Why, for the log.
        cause: String,
    },
    /// Nothing that the caller can mend.
    #[error("an internal error; the log has more under the request id")]
    Internal(String),
}

impl ApiError {
    /// Something that is needed is away.
    pub fn unavailable(what: &'static str, cause: impl ToString) -> Self {
        Self::Unavailable {
            what,
            cause: cause.to_string(),
        }
    }

    /// Its code.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) | Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotJson(_) | Self::Unreadable => StatusCode::BAD_REQUEST,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::ReadOnly | Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::NoRoute | Self::NoQueue(_) => StatusCode::NOT_FOUND,
            Self::NoUpgrade => StatusCode::UPGRADE_REQUIRED,
            Self::NoMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) | Self::KeyInUse => StatusCode::CONFLICT,
            Self::Busy | Self::TimedOut(_) | Self::Unavailable { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Busy | Self::KeyInUse => Some(BUSY_SECS),
            Self::TimedOut(_) | Self::Unavailable { .. } => Some(AWAY_SECS),
            _ => None,
        }
    }

    fn log(&self) {
        match self {
            Self::Unavailable { what, cause } => {
                tracing::warn!(cause, "{what} can't be reached");
            }
            Self::Internal(cause) => tracing::error!(cause, "A request failed"),
            Self::TimedOut(_) => tracing::warn!("{self}"),
            _ => {}
        }
    }
}

/// `data` of an answer that tells of an error; empty where there is nothing more to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetails {
    /// The fields that are wrong, the first 50 of them; `message` tells how many more there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldError>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let message = match &self {
            Self::Invalid(errors) if errors.more() > 0 => format!(
                "the request is not valid: {} errors are listed, and {} more",
                errors.all().len(),
                errors.more()
            ),
            Self::Invalid(_) => "the request is not valid".to_owned(),
            other => other.to_string(),
        };
        let details = ErrorDetails {
            errors: match &self {
                Self::Invalid(errors) => errors.all().to_vec(),
                _ => Vec::new(),
            },
        };
        let mut response = (self.status(), Envelope::error(message, details)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self, Self::NoUpgrade) {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        if matches!(self, Self::Unauthorized) {
            let value = HeaderValue::from_static("Bearer realm=\"queue-manager\"");
            headers.insert(header::WWW_AUTHENTICATE, value);
        }
        response
    }
}

/// What a launcher was only asked about. What it can't do is nothing that the sender of a request could mend.
impl From<LaunchError> for ApiError {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::Unavailable(cause) => Self::unavailable("what runs the Jobs", cause),
            LaunchError::Refused(cause) | LaunchError::Taken(cause) => Self::Internal(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_says_what_to_do_and_never_why() {
        let queue: QueueId = "wf-a".parse().unwrap();
        let mut errors = FieldErrors::default();
        errors.wrong("symbol", "btc", "2 to 20 of A-Z and 0-9");
        let secret = "root@db.internal refused";
        let table = [
            (ApiError::Invalid(errors), 422, None),
            (ApiError::NotJson("line 1".to_owned()), 400, None),
            (ApiError::Unauthorized, 401, None),
            (ApiError::NoQueue(queue), 404, None),
            (ApiError::KeyInUse, 409, Some("1")),
            (ApiError::Busy, 503, Some("1")),
            (
                ApiError::unavailable("the database", secret),
                503,
                Some("5"),
            ),
            (ApiError::Internal(secret.to_owned()), 500, None),
        ];
        let mut answers = Vec::new();
        for (error, code, retry_after) in table {
            let response = error.into_response();
            assert_eq!(response.status(), code);
            let header = response.headers().get(header::RETRY_AFTER);
            assert_eq!(header.map(|it| it.to_str().unwrap()), retry_after);
            let body = axum::body::to_bytes(response.into_body(), 1 << 16)
                .await
                .unwrap();
            let body = String::from_utf8(body.to_vec()).unwrap();
            assert!(!body.contains("internal refused"), "{body}");
            answers.push(body);
        }
        insta::assert_snapshot!(answers.join("\n"));
    }
}
