//! Moves what an earlier release kept in collections without our prefix.
//!
//! One replica does it, under a lease of its own, while the others wait; none serves before it is done. Documents are
//! copied by key, so a replica that dies on the way leaves nothing that the next one can't do again. What is no
//! document of ours, such as candles that a writer put there, is neither copied nor removed.
//!
//! A replica of the earlier release that still reconciles is waited for: its lease is taken first. It is then replaced
//! by a document that the earlier release can't read, so that none of its replicas reconciles again.

use std::time::Duration;

use serde_json::{Map, Value, json, value::RawValue};
use streamforge_arango::{Collection, Database, Document, DocumentError, Query};
use streamforge_utils::protocol::TimestampMs;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{IDEMPOTENCY, LEASE, Lease, LeaseTimes, QUEUE_STATE, Standing, StoreError, TELEMETRY};

/// What the earlier release called its collections.
const OLD_LEASE: &str = "lease";
const OLD: [(&str, &str, IsOurs); 3] = [
    ("queue_state", QUEUE_STATE, is_of_workflow),
    ("telemetry", TELEMETRY, is_of_workflow),
    ("idempotency", IDEMPOTENCY, is_reservation),
];
/// The lease of who reconciles, in both.
const RECONCILER: &str = "conductor";
/// The lease of who migrates, and the document that says that it is done.
const MIGRATION: &str = "migration";
const DONE: &str = "migrated";
/// Documents that are copied at a time.
const CHUNK: usize = 200;
/// How often a replica that was too slow for its lease begins again, or waits for the one that took over.
const MAX_ATTEMPTS: usize = 10;
/// How long a replica of the earlier release is waited for: longer than its lease lasts.
const OLD_RELEASE_TIMEOUT: Duration = Duration::from_secs(45);

/// Whether a document is one of ours, by its key and content.
type IsOurs = fn(&str, &Map<String, Value>) -> bool;

fn is_of_workflow(key: &str, document: &Map<String, Value>) -> bool {
    key.starts_with("wf-") && document.get("queue_id").is_some()
}

fn is_reservation(key: &str, document: &Map<String, Value>) -> bool {
    key.len() == 64 && document.get("request").is_some()
}

/// Makes sure that all that there is lies in the collections of this release.
///
/// # Errors
/// If the database did not answer, or a replica of the earlier release still reconciles.
pub(super) async fn run(database: &Database, times: LeaseTimes) -> Result<(), StoreError> {
    for _ in 0..MAX_ATTEMPTS {
        match attempt(database, times).await? {
            Attempt::Done => return Ok(()),
            Attempt::LostLease => warn!("Another replica took over the migration; waiting for it"),
        }
    }
    Err(StoreError::Unavailable(format!(
        "the migration of an earlier release's data was taken over by another replica {MAX_ATTEMPTS} times"
    )))
}

