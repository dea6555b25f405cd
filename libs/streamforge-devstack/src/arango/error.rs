//! ArangoDB's errors as it sends them: a number, an HTTP status, a message, and the JSON around them.
//!
//! The numbers and their statuses are those of ArangoDB 3.12 ("Error codes and meanings" in its
//! documentation, `GeneralResponse::responseCode` in its source). Deciding which error fits is the
//! business of the handlers.
use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::record::Revision;

/// Defines the errors this server knows: name, `errorNum`, HTTP status, ArangoDB's own message.
macro_rules! known_errors {
    ($($(#[$doc:meta])* $name:ident = $num:literal, $status:literal, $message:literal;)*) => {
        /// An error of ArangoDB's list that this server can send.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Known { $($(#[$doc])* $name),* }

        impl Known {
            fn parts(self) -> (i32, u16, &'static str) {
                match self { $(Self::$name => ($num, $status, $message)),* }
            }
        }
    };
}

known_errors! {
    Internal = 4, 500, "internal error";
    NotImplemented = 9, 501, "not implemented";
    BadParameter = 10, 400, "bad parameter";
    NotAuthorized = 11, 401, "not authorized to execute this request";
    /// The same number as [`Known::NotAuthorized`]: the user is known, the deed is not allowed.
    Forbidden = 11, 403, "insufficient permissions";
    HttpBadParameter = 400, 400, "bad parameter";
    WrongCredentials = 401, 401, "Wrong credentials";
    MethodNotAllowed = 405, 405, "method not supported";
    CorruptedJson = 600, 400, "corrupted json document";
    SuperfluousSuffices = 601, 400, "superfluous suffices";
    ReadOnly = 1004, 403, "read only";
    Conflict = 1200, 412, "conflict, _rev values do not match";
    DocumentNotFound = 1202, 404, "document not found";
    CollectionNotFound = 1203, 404, "collection or view not found";
    CollectionParameterMissing = 1204, 400, "parameter 'collection' not found";
    DocumentHandleBad = 1205, 400, "illegal document identifier";
    DuplicateName = 1207, 409, "duplicate name";
    IllegalName = 1208, 400, "illegal name";
    UniqueConstraint = 1210, 409, "unique constraint violated";
    IndexNotFound = 1212, 404, "index not found";
    DocumentKeyBad = 1221, 400, "illegal document key";
    DocumentTypeInvalid = 1227, 400, "invalid document type";
    DatabaseNotFound = 1228, 404, "database not found";
    UseSystemDatabase = 1230, 403, "operation only allowed in system database";
    QueryParse = 1501, 400, "syntax error, unexpected end of query string";
    QueryEmpty = 1502, 400, "query is empty";
    BindParameterMissing = 1551, 400, "no value specified for declared bind parameter";
    BindParameterUndeclared = 1552, 400, "bind parameter was not declared in the query";
    BindParameterType = 1553, 400, "bind parameter has an invalid value or type";
    CursorNotFound = 1600, 404, "cursor not found";
    UserNotFound = 1703, 404, "user not found";
    QueueFull = 21003, 503, "queue is full";
    QueueTimeViolated = 21004, 412, "queue time violated";
}

/// One error on its way to the client, for a whole request or for one document of a batch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) num: i32,
    pub(crate) message: String,
    /// The document as it is, which a failed precondition reports beside the error.
    current: Option<Current>,
}

#[derive(Clone, Debug, PartialEq)]
struct Current {
    id: String,
    key: String,
    revision: Revision,
}

impl ApiError {
    pub(crate) fn new(known: Known, message: impl Into<String>) -> Self {
        let (num, status, _) = known.parts();
        Self {
            status,
            num,
            message: message.into(),
            current: None,
        }
    }

    /// ArangoDB's message followed by what it is about: `unknown thing: name`.
    pub(crate) fn about(known: Known, subject: impl std::fmt::Display) -> Self {
        Self::new(known, format!("{}: {subject}", known.parts().2))
    }

    /// Status 501 with the name of what this server lacks.
    pub(crate) fn lacking(thing: impl std::fmt::Display) -> Self {
        Self::new(
            Known::NotImplemented,
            format!("the StreamForge development server lacks {thing}"),
        )
    }

    /// An error with a number that a test chose; the HTTP status follows from it.
    pub(crate) fn numbered(num: i32, message: impl Into<String>) -> Self {
        Self {
            status: http_status(num),
            num,
            message: message.into(),
            current: None,
        }
    }

    /// A failed precondition. As the answer to a single document it says what the document is now.
    pub(crate) fn conflict(collection: &str, key: &str, revision: Revision) -> Self {
        Self {
            current: Some(Current {
                id: format!("{collection}/{key}"),
                key: key.to_owned(),
                revision,
            }),
            ..Known::Conflict.into()
        }
    }

    /// The error as one entry of a batch's answer: no status, and never `_id`, `_key` or `_rev`,
    /// whose presence is how drivers recognise a success.
    pub(crate) fn slot(&self) -> Value {
        json!({"error": true, "errorNum": self.num, "errorMessage": self.message})
    }
}

impl From<Known> for ApiError {
    fn from(known: Known) -> Self {
        Self::new(known, known.parts().2)
    }
}

/// What goes wrong in redb is this server's fault, never the client's.
macro_rules! internal_error_from {
    ($($source:ty),*) => {$(
        impl From<$source> for ApiError {
            fn from(source: $source) -> Self {
                tracing::error!(error = %source, "The development ArangoDB cannot use its store");
                Self::new(Known::Internal, format!("internal error: {source}"))
            }
        }
    )*};
}

internal_error_from!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::SetDurabilityError,
    serde_json::Error
);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = self.slot();
        body["code"] = json!(self.status);
        let Some(current) = self.current else {
            return (status, Json(body)).into_response();
        };
        body["_id"] = json!(current.id);
        body["_key"] = json!(current.key);
        body["_rev"] = json!(current.revision.to_string());
        (
            status,
            [(header::ETAG, current.revision.etag())],
            Json(body),
        )
            .into_response()
    }
}

/// The HTTP status that ArangoDB gives an `errorNum` that reaches the whole request.
fn http_status(num: i32) -> u16 {
    match num {
        10 | 600 | 601 | 1204 | 1205 | 1208 | 1216 | 1220..=1222 | 1226 | 1227 | 1229 => 400,
        1232 | 1233 | 1235 | 1466 | 1469 | 1501 | 1502 | 1510..=1569 | 1620 => 400,
        400..=599 => u16::try_from(num).unwrap_or(500),
        11 | 1004 | 1230 => 403,
        1202 | 1203 | 1212 | 1228 | 1591 | 1600 | 1655 | 1703 => 404,
        1200 | 1207 | 1210 | 1601 | 1702 => 409,
        1500 => 410,
        21004 => 412,
        9 | 1470 => 501,
        30 | 1429 | 1465 | 1495 | 1496 | 21003 => 503,
        _ => 500,
    }
}
