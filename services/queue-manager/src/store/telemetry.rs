//! The history of workflows: the events of their workers as they came, in the order of queue-events.
//!
//! An event is known by where it lies on queue-events, so one that is read again is stored once. Its key holds the
//! workflow too: should the topic be made anew, its offsets begin anew, and new events must not be taken for old ones.
//! After their time the database removes them by itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use streamforge_arango::{Collection, Document, IndexKind, IndexSpec, Query, Refused};
use streamforge_utils::protocol::{QueueId, TimestampMs};

use super::{Cursor, Page, Quarantine, StoreError};

/// Events that go to the database at once.
const CHUNK: usize = 500;

/// The history of workflows.
#[derive(Debug, Clone)]
pub struct Telemetry {
    collection: Collection,
    quarantine: Quarantine,
    retention: Duration,
}

/// An event on its way into the history.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Its workflow.
    pub queue_id: QueueId,
    /// On queue-events.
    pub partition: i32,
    /// On queue-events.
    pub offset: i64,
    /// The event as it came.
    pub event: Value,
}

/// An event of the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Its workflow.
    pub queue_id: QueueId,
    /// On queue-events.
    pub partition: i32,
    /// On queue-events.
    pub offset: i64,
    /// When it was stored first, Unix ms.
    pub stored_at: TimestampMs,
    /// When it may be forgotten, Unix seconds: the unit of ArangoDB's TTL indexes.
    pub expires_at: i64,
    /// The event as it came.
    pub event: Value,
}

pub(super) fn history_index() -> IndexSpec {
    IndexSpec {
        name: "history",
        fields: &["queue_id", "partition", "offset"],
        kind: IndexKind::Persistent,
    }
}

impl Telemetry {
    pub(super) fn new(collection: Collection, quarantine: Quarantine, retention: Duration) -> Self {
        Self {
            collection,
            quarantine,
            retention,
        }
    }

    /// Stores events, at `now`; those that are there already stay as they are. Returns those that the database
    /// refuses for their own sake, by their positions: there is no use in trying them again.
    ///
    /// # Errors
    /// If the database did not take them until the deadline.
    pub async fn insert(
        &self,
        events: &[NewEvent],
        now: TimestampMs,
    ) -> Result<Vec<Refused>, StoreError> {
        let mut refused = Vec::new();
        for (chunk, events) in events.chunks(CHUNK).enumerate() {
            let documents: Vec<(String, StoredEvent)> = events
                .iter()
                .map(|event| (key(event), self.stored(event, now)))
                .collect();
            let of_chunk = self.collection.insert_absent(&documents).await?;
            refused.extend(of_chunk.into_iter().map(|refused| Refused {
                index: chunk * CHUNK + refused.index,
                ..refused
            }));
        }
        Ok(refused)
    }

    fn stored(&self, event: &NewEvent, now: TimestampMs) -> StoredEvent {
        let retention = i64::try_from(self.retention.as_secs()).unwrap_or(i64::MAX);
        StoredEvent {
            queue_id: event.queue_id.clone(),
            partition: event.partition,
            offset: event.offset,
            stored_at: now,
            expires_at: (now.as_millis() / 1000).saturating_add(retention),
            event: event.event.clone(),
        }
    }

    /// A page of a workflow's events, oldest first, behind the one that `after` names.
    ///
    /// # Errors
    /// `BadCursor` if `after` is one of another list.
    pub async fn list(
        &self,
        queue_id: &QueueId,
        after: Option<&Cursor>,
        size: usize,
    ) -> Result<Page<StoredEvent>, StoreError> {
        let mut query = self.of(
            "FOR d IN @@telemetry FILTER d.queue_id == @queue_id",
            queue_id,
        );
        // Numbers only: an event without its position has no place in the list.
        query = query
            .then("FILTER d.partition >= @zero AND d.offset >= @zero AND d.offset <= @largest")
            .bind("zero", 0)
            .bind("largest", i64::MAX);
        query = match after {
            None => query,
            Some(Cursor::Event { partition, offset }) => query
                .then("FILTER d.partition >= @partition AND (d.partition > @partition OR d.offset > @offset)")
                .bind("partition", *partition)
                .bind("offset", *offset),
            Some(Cursor::Workflow { .. }) => return Err(StoreError::BadCursor),
        };
        let query = query
            .then("SORT d.partition, d.offset")
            .then("LIMIT @page_rows RETURN d");
        let database = self.collection.database();
        let page = database
            .page::<Box<RawValue>>("reading events", query, size)
            .await?;
        let next = match page.rows.last() {
            Some(last) if page.has_more => Some(position(last)?),
            _ => None,
        };
        let read = |row: &RawValue| {
            let read = Document::<StoredEvent>::read(row);
            self.quarantine.readable(&self.collection, read)
        };
        let rows = page
            .rows
            .iter()
            .filter_map(|row| read(row))
            .map(|row| row.content);
        Ok(Page {
            rows: rows.collect(),
            next,
        })
    }

    /// Forgets all events of a workflow, and says how many that were.
    ///
    /// # Errors
    /// If the database did not do it until the deadline.
    pub async fn remove(&self, queue_id: &QueueId) -> Result<u64, StoreError> {
        let query = self
            .of(
                "FOR d IN @@telemetry FILTER d.queue_id == @queue_id",
                queue_id,
            )
            .then("REMOVE d IN @@telemetry");
        let database = self.collection.database();
        Ok(database.execute("forgetting events", &query).await?)
    }

    fn of(&self, text: &'static str, queue_id: &QueueId) -> Query {
        Query::new(text)
            .bind("@telemetry", self.collection.name())
            .bind("queue_id", queue_id.as_str())
    }
}

/// Where a row stands in the list, also of an event that can't be read.
fn position(row: &RawValue) -> Result<Cursor, StoreError> {
    #[derive(Deserialize)]
    struct Listed {
        partition: i32,
        offset: i64,
    }
    let listed: Listed = serde_json::from_str(row.get())
        .map_err(|error| StoreError::Unreadable(format!("an event of the list: {error}")))?;
    Ok(Cursor::Event {
        partition: listed.partition,
        offset: listed.offset,
    })
}

fn key(event: &NewEvent) -> String {
    let queue_id = event.queue_id.as_str();
    format!("{queue_id}:{}:{}", event.partition, event.offset)
}
