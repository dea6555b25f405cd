//! One database, as a service uses it: everything goes through one session and one deadline.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use url::Url;

use crate::{
    ArangoError, Collection, CollectionSpec, Page, Query, Reply, Retry, RetryKind, Session, prepare,
};

/// A database. Clones share session and deadline.
#[derive(Debug, Clone)]
pub struct Database {
    pub(crate) session: Arc<Session>,
    pub(crate) retry: Arc<Retry>,
    name: Arc<str>,
}

impl Database {
    /// Uses the database `name` through `session`, each request as long as `retry` allows. Asks for nothing yet.
    pub fn new(session: Arc<Session>, retry: Arc<Retry>, name: &str) -> Self {
        Self {
            session,
            retry,
            name: name.into(),
        }
    }

    /// The same database under another deadline: who waits for an answer waits shorter than who works through a
    /// backlog.
    pub fn with_retry(&self, retry: Arc<Retry>) -> Self {
        Self {
            retry,
            ..self.clone()
        }
    }

    /// Asks once, without retries, whether the database is there and lets us in.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self) -> Result<(), ArangoError> {
        const DOING: &str = "asking whether the database is ready";
        let url = self.url(&["database", "current"]);
        let reply = self
            .session
            .send(DOING, Method::GET, url, bytes::Bytes::new())
            .await?;
        match reply.status {
            StatusCode::OK if reply.is_json_object() => Ok(()),
            StatusCode::OK => Err(bad_answer(DOING, &reply)),
            _ => Err(reply.to_error(DOING)),
        }
    }

    /// Makes sure of the database, these collections and their indexes; see [`prepare`].
    ///
    /// # Errors
    /// As [`prepare`].
    pub async fn prepare(&self, collections: &[CollectionSpec]) -> Result<(), ArangoError> {
        prepare(&self.session, &self.retry, &self.name, collections).await
    }

    /// One of its collections. Asks for nothing.
    pub fn collection(&self, name: &str) -> Collection {
        Collection::new(self.clone(), name)
    }

    /// Everything that a query returns, whatever number of batches that is. If one of them fails, the query is asked
    /// anew, so the rows are always those of one moment.
    ///
    /// # Errors
    /// If the database did not answer until the deadline, does not take the query, or a row is no `T`.
    pub async fn rows<T: DeserializeOwned>(
        &self,
        doing: &str,
        query: &Query,
    ) -> Result<Vec<T>, ArangoError> {
        let mut tries = self.retry.start();
        loop {
            match query.rows(self, doing).await {
                Ok(rows) => {
                    tries.progress();
                    return Ok(rows);
                }
                Err(error) => tries.wait_alone(error).await?,
            }
        }
    }

    /// The first `size` rows of a query, which has to end its rows with `LIMIT @page_rows`, and whether there are
    /// more.
    ///
    /// # Errors
    /// As [`Database::rows`].
    pub async fn page<T: DeserializeOwned>(
        &self,
        doing: &str,
        query: Query,
        size: usize,
    ) -> Result<Page<T>, ArangoError> {
        let query = query.bind("page_rows", size + 1);
        let mut rows = self.rows(doing, &query).await?;
        let has_more = rows.len() > size;
        rows.truncate(size);
        Ok(Page { rows, has_more })
    }

    /// Runs a query that changes documents, as often as it takes, and returns how many the last run changed.
    ///
    /// # Errors
    /// If the database did not answer until the deadline, or does not take the query.
    pub async fn execute(&self, doing: &str, query: &Query) -> Result<u64, ArangoError> {
        let mut tries = self.retry.start();
        loop {
            match query.execute(self, doing).await {
                Ok(changed) => {
                    tries.progress();
                    return Ok(changed);
                }
                Err(error) => tries.wait_alone(error).await?,
            }
        }
    }

    pub(crate) fn url(&self, path: &[&str]) -> Url {
        let mut url = self.session.root().clone();
        url.path_segments_mut()
            .expect("http URLs have paths")
            .clear()
            .extend(["_db", &self.name, "_api"])
            .extend(path);
        url
    }
}

/// An answer that is none: perhaps a proxy's.
pub(crate) fn bad_answer(doing: &str, reply: &Reply) -> ArangoError {
    let what = format!(
        "{doing}: the database, or a proxy, answered {}, which can't be understood",
        reply.describe()
    );
    ArangoError::unavailable(RetryKind::BadAnswer, what)
}
