//! The database, as this writer needs it: log in, make the collection ready, write batches.
//!
//! Databases, collections and indexes go through arangors, bulk writing goes through reqwest, and both through one
//! HTTP client with one login ([`Session`]). arangors knows neither time-outs nor retries and takes any answer for
//! JSON, so the client below it looks at the status first.

mod bulk;
mod reply;
mod retry;
mod session;
mod setup;

pub use bulk::{Bulk, Refused, WriteOptions};
pub use retry::{Retry, RetryKind};
pub use session::Session;
pub use setup::prepare;

/// Why the database could not do what it was asked, by what the caller does next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ArangoError {
    /// It can pass: ask again later.
    #[error("{what}")]
    Unavailable {
        /// What kind of trouble it is.
        kind: RetryKind,
        /// What happened, for people.
        what: String,
    },
    /// No retry can mend it.
    #[error("{0}")]
    Permanent(String),
}

impl ArangoError {
    fn unavailable(kind: RetryKind, what: impl Into<String>) -> Self {
        Self::Unavailable {
            kind,
            what: what.into(),
        }
    }
}
