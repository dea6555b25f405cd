//! The thread that polls librdkafka.
//!
//! A member that does not poll loses its partitions, and a rebalance waits for it. When the writer holds as much as it
//! may, polling stops for some seconds, which keeps what was fetched; then the partitions are paused, and polling resumes.

mod checks;

use std::{
    collections::VecDeque,
    sync::{Arc, mpsc as std_mpsc},
    time::{Duration, Instant},
};

use rdkafka::{
    Message,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::OwnedMessage,
    types::RDKafkaErrorCode,
};
use streamforge_utils::kafka::{TopicReader, is_permanent};
use tokio::{runtime::Handle, sync::Semaphore};
use tracing::debug;

use super::{
    Commit, ConsumeError, Delivery, Event, Request, Room, Settings, group::Context, pulse::Pulse,
};

/// The longest that a request of the writer waits for being seen.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long to wait for room before the partitions are paused, which throws away what was fetched. A rebalance of the group
/// may wait for so long.
const PAUSE_AFTER: Duration = Duration::from_secs(5);
/// How long a broker may take to show that it is there again.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a topic that was there may be unknown to a broker. One that has just started, or has not heard yet of a new
/// topic, does not know it.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(30);
/// How often is asked after a topic that is unknown.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the group may take to give partitions before that is warned about, if there is no error before.
const SLOW_GROUP: Duration = Duration::from_secs(15);
/// What a record takes besides its key and value, roughly, in bytes.
const RECORD_OVERHEAD: usize = 512;

/// The state of the polling thread.
pub(super) struct Reading {
    consumer: BaseConsumer<Context>,
    settings: Settings,
    room: Arc<Semaphore>,
    requests: std_mpsc::Receiver<Request>,
    runtime: Handle,
    /// What could not be handed over yet, and the assignment it belongs to.
    waiting: VecDeque<Waiting>,
    generation: u64,
    /// Since when the broker does not know the topic, or one of its partitions.
    unknown: Option<Unknown>,
    /// Since when there has been no room for what waits.
    full_since: Option<Instant>,
    pulse: Pulse,
    /// Whether it was said that the group gives no partitions.
    is_warned: bool,
    /// Another client, which sees what this one may have missed.
    reader: TopicReader,
}

#[derive(Debug, Clone, Copy)]
struct Unknown {
    since: Instant,
    /// When to ask again.
    ask_at: Instant,
}

enum Waiting {
    Message(OwnedMessage),
    End(i32),
}

impl Reading {
    pub(super) fn new(
        consumer: BaseConsumer<Context>,
        settings: Settings,
        room: Arc<Semaphore>,
        requests: std_mpsc::Receiver<Request>,
        reader: TopicReader,
    ) -> Self {
        Self {
            full_since: None,
            pulse: Pulse::new(settings.retry_deadline),
            is_warned: false,
            reader,
            consumer,
            settings,
            room,
            requests,
            runtime: Handle::current(),
            waiting: VecDeque::new(),
            generation: 0,
            unknown: None,
        }
    }

    /// Polls until it is told to close, or the writer is gone.
    pub(super) fn run(mut self) {
        if let Err(error) = self.consumer.subscribe(&[&self.settings.topic]) {
            self.fail(self.refused(error.to_string()));
        }
        let closed = loop {
            match self.serve_requests() {
                Serving::GoOn => {}
                Serving::Close(answer) => break answer,
            }
            if self.waiting.is_empty() || self.consumer.context().is_paused() {
                self.poll();
            }
            self.hand_over();
            self.check_topic();
            self.check_brokers();
            self.check_group();
            self.check_pulse();
        };
        self.consumer.context().close();
        drop(self.consumer);
        if let Some(closed) = closed {
            let _ = closed.send(());
        }
    }

    fn serve_requests(&mut self) -> Serving {
        loop {
            match self.requests.try_recv() {
                Ok(Request::Commit(generation, commits)) => {
                    let context = self.consumer.context();
                    match context.commit_of(generation, &self.consumer, &commits) {
                        Some(Ok(())) => context.tell(Event::Committed(places(&commits))),
                        Some(Err(error)) => {
                            context.tell(Event::CommitFailed(error.clone()));
                            self.note_unknown_topic(&error);
                        }
                        None => {}
                    }
                }
                Ok(Request::CommitAndWait(generation, commits, answer)) => {
                    let context = self.consumer.context();
                    if let Some(done) = context.commit_of(generation, &self.consumer, &commits) {
                        let _ = answer.send(done);
                    }
                }
                Ok(Request::Close(answer)) => return Serving::Close(Some(answer)),
                Err(std_mpsc::TryRecvError::Empty) => return Serving::GoOn,
                Err(std_mpsc::TryRecvError::Disconnected) => return Serving::Close(None),
            }
        }
    }

