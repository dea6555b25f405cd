//! The loop: messages in, batches and dead letters out, commits behind them, until the stream has ended.
//!
//! Delivery: an offset is done when the database or the dead-letter topic acknowledged its record, and commits
//! advance only over what is done. Whatever is killed in between comes again and is written under the same key.
//!
//! Everything is an argument; nothing is configured or connected here.

mod committing;
mod end_lookup;
mod ending;
mod error;
mod flight;
mod others;
mod rejecting;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use rdkafka::{Message, error::KafkaError};
use streamforge_utils::{
    kafka::TopicReader, shutdown::StopSignal, telemetry::Progress, worker::Outcome,
};
use tokio::time::Instant;

use end_lookup::EndLookup;
pub use error::{LastRejected, WriteError};
use flight::{Landed, Taken};
use others::Others;

use crate::{
    arango::Bulk,
    assignment::Assignment,
    batch::{Batcher, Item, Limits},
    consume::{ConsumeError, Consumer, Deliveries, Delivery, Event, Revocation},
    dead_letter::DeadLetters,
    metrics::Metrics,
    offsets,
    partition::{Action, Resume},
    record::{self, Content, Expected, Reading},
};

/// How often is looked at what no event announces.
const TICK: Duration = Duration::from_millis(250);
/// How many messages are taken before the others in the loop get their turn.
const TURN: usize = 512;

/// What the loop has to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data topic.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// What its records have in common.
    pub expected: Expected,
    /// `RUN`.
    pub run: u32,
    /// Where a batch ends.
    pub limits: Limits,
    /// Most batches on their way.
    pub in_flight: usize,
    /// Most rejected records of the whole run.
    pub max_rejected: u64,
    /// How long commits may fail.
    pub retry_deadline: Duration,
    /// How long it may take to end.
    pub grace: Duration,
}

/// What the loop works with.
pub struct Parts {
    /// Where messages come from.
    pub consumer: Consumer,
    /// Where they go.
    pub bulk: Arc<Bulk>,
    /// Where those go that can't be written.
    pub dead_letters: Arc<DeadLetters>,
    /// Looks at partitions that other writers have.
    pub reader: TopicReader,
    /// Where counts are reported.
    pub progress: Progress,
    /// Where more is counted.
    pub metrics: Metrics,
}

type InFlight = FuturesUnordered<Pin<Box<dyn Future<Output = Result<Landed, WriteError>> + Send>>>;

/// Writes until the stream has ended, or `stop` says so; then commits and leaves the group.
///
/// # Errors
/// What could not pass in time, and what no retry can mend: see [`WriteError`].
pub async fn run(
    stop: &StopSignal,
    settings: Settings,
    parts: Parts,
) -> Result<Outcome, WriteError> {
    let mut writer = Writer::new(settings, parts);
    let result = writer.work(stop).await;
    writer.finish(&result).await;
    result
}

struct Writer {
    settings: Settings,
    consumer: Consumer,
    bulk: Arc<Bulk>,
    dead_letters: Arc<DeadLetters>,
    progress: Progress,
    metrics: Metrics,
    assignment: Assignment,
    was_assigned: bool,
    deliveries: Option<Deliveries>,
    batcher: Batcher<Taken>,
    /// Did not fit into the open batch. Nothing is read while it is there.
    held: Option<Item<Taken>>,
    in_flight: InFlight,
    /// How many of them are dead letters.
    letters: u64,
    last_rejected: Option<LastRejected>,
    /// A marker that names more partitions than are known. Nothing is read while it is there.
    doubtful: Option<Taken>,
    reader: TopicReader,
    others: Others,
    end_lookup: EndLookup,
    commit_at: Instant,
    /// Since when commits fail, and how the last one did.
    commit_trouble: Option<(Instant, KafkaError)>,
    /// Why the group gives no partitions, and since when.
    group_trouble: Option<(Instant, String)>,
    last_message: Instant,
    /// Why nothing more can be read, if that was found out while settling.
    failure: Option<ConsumeError>,
    /// What was given while settling, by a group that did not wait for it.
    next_assignment: Option<(Vec<(i32, Resume)>, Deliveries)>,
}

