//! Keeps every workflow going: follows events, looks at Jobs, stores what follows, and then does what is to be done.
//!
//! One at a time: whoever holds the lease conducts. It may die at any moment: state is stored before anything is done
//! about it, offsets are committed after the state that they led to, and what is to be done follows each time from the
//! documents and the Jobs alone. What others change in the store, such as a stop by the API, is picked up within a
//! second, or at once when this replica did it.

mod act;
mod held;
mod reading;
mod shelf;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use streamforge_utils::{
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
    metrics::Metrics,
    state::Applied,
    store::{Store, StoreError, TelemetryEntry},
};
use act::{Actor, Done};
use held::Change;
use reading::Reading;
use shelf::Shelf;

/// How long changes that nobody waits for may stay unstored.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// How long a change that somebody waits for may, so that several are stored together.
const URGENT_WITHIN: Duration = Duration::from_millis(20);
/// Looks at Jobs are at least this far apart, however often they change.
const LOOK_APART: Duration = Duration::from_millis(100);
/// Events that wait to be stored; more are not read before.
const MOST_UNSTORED: usize = 20_000;

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
}

/// Everything that conducting needs. Nothing happens until [`Conductor::run`].
pub struct Conductor {
    /// Where state is kept.
    pub store: Store,
    /// Runs Jobs.
    pub launcher: Arc<dyn Launcher>,
    /// How to reach the brokers.
    pub kafka: streamforge_utils::config::KafkaConfig,
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
    pub metrics: Metrics,
}

/// One time of conducting, from taking the lease to losing it.
struct Conducting<'a> {
    conductor: &'a Conductor,
    shelf: Shelf,
    reading: Reading,
    actor: Actor,
    /// Lifecycle events that are not stored yet.
    telemetry: Vec<TelemetryEntry>,
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
        let shelf = Shelf::fill(&self.store).await?;
        tracing::info!(workflows = shelf.len(), "Conducting");
        let conducting = Conducting {
            conductor: self,
            shelf,
            reading: Reading::new(self.kafka.clone(), &self.settings.events_topic),
            actor: Actor::new(self),
            telemetry: Vec::new(),
            unstored: 0,
            urgent_since: None,
            are_jobs_known: false,
        };
        conducting.run().await
    }
}

