//! One database, as a service uses it: everything goes through one session and one deadline.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use url::Url;

use crate::{
    ArangoError, Collection, CollectionSpec, Page, Query, Reply, Retry, RetryKind, Session,
    prepare, setup,
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
        let ask = || {
            self.session
                .send(DOING, Method::GET, url.clone(), bytes::Bytes::new())
        };
        let reply = match ask().await {
            // The connection was idle, which says nothing of the database.
            Err(error) if error.is_closed_connection() => ask().await?,
            answered => answered?,
        };
        match reply.status {
            StatusCode::OK if setup::is_database(&reply, &self.name) => Ok(()),
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

    /// Whether there is a collection of this name.
    ///
    /// # Errors
    /// If the database did not answer until the deadline.
    pub async fn has_collection(&self, name: &str) -> Result<bool, ArangoError> {
        let doing = format!("looking for collection {name:?}");
        self.manage(&doing, Method::GET, name).await
    }

    /// Removes a collection with all that is in it; whether there was one.
    ///
    /// # Errors
    /// If the database did not answer until the deadline, or the user may not do it.
    pub async fn drop_collection(&self, name: &str) -> Result<bool, ArangoError> {
        let doing = format!("removing collection {name:?}");
        self.manage(&doing, Method::DELETE, name).await
    }

    /// Does this with a collection; `false` if there is none.
    async fn manage(&self, doing: &str, method: Method, name: &str) -> Result<bool, ArangoError> {
        let url = self.url(&["collection", name]);
        let mut tries = self.retry.start();
        loop {
            let (method, url) = (method.clone(), url.clone());
            let sent = self.session.send(doing, method, url, bytes::Bytes::new());
            let error = match sent.await {
                Ok(reply) if reply.status == StatusCode::OK => match reply.is_json_object() {
                    true => {
                        tries.progress();
                        return Ok(true);
                    }
                    false => bad_answer(doing, &reply),
                },
                Ok(reply)
                    if reply
                        .error()
                        .is_some_and(|e| e.number == setup::NO_COLLECTION) =>
                {
                    tries.progress();
                    return Ok(false);
                }
                Ok(reply) => reply.to_error(doing),
                Err(error) => error,
            };
            tries.wait(error).await?;
        }
    }

    pub(crate) fn url(&self, path: &[&str]) -> Url {
        self.session.database_url(&self.name, path)
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
