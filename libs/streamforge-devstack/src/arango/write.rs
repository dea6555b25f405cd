//! What one write does to one document: the rules of insert, replace, update and remove.
//!
//! Works on an open table inside somebody else's transaction. A document that cannot be written is a
//! [`Slot`] holding the error, and the batch goes on; an `Err` beside it means that the store itself
//! failed and that the whole batch must be given up.
use serde_json::{Map, Value, value::RawValue};

use super::{
    error::{ApiError, Known},
    faults::Rejection,
    record::{self, Record, Revision},
    store::Store,
    tables::Documents,
};

/// What an insert does when the key is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OverwriteMode {
    #[default]
    Conflict,
    Ignore,
    Replace,
    Update,
}

/// How existing documents are changed and what comes back.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) overwrite_mode: OverwriteMode,
    pub(crate) return_new: bool,
    pub(crate) return_old: bool,
    pub(crate) keep_null: bool,
    pub(crate) merge_objects: bool,
    /// If false, a `_rev` in the document is a precondition.
    pub(crate) ignore_revs: bool,
    /// The `If-Match` header, for single documents.
    pub(crate) if_match: Option<String>,
    /// Only a document with a higher number in this attribute is written over another.
    pub(crate) version_attribute: Option<String>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            overwrite_mode: OverwriteMode::default(),
            return_new: false,
            return_old: false,
            keep_null: true,
            merge_objects: true,
            ignore_revs: true,
            if_match: None,
            version_attribute: None,
        }
    }
}

/// A write that succeeded.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) key: String,
    pub(crate) revision: Revision,
    pub(crate) old_revision: Option<Revision>,
    pub(crate) new: Option<Box<RawValue>>,
    pub(crate) old: Option<Box<RawValue>>,
    /// False if nothing changed: ignored, or not newer than what is stored.
    pub(crate) stored: bool,
}

/// The outcome for one document.
pub(crate) type Slot = Result<Written, ApiError>;
type Attributes = Map<String, Value>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Replace,
    Update,
}

/// The documents of one collection and the rules for one request.
pub(crate) struct Batch<'a, 'txn> {
    pub(crate) store: &'a Store,
    pub(crate) collection: &'a str,
    pub(crate) documents: &'a mut Documents<'txn>,
    pub(crate) options: &'a WriteOptions,
    pub(crate) rejection: Option<&'a Rejection>,
}

impl Batch<'_, '_> {
    /// POST: stores a document under its `_key` or a generated one.
    pub(crate) fn insert(&mut self, document: Value) -> Result<Slot, ApiError> {
        let Value::Object(mut attributes) = document else {
            return Ok(Err(Known::DocumentTypeInvalid.into()));
        };
        let key = match attributes.remove("_key") {
            None => self.store.tick().to_string(),
            Some(Value::String(key)) if record::is_valid_key(&key) => key,
            Some(_) => return Ok(Err(Known::DocumentKeyBad.into())),
        };
        if let Some(error) = self.rejected(&key) {
            return Ok(Err(error));
        }
        let Some(existing) = self.existing(&key)? else {
            let written = self.put(key, attributes, None)?;
            return Ok(Ok(written));
        };
        match self.options.overwrite_mode {
            OverwriteMode::Conflict => Ok(Err(ApiError::about(
                Known::UniqueConstraint,
                format!("in index primary of type primary over '_key'; conflicting key: {key}"),
            ))),
            OverwriteMode::Ignore => Ok(Ok(Written {
                key,
                revision: Record::decode(&existing).revision,
                old_revision: None,
                new: None,
                old: None,
                stored: false,
            })),
            OverwriteMode::Replace => self.change(Change::Replace, key, attributes, &existing),
            OverwriteMode::Update => self.change(Change::Update, key, attributes, &existing),
        }
    }

    /// PUT and PATCH. `key` is that of the path; without one, the document says which it changes.
    pub(crate) fn modify(
        &mut self,
        change: Change,
        key: Option<&str>,
        document: Value,
    ) -> Result<Slot, ApiError> {
        let key = match (key, document.is_object()) {
            (_, false) => Err(Known::DocumentTypeInvalid.into()),
            (Some(key), true) => Ok(key.to_owned()),
            (None, true) => selected_key(&document),
        };
        let (key, Value::Object(attributes)) = (match key {
            Ok(key) => (key, document),
            Err(error) => return Ok(Err(error)),
        }) else {
            return Ok(Err(Known::DocumentTypeInvalid.into()));
        };
        if let Some(error) = self.rejected(&key) {
            return Ok(Err(error));
        }
        let Some(existing) = self.existing(&key)? else {
            return Ok(Err(Known::DocumentNotFound.into()));
        };
        let current = Record::decode(&existing).revision;
        if let Some(error) = self.failed_precondition(&key, current, attributes.get("_rev")) {
            return Ok(Err(error));
        }
        self.change(change, key, attributes, &existing)
    }