impl Conducting<'_> {
    async fn run(mut self) -> Result<(), StoreError> {
        let mut flush = interval(FLUSH_INTERVAL);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look_at = Instant::now();
        loop {
            let urgent_at = self.urgent_since.map(|since| since + URGENT_WITHIN);
            let woken = {
                let launcher = &self.conductor.launcher;
                async move {
                    launcher.changed().await;
                    tokio::time::sleep(LOOK_APART).await;
                }
            };
            tokio::select! {
                arrival = self.reading.next(), if self.unstored < MOST_UNSTORED => self.take(arrival),
                _ = flush.tick() => self.store().await?,
                () = until(urgent_at) => self.store().await?,
                done = self.actor.next() => self.done(done),
                () = self.conductor.nudge.notified() => look_at = self.look().await?,
                () = woken => look_at = self.look().await?,
                () = tokio::time::sleep_until(look_at) => look_at = self.look().await?,
            }
        }
    }

    /// Takes an event in, and all that have come already.
    fn take(&mut self, arrival: Arrival) {
        self.take_one(arrival);
        while self.unstored < MOST_UNSTORED {
            let Some(arrival) = self.reading.next().now_or_never() else {
                return;
            };
            self.take_one(arrival);
        }
    }

    fn take_one(&mut self, arrival: Arrival) {
        let metrics = &self.conductor.metrics;
        let Some(event) = arrival.event else {
            metrics.events_malformed.inc();
            return;
        };
        metrics
            .events
            .with_label_values(&[event.event.as_str()])
            .inc();
        // One that nobody here launched, or that ended long ago.
        let Some(held) = self.shelf.get_mut(&event.queue_id) else {
            return;
        };
        let kind = event.event;
        let now = TimestampMs::now();
        let change = Change::Event(arrival.position, Box::new(event));
        let applied = held.change(change, now);
        if applied == Applied::Nothing {
            return;
        }
        self.unstored += 1;
        if applied == Applied::Lifecycle {
            self.urgent_since.get_or_insert_with(Instant::now);
        }
        if !matches!(kind, EventKind::Loading | EventKind::Pong) {
            let kept = self.conductor.settings.events_kept;
            let queue_id = held.workflow.queue_id.clone();
            self.telemetry.push(TelemetryEntry::new(
                &queue_id,
                arrival.position,
                arrival.text,
                now,
                kept,
            ));
        }
    }

    /// Brings everything to the store: events first, then documents, then how far the topic was read.
    async fn store(&mut self) -> Result<(), StoreError> {
        self.urgent_since = None;
        let next = self.reading.next_offsets();
        if !self.telemetry.is_empty() {
            self.conductor.store.insert_events(&self.telemetry).await?;
            self.telemetry.clear();
        }
        if self.shelf.store(&self.conductor.store).await? > 0 {
            self.conductor.changed.notify_waiters();
        }
        self.unstored = 0;
        self.reading.commit(next);
        Ok(())
    }

    fn done(&mut self, done: Done) {
        let Some(change) = done.change else {
            return;
        };
        if let Some(held) = self.shelf.get_mut(done.queue_id.as_str()) {
            held.change(change, TimestampMs::now());
            self.unstored += 1;
            self.urgent_since.get_or_insert_with(Instant::now);
        }
    }

    /// Looks at the store, the Jobs and the clock, and does what follows. When to look again.
    async fn look(&mut self) -> Result<Instant, StoreError> {
        let again = Instant::now() + self.conductor.settings.look_interval;
        self.shelf.refresh(&self.conductor.store).await?;
        self.admit();
        self.reading.look();
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
        let admission = admit(&claims, self.conductor.settings.limits);
        for queue_id in admission.start {
            if let Some(held) = self.shelf.get_mut(queue_id.as_str()) {
                tracing::info!(queue.id = %queue_id, run = held.workflow.run, "It is its turn");
                held.change(Change::Admitted, TimestampMs::now());
            }
        }
    }

    /// Joins Jobs and documents, stores what follows, and only then does what is to be done.
    async fn heal(&mut self, jobs: &[JobStatus]) -> Result<(), StoreError> {
        let now = TimestampMs::now();
        let seen = Seen {
            jobs,
            now,
            events_until: self.reading.until(),
        };
        let settings = &self.conductor.settings;
        let mut found: Vec<(QueueId, Vec<Action>)> = Vec::new();
        for held in self.shelf.iter_mut() {
            let jobs: Vec<JobStatus> = jobs
                .iter()
                .filter(|job| job.queue_id == held.workflow.queue_id)
                .cloned()
                .collect();
            let seen = Seen {
                jobs: &jobs,
                ..seen
            };
            let (_, actions) =
                held.heal(|workflow| heal::observe(workflow, &seen, &settings.heal));
            if !actions.is_empty() {
                found.push((held.workflow.queue_id.clone(), actions));
            }
        }
        self.store().await?;
        for (queue_id, actions) in found {
            // What somebody else has changed meanwhile is looked at again first.
            let Some(held) = self.shelf.get(queue_id.as_str()) else {
                continue;
            };
            if self.shelf.was_rebased(&queue_id) {
                continue;
            }
            for action in actions {
                self.actor.begin(&held.workflow, action);
            }
        }
        let with_jobs: BTreeSet<&str> = jobs.iter().map(|job| job.queue_id.as_str()).collect();
        self.shelf.let_go(&with_jobs);
        self.delete_orphans(jobs).await
    }

    /// Ends Jobs that belong to no workflow: it was deleted, or this is another queue-manager's leftover.
    async fn delete_orphans(&mut self, jobs: &[JobStatus]) -> Result<(), StoreError> {
        let mut known: BTreeSet<QueueId> = BTreeSet::new();
        for queue_id in jobs.iter().map(|job| &job.queue_id) {
            let is_known = self.shelf.get(queue_id.as_str()).is_some()
                || self.conductor.store.exists(queue_id).await?;
            if is_known {
                known.insert(queue_id.clone());
            }
        }
        let settings = &self.conductor.settings.heal;
        for name in heal::orphans(jobs, &known, TimestampMs::now(), settings) {
            self.actor.delete_orphan(name);
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
