//! The tables of one collection: its documents, and an index each, which is kept with them.
//!
//! An index entry holds the values of the index's attributes besides the document's key, so that a query which needs
//! no other attributes reads no documents.
use redb::{
    AccessGuard, Range, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata,
    StorageError, Table, TableDefinition, TableError, WriteTransaction,
};
use serde_json::Value;

use super::{
    catalog::{Collection, Index},
    entry_key,
    error::ApiError,
    record::Record,
};

type Bytes = &'static [u8];
/// A document's key, and the values of the index's attributes as a JSON array.
type Entry = (&'static str, &'static [u8]);

/// The documents of one collection while they are written.
pub(crate) type Documents<'txn> =
    Tables<Table<'txn, &'static str, Bytes>, Table<'txn, Bytes, Entry>>;
/// The documents of one collection as they were when reading began.
pub(crate) type Snapshot = Tables<ReadOnlyTable<&'static str, Bytes>, ReadOnlyTable<Bytes, Entry>>;

/// A table of documents.
pub(crate) trait ReadDocuments: ReadableTable<&'static str, Bytes> {}
impl<T: ReadableTable<&'static str, Bytes>> ReadDocuments for T {}
/// A table of index entries.
pub(crate) trait ReadEntries: ReadableTable<Bytes, Entry> {}
impl<T: ReadableTable<Bytes, Entry>> ReadEntries for T {}

pub(crate) struct Tables<D, E> {
    documents: D,
    indexes: Vec<Indexed<E>>,
}

/// One index and its entries.
pub(crate) struct Indexed<E> {
    pub(crate) fields: Vec<String>,
    pub(crate) entries: E,
}

fn documents_table(collection: &Collection) -> String {
    format!("documents/{}", collection.id)
}

fn entries_table(index: &Index) -> String {
    format!("index/{}", index.id)
}

fn documents(name: &str) -> TableDefinition<'_, &'static str, Bytes> {
    TableDefinition::new(name)
}

fn entries(name: &str) -> TableDefinition<'_, Bytes, Entry> {
    TableDefinition::new(name)
}

/// Makes the tables that a collection lacks, and fills those of its indexes.
pub(crate) fn create(
    transaction: &WriteTransaction,
    collection: &Collection,
) -> Result<(), ApiError> {
    let table = transaction.open_table(documents(&documents_table(collection)))?;
    for index in &collection.indexes {
        let mut indexed = Indexed {
            fields: index.fields.clone(),
            entries: transaction.open_table(entries(&entries_table(index)))?,
        };
        if !indexed.entries.is_empty()? {
            continue;
        }
        for entry in table.iter()? {
            let (key, stored) = entry?;
            indexed.add(key.value(), Record::decode(stored.value()))?;
        }
    }
    Ok(())
}

/// Whether [`create`] has nothing to do.
pub(crate) fn are_there(
    transaction: &ReadTransaction,
    collection: &Collection,
) -> Result<bool, TableError> {
    for index in &collection.indexes {
        match transaction.open_table(entries(&entries_table(index))) {
            Ok(_) => {}
            Err(TableError::TableDoesNotExist(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

pub(crate) fn delete(
    transaction: &WriteTransaction,
    collection: &Collection,
) -> Result<(), ApiError> {
    transaction.delete_table(documents(&documents_table(collection)))?;
    for index in &collection.indexes {
        delete_index(transaction, index)?;
    }
    Ok(())
}

pub(crate) fn delete_index(transaction: &WriteTransaction, index: &Index) -> Result<(), ApiError> {
    transaction.delete_table(entries(&entries_table(index)))?;
    Ok(())
}

impl<'txn> Documents<'txn> {
    pub(crate) fn open(
        transaction: &'txn WriteTransaction,
        collection: &Collection,
    ) -> Result<Self, TableError> {
        let documents = transaction.open_table(documents(&documents_table(collection)))?;
        Self::with(documents, collection, |table| {
            transaction.open_table(entries(table))
        })
    }

    /// Stores a record in the place of the one with this key, if there is one.
    pub(crate) fn insert(&mut self, key: &str, record: &[u8]) -> Result<(), ApiError> {
        if let Some(replaced) = self.documents.insert(key, record)? {
            for index in &mut self.indexes {
                index.remove(key, Record::decode(replaced.value()))?;
            }
        }
        for index in &mut self.indexes {
            index.add(key, Record::decode(record))?;
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, key: &str) -> Result<(), ApiError> {
        if let Some(removed) = self.documents.remove(key)? {
            for index in &mut self.indexes {
                index.remove(key, Record::decode(removed.value()))?;
            }
        }
        Ok(())
    }

    pub(crate) fn clear(&mut self) -> Result<(), ApiError> {
        self.documents.retain(|_, _| false)?;
        for index in &mut self.indexes {
            index.entries.retain(|_, _| false)?;
        }
        Ok(())
    }
}

impl Snapshot {
    pub(crate) fn open(
        transaction: &ReadTransaction,
        collection: &Collection,
    ) -> Result<Self, TableError> {
        let documents = transaction.open_table(documents(&documents_table(collection)))?;
        Self::with(documents, collection, |table| {
            transaction.open_table(entries(table))
        })
    }
}

impl<D, E> Tables<D, E> {
    fn with(
        documents: D,
        collection: &Collection,
        open: impl Fn(&str) -> Result<E, TableError>,
    ) -> Result<Self, TableError> {
        let indexes = collection.indexes.iter().map(|index| {
            Ok(Indexed {
                fields: index.fields.clone(),
                entries: open(&entries_table(index))?,
            })
        });
        Ok(Self {
            indexes: indexes.collect::<Result<_, TableError>>()?,
            documents,
        })
    }
}

impl<D: ReadDocuments, E: ReadEntries> Tables<D, E> {
    pub(crate) fn get(&self, key: &str) -> Result<Option<AccessGuard<'_, Bytes>>, StorageError> {
        self.documents.get(key)
    }

    /// All documents in the order of their keys.
    pub(crate) fn iter(&self) -> Result<Range<'_, &'static str, Bytes>, StorageError> {
        self.documents.iter()
    }

    pub(crate) fn len(&self) -> Result<u64, StorageError> {
        self.documents.len()
    }

    /// In the order in which the collection has them.
    pub(crate) fn indexes(&self) -> &[Indexed<E>] {
        &self.indexes
    }
}

impl<E> Indexed<E> {
    fn values(&self, key: &str, record: Record<'_>) -> Result<Vec<Value>, serde_json::Error> {
        let names: Vec<&str> = self.fields.iter().map(String::as_str).collect();
        record.pick(key, &names)
    }
}

impl Indexed<Table<'_, Bytes, Entry>> {
    fn add(&mut self, key: &str, record: Record<'_>) -> Result<(), ApiError> {
        let values = self.values(key, record)?;
        let text = serde_json::to_vec(&values)?;
        self.entries
            .insert(entry_key(&values, key).as_slice(), (key, text.as_slice()))?;
        Ok(())
    }

    fn remove(&mut self, key: &str, record: Record<'_>) -> Result<(), ApiError> {
        let values = self.values(key, record)?;
        self.entries.remove(entry_key(&values, key).as_slice())?;
        Ok(())
    }
}

fn entry_key(values: &[Value], key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    for value in values {
        entry_key::push(&mut bytes, value);
    }
    bytes.extend(key.bytes());
    bytes
}
