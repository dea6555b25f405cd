//! The workflows that the conductor looks after, as they are stored and ahead of that.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use streamforge_arango::{Document, Revision};
use streamforge_utils::protocol::{QueueId, TimestampMs};

use super::held::Held;
use crate::{
    state::{Status, Workflow},
    store::{Filter, Found, Store, StoreError, Workflows},
};

/// Documents that are read or stored at a time.
const AT_A_TIME: usize = 200;
/// Finished workflows whose topics are deleted at a time.
const MOST_DUE: usize = 200;
/// How far the clocks of replicas may differ: what changed is asked for since so long ago.
const CLOCKS_DIFFER: Duration = Duration::from_secs(30);
/// Between two looks for finished workflows whose topics are due.
const RETIRE_INTERVAL: Duration = Duration::from_secs(60);
/// The same while there are more of them than are taken at a time.
const RETIRE_AGAIN: Duration = Duration::from_secs(1);
/// How often a document is read anew because others were faster, one time of storing.
const MOST_TRIES: u32 = 10;

pub(super) struct Shelf {
    workflows: Workflows<Workflow>,
    held: BTreeMap<String, Held<Revision>>,
    /// Partition of queue-events → behind its last message: what a document has seen beyond that was another topic's.
    ends: Option<BTreeMap<i32, i64>>,
    /// Those that somebody else had changed when they were last stored.
    rebased: BTreeSet<String>,
    refreshed: TimestampMs,
    /// When finished workflows are looked for again whose topics are due.
    retire_at: TimestampMs,
    /// When all that is not over is looked at again.
    sweep_at: TimestampMs,
    topics_kept: Duration,
}

impl Shelf {
    /// Everything that is not over.
    pub(super) async fn fill(store: &Store, topics_kept: Duration) -> Result<Self, StoreError> {
        let mut shelf = Self {
            workflows: store.workflows(),
            held: BTreeMap::new(),
            ends: None,
            rebased: BTreeSet::new(),
            refreshed: TimestampMs::now(),
            retire_at: TimestampMs(0),
            sweep_at: TimestampMs(0),
            topics_kept,
        };
        shelf.take_in_all().await?;
        Ok(shelf)
    }

    /// All that is not over, or is to be forgotten.
    async fn take_in_all(&mut self) -> Result<(), StoreError> {
        let unfinished = Filter {
            unfinished_only: true,
            ..Filter::default()
        };
        let to_remove = Filter {
            to_remove: true,
            ..Filter::default()
        };
        for filter in [unfinished, to_remove] {
            let found = self.workflows.revisions(&filter).await?;
            self.take_in_changed(&found).await?;
        }
        Ok(())
    }

