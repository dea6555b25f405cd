//! Time-to-live indexes: documents whose time has come are removed, now and then.
use redb::{ReadableTable as _, ReadableTableMetadata as _};
use serde_json::Value;

use super::{
    catalog::{Collection, IndexKind},
    error::ApiError,
    record::Record,
    store::Store,
};

/// Removes everything that has expired at `now`, in Unix seconds; returns the number of documents.
pub(crate) fn remove_expired(store: &Store, now: f64) -> Result<usize, ApiError> {
    let mut due = Vec::new();
    for (database, collection) in store.catalog().collections() {
        if rule(collection).is_some() {
            due.push((database.to_owned(), collection.name.clone()));
        }
    }
    let mut removed = 0;
    for (database, name) in due {
        removed += store.write(&database, &name, false, |collection, documents| {
            let Some((field, after)) = rule(collection) else {
                return Ok(0);
            };
            let mut expired = Vec::new();
            for entry in documents.iter()? {
                let (key, stored) = entry?;
                let values = Record::decode(stored.value()).pick(&[field])?;
                let since = values.first().and_then(unix_secs);
                if since.is_some_and(|since| since + after <= now) {
                    expired.push(key.value().to_owned());
                }
            }
            for key in &expired {
                documents.remove(key.as_str())?;
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

/// The attribute with the time, and the seconds after it.
fn rule(collection: &Collection) -> Option<(&str, f64)> {
    collection
        .indexes
        .iter()
        .find_map(|index| match &index.kind {
            IndexKind::Ttl { expire_after } => {
                Some((index.fields.first()?.as_str(), expire_after.as_f64()?))
            }
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
        store::{definition, table_name},
        write::{Batch, WriteOptions},
    };
    use super::*;

    fn store_with_ttl_collection() -> Store {
        let store = Store::open_in_memory().unwrap();
        let collection = Collection {
            id: 7,
            name: "c".to_owned(),
            wait_for_sync: false,
            cache_enabled: false,
            indexes: vec![Index {
                id: 8,
                name: "ttl".to_owned(),
                fields: vec!["at".to_owned()],
                kind: IndexKind::Ttl {
                    expire_after: 10.into(),
                },
            }],
        };
        let created = store.alter(|catalog, transaction| {
            transaction.open_table(definition(&table_name(7)))?;
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
