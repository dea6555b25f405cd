//! What databases, collections and indexes there are, and which names ArangoDB allows them.
//!
//! Plain data with the rules about it. Keeping it on disk is the business of [`super::store`].
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::error::{ApiError, Known};

/// The database that every server has and from which databases are managed.
pub(crate) const SYSTEM_DATABASE: &str = "_system";

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Catalog {
    pub(crate) databases: BTreeMap<String, Database>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Database {
    pub(crate) id: u64,
    pub(crate) collections: BTreeMap<String, Collection>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Collection {
    /// Unique in the whole server; it also names the table that holds the documents.
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) wait_for_sync: bool,
    pub(crate) cache_enabled: bool,
    /// Without the primary index, which every collection has.
    pub(crate) indexes: Vec<Index>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Index {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) fields: Vec<String>,
    pub(crate) kind: IndexKind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum IndexKind {
    Persistent {
        sparse: bool,
        deduplicate: bool,
        estimates: bool,
        cache_enabled: bool,
        stored_values: Vec<String>,
    },
    Ttl {
        /// Seconds after the time in the field.
        expire_after: Number,
    },
}

impl Collection {
    /// One without indexes of its own, as it is made if nothing else is said.
    pub(crate) fn new(id: u64, name: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
            wait_for_sync: false,
            cache_enabled: false,
            indexes: Vec::new(),
        }
    }
}

impl Catalog {
    pub(crate) fn database(&self, name: &str) -> Result<&Database, ApiError> {
        self.databases
            .get(name)
            .ok_or_else(|| Known::DatabaseNotFound.into())
    }

    /// Finds a collection by its name or, as ArangoDB allows, by its numeric id.
    pub(crate) fn collection(&self, database: &str, name: &str) -> Result<&Collection, ApiError> {
        let collections = &self.database(database)?.collections;
        collections
            .get(name)
            .or_else(|| {
                let id: u64 = name.parse().ok()?;
                collections.values().find(|collection| collection.id == id)
            })
            .ok_or_else(|| ApiError::about(Known::CollectionNotFound, name))
    }

    pub(crate) fn collection_mut(
        &mut self,
        database: &str,
        name: &str,
    ) -> Result<&mut Collection, ApiError> {
        let name = self.collection(database, name)?.name.clone();
        self.databases
            .get_mut(database)
            .and_then(|database| database.collections.get_mut(&name))
            .ok_or_else(|| ApiError::about(Known::CollectionNotFound, name))
    }

    /// Every collection with the name of its database.
    pub(crate) fn collections(&self) -> impl Iterator<Item = (&str, &Collection)> {
        self.databases.iter().flat_map(|(name, database)| {
            let collections = database.collections.values();
            collections.map(move |collection| (name.as_str(), collection))
        })
    }

    /// The highest number given to anything, so that a restarted server goes on above it.
    pub(crate) fn highest_id(&self) -> u64 {
        let databases = self.databases.values().map(|database| database.id);
        let collections = self.collections().flat_map(|(_, collection)| {
            let indexes = collection.indexes.iter().map(|index| index.id);
            indexes.chain([collection.id])
        });
        databases.chain(collections).max().unwrap_or(0)
    }
}

/// Checks the `name` of a new database or collection.
///
/// The rules are those of the extended naming constraints, ArangoDB's only ones from 3.12 on; a
/// name that begins with `_` is taken, since only the system may create it.
pub(crate) fn checked_name(name: Option<&Value>, max_bytes: usize) -> Result<&str, ApiError> {
    let illegal = |reason: &str| Err(ApiError::about(Known::IllegalName, reason));
    let Some(Value::String(name)) = name else {
        return illegal("a name is needed, as a string");
    };
    if name.is_empty() || name.len() > max_bytes {
        return illegal(&format!("a name has 1 to {max_bytes} bytes"));
    }
    if name.starts_with(|first: char| first.is_ascii_digit() || "._ ".contains(first)) {
        return illegal("a name begins with neither a digit nor '.', '_' or ' '");
    }
    if name.ends_with(' ') || name.contains(|c: char| c.is_ascii_control() || "/:".contains(c)) {
        return illegal("a name holds no control character, '/' or ':' and no space at its end");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_follow_the_extended_rules() {
        for good in [
            "a",
            "btcusdt_api_candles_1m_2024_08_01",
            "c_1inch",
            "mötör 🚗",
            &"n".repeat(128),
        ] {
            assert_eq!(checked_name(Some(&json!(good)), 128).unwrap(), good);
        }
        for bad in [
            "",
            "1",
            "_x",
            ".x",
            " x",
            "x ",
            "a/b",
            "a:b",
            "a\nb",
            &"n".repeat(129),
        ] {
            let error = checked_name(Some(&json!(bad)), 128).unwrap_err();
            assert_eq!((error.status, error.num), (400, 1208), "{bad}");
        }
        for bad in [None, Some(json!(null)), Some(json!(7))] {
            assert_eq!(checked_name(bad.as_ref(), 128).unwrap_err().num, 1208);
        }
    }
}
