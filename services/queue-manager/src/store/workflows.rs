//! The states of workflows: one document each, under its queue id.
//!
//! Whoever changes a state says which revision it has read, and is told if that is no longer the last one. So of two
//! replicas that change a state at once, one does, and the other decides anew on what it then reads.

use std::{marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::value::RawValue;
use streamforge_arango::{Collection, Document, IndexKind, IndexSpec, Query, Revision};
use streamforge_utils::protocol::{QueueId, TimestampMs};

use super::{Cursor, Page, StoreError};

/// Statuses that stay as they are.
const FINAL: [&str; 3] = ["finished", "interrupted", "error"];
/// How often [`Workflows::update`] decides anew. Two replicas and a handful of requests meet at one workflow.
const MAX_UPDATES: u32 = 20;
/// How long it waits before it does, times a random number from 0 to the number of tries.
const UPDATE_PAUSE: Duration = Duration::from_millis(5);

/// What is read of a workflow: all of its document, or a part of it.
pub trait Excerpt: DeserializeOwned {
    /// The attributes that the database is asked for; none: all that there are.
    const ATTRIBUTES: &'static [&'static str] = &[];
}

/// The states of workflows. `W` has at its top level `queue_id`, `symbol`, `type`, `status`, and `created_at` and `updated_at` (Unix ms).
#[derive(Debug)]
pub struct Workflows<W> {
    collection: Collection,
    state: PhantomData<fn() -> W>,
}

impl<W> Clone for Workflows<W> {
    fn clone(&self) -> Self {
        Self::new(self.collection.clone())
    }
}

/// Which workflows are wanted. What is empty or absent limits nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Any of these.
    pub statuses: Vec<String>,
    /// This one.
    pub symbol: Option<String>,
    /// This `type`.
    pub kind: Option<String>,
    /// Made then or later.
    pub created_from: Option<TimestampMs>,
    /// Made before.
    pub created_before: Option<TimestampMs>,
    /// Changed then or later.
    pub updated_from: Option<TimestampMs>,
    /// Only those that are not final.
    pub unfinished_only: bool,
    /// Only those that are to be forgotten.
    pub to_remove: bool,
    /// Only those whose topics are still to be deleted, and that ended before.
    pub topics_due_before: Option<TimestampMs>,
}

/// What workflows are listed by.
#[derive(Deserialize)]
struct Listed {
    created_at: TimestampMs,
    queue_id: QueueId,
}

fn read<T: DeserializeOwned>(row: &RawValue) -> Result<T, StoreError> {
    serde_json::from_str(row.get())
        .map_err(|error| StoreError::Broken(format!("a workflow of the list: {error}")))
}

fn ids(rows: Vec<Document<IgnoredAny>>) -> Result<Vec<(QueueId, Revision)>, StoreError> {
    let id = |row: Document<IgnoredAny>| match row.key.parse() {
        Ok(queue_id) => Ok((queue_id, row.revision)),
        Err(_) => Err(StoreError::Broken(format!("{:?} is no queue id", row.key))),
    };
    rows.into_iter().map(id).collect()
}

/// Ends a query: it returns these attributes, or all if there are none.
fn returning(query: Query, attributes: &[&str]) -> Query {
    match attributes.is_empty() {
        true => query.then("RETURN d"),
        false => query
            .then("RETURN KEEP(d, @attributes)")
            .bind("attributes", attributes),
    }
}

/// The same, with what the server and the writer add to a document.
pub(super) fn returning_documents<W: Excerpt>(query: Query) -> Query {
    let added: &[&str] = match W::ATTRIBUTES.is_empty() {
        true => &[],
        false => &["_key", "_rev", "write_id"],
    };
    returning(query, &[W::ATTRIBUTES, added].concat())
}

/// By it those are found that changed since.
pub(super) fn change_index() -> IndexSpec {
    IndexSpec {
        name: "change",
        fields: &["updated_at"],
        kind: IndexKind::Persistent,
    }
}

/// By it those are found whose topics are due, the one that ended first before the others.
pub(super) fn retirement_index() -> IndexSpec {
    IndexSpec {
        name: "retirement",
        fields: &["has_topics_to_delete", "ended_at"],
        kind: IndexKind::Persistent,
    }
}

/// It has the order of a list, and everything that a filter looks at, so no document is read to be passed over.
pub(super) fn listing_index() -> IndexSpec {
    IndexSpec {
        name: "listing",
        fields: &["created_at", "queue_id", "status", "symbol", "type"],
        kind: IndexKind::Persistent,
    }
}

