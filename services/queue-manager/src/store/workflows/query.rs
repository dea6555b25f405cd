//! The queries by which workflows are found.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use streamforge_arango::Query;
use streamforge_utils::protocol::TimestampMs;

use super::{
    super::{Cursor, StoreError},
    Excerpt, FIRST_TIME, Filter, LAST_TIME, Workflows,
};

/// Statuses that stay as they are.
const FINAL: [&str; 3] = ["finished", "interrupted", "error"];

/// Where a page that ends with this row goes on, also if the row is no workflow.
pub(super) fn listed(row: &RawValue) -> Option<Cursor> {
    #[derive(Deserialize)]
    struct Listed {
        created_at: f64,
        queue_id: String,
    }
    let listed: Listed = serde_json::from_str(row.get()).ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "within the times that are listed"
    )]
    let created_at = TimestampMs(listed.created_at.floor() as i64);
    let of_last = |queue_id| Cursor::Workflow {
        created_at,
        queue_id,
    };
    if let Ok(queue_id) = listed.queue_id.parse() {
        return Some(of_last(queue_id));
    }
    // No place among those of the same time: it sorts behind the last of all ids, and they follow it, or before.
    let last_id = format!("wf-{}", "z".repeat(125));
    let created_at = match listed.queue_id > last_id {
        true => created_at,
        false => created_at - 1,
    };
    Some(Cursor::Workflow {
        created_at,
        queue_id: last_id.parse().ok()?,
    })
}

/// Ends a query: it returns these attributes, or all if there are none.
pub(super) fn returning(query: Query, attributes: &[&str]) -> Query {
    match attributes.is_empty() {
        true => query.then("RETURN d"),
        false => query
            .then("RETURN KEEP(d, @attributes)")
            .bind("attributes", attributes),
    }
}

/// The same, with what the server and the writer add to a document.
pub(in crate::store) fn returning_documents<W: Excerpt>(query: Query) -> Query {
    let added: &[&str] = match W::ATTRIBUTES.is_empty() {
        true => &[],
        false => &["_key", "_rev", "write_id"],
    };
    returning(query, &[W::ATTRIBUTES, added].concat())
}

impl<W: Serialize + Excerpt> Workflows<W> {
    /// Only what has a place in the order: a page ends at a time and a queue id.
    pub(super) fn listing(
        &self,
        filter: &Filter,
        after: Option<&Cursor>,
    ) -> Result<Query, StoreError> {
        let query = self.filtered(filter, after)?;
        let query = query
            .then("FILTER d.created_at >= @first_time AND d.created_at <= @last_time")
            .then("FILTER d.queue_id >= @first_id AND d.queue_id < @end_id")
            .bind("first_time", FIRST_TIME)
            .bind("last_time", LAST_TIME)
            // Texts lie between these two.
            .bind("first_id", "")
            .bind("end_id", serde_json::json!([]));
        Ok(query.then("SORT d.created_at DESC, d.queue_id DESC"))
    }

    pub(super) fn sorted(&self, filter: &Filter) -> Result<Query, StoreError> {
        let query = self.filtered(filter, None)?;
        Ok(query.then("SORT d.created_at DESC, d.queue_id DESC"))
    }

    pub(super) fn filtered(
        &self,
        filter: &Filter,
        after: Option<&Cursor>,
    ) -> Result<Query, StoreError> {
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
