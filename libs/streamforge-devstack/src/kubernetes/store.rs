//! Objects with versions, and what became of them since.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

/// Kinds, as their paths name them.
pub(super) const JOBS: &str = "jobs";
pub(super) const PODS: &str = "pods";
pub(super) const NODES: &str = "nodes";
const CONFIG_MAPS: &str = "configmaps";
const SECRETS: &str = "secrets";

/// The kind that a path names; None if it is not kept here.
pub(super) fn kind(named: &str) -> Option<&'static str> {
    let kinds = [JOBS, PODS, NODES, CONFIG_MAPS, SECRETS];
    kinds.into_iter().find(|kind| *kind == named)
}

/// Group and version, and the name of one object, of a kind.
pub(super) fn api(kind: &str) -> (&'static str, &'static str) {
    match kind {
        JOBS => ("batch/v1", "Job"),
        PODS => ("v1", "Pod"),
        NODES => ("v1", "Node"),
        CONFIG_MAPS => ("v1", "ConfigMap"),
        _ => ("v1", "Secret"),
    }
}

/// What happened at a version.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) kind: &'static str,
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub(super) event: &'static str,
    pub(super) object: Value,
}

/// All objects of a namespace, and nodes.
pub(super) struct Store {
    pub(super) version: u64,
    /// What happened up to this version is not known any more.
    pub(super) forgotten: u64,
    history: Vec<Change>,
    objects: BTreeMap<(&'static str, String), Value>,
    uids: u64,
    changes: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            version: 1,
            forgotten: 0,
            history: Vec::new(),
            objects: BTreeMap::new(),
            uids: 0,
            changes: watch::Sender::new(0),
        }
    }
}

impl Store {
    pub(super) fn get(&self, kind: &'static str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind, name.to_owned()))
    }

    /// All of a kind, by name.
    pub(super) fn list(&self, kind: &'static str) -> impl Iterator<Item = &Value> {
        self.objects
            .iter()
            .filter(move |((of, _), _)| *of == kind)
            .map(|(_, object)| object)
    }

    /// Adds an object, which gets a uid and a time.
    pub(super) fn add(&mut self, kind: &'static str, mut object: Value) -> Value {
        self.uids += 1;
        object["metadata"]["uid"] = json!(format!("uid-{}", self.uids));
        if kind != NODES {
            object["metadata"]["namespace"] = json!(super::NAMESPACE);
        }
        object["metadata"]["creationTimestamp"] = json!(at(0));
        self.put(kind, "ADDED", object)
    }

    /// Changes an object that is there; nothing happens if it is not, or stays as it is.
    pub(super) fn change(
        &mut self,
        kind: &'static str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) {
        if let Some(before) = self.get(kind, name) {
            let mut object = before.clone();
            change(&mut object);
            if object != *before {
                self.put(kind, "MODIFIED", object);
            }
        }
    }

    pub(super) fn remove(&mut self, kind: &'static str, name: &str) {
        if let Some(object) = self.objects.remove(&(kind, name.to_owned())) {
            self.note(kind, "DELETED", object);
        }
    }

    pub(super) fn forget(&mut self) {
        // A version that nobody has seen, so that also what is up to date is too old.
        self.version += 1;
        self.forgotten = self.version;
        self.history.clear();
        self.tell();
    }

    /// What happened to a kind since a version; None if that is not known any more.
    pub(super) fn since(&self, kind: &str, version: u64) -> Option<Vec<Change>> {
        (version >= self.forgotten).then(|| {
            let news = self.history.iter();
            news.filter(|change| change.version > version && change.kind == kind)
                .cloned()
                .collect()
        })
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn put(&mut self, kind: &'static str, event: &'static str, object: Value) -> Value {
        let object = self.note(kind, event, object);
        let key = (kind, name(&object).to_owned());
        self.objects.insert(key, object.clone());
        object
    }

    fn note(&mut self, kind: &'static str, event: &'static str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.history.push(Change {
            version: self.version,
            kind,
            event,
            object: object.clone(),
        });
        self.tell();
        object
    }

    fn tell(&self) {
        self.changes.send_replace(self.version);
    }
}

pub(super) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Now, or in some seconds, as Kubernetes writes it.
pub(super) fn at(in_secs: i64) -> String {
    let then = Timestamp::now().as_second().saturating_add(in_secs);
    Timestamp::from_second(then).map_or_else(|_| String::new(), |then| then.to_string())
}