impl<W> Workflows<W> {
    pub(super) fn new(collection: Collection) -> Self {
        Self {
            collection,
            state: PhantomData,
        }
    }
}

impl<W: Serialize + Excerpt> Workflows<W> {
    /// Stores the state of a new workflow.
    ///
    /// # Errors
    /// `AlreadyThere` if there is one of this id.
    pub async fn insert(&self, queue_id: &QueueId, state: &W) -> Result<Revision, StoreError> {
        Ok(self.collection.insert(queue_id.as_str(), state).await?)
    }

    /// Reads a state, with the revision that [`Workflows::replace`] wants.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub async fn get(&self, queue_id: &QueueId) -> Result<Document<W>, StoreError> {
        Ok(self.collection.get(queue_id.as_str()).await?)
    }

    /// Puts a state in the place of the one with this revision.
    ///
    /// # Errors
    /// `Conflict` if it has another one by now, `NotFound` if the workflow was deleted.
    pub async fn replace(
        &self,
        queue_id: &QueueId,
        revision: &Revision,
        state: &W,
    ) -> Result<Revision, StoreError> {
        let key = queue_id.as_str();
        Ok(self.collection.replace(key, revision, state).await?)
    }

    /// Reads the states of several workflows at once, in the order of their ids here; None for those that are not
    /// there.
    ///
    /// # Errors
    /// If the database did not answer until the deadline.
    pub async fn get_many(
        &self,
        queue_ids: &[&QueueId],
    ) -> Result<Vec<Option<Document<W>>>, StoreError> {
        let keys: Vec<&str> = queue_ids.iter().map(|id| id.as_str()).collect();
        Ok(self.collection.get_many(&keys).await?)
    }

    /// As [`Workflows::replace`], for several workflows at once: says of each, in order, what became of it.
    ///
    /// # Errors
    /// If the database did not take them until the deadline. Some may be stored then.
    pub async fn replace_many(
        &self,
        states: &[(&QueueId, &Revision, &W)],
    ) -> Result<Vec<Result<Revision, StoreError>>, StoreError> {
        let documents: Vec<(String, Revision, &W)> = states
            .iter()
            .map(|(id, revision, state)| (id.as_str().to_owned(), (*revision).clone(), *state))
            .collect();
        let replaced = self.collection.replace_many(&documents).await?;
        let replaced = replaced.into_iter();
        Ok(replaced.map(|one| one.map_err(StoreError::from)).collect())
    }

    /// Reads a state, lets `change` change it, and stores it; again if somebody else was faster. `change` says whether
    /// there is anything to store. Returns what is stored in the end.
    ///
    /// `change` has to look whether it was done already: if an answer is lost, and somebody else replaces the state
    /// before it is asked for again, nobody can tell that it was stored.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if others were faster again and again.
    pub async fn update(
        &self,
        queue_id: &QueueId,
        mut change: impl FnMut(&mut W) -> bool,
    ) -> Result<Document<W>, StoreError> {
        let mut tries = 0;
        loop {
            let mut found = self.get(queue_id).await?;
            if !change(&mut found.content) {
                return Ok(found);
            }
            match self
                .replace(queue_id, &found.revision, &found.content)
                .await
            {
                Ok(revision) => {
                    found.revision = revision;
                    return Ok(found);
                }
                Err(StoreError::Conflict(_)) if tries < MAX_UPDATES => {
                    tries += 1;
                    let pause = UPDATE_PAUSE.mul_f64(rand::random_range(0.0..f64::from(tries)));
                    tokio::time::sleep(pause).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Forgets a workflow, whatever its state.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub async fn remove(&self, queue_id: &QueueId) -> Result<(), StoreError> {
        Ok(self.collection.remove(queue_id.as_str(), None).await?)
    }

    /// Forgets a workflow if it is still as it was at this revision.
    ///
    /// # Errors
    /// `Conflict` if it was changed meanwhile, `NotFound` if there is none.
    pub async fn remove_unchanged(
        &self,
        queue_id: &QueueId,
        revision: &Revision,
    ) -> Result<(), StoreError> {
        let key = queue_id.as_str();
        Ok(self.collection.remove(key, Some(revision)).await?)
    }

    /// A page of workflows, newest first, behind the one that `after` names.
    ///
    /// # Errors
    /// `BadCursor` if `after` is one of another list.
    pub async fn list(
        &self,
        filter: &Filter,
        after: Option<&Cursor>,
        size: usize,
    ) -> Result<Page<W>, StoreError> {
        let query = self.listing(filter, after)?.then("LIMIT @page_rows");
        let query = returning(query, W::ATTRIBUTES);
        let page = self
            .collection
            .database()
            .page::<Box<RawValue>>("listing workflows", query, size)
            .await?;
        let next = match page.rows.last() {
            Some(last) if page.has_more => {
                let last: Listed = read(last)?;
                Some(Cursor::Workflow {
                    created_at: last.created_at,
                    queue_id: last.queue_id,
                })
            }
            _ => None,
        };
        let rows: Result<Vec<W>, StoreError> = page.rows.iter().map(|row| read(row)).collect();
        Ok(Page { rows: rows?, next })
    }

    /// All workflows that pass the filter, with their revisions, newest first: for who looks after them.
    ///
    /// # Errors
    /// If the database did not answer until the deadline.
    pub async fn all(&self, filter: &Filter) -> Result<Vec<Document<W>>, StoreError> {
        let query = returning_documents::<W>(self.listing(filter, None)?);
        let database = self.collection.database();
        Ok(database.rows("reading workflows", &query).await?)
    }

    /// The ids and revisions of all workflows that pass the filter, newest first.
    ///
    /// # Errors
    /// If the database did not answer until the deadline.
    pub async fn revisions(&self, filter: &Filter) -> Result<Vec<(QueueId, Revision)>, StoreError> {
        let query = returning(self.listing(filter, None)?, &["_key", "_rev"]);
        let database = self.collection.database();
        ids(database.rows("looking for workflows", &query).await?)
    }

    /// The same of the `count` that ended first, and whether there are more.
    ///
    /// # Errors
    /// If the database did not answer until the deadline.
    pub async fn first_ended(
        &self,
        filter: &Filter,
        count: usize,
    ) -> Result<(Vec<(QueueId, Revision)>, bool), StoreError> {
        let query = self.filtered(filter, None)?;
        let query = query.then("SORT d.ended_at LIMIT @page_rows");
        let query = returning(query, &["_key", "_rev"]);
        let database = self.collection.database();
        let page = database.page("looking for workflows", query, count).await?;
        Ok((ids(page.rows)?, page.has_more))
    }

    fn listing(&self, filter: &Filter, after: Option<&Cursor>) -> Result<Query, StoreError> {
        let query = self.filtered(filter, after)?;
        Ok(query.then("SORT d.created_at DESC, d.queue_id DESC"))
    }

    fn filtered(&self, filter: &Filter, after: Option<&Cursor>) -> Result<Query, StoreError> {
        let mut query =
            Query::new("FOR d IN @@workflows").bind("@workflows", self.collection.name());
        if let Some(from) = filter.created_from {
            query = query
                .then("FILTER d.created_at >= @from")
                .bind("from", from.as_millis());
        }
        if let Some(before) = filter.created_before {
            query = query
                .then("FILTER d.created_at < @before")
                .bind("before", before.as_millis());
        }
        if !filter.statuses.is_empty() {
            query = query
                .then("FILTER d.status IN @statuses")
                .bind("statuses", filter.statuses.clone());
        }
        if let Some(from) = filter.updated_from {
            query = query
                .then("FILTER d.updated_at >= @updated")
                .bind("updated", from.as_millis());
        }
        if let Some(before) = filter.topics_due_before {
            query = query
                .then("FILTER d.has_topics_to_delete == @yes AND d.ended_at < @ended")
                .bind("ended", before.as_millis())
                .bind("yes", true);
        }
        if filter.to_remove {
            query = query
                .then("FILTER d.removal != @nothing")
                .bind("nothing", serde_json::Value::Null);
        }
        if filter.unfinished_only {
            query = query
                .then("FILTER d.status NOT IN @final")
                .bind("final", FINAL.to_vec());
        }
        if let Some(symbol) = &filter.symbol {
            query = query
                .then("FILTER d.symbol == @symbol")
                .bind("symbol", symbol.as_str());
        }
        if let Some(kind) = &filter.kind {
            query = query
                .then("FILTER d.type == @type")
                .bind("type", kind.as_str());
        }
        query = match after {
            None => query,
            Some(Cursor::Workflow {
                created_at,
                queue_id,
            }) => query
                // The first half is what an index can be read by.
                .then("FILTER d.created_at <= @last AND (d.created_at < @last OR d.queue_id < @last_id)")
                .bind("last", created_at.as_millis())
                .bind("last_id", queue_id.as_str()),
            Some(Cursor::Event { .. }) => return Err(StoreError::BadCursor),
        };
        Ok(query)
    }
}