impl Writer {
    fn new(settings: Settings, parts: Parts) -> Self {
        let Parts {
            consumer,
            bulk,
            dead_letters,
            reader,
            progress,
            metrics,
        } = parts;
        let now = Instant::now();
        Self {
            batcher: Batcher::new(settings.limits),
            others: Others::new(reader.clone(), &settings),
            end_lookup: EndLookup::new(
                reader.clone(),
                settings.topic.clone(),
                settings.retry_deadline,
            ),
            reader,
            settings,
            consumer,
            bulk,
            dead_letters,
            progress,
            metrics,
            assignment: Assignment::default(),
            was_assigned: false,
            deliveries: None,
            held: None,
            in_flight: FuturesUnordered::new(),
            letters: 0,
            last_rejected: None,
            doubtful: None,
            commit_at: now,
            commit_trouble: None,
            group_trouble: None,
            last_message: now,
            failure: None,
            next_assignment: None,
        }
    }

    async fn work(&mut self, stop: &StopSignal) -> Result<Outcome, WriteError> {
        loop {
            if let Some(failure) = self.failure.take() {
                return Err(WriteError::Consume(failure));
            }
            let is_blocked = self.dispatch(false);
            self.commit_if_due()?;
            self.end_lookup.ask(&self.assignment);
            self.others.ask_counts(&self.assignment);
            if let Some(outcome) = self.outcome(stop) {
                return Ok(outcome);
            }
            let tick = Instant::now() + TICK;
            let wake = match self.batcher.due_at() {
                Some(due) if !is_blocked => due.min(tick),
                _ => tick,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Outcome::Stopped),
                event = self.consumer.next_event() => self.on_event(event).await?,
                Some(landed) = self.in_flight.next() => self.on_landed(landed?)?,
                found = self.end_lookup.found() => {
                    end_lookup::tell(&mut self.assignment, found.map_err(WriteError::Read)?);
                }
                found = self.others.found() => self.on_others(found)?,
                delivery = next(&mut self.deliveries), if self.takes_more() => self.on_deliveries(delivery).await?,
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    async fn on_event(&mut self, event: Event) -> Result<(), WriteError> {
        match event {
            Event::Assigned {
                partitions,
                deliveries,
                ..
            } => self.take_on(partitions, deliveries).await?,
            Event::NoGroup(reason) => {
                self.progress
                    .set_message(format!("waiting for the consumer group: {reason}"));
                self.group_trouble
                    .get_or_insert((Instant::now(), String::new()))
                    .1 = reason;
            }
            Event::Revoked(revocation) => {
                self.deliveries = None;
                let settled = self.settle(revocation.until()).await;
                self.let_go(revocation);
                if let Some((partitions, deliveries)) = self.next_assignment.take() {
                    self.take_on(partitions, deliveries).await?;
                }
                settled?;
            }
            Event::Committed(commits) => {
                self.assignment.confirm(&commits);
                self.commit_trouble = None;
            }
            Event::CommitFailed(error) => self.on_failed_commit(error)?,
            Event::Failed(error) => return Err(WriteError::Consume(error)),
        }
        Ok(())
    }

    async fn take_on(
        &mut self,
        partitions: Vec<(i32, Resume)>,
        deliveries: Deliveries,
    ) -> Result<(), WriteError> {
        let partitions = self.without_false_ends(partitions).await?;
        self.assignment.replace(partitions, self.settings.run);
        self.group_trouble = None;
        self.was_assigned = true;
        self.deliveries = Some(deliveries);
        self.others.forget();
        self.commit_trouble = None;
        self.last_message = Instant::now();
        self.report();
        self.check_rejected()
    }

    fn let_go(&mut self, revocation: Revocation) {
        revocation.answer(self.assignment.unconfirmed());
        self.assignment.forget();
        self.batcher.clear();
        self.held = None;
        self.doubtful = None;
        // What is still on its way belongs to nobody any more; whoever reads it again writes it again.
        self.in_flight.clear();
        self.letters = 0;
        self.metrics.in_flight.set(0);
    }

    /// Whether there is room for more messages.
    fn takes_more(&self) -> bool {
        self.held.is_none() && self.doubtful.is_none() && !self.assignment.is_full()
    }

    async fn on_deliveries(&mut self, first: Delivery) -> Result<(), WriteError> {
        self.on_delivery(first)?;
        for _ in 1..TURN {
            if !self.takes_more() {
                break;
            }
            match self
                .deliveries
                .as_mut()
                .and_then(|more| more.try_recv().ok())
            {
                Some(delivery) => self.on_delivery(delivery)?,
                None => break,
            }
        }
        match self.doubtful.take() {
            Some(taken) => self.take_doubtful(taken).await,
            None => Ok(()),
        }
    }

    fn on_delivery(&mut self, delivery: Delivery) -> Result<(), WriteError> {
        let taken = match delivery {
            Delivery::Message { message, room } => Taken { message, room },
            Delivery::End { partition } => {
                if let Some(partition) = self.assignment.partition_mut(partition) {
                    partition.reach_end();
                }
                return Ok(());
            }
        };
        let reading = record::read(&taken.message, &self.settings.expected);
        if let Content::Marker(marker) = &reading.content
            && marker.partitions > self.settings.partitions
        {
            self.doubtful = Some(taken);
            return Ok(());
        }
        self.take(taken, reading)
    }

    fn take(&mut self, taken: Taken, reading: Reading) -> Result<(), WriteError> {
        let (number, offset) = (taken.message.partition(), taken.message.offset());
        let Some(partition) = self.assignment.partition_mut(number) else {
            return Ok(());
        };
        let action = partition
            .accept(offset, reading)
            .map_err(|lost| WriteError::Lost {
                topic: self.settings.topic.clone(),
                partition: number,
                offset,
                deleted_below: partition.first_offset(),
                lost,
            })?;
        self.last_message = Instant::now();
        match action {
            Action::Write { key } => {
                let bytes = taken.payload().len();
                self.offer(Item {
                    key,
                    bytes,
                    record: taken,
                });
            }
            Action::Reject(rejection) => self.reject(taken, rejection)?,
            Action::Duplicate => self.metrics.duplicates.inc(),
            Action::Nothing => {}
        }
        Ok(())
    }

    fn offer(&mut self, item: Item<Taken>) {
        if let Err(item) = self.batcher.offer(item, Instant::now()) {
            self.held = Some(item);
        }
    }

    /// Sends what is due, or all there is. Returns whether something due has to wait for what is on its way.
    fn dispatch(&mut self, all: bool) -> bool {
        loop {
            let is_due = all || self.held.is_some() || self.batcher.is_due(Instant::now());
            if !is_due || self.batcher.is_empty() {
                return false;
            }
            if self.batcher.in_flight() >= self.settings.in_flight {
                return true;
            }
            let Some(batch) = self.batcher.take() else {
                return true;
            };
            let generation = self.assignment.generation();
            let flight = flight::write(Arc::clone(&self.bulk), generation, batch);
            self.in_flight.push(Box::pin(flight));
            self.metrics.in_flight.set(self.batcher.in_flight() as i64);
            if let Some(item) = self.held.take() {
                self.offer(item);
            }
        }
    }

    fn on_landed(&mut self, landed: Landed) -> Result<(), WriteError> {
        let replayed = self.assignment.replayed();
        match landed {
            Landed::Batch {
                generation,
                id,
                written,
                refused,
                took,
            } => {
                self.batcher.done(id);
                self.metrics.in_flight.set(self.batcher.in_flight() as i64);
                self.metrics.batch_written(written.len() as u64, took);
                for (partition, offset) in written {
                    let outcome = offsets::Outcome::Written;
                    self.assignment
                        .acknowledge(generation, partition, offset, outcome);
                }
                for (taken, rejection) in refused {
                    self.reject(taken, rejection)?;
                }
            }
            Landed::DeadLetter {
                generation,
                partition,
                offset,
            } => {
                self.letters = self.letters.saturating_sub(1);
                let outcome = offsets::Outcome::Rejected;
                self.assignment
                    .acknowledge(generation, partition, offset, outcome);
            }
        }
        let more = self.assignment.replayed().saturating_sub(replayed);
        self.metrics.replayed.inc_by(more);
        self.report();
        Ok(())
    }

    fn report(&self) {
        let (written, rejected) = (self.assignment.written(), self.assignment.rejected());
        let replayed = self.assignment.replayed();
        self.progress.set_written(written);
        self.progress.set_rejected(rejected);
        let total = self.progress.counts().total;
        let of_total = total
            .map(|total| format!(" of {total}"))
            .unwrap_or_default();
        let and_rejected = if rejected > 0 {
            format!(", {rejected} rejected")
        } else {
            String::new()
        };
        let of_them = if replayed > 0 {
            format!(" ({replayed} of them replayed)")
        } else {
            String::new()
        };
        let message = format!("{written}{of_total} records written{and_rejected}{of_them}");
        self.progress.set_message(message);
    }
}

async fn next(deliveries: &mut Option<Deliveries>) -> Delivery {
    match deliveries {
        Some(deliveries) => match deliveries.recv().await {
            Some(delivery) => delivery,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
