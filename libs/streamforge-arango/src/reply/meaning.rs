//! What an error number of ArangoDB means for the caller.
//!
//! The numbers and their statuses are those of the server's own table (`GeneralResponse::responseCode` and
//! `errors.dat` of ArangoDB 3.12). A number that is not listed here is told by its status.

use http::StatusCode;

use crate::{ArangoError, RetryKind};

/// What the caller does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Retry(RetryKind),
    /// Retry for some seconds only; see [`ArangoError::Refused`].
    Refused,
    Permanent,
}

impl Meaning {
    pub(super) fn to_error(self, what: String) -> ArangoError {
        match self {
            Self::Retry(kind) => ArangoError::unavailable(kind, what),
            Self::Refused => ArangoError::Refused(what),
            Self::Permanent => ArangoError::Permanent(what),
        }
    }
}

/// The meaning of an error number, with the status of its answer if it is that of a whole request.
pub(super) fn of(number: u32, status: Option<StatusCode>) -> Meaning {
    match number {
        // Resource limit, shutting down, service unavailable, read-only, not enough replicas in sync, leadership
        // challenge, not the leader, queue full, queue time exceeded.
        30 | 32 | 503 | 1004 | 1429 | 1495 | 1496 | 21003 | 21004 => {
            Meaning::Retry(RetryKind::Overload)
        }
        // Lock timeout, request timeout, cluster timeout.
        18 | 408 | 1457 => Meaning::Retry(RetryKind::Timeout),
        // Write-write conflict, cursor busy.
        1200 | 1601 => Meaning::Retry(RetryKind::Conflict),
        // Internal, out of memory, request cancelled, locked, deadlock; query killed, collection lock failed;
        // transaction aborted.
        2..=4 | 21 | 28 | 29 | 1500 | 1521 | 1654 => Meaning::Retry(RetryKind::ServerError),
        // Forbidden, wrong login, forbidden, unknown path; no such collection, no such database.
        11 | 401 | 403 | 404 | 1203 | 1228 => Meaning::Refused,
        _ => status.map_or(Meaning::Retry(RetryKind::ServerError), of_status),
    }
}

fn of_status(status: StatusCode) -> Meaning {
    match status.as_u16() {
        429 | 503 => Meaning::Retry(RetryKind::Overload),
        408 => Meaning::Retry(RetryKind::Timeout),
        // Not implemented.
        501 => Meaning::Permanent,
        // Gone: whatever was cancelled can be asked again. Misdirected: the leader of a shard has resigned.
        410 | 421 | 500.. => Meaning::Retry(RetryKind::ServerError),
        _ => Meaning::Permanent,
    }
}

/// The kind of trouble of an answer without a number.
pub(super) fn of_proxy(status: StatusCode) -> RetryKind {
    match status.as_u16() {
        429 | 503 => RetryKind::Overload,
        408 | 504 => RetryKind::Timeout,
        _ => RetryKind::ServerError,
    }
}