    /// Reads those that have another revision here, or are not here.
    async fn take_in_changed(&mut self, found: &[(QueueId, Revision)]) -> Result<(), StoreError> {
        let is_new = |(queue_id, revision): &&(QueueId, Revision)| {
            let held = self.held.get(queue_id.as_str());
            held.is_none_or(|held| !held.is_dirty() && held.revision != *revision)
        };
        let new: Vec<&QueueId> = found.iter().filter(is_new).map(|(id, _)| id).collect();
        for some in new.chunks(AT_A_TIME) {
            let all = self.workflows.get_many(some).await?;
            for (queue_id, found) in some.iter().zip(all) {
                match found {
                    Found::Document(found) => self.take_in(found),
                    // Nothing is done about what nobody can read.
                    Found::Unreadable => drop(self.held.remove(queue_id.as_str())),
                    Found::Absent => {}
                }
            }
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn get(&self, queue_id: &str) -> Option<&Held<Revision>> {
        self.held.get(queue_id)
    }

    pub(super) fn get_mut(&mut self, queue_id: &str) -> Option<&mut Held<Revision>> {
        self.held.get_mut(queue_id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Held<Revision>> {
        self.held.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Held<Revision>> {
        self.held.values_mut()
    }

    /// Whether somebody else had changed it when it was last stored, so that what was decided has to be decided anew.
    pub(super) fn was_rebased(&self, queue_id: &QueueId) -> bool {
        self.rebased.contains(queue_id.as_str())
    }

    /// Picks up what others have changed.
    pub(super) async fn refresh(&mut self) -> Result<(), StoreError> {
        let now = TimestampMs::now();
        let changed = Filter {
            updated_from: Some(before(self.refreshed, CLOCKS_DIFFER)),
            ..Filter::default()
        };
        let changed = self.workflows.revisions(&changed).await?;
        self.take_in_changed(&changed).await?;
        self.refreshed = now;
        if now >= self.retire_at {
            self.retire_at = now + millis(RETIRE_INTERVAL);
            let due = Filter {
                statuses: vec![Status::Finished.as_str().to_owned()],
                topics_due_before: Some(before(now, self.topics_kept)),
                ..Filter::default()
            };
            let (due, has_more) = self.workflows.first_ended(&due, MOST_DUE).await?;
            self.take_in_changed(&due).await?;
            if has_more {
                self.retire_at = now + millis(RETIRE_AGAIN);
            }
        }
        if now >= self.sweep_at {
            self.sweep_at = now + millis(RETIRE_INTERVAL);
            // A write may have taken longer than clocks differ.
            self.take_in_all().await?;
        }
        Ok(())
    }

    /// What is ahead of its document stays so, and finds out when it is stored that somebody else changed it.
    pub(super) fn take_in(&mut self, found: Document<Workflow>) {
        let Document {
            key,
            revision,
            mut content,
            ..
        } = found;
        self.forget_what_was_before(&mut content);
        match self.held.get_mut(&key) {
            Some(held) if held.is_dirty() || held.revision == revision => {}
            Some(held) => held.rebase(content, revision),
            None => {
                self.held.insert(key, Held::new(content, revision));
            }
        }
    }

    /// The feed was opened, and these are the ends of the topic.
    pub(super) fn opened(&mut self, ends: BTreeMap<i32, i64>) {
        for held in self.held.values_mut() {
            held.heal(|workflow| workflow.forget_positions_beyond(&ends));
        }
        self.ends = Some(ends);
    }

    /// The topic has at least a message there.
    pub(super) fn reached(&mut self, partition: i32, offset: i64) {
        if let Some(ends) = &mut self.ends {
            let end = ends.entry(partition).or_default();
            *end = (*end).max(offset + 1);
        }
    }

    /// Of a topic that was made anew, old offsets would hide new events.
    fn forget_what_was_before(&self, workflow: &mut Workflow) {
        if let Some(ends) = &self.ends {
            workflow.forget_positions_beyond(ends);
        }
    }

    /// Stores all that is ahead of its document; how many.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub(super) async fn store(&mut self) -> Result<usize, StoreError> {
        self.rebased.clear();
        let is_ahead = |held: &&Held<Revision>| held.is_dirty();
        let ahead: Vec<QueueId> = self
            .held
            .values()
            .filter(is_ahead)
            .map(|held| held.workflow.queue_id.clone())
            .collect();
        let mut late = Vec::new();
        for some in ahead.chunks(AT_A_TIME) {
            let states: Vec<_> = some
                .iter()
                .filter_map(|queue_id| self.held.get(queue_id.as_str()))
                .map(|held| (&held.workflow.queue_id, &held.revision, &held.workflow))
                .collect();
            let stored = self.workflows.replace_many(&states).await?;
            for (queue_id, stored) in some.iter().zip(stored) {
                match stored {
                    Ok(revision) => {
                        if let Some(held) = self.held.get_mut(queue_id.as_str()) {
                            held.stored(revision);
                        }
                    }
                    Err(StoreError::Conflict(_)) => late.push(queue_id.clone()),
                    Err(StoreError::NotFound(_)) => self.forget(queue_id),
                    // This one document is to blame.
                    Err(StoreError::Broken(what)) => self.set_aside(queue_id, &what),
                    Err(error) => return Err(error),
                }
            }
        }
        for queue_id in late {
            self.rebase(&queue_id).await?;
        }
        Ok(ahead.len())
    }

    /// Somebody else was faster: goes on from what they made of it.
    async fn rebase(&mut self, queue_id: &QueueId) -> Result<(), StoreError> {
        for _ in 0..MOST_TRIES {
            let mut found = match self.workflows.get(queue_id).await {
                Ok(found) => found,
                Err(StoreError::NotFound(_)) => {
                    self.forget(queue_id);
                    return Ok(());
                }
                // Spoiled, or written by a newer release: it is not overwritten.
                Err(StoreError::Unreadable(what)) => {
                    self.set_aside(queue_id, &what);
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            self.forget_what_was_before(&mut found.content);
            let Some(held) = self.held.get_mut(queue_id.as_str()) else {
                return Ok(());
            };
            self.rebased.insert(queue_id.to_string());
            held.rebase(found.content, found.revision);
            if !held.is_dirty() {
                return Ok(());
            }
            let stored = self
                .workflows
                .replace(queue_id, &held.revision, &held.workflow)
                .await;
            match stored {
                Ok(revision) => {
                    held.stored(revision);
                    return Ok(());
                }
                Err(StoreError::Conflict(_)) => {}
                Err(StoreError::NotFound(_)) => {
                    self.forget(queue_id);
                    return Ok(());
                }
                Err(StoreError::Broken(what)) => {
                    self.set_aside(queue_id, &what);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict(format!(
            "the state of {queue_id}, again and again,"
        )))
    }

    /// Its document can't be read or stored: it is not looked after until that has changed.
    fn set_aside(&mut self, queue_id: &QueueId, what: &str) {
        self.workflows.note(queue_id.as_str(), what);
        self.held.remove(queue_id.as_str());
    }

    /// It was deleted.
    pub(super) fn forget(&mut self, queue_id: &QueueId) {
        tracing::info!(queue.id = %queue_id, "It was deleted, and is not looked after any more");
        self.held.remove(queue_id.as_str());
    }

    /// Lets go of what is over, has no Jobs, and waits for nothing but its topics' time.
    pub(super) fn let_go(&mut self, with_jobs: &BTreeSet<&str>) {
        let now = TimestampMs::now();
        self.held.retain(|key, held| {
            let is_over = held.workflow.status.is_final() && !held.is_dirty();
            let is_due = held
                .workflow
                .topics_due(self.topics_kept)
                .is_some_and(|at| at <= now);
            let is_to_go = held.workflow.removal.is_some();
            !is_over || is_to_go || is_due || with_jobs.contains(key.as_str())
        });
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4)
}

fn before(at: TimestampMs, time: Duration) -> TimestampMs {
    at - millis(time)
}
