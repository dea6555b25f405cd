//! Why the database could not do what it was asked, by what the caller does next.

use crate::RetryKind;

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
    /// Something that can pass.
    pub fn unavailable(kind: RetryKind, what: impl Into<String>) -> Self {
        Self::Unavailable {
            kind,
            what: what.into(),
        }
    }

    /// Whether trying again later can help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
