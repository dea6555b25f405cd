//! What all handlers share, and what they take out of a request.
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    extract::{FromRequestParts, Path},
    http::{HeaderMap, request::Parts},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    auth::{Auth, Grant},
    cursor::Cursors,
    error::{ApiError, Known},
    faults::Faults,
    store::Store,
};

/// Everything a handler can reach.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) auth: Auth,
    pub(crate) faults: Faults,
    pub(crate) cursors: Cursors,
    pub(crate) tallies: Tallies,
    pub(crate) body_limit_bytes: usize,
}

pub(crate) type AppState = Arc<Shared>;

/// Counted since the start.
#[derive(Default)]
pub(crate) struct Tallies {
    pub(crate) requests: AtomicU64,
    pub(crate) documents_written: AtomicU64,
}

impl Tallies {
    pub(crate) fn add_written(&self, documents: usize) {
        self.documents_written
            .fetch_add(documents as u64, Ordering::Relaxed);
    }
}

/// Runs what touches the store away from the threads that serve connections.
pub(crate) async fn blocking<T: Send + 'static>(
    state: AppState,
    work: impl FnOnce(&Shared) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let outcome = tokio::task::spawn_blocking(move || work(&state)).await;
    outcome.map_err(|error| ApiError::about(Known::Internal, error))?
}

/// The user and database of a request that has passed the check of its access.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) grant: Grant,
}

impl Session {
    /// Fails unless documents may be written.
    pub(crate) fn may_write(&self) -> Result<(), ApiError> {
        match self.grant {
            Grant::ReadWrite => Ok(()),
            _ => Err(Known::ReadOnly.into()),
        }
    }

    /// Fails unless databases, collections or indexes may be changed.
    pub(crate) fn may_manage(&self) -> Result<(), ApiError> {
        match self.grant {
            Grant::ReadWrite => Ok(()),
            _ => Err(Known::Forbidden.into()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let session = parts.extensions.get().cloned();
        session.ok_or_else(|| Known::NotAuthorized.into())
    }
}

/// The named segments of the path, decoded; those that a route lacks are empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PathParts {
    pub(crate) name: String,
    pub(crate) collection: String,
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) batch: String,
    pub(crate) user: String,
}

impl<S: Send + Sync> FromRequestParts<S> for PathParts {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<Self>::from_request_parts(parts, state).await;
        path.map(|Path(parts)| parts)
            .map_err(|error| ApiError::about(Known::BadParameter, error))
    }
}

/// The parameters after the `?`. The last one of a name counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        Self(
            url::form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A switch; ArangoDB takes 1, true, yes, on and y for on, and everything else for off.
    pub(crate) fn flag(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |value| {
            ["1", "true", "yes", "on", "y"].contains(&value.to_ascii_lowercase().as_str())
        })
    }

    /// 501 if the request uses one of these parameters, which ArangoDB has and this server lacks.
    pub(crate) fn refuse(&self, lacking: &[&str]) -> Result<(), ApiError> {
        match lacking.iter().find(|name| self.0.contains_key(**name)) {
            Some(name) => Err(ApiError::lacking(format!("the parameter `{name}`"))),
            None => Ok(()),
        }
    }

    /// The collection that the request is about.
    pub(crate) fn collection(&self) -> Result<&str, ApiError> {
        self.get("collection")
            .filter(|name| !name.is_empty())
            .ok_or_else(|| Known::CollectionParameterMissing.into())
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

/// Parses a body as JSON, or fails as ArangoDB does.
pub(crate) fn parse_json(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::about(Known::CorruptedJson, error))
}

/// A header as text, if it is there and is text.
pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_read_as_arangodb_reads_them() {
        let query = Query::parse("a=true&b=1&c=0&d=false&e=YES&f=&g=1&g=0");
        let set = ["a", "b", "e"];
        for name in ["a", "b", "c", "d", "e", "f", "g"] {
            assert_eq!(query.flag(name, false), set.contains(&name), "{name}");
        }
        assert!(query.flag("absent", true) && !query.flag("absent", false));
    }
}
