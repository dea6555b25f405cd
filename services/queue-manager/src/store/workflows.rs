//! The states of workflows: one document each, under its queue id.
//!
//! Whoever changes a state says which revision it has read, and is told if that is no longer the last one. So of two
//! replicas that change a state at once, one does, and the other decides anew on what it then reads.

mod query;

use std::{marker::PhantomData, time::Duration};

use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::value::RawValue;
use streamforge_arango::{Collection, Document, IndexKind, IndexSpec, Query, Revision};
use streamforge_utils::protocol::{QueueId, TimestampMs};

use super::{Cursor, Page, Quarantine, StoreError};
pub(super) use query::returning_documents;
use query::{listed, returning};

/// How often [`Workflows::update`] decides anew. Two replicas and a handful of requests meet at one workflow.
const MAX_UPDATES: u32 = 20;
/// Unix ms of the first time that counts.
const FIRST_TIME: i64 = 0;
/// Unix ms that no clock shows; all that is no number sorts before or behind.
const LAST_TIME: i64 = 1 << 52;
/// How many workflows without a time of their making are listed.
const MAX_UNDATED: usize = 100;
/// How long an update waits before it decides anew, times a random number from 0 to the number of tries.
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
    quarantine: Quarantine,
    state: PhantomData<fn() -> W>,
}

