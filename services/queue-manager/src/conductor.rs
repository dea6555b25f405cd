//! Keeps every workflow going: follows events, looks at Jobs, stores what follows, and then does what is to be done.
//!
//! One at a time: whoever holds the lease conducts. It may die at any moment: state is stored before anything is done
//! about it, offsets are committed after the state that they led to, and what is to be done follows each time from the
//! documents and the Jobs alone. What others change in the store, such as a stop by the API, is picked up within a
//! second, or at once when this replica did it.

mod act;
mod held;
mod metrics;
mod pulse;
mod reading;
mod shelf;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use streamforge_utils::{
    config::KafkaConfig,
    control::Commander,
    kafka::Topics,
    protocol::{EventKind, QueueId, TimestampMs},
};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    admission::{Claim, Limits, admit},
    feed::Arrival,
    heal::{self, Action, HealSettings, Seen},
    launcher::{JobStatus, Launcher},
    state::{Applied, Workflow},
    store::{NewEvent, Store, StoreError},
};
use act::{Actor, Done};
use held::Change;
pub use metrics::ConductorMetrics;
use reading::{Heard, Reading};
use shelf::Shelf;

/// How long changes that nobody waits for may stay unstored.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// How long a change that somebody waits for may, so that several are stored together.
const URGENT_WITHIN: Duration = Duration::from_millis(20);
/// Looks are at least this far apart, however much happens.
const LOOK_APART: Duration = Duration::from_millis(100);
/// Events that may wait to be stored; then they are, before more are taken in.
const MOST_UNSTORED: usize = 2_000;
/// Events that are taken in before anything else has its turn.
const MOST_AT_ONCE: usize = 1_024;

/// What conducting is told.
#[derive(Debug, Clone)]
pub struct ConductorSettings {
    /// How patient healing is.
    pub heal: HealSettings,
    /// How much may run at a time.
    pub limits: Limits,
    /// Time between two looks at the Jobs if nothing happens.
    pub look_interval: Duration,
    /// After which a Job that works through a range is ended.
    pub job_deadline: Duration,
    /// How long lifecycle events are kept.
    pub events_kept: Duration,
    /// `QUEUE_EVENTS_TOPIC`.
    pub events_topic: String,
    /// `QUEUE_EVENTS_GROUP`.
    pub events_group: String,
}

/// Everything that conducting needs. Nothing happens until [`Conductor::run`].
pub struct Conductor {
    /// Where state is kept.
    pub store: Store,
    /// Runs Jobs.
    pub launcher: Arc<dyn Launcher>,
    /// How to reach the brokers.
    pub kafka: KafkaConfig,
    /// Makes and deletes topics.
    pub topics: Topics,
    /// Sends commands.
    pub commander: Commander,
    /// How patient, how much.
    pub settings: ConductorSettings,
    /// Whoever changed something in the store says so.
    pub nudge: Arc<Notify>,
    /// Told after each change that was stored.
    pub changed: Arc<Notify>,
    /// What is counted.
    pub metrics: ConductorMetrics,
}

/// One time of conducting, from taking the lease to losing it.
struct Conducting<'a> {
    conductor: &'a Conductor,
    shelf: Shelf,
    reading: Reading,
    actor: Actor,
    /// Lifecycle events that are not stored yet.
    history: Vec<NewEvent>,
    /// Partition of queue-events → the offset behind the last message that was taken in.
    taken: BTreeMap<i32, i64>,
    /// All events up to then were taken in.
    events_until: TimestampMs,
    unstored: usize,
    /// When there was first something that somebody waits for.
    urgent_since: Option<Instant>,
    are_jobs_known: bool,
}

impl Conductor {
    /// Conducts until the store fails, or the future is dropped: that is how a lease that is lost ends it.
    ///
    /// # Errors
    /// The store does not answer, or refuses. What was read and not stored is read again.
    pub async fn run(&self) -> Result<(), StoreError> {
        let topics_kept = self.settings.heal.topics_kept;
        let shelf = Shelf::fill(&self.store, topics_kept).await?;
        tracing::info!(workflows = shelf.len(), "Conducting");
        let conducting = Conducting {
            conductor: self,
            shelf,
            reading: Reading::new(
                self.kafka.clone(),
                &self.settings.events_topic,
                &self.settings.events_group,
            ),
            actor: Actor::new(self),
            history: Vec::new(),
            taken: BTreeMap::new(),
            events_until: TimestampMs(0),
            unstored: 0,
            urgent_since: None,
            are_jobs_known: true,
        };
        conducting.run().await
    }
}

