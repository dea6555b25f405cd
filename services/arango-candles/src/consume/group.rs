//! What happens when the group gives partitions and takes them back. Runs on the polling thread.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc as std_mpsc,
    },
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ExponentialBuilder};
use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    metadata::Metadata,
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use streamforge_utils::kafka::{KafkaContext, is_permanent};
use tokio::{runtime::Handle, sync::mpsc};
use tracing::{debug, info, warn};

use super::{
    Commit, ConsumeError, Delivery, Event, REVOKE_LIMIT, Revocation, Settings, position::Found,
};
use crate::{metrics::Metrics, note::CommitNote, partition::Resume};

/// How long one request to the broker may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long is asked where the group left off, at most. Nothing is polled meanwhile, and after 5 minutes
/// (`max.poll.interval.ms`) the group takes this member for dead.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(240);
/// The first wait between two such tries, and the longest.
const LOOK_UP_DELAYS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The member's side of the group.
#[derive(Debug)]
pub(super) struct Context {
    kafka: KafkaContext,
    topic: String,
    retry_deadline: Duration,
    runtime: Handle,
    events: mpsc::UnboundedSender<Event>,
    assignment: Mutex<Assignment>,
    /// Since when no broker has been there.
    trouble: Mutex<Option<Instant>>,
    /// Since when the group has given nothing; `None` while it has.
    unassigned: Mutex<Option<Instant>>,
    /// What librdkafka last said was wrong, and when.
    last_error: Mutex<Option<(Instant, String)>>,
    /// An assigned partition that has no leader, and since when one has none.
    leaderless: Mutex<Option<(i32, Instant)>>,
    closing: AtomicBool,
    /// Whether the partitions that are assigned are paused.
    is_paused: AtomicBool,
    metrics: Metrics,
}

/// What the member has now.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    /// Raised with each change.
    pub(super) generation: u64,
    pub(super) deliveries: Option<mpsc::UnboundedSender<Delivery>>,
    /// The next offset that must come, by partition.
    pub(super) positions: BTreeMap<i32, i64>,
}

impl Assignment {
    /// All its partitions, as librdkafka wants them.
    pub(super) fn list(&self, topic: &str) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(self.positions.len());
        for partition in self.positions.keys() {
            list.add_partition(topic, *partition);
        }
        list
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// Must be called on a runtime.
    pub(super) fn new(
        settings: &Settings,
        events: mpsc::UnboundedSender<Event>,
        metrics: Metrics,
    ) -> Self {
        Self {
            kafka: KafkaContext::default(),
            topic: settings.topic.clone(),
            retry_deadline: settings.retry_deadline,
            runtime: Handle::current(),
            events,
            assignment: Mutex::default(),
            trouble: Mutex::default(),
            unassigned: Mutex::new(Some(Instant::now())),
            last_error: Mutex::default(),
            leaderless: Mutex::default(),
            closing: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
            metrics,
        }
    }