    /// DELETE. `selector` is a key, an id, or an object with either.
    pub(crate) fn remove(&mut self, selector: &Value) -> Result<Slot, ApiError> {
        let key = match selected_key(selector) {
            Ok(key) => key,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(error) = self.rejected(&key) {
            return Ok(Err(error));
        }
        let Some(existing) = self.existing(&key)? else {
            return Ok(Err(Known::DocumentNotFound.into()));
        };
        let record = Record::decode(&existing);
        if let Some(error) = self.failed_precondition(&key, record.revision, selector.get("_rev")) {
            return Ok(Err(error));
        }
        let old = self.rendered(self.options.return_old, &key, record)?;
        self.documents.remove(key.as_str())?;
        Ok(Ok(Written {
            revision: record.revision,
            key,
            old_revision: None,
            new: None,
            old,
            stored: true,
        }))
    }

    fn change(
        &mut self,
        change: Change,
        key: String,
        attributes: Attributes,
        existing: &[u8],
    ) -> Result<Slot, ApiError> {
        let record = Record::decode(existing);
        if self.is_outdated(&attributes, record)? {
            let unchanged = Written {
                new: self.rendered(self.options.return_new, &key, record)?,
                old: self.rendered(self.options.return_old, &key, record)?,
                key,
                revision: record.revision,
                old_revision: Some(record.revision),
                stored: false,
            };
            return Ok(Ok(unchanged));
        }
        let attributes = match change {
            Change::Replace => attributes,
            Change::Update => {
                let (keep_null, merge_objects) =
                    (self.options.keep_null, self.options.merge_objects);
                let mut merged = record.attributes()?;
                record::merge(&mut merged, attributes, keep_null, merge_objects);
                merged
            }
        };
        Ok(Ok(self.put(key, attributes, Some(record))?))
    }

    fn put(
        &mut self,
        key: String,
        mut attributes: Attributes,
        existing: Option<Record<'_>>,
    ) -> Result<Written, ApiError> {
        for system_attribute in ["_key", "_id", "_rev"] {
            attributes.remove(system_attribute);
        }
        attributes.values_mut().for_each(record::normalise_numbers);
        let revision = Revision(self.store.tick());
        let bytes = record::encode(revision, &attributes)?;
        self.documents.insert(key.as_str(), bytes.as_slice())?;
        let old = match existing {
            Some(record) => self.rendered(self.options.return_old, &key, record)?,
            None => None,
        };
        Ok(Written {
            new: self.rendered(self.options.return_new, &key, Record::decode(&bytes))?,
            old,
            key,
            revision,
            old_revision: existing.map(|record| record.revision),
            stored: true,
        })
    }

    fn existing(&self, key: &str) -> Result<Option<Vec<u8>>, ApiError> {
        Ok(self
            .documents
            .get(key)?
            .map(|record| record.value().to_vec()))
    }

    fn rejected(&self, key: &str) -> Option<ApiError> {
        self.rejection.and_then(|rejection| rejection.check(key))
    }

    fn failed_precondition(
        &self,
        key: &str,
        current: Revision,
        sent: Option<&Value>,
    ) -> Option<ApiError> {
        let wanted = match (&self.options.if_match, sent) {
            (Some(tag), _) => tag,
            (None, Some(Value::String(revision))) if !self.options.ignore_revs => revision,
            _ => return None,
        };
        (!current.is_named_by(wanted)).then(|| ApiError::conflict(self.collection, key, current))
    }

    /// Whether `versionAttribute` forbids this write: both sides have a usable version and the
    /// supplied one is not higher. Versions are compared as whole, non-negative numbers.
    fn is_outdated(&self, sent: &Attributes, stored: Record<'_>) -> Result<bool, ApiError> {
        let Some(name) = &self.options.version_attribute else {
            return Ok(false);
        };
        let version = |attributes: &Attributes| match attributes.get(name) {
            Some(Value::Number(number)) => number
                .as_u64()
                .or_else(|| number.as_f64().filter(|v| *v >= 0.0).map(|v| v as u64)),
            _ => None,
        };
        Ok(match (version(sent), version(&stored.attributes()?)) {
            (Some(new), Some(old)) => new <= old,
            _ => false,
        })
    }

    fn rendered(
        &self,
        wanted: bool,
        key: &str,
        record: Record<'_>,
    ) -> Result<Option<Box<RawValue>>, ApiError> {
        if !wanted {
            return Ok(None);
        }
        let text = record.render(self.collection, key)?;
        Ok(Some(RawValue::from_string(text)?))
    }
}

/// The key that a batch's entry names: `"key"`, `"collection/key"`, or an object with `_key` or `_id`.
pub(crate) fn selected_key(selector: &Value) -> Result<String, ApiError> {
    let (name, value) = match selector {
        Value::String(_) => ("_id", selector),
        Value::Object(attributes) => match (attributes.get("_key"), attributes.get("_id")) {
            (Some(key), _) => ("_key", key),
            (None, Some(id)) => ("_id", id),
            (None, None) => return Err(Known::DocumentHandleBad.into()),
        },
        _ => return Err(Known::DocumentTypeInvalid.into()),
    };
    let Value::String(text) = value else {
        return Err(Known::DocumentKeyBad.into());
    };
    let key = match text.split_once('/') {
        Some((_, key)) if name == "_id" => key,
        _ => text,
    };
    if !record::is_valid_key(key) {
        return Err(Known::DocumentKeyBad.into());
    }
    Ok(key.to_owned())
}