impl Conducting<'_> {
    async fn run(mut self) -> Result<(), StoreError> {
        let mut flush = interval(FLUSH_INTERVAL);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look_at = Instant::now();
        let mut not_before = look_at;
        loop {
            let urgent_at = self.urgent_since.map(|since| since + URGENT_WITHIN);
            let launcher = Arc::clone(&self.conductor.launcher);
            let jobs_changed = async move {
                tokio::time::sleep_until(not_before).await;
                launcher.changed().await;
            };
            tokio::select! {
                heard = self.reading.next() => {
                    self.hear_all(heard);
                    if self.unstored >= MOST_UNSTORED {
                        self.store().await?;
                    }
                }
                _ = flush.tick() => self.store().await?,
                () = until(urgent_at) => {
                    self.store().await?;
                    self.urgent_since = None;
                    // What happened may call for something.
                    look_at = look_at.min(not_before);
                }
                done = self.actor.next() => if self.done(done) {
                    look_at = look_at.min(not_before);
                },
                () = self.conductor.nudge.notified() => look_at = look_at.min(not_before),
                () = jobs_changed => look_at = look_at.min(not_before),
                () = tokio::time::sleep_until(look_at) => {
                    look_at = self.look().await?;
                    not_before = Instant::now() + LOOK_APART;
                }
            }
        }
    }

    /// Takes in what was heard, and all that has come since.
    fn hear_all(&mut self, heard: Heard) {
        self.hear(heard);
        // Not for ever: what was heard has to be stored, and others have their turn.
        for _ in 1..MOST_AT_ONCE {
            let Some(heard) = self.reading.next_now() else {
                return;
            };
            self.hear(heard);
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Opened(ends) => {
                self.taken.clear();
                self.shelf.opened(ends);
            }
            Heard::Until(at) => self.events_until = at,
            Heard::Arrival(arrival) => self.take(*arrival),
        }
    }

    fn take(&mut self, arrival: Arrival) {
        let position = arrival.position;
        self.taken.insert(position.partition, position.offset + 1);
        self.shelf.reached(position.partition, position.offset);
        let metrics = &self.conductor.metrics;
        let Some(event) = arrival.event else {
            metrics.events_malformed.inc();
            return;
        };
        metrics
            .events
            .with_label_values(&[event.event.as_str()])
            .inc();
        // Else nobody here launched it, or it ended long ago.
        let Some(held) = self.shelf.get_mut(&event.queue_id) else {
            return;
        };
        let (kind, now) = (event.event, TimestampMs::now());
        let applied = held.change(Change::Event(position, Box::new(event)), now);
        if applied == Applied::Nothing {
            return;
        }
        self.unstored += 1;
        if applied == Applied::Lifecycle {
            self.urgent_since.get_or_insert_with(Instant::now);
        }
        // What is about to be forgotten has no history any more: that would outlast it.
        let is_going = held.workflow.removal.is_some() && held.workflow.status.is_final();
        if is_going || matches!(kind, EventKind::Loading | EventKind::Pong) {
            return;
        }
        match serde_json::from_str(&arrival.text) {
            Ok(event) => self.history.push(NewEvent {
                queue_id: held.workflow.queue_id.clone(),
                partition: position.partition,
                offset: position.offset,
                event,
            }),
            Err(error) => tracing::error!(%error, "An event can't be kept in the history"),
        }
    }

    /// Brings everything to the store: events first, then documents, then how far the topic was read.
    async fn store(&mut self) -> Result<(), StoreError> {
        if !self.history.is_empty() {
            let history = self
                .conductor
                .store
                .telemetry(self.conductor.settings.events_kept);
            let refused = history.insert(&self.history, TimestampMs::now()).await?;
            for refused in refused {
                tracing::error!(?refused, "The database refuses an event for its history");
            }
            self.history.clear();
        }
        if self.shelf.store().await? > 0 {
            self.conductor.changed.notify_waiters();
        }
        self.unstored = 0;
        if !self.taken.is_empty() {
            self.reading.commit(&self.taken);
        }
        Ok(())
    }

    /// Takes in what became of an action; whether something follows.
    fn done(&mut self, done: Done) -> bool {
        if done.is_removed {
            self.shelf.forget(&done.queue_id);
            self.conductor.changed.notify_waiters();
        }
        let Some(change) = done.change else {
            return false;
        };
        if let Some(held) = self.shelf.get_mut(done.queue_id.as_str())
            && held.workflow.run == done.run
        {
            held.change(change, TimestampMs::now());
            self.unstored += 1;
        }
        true
    }

    /// Looks at the store, the Jobs and the clock, and does what follows. When to look again.
    async fn look(&mut self) -> Result<Instant, StoreError> {
        let again = Instant::now() + self.conductor.settings.look_interval;
        self.shelf.refresh().await?;
        self.admit();
        match self.conductor.launcher.jobs().await {
            Ok(jobs) => {
                self.are_jobs_known = true;
                self.heal(&jobs).await?;
            }
            Err(error) => {
                if std::mem::take(&mut self.are_jobs_known) {
                    tracing::warn!(%error, "Jobs can't be looked at, so nothing is launched or healed");
                }
                self.store().await?;
            }
        }
        self.count();
        Ok(again)
    }

    /// Lets those start whose turn it is.
    fn admit(&mut self) {
        let claims: Vec<Claim> = self
            .shelf
            .iter()
            .filter_map(|held| Claim::of(&held.workflow))
            .collect();
        let admission = admit(&claims, &self.conductor.settings.limits);
        for queue_id in admission.start {
            if let Some(held) = self.shelf.get_mut(queue_id.as_str()) {
                tracing::info!(queue.id = %queue_id, run = held.workflow.run, "It is its turn");
                held.change(Change::Admitted, TimestampMs::now());
            }
        }
    }

    /// Joins Jobs and documents, stores what follows, and only then does what is to be done.
    async fn heal(&mut self, jobs: &[JobStatus]) -> Result<(), StoreError> {
        let settings = &self.conductor.settings.heal;
        let now = TimestampMs::now();
        let mut by_queue: BTreeMap<&str, Vec<JobStatus>> = BTreeMap::new();
        for job in jobs {
            by_queue
                .entry(job.queue_id.as_str())
                .or_default()
                .push(job.clone());
        }
        let mut found: Vec<(QueueId, Vec<Action>)> = Vec::new();
        for held in self.shelf.iter_mut() {
            let queue_id = held.workflow.queue_id.clone();
            let seen = Seen {
                jobs: by_queue.get(queue_id.as_str()).map_or(&[], Vec::as_slice),
                now,
                events_until: self.events_until,
            };
            let (_, actions) = held.heal(|workflow| heal::observe(workflow, &seen, settings));
            if !actions.is_empty() {
                found.push((queue_id, actions));
            }
        }
        self.store().await?;
        for (queue_id, actions) in found {
            // What somebody else has changed meanwhile is looked at again first.
            if self.shelf.was_rebased(&queue_id) {
                continue;
            }
            if let Some(held) = self.shelf.get(queue_id.as_str()) {
                for action in actions {
                    self.conductor.metrics.count(&action);
                    self.actor.begin(&held.workflow, action);
                }
            }
        }
        self.remove(&by_queue);
        self.delete_orphans(jobs).await?;
        let with_jobs: BTreeSet<&str> = by_queue.into_keys().collect();
        self.shelf.let_go(&with_jobs);
        Ok(())
    }

    /// Forgets what is over and asked to be forgotten: first its Jobs, then all the rest.
    fn remove(&mut self, by_queue: &BTreeMap<&str, Vec<JobStatus>>) {
        for held in self.shelf.iter() {
            let workflow = &held.workflow;
            if workflow.removal.is_none() || !workflow.status.is_final() || held.is_dirty() {
                continue;
            }
            match by_queue.get(workflow.queue_id.as_str()) {
                None => self.actor.remove(workflow),
                Some(jobs) => {
                    for job in jobs.iter().filter(|job| !job.is_deleting) {
                        let action = Action::DeleteJob {
                            name: job.name.clone(),
                            reason: "its workflow is removed".to_owned(),
                        };
                        self.actor.begin(workflow, action);
                    }
                }
            }
        }
    }

    /// Ends Jobs that belong to no workflow, since it was deleted, or to a run that is over.
    async fn delete_orphans(&mut self, jobs: &[JobStatus]) -> Result<(), StoreError> {
        let workflows = self.conductor.store.workflows::<Workflow>();
        let mut known: BTreeMap<QueueId, u32> = BTreeMap::new();
        let mut unreadable: BTreeSet<QueueId> = BTreeSet::new();
        for queue_id in jobs.iter().map(|job| &job.queue_id) {
            if known.contains_key(queue_id) || unreadable.contains(queue_id) {
                continue;
            }
            let run = match self.shelf.get(queue_id.as_str()) {
                Some(held) => Some(held.workflow.run),
                None => match workflows.get(queue_id).await {
                    Ok(found) => {
                        let run = found.content.run;
                        // Over, and its Jobs are still there: to be looked after until they are gone.
                        self.shelf.take_in(found);
                        Some(run)
                    }
                    Err(StoreError::NotFound(_)) => None,
                    // Its Jobs belong to something, and nobody can tell to which run.
                    Err(StoreError::Unreadable(_)) => {
                        unreadable.insert(queue_id.clone());
                        None
                    }
                    Err(error) => return Err(error),
                },
            };
            if let Some(run) = run {
                known.insert(queue_id.clone(), run);
            }
        }
        let settings = &self.conductor.settings.heal;
        let orphans = heal::orphans(jobs, &known, TimestampMs::now(), settings);
        let is_orphan =
            |job: &&JobStatus| orphans.contains(&job.name) && !unreadable.contains(&job.queue_id);
        for job in jobs.iter().filter(is_orphan) {
            self.actor.delete_orphan(&job.name, &job.queue_id);
        }
        Ok(())
    }

    fn count(&self) {
        let statuses = self.shelf.iter().map(|held| held.workflow.status);
        self.conductor.metrics.set_workflows(statuses);
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
