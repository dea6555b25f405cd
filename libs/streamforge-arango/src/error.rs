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
    /// The server refuses it. It does so too while it starts, or while another process makes what is missing, so this
    /// counts as permanent only once it has stood for some seconds.
    #[error("{0}")]
    Refused(String),
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
        matches!(self, Self::Unavailable { .. } | Self::Refused(_))
    }

    /// Whether a kept connection was closed before an answer, so that the request can be sent again at once.
    pub(crate) fn is_closed_connection(&self) -> bool {
        let closed = RetryKind::Closed;
        matches!(self, Self::Unavailable { kind, .. } if *kind == closed)
    }
}

/// Why a single document was not read or written, by what the caller does next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DocumentError {
    /// There is no such document.
    #[error("no document {0:?}")]
    NotFound(String),
    /// A document with this key is there, and it is not the one to be inserted.
    #[error("document {0:?} is there already")]
    AlreadyThere(String),
    /// Somebody else changed the document: read it again.
    #[error("document {0:?} was changed by somebody else")]
    Conflict(String),
    /// The document is there and is not what it should be.
    #[error("document {id:?} can't be read: {what}")]
    Unreadable {
        /// Which one.
        id: String,
        /// Why, for people.
        what: String,
    },
    /// As for any request.
    #[error(transparent)]
    Database(#[from] ArangoError),
}
