//! Tells of changes: one look at the store for all who listen here, every half second, and at once when nudged.
//!
//! It looks at what is stored, not at who stored it, so it tells the same on every replica. Between two looks only the
//! last state of a workflow counts. Buffers are bounded: who listens to one workflow and is slow misses states in
//! between; who listens to all and is too slow is cut off, and gets everything anew when it comes back.

mod listener;
mod shares;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use prometheus::IntGauge;
use serde::Serialize;
use streamforge_arango::Revision;
use streamforge_utils::protocol::{QueueId, TimestampMs};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    service::of_store,
    state::Workflow,
    store::{Changes, Filter, Found, Mark, Store, StoreError, Workflows},
    view::QueueSummary,
};
use listener::Listened;
pub use listener::{Listener, Over};
use shares::{Seat, Shares};

/// How often it looks, at least.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// However much happens, between two looks there is at least this.
const LOOK_APART: Duration = Duration::from_millis(100);
/// How far back it looks, in ms: replicas' clocks differ by less, and writes overtake each other by less.
const LOOK_BACK_MS: i64 = 2_000;
/// Rows of one look at all.
const ROWS: usize = 500;
/// Changes that a listener to all may lag behind.
const LAG: usize = 2_048;
/// Workflows of a snapshot of all.
const SNAPSHOT: usize = 1_000;
/// Most workflows that one listener names.
pub const MOST_NAMED: usize = 100;

/// What a listener is told.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Told<Q> {
    /// First: what there is. Of one workflow everything; of all, those that have not ended, without their workers.
    Snapshot {
        /// The workflows, newest first.
        queues: Vec<Q>,
        /// Whether there are more than could be said at once.
        more: bool,
    },
    /// A workflow is new, or has changed.
    Change {
        /// As it is now.
        queue: Box<Q>,
    },
    /// A workflow was removed.
    Deleted {
        /// Which.
        #[schema(value_type = String)]
        queue_id: QueueId,
    },
}

/// A message, ready to be sent.
pub type Message = Arc<str>;

/// One workflow that somebody listens to. None: it is gone.
struct Watched {
    revision: Option<Revision>,
    last: watch::Sender<Option<Message>>,
}

/// What is known of all, while somebody listens to all.
struct All {
    mark: Mark,
    seen: HashMap<QueueId, (Revision, Mark)>,
    /// Those that are about to be removed: that they are gone, no change says.
    removed: Vec<QueueId>,
}

/// Tells of changes.
pub struct Hub {
    workflows: Workflows<Workflow>,
    summaries: Workflows<QueueSummary>,
    changes: Changes<QueueSummary>,
    watched: Mutex<HashMap<QueueId, Watched>>,
    all: broadcast::Sender<Message>,
    changed: Arc<Notify>,
    shares: Shares,
    stopping: CancellationToken,
}