async fn attempt(database: &Database, times: LeaseTimes) -> Result<Attempt, StoreError> {
    let leases = database.collection(LEASE);
    if is_done(&leases).await? {
        return Ok(Attempt::Done);
    }
    let holder = uuid::Uuid::now_v7().to_string();
    let mut lock = Lease::new(leases.clone(), MIGRATION, &holder, times);
    let mut is_waiting = false;
    while lock.step().await?.token().is_none() {
        if is_done(&leases).await? {
            return Ok(Attempt::Done);
        }
        if !std::mem::replace(&mut is_waiting, true) {
            info!("Waiting for another replica to migrate the database");
        }
        tokio::time::sleep(times.every).await;
    }
    if !is_done(&leases).await? {
        match migrate(database, &leases, &mut lock, times).await {
            Ok(()) => {}
            // Nothing is lost: whoever has it now does all of it again.
            Err(Interrupted::LostLease) => return Ok(Attempt::LostLease),
            Err(Interrupted::Store(error)) => return Err(error),
        }
        let done = json!({"schema": 1, "at": TimestampMs::now().as_millis()});
        match leases.insert(DONE, &done).await {
            Ok(_) | Err(DocumentError::AlreadyThere(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    lock.release().await?;
    Ok(Attempt::Done)
}

enum Attempt {
    Done,
    LostLease,
}

/// Why a migration did not get to its end.
enum Interrupted {
    /// Another replica took over, since this one was slower than the lease allows.
    LostLease,
    Store(StoreError),
}

impl<E: Into<StoreError>> From<E> for Interrupted {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

async fn is_done(leases: &Collection) -> Result<bool, StoreError> {
    match leases.get::<serde::de::IgnoredAny>(DONE).await {
        // An unreadable one is there, too.
        Ok(_) | Err(DocumentError::Unreadable { .. }) => Ok(true),
        Err(DocumentError::NotFound(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn migrate(
    database: &Database,
    leases: &Collection,
    lock: &mut Lease,
    times: LeaseTimes,
) -> Result<(), Interrupted> {
    if database.has_collection(OLD_LEASE).await? {
        let old = database.collection(OLD_LEASE);
        end_old_release(&old, leases, lock, times).await?;
    }
    for (from, to, is_ours) in OLD {
        if !database.has_collection(from).await? {
            continue;
        }
        let (from, to) = (database.collection(from), database.collection(to));
        let mut mover = Mover {
            from: &from,
            to: &to,
            is_ours,
            lock,
            ours: Vec::new(),
            others: 0,
        };
        mover.copy_all().await?;
        let (copied, left) = (mover.ours.len(), mover.others);
        if left == 0 {
            database.drop_collection(from.name()).await?;
        } else {
            mover.remove_copied().await?;
        }
        info!(
            from = from.name(),
            to = to.name(),
            copied,
            left,
            "Migrated a collection"
        );
    }
    Ok(())
}

/// Takes the lease of the earlier release, once nobody holds it, for good.
async fn end_old_release(
    old: &Collection,
    leases: &Collection,
    lock: &mut Lease,
    times: LeaseTimes,
) -> Result<(), Interrupted> {
    let claim = match old.get::<Map<String, Value>>(RECONCILER).await {
        Ok(found) => found.content,
        Err(DocumentError::NotFound(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let Some(token) = claim.get("token").and_then(Value::as_u64) else {
        return Ok(());
    };
    if claim.get("moved_to").is_some() {
        return Ok(());
    }
    let holder = uuid::Uuid::now_v7().to_string();
    let mut taken = Lease::new(old.clone(), RECONCILER, &holder, times);
    let since = Instant::now();
    loop {
        if let Standing::Held { .. } = taken.step().await? {
            break;
        }
        if since.elapsed() > OLD_RELEASE_TIMEOUT {
            let reason = format!(
                "a queue-manager of an earlier release still reconciles (lease {RECONCILER:?} in collection \
                 {OLD_LEASE:?}): stop all its replicas, then this one migrates its data"
            );
            return Err(StoreError::Unavailable(reason).into());
        }
        warn!("Waiting for the queue-manager of an earlier release to end");
        keep(lock).await?;
        tokio::time::sleep(times.every).await;
    }
    // A higher token than that of every holder before.
    let free = json!({"holder": null, "token": token + 1, "beat": 0});
    match leases.insert(RECONCILER, &free).await {
        Ok(_) | Err(DocumentError::AlreadyThere(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let found = old.get::<Map<String, Value>>(RECONCILER).await?;
    // The earlier release expects text or null, so it can't read this and never takes the lease.
    let moved =
        json!({"holder": {"moved": true}, "token": token + 1, "beat": 0, "moved_to": LEASE});
    old.replace(RECONCILER, &found.revision, &moved).await?;
    Ok(())
}

/// Renews the lease of who migrates.
async fn keep(lock: &mut Lease) -> Result<(), Interrupted> {
    match lock.step().await?.token() {
        Some(_) => Ok(()),
        None => Err(Interrupted::LostLease),
    }
}

struct Mover<'a> {
    from: &'a Collection,
    to: &'a Collection,
    is_ours: IsOurs,
    lock: &'a mut Lease,
    /// Keys of what was copied.
    ours: Vec<String>,
    others: usize,
}

impl Mover<'_> {
    async fn copy_all(&mut self) -> Result<(), Interrupted> {
        let mut last = String::new();
        loop {
            keep(self.lock).await?;
            let query = Query::new("FOR d IN @@old FILTER d._key > @last SORT d._key")
                .then("LIMIT @page_rows RETURN d")
                .bind("@old", self.from.name())
                .bind("last", last.as_str());
            let page = self.from.database();
            let page = page.page::<Box<RawValue>>("migrating documents", query, CHUNK);
            let page = page.await?;
            let mut documents: Vec<(String, Map<String, Value>)> = Vec::new();
            for row in &page.rows {
                match Document::<Map<String, Value>>::read(row) {
                    Ok(Document { key, content, .. }) => {
                        last.clone_from(&key);
                        if (self.is_ours)(&key, &content) {
                            documents.push((key, without_system_attributes(content)));
                        } else {
                            self.others += 1;
                        }
                    }
                    Err(unreadable) => {
                        warn!(
                            collection = self.from.name(),
                            ?unreadable,
                            "Not migrating a document"
                        );
                        last.clone_from(&unreadable.key);
                        self.others += 1;
                    }
                }
            }
            for refused in self.to.insert_absent(&documents).await? {
                let key = documents.get(refused.index).map(|(key, _)| key.as_str());
                warn!(
                    collection = self.from.name(),
                    ?key,
                    error = refused.what,
                    "Not migrating a document"
                );
                self.others += 1;
            }
            self.ours.extend(documents.into_iter().map(|(key, _)| key));
            if !page.has_more {
                return Ok(());
            }
        }
    }

    /// Others' documents keep their collection; ours go.
    async fn remove_copied(&mut self) -> Result<(), Interrupted> {
        for keys in self.ours.chunks(CHUNK) {
            keep(self.lock).await?;
            for key in keys {
                match self.to.get::<serde::de::IgnoredAny>(key).await {
                    // Refused by the new collection: it stays.
                    Err(DocumentError::NotFound(_)) => continue,
                    Err(DocumentError::Database(error)) => return Err(error.into()),
                    _ => {}
                }
                match self.from.remove(key, None).await {
                    Ok(()) | Err(DocumentError::NotFound(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

fn without_system_attributes(mut content: Map<String, Value>) -> Map<String, Value> {
    for name in ["_key", "_id", "_rev"] {
        content.remove(name);
    }
    content
}
