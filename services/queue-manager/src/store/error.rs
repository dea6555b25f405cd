//! Why the store did not do what it was asked, by what the caller does next.

use streamforge_arango::{ArangoError, DocumentError};

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such thing: say so.
    #[error("there is no {0}")]
    NotFound(String),
    /// It is there already, and somebody else made it.
    #[error("{0} is there already")]
    AlreadyThere(String),
    /// Somebody else changed it: read it again, and decide anew.
    #[error("{0} was changed by somebody else")]
    Conflict(String),
    /// It is there and can't be read: leave it as it is, and go on with the others.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// The cursor of a request is none that we gave out: refuse the request.
    #[error("the cursor is none that an earlier page gave")]
    BadCursor,
    /// The database did not do it until the deadline: it can be asked again later.
    #[error("{0}")]
    Unavailable(String),
    /// No retry can mend it, such as wrong rights.
    #[error("{0}")]
    Broken(String),
}

impl StoreError {
    /// Whether trying again later can help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Conflict(_))
    }
}

impl From<ArangoError> for StoreError {
    fn from(error: ArangoError) -> Self {
        if error.is_retryable() {
            Self::Unavailable(error.to_string())
        } else {
            Self::Broken(error.to_string())
        }
    }
}

impl From<DocumentError> for StoreError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::NotFound(id) => Self::NotFound(id),
            DocumentError::AlreadyThere(id) => Self::AlreadyThere(id),
            DocumentError::Conflict(id) => Self::Conflict(id),
            DocumentError::Unreadable { what, .. } => Self::Unreadable(what),
            DocumentError::Database(error) => error.into(),
        }
    }
}
