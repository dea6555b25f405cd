//! Documents that can't be read: each is logged once, counted, and left as it is, and all others go on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::{IntCounterVec, Opts, Registry};
use streamforge_arango::{Collection, Document, Unreadable};

/// Documents that are remembered as logged. Beyond that they are counted only.
const MAX_REMEMBERED: usize = 10_000;

/// What was found to be unreadable. Clones share it.
#[derive(Debug, Clone)]
pub struct Quarantine {
    /// Why each can't be read, by collection and key.
    seen: Arc<Mutex<BTreeMap<String, String>>>,
    documents: IntCounterVec,
}

impl Quarantine {
    pub(super) fn new() -> Self {
        let opts = Opts::new(
            "streamforge_manager_unreadable_documents_total",
            "Documents that were found to be unreadable, each counted once, by collection",
        );
        let documents = IntCounterVec::new(opts, &["collection"]);
        Self {
            seen: Arc::default(),
            documents: documents.expect("the name and the label are legal"),
        }
    }

    /// Registers the metric.
    ///
    /// # Errors
    /// The name is taken.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.documents.clone()))
    }

    /// The document, if it can be read; else it is noted.
    pub(super) fn readable<T>(
        &self,
        collection: &Collection,
        read: Result<Document<T>, Unreadable>,
    ) -> Option<Document<T>> {
        match read {
            Ok(document) => Some(document),
            Err(unreadable) => {
                self.note(collection.name(), &unreadable.key, &unreadable.what);
                None
            }
        }
    }

    /// Why this document could not be read, if it was noted. A part of it may be readable all the same.
    pub(super) fn what(&self, collection: &str, key: &str) -> Option<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&format!("{collection}/{key}")).cloned()
    }

    /// This document can be read, whatever was noted before.
    pub(super) fn forget(&self, collection: &str, key: &str) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.is_empty() {
            seen.remove(&format!("{collection}/{key}"));
        }
    }

    /// A document can't be read, or not be stored.
    pub(crate) fn note(&self, collection: &str, key: &str, what: &str) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let id = format!("{collection}/{key}");
        if seen.len() >= MAX_REMEMBERED || seen.contains_key(&id) {
            return;
        }
        seen.insert(id, what.to_owned());
        self.documents.with_label_values(&[collection]).inc();
        tracing::error!(
            collection,
            key,
            error = what,
            "Skipping a document that can't be read; it stays as it is"
        );
    }
}
