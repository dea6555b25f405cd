//! What has changed since, for who tells others of changes.
//!
//! By the names of writes, which begin with the time of the write by the writer's clock. `updated_at` would not do: an
//! event that is read late sets it to a time long past. Who asks looks back as far as clocks differ, and leaves out
//! what it has seen.

use std::marker::PhantomData;

use serde::Deserialize;
use serde_json::value::RawValue;
use streamforge_arango::{Collection, Document, IndexKind, IndexSpec, Query};
use streamforge_utils::protocol::TimestampMs;

use super::{Excerpt, QUEUE_STATE, Quarantine, Store, StoreError, workflows::returning_documents};

/// A moment in the order of writes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(String);

impl Mark {
    /// Before all writes of this instant.
    pub fn at(instant: TimestampMs) -> Self {
        Self(format!("{:012x}", instant.as_millis().max(0)))
    }

    /// The write that made this document.
    pub fn of<T>(document: &Document<T>) -> Option<Self> {
        document.write_id().map(|id| Self(id.to_owned()))
    }

    /// So many milliseconds earlier.
    #[must_use]
    pub fn earlier(&self, millis: i64) -> Self {
        let instant = self.0.get(..12);
        let instant = instant.and_then(|hex| i64::from_str_radix(hex, 16).ok());
        Self::at(TimestampMs(instant.unwrap_or(0).saturating_sub(millis)))
    }
}

/// What has changed, each a `W`.
#[derive(Debug, Clone)]
pub struct Changes<W> {
    collection: Collection,
    quarantine: Quarantine,
    state: PhantomData<fn() -> W>,
}

pub(super) fn write_index() -> IndexSpec {
    IndexSpec {
        name: "write",
        fields: &["write_id"],
        kind: IndexKind::Persistent,
    }
}

impl Store {
    /// What has changed of workflows.
    pub fn changes<W>(&self) -> Changes<W> {
        Changes {
            collection: self.database.collection(QUEUE_STATE),
            quarantine: self.quarantine.clone(),
            state: PhantomData,
        }
    }
}

impl<W: Excerpt> Changes<W> {
    /// Those of the first `size` workflows written after `mark` that can be read, in the order of their last writes, and
    /// where to ask on if there are more.
    ///
    /// # Errors
    /// If the database did not answer until the deadline.
    pub async fn since(
        &self,
        mark: &Mark,
        size: usize,
    ) -> Result<(Vec<Document<W>>, Option<Mark>), StoreError> {
        let query = Query::new("FOR d IN @@workflows FILTER d.write_id > @mark SORT d.write_id")
            .then("LIMIT @page_rows")
            .bind("@workflows", self.collection.name())
            .bind("mark", mark.0.as_str());
        let query = returning_documents::<W>(query);
        let database = self.collection.database();
        let page = database.page::<Box<RawValue>>("reading changes", query, size);
        let page = page.await?;
        // Without one there is nothing to ask on from.
        let next = page.rows.last().and_then(|last| mark_of(last));
        let read = |row: &RawValue| {
            let read = Document::read(row);
            self.quarantine.readable(&self.collection, read)
        };
        let rows = page.rows.iter().filter_map(|row| read(row)).collect();
        Ok((rows, next.filter(|_| page.has_more)))
    }
}

fn mark_of(row: &RawValue) -> Option<Mark> {
    #[derive(Deserialize)]
    struct Written {
        write_id: String,
    }
    let written: Written = serde_json::from_str(row.get()).ok()?;
    Some(Mark(written.write_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_lies_before_the_writes_of_its_instant() {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let (seconds, _) = uuid::Uuid::try_parse(&id)
            .unwrap()
            .get_timestamp()
            .unwrap()
            .to_unix();
        let begin = TimestampMs(i64::try_from(seconds).unwrap() * 1_000);
        let write = Mark(id);
        assert!(Mark::at(begin) < write);
        assert!(write < Mark::at(begin + 1_000));
        assert!(write.earlier(1) < write);
        assert_eq!(Mark::at(begin).earlier(5), Mark::at(begin - 5));
        assert_eq!(
            Mark::at(TimestampMs(0)).earlier(5),
            Mark::at(TimestampMs(0))
        );
    }
}