impl<W> Clone for Workflows<W> {
    fn clone(&self) -> Self {
        Self::new(self.collection.clone(), self.quarantine.clone())
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

/// One of several workflows that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<W> {
    /// It is there.
    Document(Document<W>),
    /// It is there and can't be read; that was noted.
    Unreadable,
    /// It is not there.
    Absent,
}

impl<W> Found<W> {
    /// The document, if there is one that can be read.
    pub fn document(self) -> Option<Document<W>> {
        match self {
            Self::Document(document) => Some(document),
            Self::Unreadable | Self::Absent => None,
        }
    }
}

/// A row of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row<W> {
    /// A workflow.
    Workflow(W),
    /// A document that can't be read as one.
    Unreadable {
        /// Which.
        queue_id: QueueId,
        /// Why, for people.
        what: String,
    },
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
    pub(super) fn new(collection: Collection, quarantine: Quarantine) -> Self {
        Self {
            collection,
            quarantine,
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
    /// `NotFound` if there is none, `Unreadable` if the document is none of ours, or of a newer release.
    pub async fn get(&self, queue_id: &QueueId) -> Result<Document<W>, StoreError> {
        let key = queue_id.as_str();
        let found = self.collection.get(key).await.map_err(StoreError::from);
        match &found {
            Err(StoreError::Unreadable(what)) => self.note(key, what),
            Ok(_) => self.forget(key),
            Err(_) => {}
        }
        found
    }

    /// All of a document was read.
    fn forget(&self, key: &str) {
        if W::ATTRIBUTES.is_empty() {
            self.quarantine.forget(self.collection.name(), key);
        }
    }

    /// A document can't be read, or not be stored: logs and counts it, once.
    pub(crate) fn note(&self, key: &str, what: &str) {
        self.quarantine.note(self.collection.name(), key, what);
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

    /// Reads the states of several workflows at once, in the order of their ids here.
    ///
    /// # Errors
    /// If the database did not answer until the deadline.
    pub async fn get_many(&self, queue_ids: &[&QueueId]) -> Result<Vec<Found<W>>, StoreError> {
        let keys: Vec<&str> = queue_ids.iter().map(|id| id.as_str()).collect();
        let found = self.collection.get_many(&keys).await?.into_iter();
        let found = found.map(|found| match found {
            None => Found::Absent,
            Some(read) => match self.quarantine.readable(&self.collection, read) {
                Some(document) => {
                    self.forget(&document.key);
                    Found::Document(document)
                }
                None => Found::Unreadable,
            },
        });
        Ok(found.collect())
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

    /// A page of workflows, newest first, behind the one that `after` names. The first page of all also has those
    /// whose `created_at` is no time, at most `MAX_UNDATED`, so they have no place in the order.
    ///
    /// # Errors
    /// `BadCursor` if `after` is one of another list.
    pub async fn list(
        &self,
        filter: &Filter,
        after: Option<&Cursor>,
        size: usize,
    ) -> Result<Page<Row<W>>, StoreError> {
        let query = self.listing(filter, after)?.then("LIMIT @page_rows");
        let query = returning_documents::<W>(query);
        let page = self
            .collection
            .database()
            .page::<Box<RawValue>>("listing workflows", query, size)
            .await?;
        let next = match page.rows.last() {
            Some(last) if page.has_more => listed(last),
            _ => None,
        };
        let undated = match after {
            None if *filter == Filter::default() => self.undated().await?,
            _ => Vec::new(),
        };
        let rows = undated.iter().chain(&page.rows);
        let rows = rows.filter_map(|row| self.row(row)).collect();
        Ok(Page { rows, next })
    }

    fn row(&self, row: &RawValue) -> Option<Row<W>> {
        match Document::<W>::read(row) {
            Ok(document) => {
                let key = &document.key;
                // What a list shows can be read, and the rest can't.
                match self.quarantine.what(self.collection.name(), key) {
                    Some(what) if !W::ATTRIBUTES.is_empty() => Some(Row::Unreadable {
                        queue_id: key.parse().ok()?,
                        what,
                    }),
                    _ => Some(Row::Workflow(document.content)),
                }
            }
            Err(unreadable) => {
                self.note(&unreadable.key, &unreadable.what);
                // What has no queue id as its key can't be asked for either.
                let queue_id = unreadable.key.parse().ok()?;
                Some(Row::Unreadable {
                    queue_id,
                    what: unreadable.what,
                })
            }
        }
    }

    /// What sorts before or behind all times: nothing, texts, lists.
    async fn undated(&self) -> Result<Vec<Box<RawValue>>, StoreError> {
        const BEFORE: &str = "FOR d IN @@workflows FILTER d.created_at < @bound LIMIT @page_rows";
        const BEHIND: &str = "FOR d IN @@workflows FILTER d.created_at > @bound LIMIT @page_rows";
        let mut rows = Vec::new();
        for (text, bound) in [(BEFORE, FIRST_TIME), (BEHIND, LAST_TIME)] {
            let query = Query::new(text)
                .bind("@workflows", self.collection.name())
                .bind("bound", bound);
            let query = returning_documents::<W>(query);
            let database = self.collection.database();
            let page = database.page("listing workflows", query, MAX_UNDATED);
            rows.extend(page.await?.rows);
        }
        Ok(rows)
    }

    /// All workflows that pass the filter and can be read, with their revisions, newest first: for who looks after them.
    ///
    /// # Errors
    /// If the database did not answer until the deadline.
    pub async fn all(&self, filter: &Filter) -> Result<Vec<Document<W>>, StoreError> {
        let query = returning_documents::<W>(self.sorted(filter)?);
        let database = self.collection.database();
        let rows: Vec<Box<RawValue>> = database.rows("reading workflows", &query).await?;
        let read = |row: &RawValue| {
            let read = Document::read(row);
            self.quarantine.readable(&self.collection, read)
        };
        Ok(rows.iter().filter_map(|row| read(row)).collect())
    }

    /// The ids and revisions of all workflows that pass the filter, newest first.
    ///
    /// # Errors
    /// If the database did not answer until the deadline.
    pub async fn revisions(&self, filter: &Filter) -> Result<Vec<(QueueId, Revision)>, StoreError> {
        let query = returning(self.sorted(filter)?, &["_key", "_rev"]);
        let database = self.collection.database();
        Ok(self.ids(database.rows("looking for workflows", &query).await?))
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
        Ok((self.ids(page.rows), page.has_more))
    }

    /// A key that is no queue id is noted, and left out.
    fn ids(&self, rows: Vec<Document<IgnoredAny>>) -> Vec<(QueueId, Revision)> {
        let id = |row: Document<IgnoredAny>| match row.key.parse() {
            Ok(queue_id) => Some((queue_id, row.revision)),
            Err(_) => {
                self.note(&row.key, "its key is no queue id");
                None
            }
        };
        rows.into_iter().filter_map(id).collect()
    }
}
