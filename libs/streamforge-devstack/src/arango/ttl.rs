//! Time-to-live indexes: documents whose time has come are removed, now and then.
use std::ops::Bound;

use serde_json::Value;

use super::{
    catalog::{Collection, IndexKind},
    entry_key,
    error::ApiError,
    store::Store,
    tables::{ReadDocuments, ReadEntries, Tables},
};

/// Removes everything that has expired at `now`, in Unix seconds; returns the number of documents.
pub(crate) fn remove_expired(store: &Store, now: f64) -> Result<usize, ApiError> {
    let mut ruled = Vec::new();
    for (database, collection) in store.catalog().collections() {
        if rule(collection).is_some() {
            ruled.push((database.to_owned(), collection.name.clone()));
        }
    }
    let mut removed = 0;
    for (database, name) in ruled {
        let (collection, documents) = store.read(&database, &name)?;
        if expired(&collection, &documents, now)?.is_empty() {
            continue;
        }
        removed += store.write(&database, &name, false, |collection, documents| {
            let expired = expired(collection, documents, now)?;
            for key in &expired {
                documents.remove(key)?;
            }
            tracing::debug!(
                collection = name,
                removed = expired.len(),
                left = documents.len()?,
                "Removed expired documents"
            );
            Ok(expired.len())
        })?;
    }
    Ok(removed)
}

/// The keys of the documents whose time has come.
fn expired<D: ReadDocuments, E: ReadEntries>(
    collection: &Collection,
    documents: &Tables<D, E>,
    now: f64,
) -> Result<Vec<String>, ApiError> {
    let Some((position, after)) = rule(collection) else {
        return Ok(Vec::new());
    };
    let due = now - after;
    let mut last_number = Vec::new();
    entry_key::push(&mut last_number, &Value::from(due));
    let (numbers, texts) = ([entry_key::NUMBER], [entry_key::STRING]);
    let mut keys = Vec::new();
    for (from, last) in [(&numbers, last_number.as_slice()), (&texts, &texts)] {
        let end = entry_key::behind(last);
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let entries = &documents.indexes()[position].entries;
        for entry in entries.range::<&[u8]>((Bound::Included(from.as_slice()), end))? {
            let (_, entry) = entry?;
            let (key, values) = entry.value();
            let values: Vec<Value> = serde_json::from_slice(values)?;
            if values
                .first()
                .and_then(unix_secs)
                .is_some_and(|since| since <= due)
            {
                keys.push(key.to_owned());
            }
        }
    }
    Ok(keys)
}

/// Which index it is, and the seconds after the time in its attribute.
fn rule(collection: &Collection) -> Option<(usize, f64)> {
    let mut indexes = collection.indexes.iter().enumerate();
    indexes.find_map(|(position, index)| match &index.kind {
        IndexKind::Ttl { expire_after } => Some((position, expire_after.as_f64()?)),
        IndexKind::Persistent { .. } => None,
    })
}

/// A time as ArangoDB's TTL indexes take it: Unix seconds or an ISO 8601 string. Others never expire.
fn unix_secs(value: &Value) -> Option<f64> {
    match value {
        Value::Number(seconds) => seconds.as_f64(),
        Value::String(text) => {
            let time: jiff::Timestamp = text.parse().ok()?;
            Some(time.as_second() as f64)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{
        catalog::{self, Index},
        tables,
        write::{Batch, WriteOptions},
    };
    use super::*;

    fn store_with_ttl_collection() -> Store {
        let store = Store::open_in_memory().unwrap();
        let collection = Collection {
            indexes: vec![Index {
                id: 8,
                name: "ttl".to_owned(),
                fields: vec!["at".to_owned()],
                kind: IndexKind::Ttl {
                    expire_after: 10.into(),
                },
            }],
            ..Collection::new(7, "c")
        };
        let created = store.alter(|catalog, transaction| {
            tables::create(transaction, &collection)?;
            let system = catalog.databases.get_mut(catalog::SYSTEM_DATABASE).unwrap();
            system.collections.insert("c".to_owned(), collection);
            Ok(())
        });
        created.unwrap();
        store
    }

    #[test]
    fn documents_expire_when_their_time_has_come() {
        let store = store_with_ttl_collection();
        let options = WriteOptions::default();
        let written = store.write("_system", "c", false, |found, documents| {
            let mut batch = Batch {
                store: &store,
                collection: &found.name,
                documents,
                options: &options,
                rejection: None,
            };
            for document in [
                json!({"_key": "due", "at": 90}),
                json!({"_key": "text", "at": "1970-01-01T00:01:30Z"}),
                json!({"_key": "later", "at": 90.5}),
                json!({"_key": "never", "at": null}),
                json!({"_key": "without"}),
            ] {
                batch.insert(document)?.unwrap();
            }
            Ok(())
        });
        written.unwrap();
        assert_eq!(remove_expired(&store, 100.0).unwrap(), 2);
        let (_, left) = store.read("_system", "c").unwrap();
        let keys: Vec<_> = left
            .iter()
            .unwrap()
            .map(|e| e.unwrap().0.value().to_owned())
            .collect();
        assert_eq!(keys, ["later", "never", "without"]);
    }
}