    fn poll(&mut self) {
        let polled = match self.consumer.poll(POLL_INTERVAL) {
            None => return,
            Some(Ok(message)) => Ok(message.detach()),
            Some(Err(error)) => Err(error),
        };
        // The partitions may have changed while polling.
        self.follow_assignment();
        match polled {
            Ok(message) => {
                self.pulse.beat(message.partition(), Instant::now());
                self.consumer.context().all_is_well();
                let mut assignment = self.consumer.context().assignment();
                if let Some(position) = assignment.positions.get_mut(&message.partition()) {
                    *position = (*position).max(message.offset() + 1);
                }
                drop(assignment);
                self.waiting.push_back(Waiting::Message(message));
            }
            Err(KafkaError::PartitionEOF(partition)) => {
                self.pulse.beat(partition, Instant::now());
                self.consumer.context().all_is_well();
                self.waiting.push_back(Waiting::End(partition));
            }
            Err(error) => self.on_error(&error),
        }
    }

    /// What waits of an assignment that is over belongs to nobody.
    fn follow_assignment(&mut self) {
        let assignment = self.consumer.context().assignment();
        if assignment.generation != self.generation {
            self.generation = assignment.generation;
            let partitions = assignment.positions.keys().copied();
            self.pulse.follow(partitions, Instant::now());
            self.waiting.clear();
            self.full_since = None;
        }
    }

    fn hand_over(&mut self) {
        self.follow_assignment();
        let Some(to_writer) = self.consumer.context().assignment().deliveries.clone() else {
            return;
        };
        while let Some(waiting) = self.waiting.pop_front() {
            let delivery = match waiting {
                Waiting::End(partition) => Delivery::End { partition },
                Waiting::Message(message) => match self.make_room(&message) {
                    Some(room) => Delivery::Message { message, room },
                    None => {
                        self.waiting.push_front(Waiting::Message(message));
                        let since = *self.full_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= PAUSE_AFTER {
                            self.pause();
                        }
                        return;
                    }
                },
            };
            self.full_since = None;
            // The writer drops its end first when partitions are taken away.
            if to_writer.send(delivery).is_err() {
                return;
            }
        }
        self.resume();
    }

    fn make_room(&self, message: &OwnedMessage) -> Option<Room> {
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let bytes = length(message.payload()) + length(message.key()) + RECORD_OVERHEAD;
        // A record larger than all the room there is gets all of it.
        let bytes =
            u32::try_from(bytes.min(self.settings.max_bytes_on_the_way)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room);
        let permit = match Arc::clone(&room).try_acquire_many_owned(bytes) {
            Ok(permit) => permit,
            Err(_) if self.consumer.context().is_paused() => return None,
            Err(_) => {
                let acquire = async {
                    tokio::time::timeout(POLL_INTERVAL, room.acquire_many_owned(bytes)).await
                };
                self.runtime.block_on(acquire).ok()?.ok()?
            }
        };
        Some(Room { _permit: permit })
    }

    fn pause(&self) {
        let context = self.consumer.context();
        if !context.is_paused() {
            debug!("Paused reading: the writer holds as much as it may");
            context.pause(&self.consumer, true);
        }
    }

    fn resume(&self) {
        let context = self.consumer.context();
        if context.is_paused() {
            debug!("Resumed reading");
            context.pause(&self.consumer, false);
        }
    }

    fn on_error(&mut self, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => self.on_lost_position(error),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                self.note_unknown_topic(error);
            }
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
                self.fail(self.unavailable(error.to_string()));
            }
            // Also the code of a connection that broke while the two agreed on SASL. The context hears the words, and is
            // asked.
            Some(Code::Authentication) => debug!(%error, "Reading was refused"),
            _ if is_permanent(error) => self.fail(self.refused(error.to_string())),
            _ => debug!(%error, "Consumer error; librdkafka retries"),
        }
    }

    fn note_unknown_topic(&mut self, error: &KafkaError) {
        if let Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition,
        ) = error.rdkafka_error_code()
        {
            debug!(%error, "A broker does not know the topic or one of its partitions");
            self.consumer.context().note_error(error.to_string());
            let now = Instant::now();
            self.unknown.get_or_insert(Unknown {
                since: now,
                ask_at: now,
            });
        }
    }

    fn refused(&self, reason: String) -> ConsumeError {
        ConsumeError::Refused {
            topic: self.settings.topic.clone(),
            reason,
        }
    }

    fn unavailable(&self, reason: String) -> ConsumeError {
        ConsumeError::Unavailable {
            topic: self.settings.topic.clone(),
            reason,
        }
    }

    /// Tells the writer, which then closes this thread.
    fn fail(&self, error: ConsumeError) {
        self.consumer.context().tell(Event::Failed(error));
    }
}

enum Serving {
    GoOn,
    Close(Option<tokio::sync::oneshot::Sender<()>>),
}

fn places(commits: &[Commit]) -> Vec<(i32, i64)> {
    let place = |commit: &Commit| (commit.partition, commit.offset);
    commits.iter().map(place).collect()
}
