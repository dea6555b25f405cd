//! The embedded store: one redb file, or memory, with a table for each collection.
//!
//! Promise: a batch is one transaction, so that readers see all of it or nothing; what was written
//! with `waitForSync`, and every change to databases, collections and indexes, is on disk when the
//! call returns; the rest follows within [`SYNC_INTERVAL`], as with ArangoDB's
//! `--rocksdb.sync-interval`. Unlike there, also a *killed* process loses what was not yet synced.
//!
//! Everything here blocks; handlers call it through [`super::state::blocking`].
use std::{
    path::Path,
    sync::{
        RwLock, RwLockReadGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use redb::{
    Database, Durability, ReadableDatabase as _, TableDefinition, WriteTransaction,
    backends::InMemoryBackend,
};

use super::{
    catalog::{self, Catalog, Collection, SYSTEM_DATABASE},
    error::ApiError,
    tables::{self, Documents, Snapshot},
};

/// Longest time that an answered write without `waitForSync` stays only in memory.
pub(crate) const SYNC_INTERVAL: Duration = Duration::from_millis(100);

/// Name of the file in the folder that a persistent server is given.
const FILE_NAME: &str = "arango.redb";

/// redb's page cache. Small, since in memory the pages exist a second time in the backend.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

const CATALOG: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("catalog");
const CATALOG_KEY: &str = "catalog";

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot create the folder of the development ArangoDB")]
    Folder(#[source] std::io::Error),
    #[error("cannot open the store of the development ArangoDB")]
    Store(#[source] Box<redb::Error>),
    #[error("the list of collections in the store cannot be read")]
    Catalog(#[source] serde_json::Error),
    #[error("an index of the store cannot be built: {0}")]
    Index(String),
}

pub(crate) struct Store {
    database: Database,
    in_memory: bool,
    /// Locked before a transaction begins, never after, and held until it ends: so no collection
    /// disappears under a write.
    catalog: RwLock<Catalog>,
    /// The last number given to a revision, an id or a generated key.
    last_tick: AtomicU64,
    unsynced: AtomicBool,
}

impl Store {
    pub(crate) fn open_in_memory() -> Result<Self, OpenError> {
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(InMemoryBackend::new())
            .map_err(boxed)?;
        Self::start(database, true)
    }

    /// Opens the store in `folder`, which is created if it is not there.
    pub(crate) fn open_folder(folder: &Path) -> Result<Self, OpenError> {
        std::fs::create_dir_all(folder).map_err(OpenError::Folder)?;
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create(folder.join(FILE_NAME))
            .map_err(boxed)?;
        Self::start(database, false)
    }

    fn start(database: Database, in_memory: bool) -> Result<Self, OpenError> {
        let mut catalog = load_catalog(&database)?;
        // Microseconds advance faster than this server can write, so that numbers given after a
        // restart are above those given before it.
        let now = jiff::Timestamp::now().as_microsecond().unsigned_abs();
        let mut first_tick = now.max(catalog.highest_id());
        if !catalog.databases.contains_key(SYSTEM_DATABASE) {
            first_tick += 1;
            let system = catalog::Database {
                id: first_tick,
                collections: Default::default(),
            };
            catalog.databases.insert(SYSTEM_DATABASE.to_owned(), system);
        }
        build_missing_indexes(&database, &catalog)?;
        let store = Self {
            database,
            in_memory,
            catalog: RwLock::new(catalog),
            last_tick: AtomicU64::new(first_tick),
            unsynced: AtomicBool::new(false),
        };
        Ok(store)
    }

    /// A number above every number given before, also before a restart.
    pub(crate) fn tick(&self) -> u64 {
        self.last_tick.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().expect(NOT_POISONED)
    }

    /// A copy of what is known of a collection.
    pub(crate) fn collection(&self, database: &str, name: &str) -> Result<Collection, ApiError> {
        Ok(self.catalog().collection(database, name)?.clone())
    }

    /// Changes the catalogue and, in the same transaction, the tables; both or nothing.
    pub(crate) fn alter<T>(
        &self,
        change: impl FnOnce(&mut Catalog, &WriteTransaction) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let mut catalog = self.catalog.write().expect(NOT_POISONED);
        let mut changed = catalog.clone();
        let transaction = self.database.begin_write()?;
        let result = change(&mut changed, &transaction)?;
        transaction
            .open_table(CATALOG)?
            .insert(CATALOG_KEY, serde_json::to_vec(&changed)?.as_slice())?;
        transaction.commit()?;
        *catalog = changed;
        Ok(result)
    }

    /// Runs `work` on a collection's documents as one transaction; an error writes nothing.
    pub(crate) fn write<T>(
        &self,
        database: &str,
        collection: &str,
        wait_for_sync: bool,
        work: impl FnOnce(&Collection, &mut Documents<'_>) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let catalog = self.catalog();
        let collection = catalog.collection(database, collection)?;
        let mut transaction = self.database.begin_write()?;
        // In memory a synced commit costs next to nothing, and frees pages sooner.
        let synced = wait_for_sync || collection.wait_for_sync || self.in_memory;
        if !synced {
            transaction.set_durability(Durability::None)?;
        }
        let result = {
            let mut documents = Documents::open(&transaction, collection)?;
            work(collection, &mut documents)?
        };
        transaction.commit()?;
        if !synced {
            self.unsynced.store(true, Ordering::Release);
        }
        Ok(result)
    }

    /// The documents of a collection as they are now, unmoved by later writes.
    pub(crate) fn read(
        &self,
        database: &str,
        collection: &str,
    ) -> Result<(Collection, Snapshot), ApiError> {
        let catalog = self.catalog();
        let collection = catalog.collection(database, collection)?.clone();
        let transaction = self.database.begin_read()?;
        let documents = Snapshot::open(&transaction, &collection)?;
        Ok((collection, documents))
    }

    /// Brings to disk what was written without `waitForSync`.
    pub(crate) fn sync(&self) -> Result<(), ApiError> {
        if !self.unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        // A durable commit, even an empty one, makes all earlier ones durable.
        let synced = || -> Result<(), ApiError> { Ok(self.database.begin_write()?.commit()?) };
        synced().inspect_err(|_| self.unsynced.store(true, Ordering::Release))
    }
}

const NOT_POISONED: &str = "nothing panics while it holds the catalogue";

fn load_catalog(database: &Database) -> Result<Catalog, OpenError> {
    let transaction = database.begin_read().map_err(boxed)?;
    let table = match transaction.open_table(CATALOG) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Catalog::default()),
        Err(error) => return Err(boxed(error)),
    };
    match table.get(CATALOG_KEY).map_err(boxed)? {
        Some(json) => serde_json::from_slice(json.value()).map_err(OpenError::Catalog),
        None => Ok(Catalog::default()),
    }
}

/// A store of an earlier version has indexes by name only.
fn build_missing_indexes(database: &Database, catalog: &Catalog) -> Result<(), OpenError> {
    let reading = database.begin_read().map_err(boxed)?;
    let mut lacking = Vec::new();
    for (_, collection) in catalog.collections() {
        if !tables::are_there(&reading, collection).map_err(boxed)? {
            lacking.push(collection);
        }
    }
    if lacking.is_empty() {
        return Ok(());
    }
    let transaction = database.begin_write().map_err(boxed)?;
    for collection in lacking {
        tables::create(&transaction, collection)
            .map_err(|error| OpenError::Index(error.message))?;
    }
    transaction.commit().map_err(boxed)
}

fn boxed(error: impl Into<redb::Error>) -> OpenError {
    OpenError::Store(Box::new(error.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::arango::{
        catalog::{Index, IndexKind},
        record::{Revision, encode},
    };

    /// The one collection, with an index on `at`.
    fn catalog() -> Catalog {
        let collection = Collection {
            indexes: vec![Index {
                id: 8,
                name: "by_time".to_owned(),
                fields: vec!["at".to_owned()],
                kind: IndexKind::Ttl {
                    expire_after: 0.into(),
                },
            }],
            ..Collection::new(7, "c")
        };
        let mut catalog = Catalog::default();
        let system = catalog::Database {
            id: 1,
            collections: [("c".to_owned(), collection)].into(),
        };
        catalog.databases.insert(SYSTEM_DATABASE.to_owned(), system);
        catalog
    }

    #[test]
    fn a_store_of_an_earlier_version_gets_its_indexes_when_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::create(folder.path().join(FILE_NAME)).unwrap();
        let transaction = database.begin_write().unwrap();
        let table = TableDefinition::<&str, &[u8]>::new("documents/7");
        let attributes = json!({"at": 5}).as_object().unwrap().clone();
        transaction
            .open_table(table)
            .unwrap()
            .insert("k", encode(Revision(1), &attributes).unwrap().as_slice())
            .unwrap();
        transaction
            .open_table(CATALOG)
            .unwrap()
            .insert(
                CATALOG_KEY,
                serde_json::to_vec(&catalog()).unwrap().as_slice(),
            )
            .unwrap();
        transaction.commit().unwrap();
        drop(database);

        let store = Store::open_folder(folder.path()).unwrap();
        assert_eq!(super::super::ttl::remove_expired(&store, 4.0).unwrap(), 0);
        assert_eq!(super::super::ttl::remove_expired(&store, 5.0).unwrap(), 1);
    }
}