    pub(super) fn assignment(&self) -> MutexGuard<'_, Assignment> {
        lock(&self.assignment)
    }

    pub(super) fn tell(&self, event: Event) {
        // The writer is gone only when the process ends.
        let _ = self.events.send(event);
    }

    pub(super) fn permanent_error(&self) -> Option<String> {
        self.kafka.permanent_error()
    }

    pub(super) fn trouble_since(&self) -> Option<Instant> {
        *lock(&self.trouble)
    }

    /// Since when the group has given nothing, not even an empty share.
    pub(super) fn unassigned_since(&self) -> Option<Instant> {
        *lock(&self.unassigned)
    }

    /// What was last wrong, if that was after `since`.
    pub(super) fn last_error_since(&self, since: Instant) -> Option<String> {
        let last = lock(&self.last_error);
        let (_, error) = last.as_ref().filter(|(at, _)| *at >= since)?;
        Some(error.clone())
    }

    pub(super) fn note_error(&self, error: String) {
        *lock(&self.last_error) = Some((Instant::now(), error));
    }

    pub(super) fn leaderless_since(&self) -> Option<(i32, Instant)> {
        *lock(&self.leaderless)
    }

    /// Whether the broker knows the topic, with all partitions that are assigned.
    pub(super) fn is_known(&self, metadata: &Metadata) -> bool {
        let known = metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == self.topic && topic.error().is_none())
            .map_or(&[][..], |topic| topic.partitions());
        let assignment = self.assignment();
        let has = |number: &i32| known.iter().any(|partition| partition.id() == *number);
        !known.is_empty() && assignment.positions.keys().all(has)
    }

    /// A broker answered.
    pub(super) fn all_is_well(&self) {
        self.kafka.accepted();
        *lock(&self.trouble) = None;
    }

    /// Whether the partitions that are assigned are paused.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    /// Pauses or resumes all partitions that are assigned.
    pub(super) fn pause(&self, consumer: &BaseConsumer<Self>, pause: bool) {
        if self.is_paused() == pause {
            return;
        }
        let list = self.assignment().list(&self.topic);
        let done = if pause {
            consumer.pause(&list)
        } else {
            consumer.resume(&list)
        };
        match done {
            Ok(()) => {
                self.is_paused.store(pause, Ordering::Relaxed);
                if pause {
                    self.metrics.pauses.inc();
                }
            }
            Err(error) => warn!(%error, pause, "Could not pause or resume partitions"),
        }
    }

    /// From now on partitions that are taken away are let go without a word.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    fn refused(&self, reason: String) -> ConsumeError {
        ConsumeError::Refused {
            topic: self.topic.clone(),
            reason,
        }
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, given: &TopicPartitionList) {
        *lock(&self.unassigned) = None;
        let partitions: Vec<i32> = given
            .elements()
            .iter()
            .map(|element| element.partition())
            .collect();
        let resumed = match self.look_up(consumer, &partitions) {
            Ok(resumed) => resumed,
            Err(error) => {
                self.tell(Event::Failed(error));
                // The group waits for an answer; nothing is read until this process has ended.
                let _ = consumer.unassign();
                return;
            }
        };
        let (to_writer, deliveries) = mpsc::unbounded_channel();
        let mut list = TopicPartitionList::with_capacity(resumed.len());
        let mut positions = BTreeMap::new();
        for (partition, resume, start) in &resumed {
            let offset = Offset::Offset(*start);
            if let Err(error) = list.add_partition_offset(&self.topic, *partition, offset) {
                self.tell(Event::Failed(self.refused(error.to_string())));
            }
            let (Resume::AtFirst { low: next } | Resume::AfterCommit { offset: next, .. }) = resume;
            positions.insert(*partition, *next);
        }
        let generation = {
            let mut assignment = self.assignment();
            assignment.generation += 1;
            assignment.deliveries = Some(to_writer);
            assignment.positions = positions;
            assignment.generation
        };
        info!(topic = %self.topic, ?partitions, "The group gave partitions");
        // Told before the first message can come.
        self.tell(Event::Assigned {
            generation,
            partitions: resumed
                .into_iter()
                .map(|(partition, resume, _)| (partition, resume))
                .collect(),
            deliveries,
        });
        if let Err(error) = consumer.assign(&list) {
            self.tell(Event::Failed(self.refused(error.to_string())));
        }
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>) {
        let is_lost = consumer.assignment_lost();
        if !self.closing.load(Ordering::Relaxed) {
            info!(topic = %self.topic, is_lost, "The group takes the partitions back");
            let (answer, answered) = std_mpsc::channel();
            let until = tokio::time::Instant::now() + REVOKE_LIMIT;
            self.tell(Event::Revoked(Revocation { answer, until }));
            // A little longer than the writer takes: it answers with what it could finish.
            let commits = answered.recv_timeout(REVOKE_LIMIT + Duration::from_secs(1));
            match commits {
                // Others may have them already, so nothing is ours to commit.
                Ok(_) if is_lost => {}
                Ok(commits) => {
                    if let Err(error) = self.commit(consumer, &commits) {
                        warn!(%error, "The commit before letting go failed, its records will come again");
                    }
                }
                Err(_) => {
                    warn!("Partitions are let go without a commit, their records will come again")
                }
            }
        }
        // librdkafka keeps a pause beyond the assignment: given back later, the partition would never be read again.
        self.pause(consumer, false);
        self.is_paused.store(false, Ordering::Relaxed);
        let mut assignment = self.assignment();
        assignment.generation += 1;
        assignment.deliveries = None;
        assignment.positions.clear();
        drop(assignment);
        *lock(&self.unassigned) = Some(Instant::now());
        *lock(&self.leaderless) = None;
        self.metrics.lag.set(0);
        if let Err(error) = consumer.unassign() {
            warn!(%error, "Could not let partitions go");
        }
    }

    /// Commits for the assignment `generation`; nothing if that is over.
    pub(super) fn commit_of(
        &self,
        generation: u64,
        consumer: &BaseConsumer<Self>,
        commits: &[Commit],
    ) -> Option<KafkaResult<()>> {
        if generation != self.assignment().generation {
            debug!("A commit came after its partitions were let go, their records will come again");
            return None;
        }
        Some(self.commit(consumer, commits))
    }

    /// Commits, and waits for the broker's word: an asynchronous commit would never be confirmed, since librdkafka
    /// confirms those through a callback that rdkafka 0.39 does not set. It takes one round trip; without a
    /// coordinator it fails after the session time-out.
    fn commit(&self, consumer: &BaseConsumer<Self>, commits: &[Commit]) -> KafkaResult<()> {
        if commits.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::with_capacity(commits.len());
        for commit in commits {
            let mut element = list.add_partition(&self.topic, commit.partition);
            element.set_offset(Offset::Offset(commit.offset))?;
            element.set_metadata(commit.note.to_metadata());
        }
        consumer.commit(&list, CommitMode::Sync)?;
        self.all_is_well();
        Ok(())
    }

    /// Where each partition is taken up, and the offset to read from: one before the commit, or some if that has no note,
    /// as far as they are still there.
    fn look_up(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &[i32],
    ) -> Result<Vec<(i32, Resume, i64)>, ConsumeError> {
        let found = self.insist(|| self.try_look_up(consumer, partitions))?;
        found
            .into_iter()
            .map(|found| found.take_up(&self.topic))
            .collect()
    }

    /// Tries until it succeeds, no retry can mend it, the deadline has passed, or the writer is gone.
    fn insist<T>(&self, mut attempt: impl FnMut() -> KafkaResult<T>) -> Result<T, ConsumeError> {
        let until = Instant::now() + self.retry_deadline.min(LOOK_UP_LIMIT);
        let mut delays = ExponentialBuilder::new()
            .with_min_delay(LOOK_UP_DELAYS.0)
            .with_max_delay(LOOK_UP_DELAYS.1)
            .with_jitter()
            .without_max_times()
            .build();
        loop {
            let error = match attempt() {
                Ok(found) => return Ok(found),
                Err(error) if is_permanent(&error) => return Err(self.refused(error.to_string())),
                Err(error) => error,
            };
            let delay = delays.next().unwrap_or(LOOK_UP_DELAYS.1);
            let is_late = Instant::now() + delay > until;
            if !is_late {
                warn!(%error, "Could not look up where the group left off, trying again");
            }
            // Waits on the runtime, since the writer may leave meanwhile.
            let gone = async {
                tokio::time::timeout(delay, self.events.closed())
                    .await
                    .is_ok()
            };
            if is_late || self.runtime.block_on(gone) {
                return Err(ConsumeError::Unavailable {
                    topic: self.topic.clone(),
                    reason: format!("the group's offsets can't be looked up: {error}"),
                });
            }
        }
    }

    fn try_look_up(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &[i32],
    ) -> KafkaResult<Vec<Found>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        // Dropped here: a list of committed offsets that outlives its consumer would deadlock.
        let committed = consumer.committed_offsets(list, REQUEST_TIMEOUT)?;
        let mut found = Vec::with_capacity(partitions.len());
        for element in committed.elements() {
            element.error()?;
            let partition = element.partition();
            let (low, high) = consumer.fetch_watermarks(&self.topic, partition, REQUEST_TIMEOUT)?;
            let committed = match element.offset() {
                Offset::Offset(offset) => Some((offset, CommitNote::parse(element.metadata()))),
                _ => None,
            };
            found.push(Found {
                partition,
                low,
                high,
                committed,
            });
        }
        Ok(found)
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.kafka.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(
            RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::Resolve,
        ) = error.rdkafka_error_code()
        {
            lock(&self.trouble).get_or_insert_with(Instant::now);
        }
        // Reported for each partition each time it is read to its end, and no error.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            self.note_error(format!("{error}: {reason}"));
            self.kafka.error(error, reason);
        }
    }

    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else {
            return;
        };
        let assigned = lock(&self.assignment);
        let own = || {
            let partitions = topic.partitions.values();
            partitions.filter(|partition| assigned.positions.contains_key(&partition.partition))
        };
        let leaderless = own().find(|partition| partition.leader < 0);
        let mut since = lock(&self.leaderless);
        *since = leaderless.map(|partition| {
            let since = since.map_or_else(Instant::now, |(_, since)| since);
            (partition.partition, since)
        });
        drop(since);
        let lag = own()
            .filter(|partition| partition.hi_offset >= 0)
            .map(|partition| {
                partition.hi_offset - partition.app_offset.max(partition.lo_offset).max(0)
            })
            .sum();
        self.metrics.lag.set(lag);
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        self.all_is_well();
        match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.assign(consumer, partitions)
            }
            _ => self.revoke(consumer),
        }
    }
}

#[cfg(test)]
mod tests;