impl Hub {
    /// Over this store. It tells of nothing before [`Hub::run`] runs. `changed` says that it is worth a look, `stopping`
    /// ends all listening; `most` may listen at a time, and `listeners` shows how many do.
    pub fn new(
        store: &Store,
        most: usize,
        listeners: IntGauge,
        changed: Arc<Notify>,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            workflows: store.workflows(),
            summaries: store.workflows(),
            changes: store.changes(),
            watched: Mutex::default(),
            all: broadcast::Sender::new(LAG),
            changed,
            shares: Shares::new(most, listeners),
            stopping,
        }
    }

    /// Listens to these workflows, for who has the token of this name. Of several, those that are not there are told as
    /// deleted.
    ///
    /// # Errors
    /// The only one is not there, too many listen, or the store is away.
    pub async fn listen(
        self: &Arc<Self>,
        ids: &[QueueId],
        token: &str,
    ) -> Result<Listener, ApiError> {
        let seat = self.seat(token)?;
        // First this, then the look: what is stored in between is told. It may repeat what the snapshot says.
        let listened: Vec<Listened> = ids.iter().map(|id| self.watch(id)).collect();
        let mut queues = Vec::new();
        for id in ids {
            match self.workflows.get(id).await {
                Ok(found) => {
                    if let Some(it) = self.watched().get_mut(id) {
                        it.revision.get_or_insert(found.revision);
                    }
                    queues.push(found.content);
                }
                Err(StoreError::Unreadable(what)) => {
                    queues.push(Workflow::unreadable(id, &what));
                }
                Err(StoreError::NotFound(_)) if ids.len() == 1 => {
                    return Err(ApiError::NoQueue(id.clone()));
                }
                // The next look does not find it either, and says so.
                Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(of_store(error)),
            }
        }
        let more = false;
        let snapshot = said(&Told::Snapshot { queues, more });
        Ok(Listener::to_some(self, seat, snapshot, listened))
    }

    fn watch(&self, queue_id: &QueueId) -> Listened {
        let mut watched = self.watched();
        let entry = watched.entry(queue_id.clone());
        let new = || Watched {
            revision: None,
            last: watch::Sender::new(None),
        };
        Listened {
            receiver: entry.or_insert_with(new).last.subscribe(),
            gone: said(&Told::<Workflow>::Deleted {
                queue_id: queue_id.clone(),
            }),
        }
    }

    /// Listens to all workflows, for who has the token of this name.
    ///
    /// # Errors
    /// Too many listen, or the store is away.
    pub async fn listen_to_all(self: &Arc<Self>, token: &str) -> Result<Listener, ApiError> {
        let seat = self.seat(token)?;
        let receiver = self.all.subscribe();
        let filter = Filter {
            unfinished_only: true,
            ..Filter::default()
        };
        let page = self.summaries.list(&filter, None, SNAPSHOT).await;
        let page = page.map_err(of_store)?;
        let snapshot = said(&Told::Snapshot {
            queues: page.rows.into_iter().map(QueueSummary::from).collect(),
            more: page.next.is_some(),
        });
        Ok(Listener::to_all(self, seat, snapshot, receiver))
    }

    fn seat(&self, token: &str) -> Result<Seat, ApiError> {
        self.shares.seat(token).ok_or(ApiError::Busy)
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<QueueId, Watched>> {
        self.watched.lock().expect("nothing in here panics")
    }

    /// Looks and tells, until `stopping`.
    pub async fn run(&self) {
        let mut all = None;
        let mut is_away = false;
        loop {
            let wait = async {
                tokio::time::sleep(LOOK_APART).await;
                tokio::select! {
                    () = self.changed.notified() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            };
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = wait => {}
            }
            let looked = async {
                self.look_at_watched().await?;
                self.look_at_all(&mut all).await
            };
            match looked.await {
                Ok(()) => is_away = false,
                Err(error) if !is_away => {
                    is_away = true;
                    tracing::warn!(%error, "Changes can't be told: the store is away");
                }
                Err(_) => {}
            }
        }
    }

    async fn look_at_watched(&self) -> Result<(), StoreError> {
        let ids: Vec<QueueId> = {
            let mut watched = self.watched();
            watched.retain(|_, it| it.last.receiver_count() > 0);
            watched.keys().cloned().collect()
        };
        if ids.is_empty() {
            return Ok(());
        }
        let asked: Vec<&QueueId> = ids.iter().collect();
        let all = self.workflows.get_many(&asked).await?;
        for (id, found) in ids.iter().zip(all) {
            let mut watched = self.watched();
            let Some(it) = watched.get_mut(id) else {
                continue;
            };
            let found = match found {
                Found::Document(found) => found,
                // What was said last is all that is known.
                Found::Unreadable => continue,
                Found::Absent => {
                    // Dropping the sender is what says so.
                    watched.remove(id);
                    continue;
                }
            };
            if it.revision.as_ref() != Some(&found.revision) {
                it.revision = Some(found.revision);
                let queue = Box::new(found.content);
                it.last.send_replace(Some(said(&Told::Change { queue })));
            }
        }
        Ok(())
    }

    async fn look_at_all(&self, all: &mut Option<All>) -> Result<(), StoreError> {
        if self.all.receiver_count() == 0 {
            *all = None;
            return Ok(());
        }
        let all = all.get_or_insert_with(|| All {
            mark: Mark::at(TimestampMs::now()),
            seen: HashMap::new(),
            removed: Vec::new(),
        });
        let horizon = all.mark.earlier(LOOK_BACK_MS);
        all.seen.retain(|_, (_, mark)| *mark > horizon);
        let mut from = horizon;
        loop {
            let (rows, next) = self.changes.since(&from, ROWS).await?;
            for row in rows {
                let Some(mark) = Mark::of(&row) else { continue };
                all.mark = all.mark.clone().max(mark.clone());
                let id = row.content.queue_id.clone();
                let seen = (row.revision, mark);
                if all.seen.get(&id) == Some(&seen) {
                    continue;
                }
                all.seen.insert(id.clone(), seen);
                if row.content.removal.is_some() && !all.removed.contains(&id) {
                    all.removed.push(id);
                }
                let queue = Box::new(row.content);
                self.tell_all(&Told::Change { queue });
            }
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        let mut still_there = Vec::new();
        for id in std::mem::take(&mut all.removed) {
            match self.workflows.get(&id).await {
                Err(StoreError::NotFound(_)) => {
                    self.tell_all(&Told::<QueueSummary>::Deleted { queue_id: id });
                }
                // Asked again at the next look.
                Ok(_) | Err(_) => still_there.push(id),
            }
        }
        all.removed = still_there;
        Ok(())
    }

    fn tell_all(&self, told: &Told<QueueSummary>) {
        // Nobody listens any more: fine.
        let _ = self.all.send(said(told));
    }
}

fn said<Q: Serialize>(told: &Told<Q>) -> Message {
    serde_json::to_string(told)
        .expect("a state is JSON with text for keys")
        .into()
}
