//! The thread that polls librdkafka.
//!
//! It never stops polling, because a member that does not poll loses its partitions: when the writer holds as much
//! as it may, the partitions are paused and polling goes on.

use std::{
    collections::VecDeque,
    sync::{Arc, mpsc as std_mpsc},
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::OwnedMessage,
    types::RDKafkaErrorCode,
};
use streamforge_utils::kafka::is_permanent;
use tokio::{runtime::Handle, sync::Semaphore};
use tracing::{debug, info};

use super::{
    Commit, ConsumeError, Delivery, Event, Request, Room, Settings,
    group::{Context, check_position},
};

/// The longest that a request of the writer waits for being seen.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long to wait for room before the partitions are paused, which throws away what was fetched.
const PAUSE_AFTER: Duration = Duration::from_millis(200);
/// How long a broker may take to show that it is there again.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a topic that was there may be unknown to a broker. One that has just started, or has not heard yet of a new
/// topic, does not know it.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(30);
/// How often is asked after a topic that is unknown.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long what there is has to come after all.
const ASK_PULSE_AGAIN: Duration = Duration::from_secs(5);
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
    /// When something last came, or it was known that there is no more, or nothing was to come.
    moved_at: Instant,
    /// A partition that had more than had come, and how far that was.
    suspect: Option<(i32, i64)>,
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
    ) -> Self {
        Self {
            consumer,
            settings,
            room,
            requests,
            runtime: Handle::current(),
            waiting: VecDeque::new(),
            generation: 0,
            unknown: None,
            moved_at: Instant::now(),
            suspect: None,
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
            self.poll();
            self.hand_over();
            self.check_topic();
            self.check_brokers();
            self.check_pulse();
        };
        self.consumer.context().close();
        drop(self.consumer);
        if let Some(closed) = closed {
            let _ = closed.send(());
        }
    }

    fn serve_requests(&self) -> Serving {
        loop {
            match self.requests.try_recv() {
                Ok(Request::Commit(generation, commits)) => {
                    let context = self.consumer.context();
                    match context.commit_of(generation, &self.consumer, &commits) {
                        Some(Ok(())) => context.tell(Event::Committed(places(&commits))),
                        Some(Err(error)) => context.tell(Event::CommitFailed(error)),
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
                self.moved_at = Instant::now();
                self.consumer.context().all_is_well();
                let mut assignment = self.consumer.context().assignment();
                if let Some(position) = assignment.positions.get_mut(&message.partition()) {
                    *position = (*position).max(message.offset() + 1);
                }
                drop(assignment);
                self.waiting.push_back(Waiting::Message(message));
            }
            Err(KafkaError::PartitionEOF(partition)) => {
                self.moved_at = Instant::now();
                self.consumer.context().all_is_well();
                self.waiting.push_back(Waiting::End(partition));
            }
            Err(error) => self.on_error(&error),
        }
    }

    /// What waits of an assignment that is over belongs to nobody.
    fn follow_assignment(&mut self) {
        let generation = self.consumer.context().assignment().generation;
        if generation != self.generation {
            self.generation = generation;
            self.moved_at = Instant::now();
            self.waiting.clear();
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
                        self.pause();
                        return;
                    }
                },
            };
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
                    tokio::time::timeout(PAUSE_AFTER, room.acquire_many_owned(bytes)).await
                };
                self.runtime.block_on(acquire).ok()?.ok()?
            }
        };
        Some(Room { _permit: permit })
    }

    fn pause(&self) {
        let context = self.consumer.context();
        if !context.is_paused() {
            debug!("The writer holds as much as it may, reading pauses");
            context.pause(&self.consumer, true);
        }
    }

    fn resume(&self) {
        let context = self.consumer.context();
        if context.is_paused() {
            debug!("Reading goes on");
            context.pause(&self.consumer, false);
        }
    }

    fn on_error(&mut self, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => self.on_lost_position(error),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                debug!(%error, "A broker does not know the topic or one of its partitions");
                let now = Instant::now();
                self.unknown.get_or_insert(Unknown {
                    since: now,
                    ask_at: now,
                });
            }
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
                self.fail(self.unavailable(error.to_string()));
            }
            // Also the code of a connection that broke while the two agreed on SASL. The context hears the words, and is
            // asked.
            Some(Code::Authentication) => debug!(%error, "Reading was refused"),
            _ if is_permanent(error) => self.fail(self.refused(error.to_string())),
            _ => debug!(%error, "Reading met trouble, librdkafka tries again"),
        }
    }

    /// The broker has no longer, or never had, an offset that was to be read.
    fn on_lost_position(&self, error: &KafkaError) {
        let positions = self.consumer.context().assignment().positions.clone();
        let topic = &self.settings.topic;
        for (partition, position) in positions {
            let (low, high) = match self
                .consumer
                .fetch_watermarks(topic, partition, PROBE_TIMEOUT)
            {
                Ok(watermarks) => watermarks,
                Err(error) => return self.fail(self.unavailable(error.to_string())),
            };
            if let Err(lost) = check_position(topic, partition, position, low, high) {
                return self.fail(lost);
            }
            if low == position {
                // Only the message before the commit is gone, which would have told the last number.
                info!(
                    partition,
                    offset = position,
                    "Reading goes on at the commit itself"
                );
                if let Err(error) =
                    self.consumer
                        .seek(topic, partition, Offset::Offset(position), PROBE_TIMEOUT)
                {
                    return self.fail(self.unavailable(error.to_string()));
                }
                return;
            }
        }
        self.fail(self.unavailable(format!(
            "a position was refused that the broker has: {error}"
        )));
    }

    /// Fails once the topic, or a partition of it, has been unknown for too long.
    fn check_topic(&mut self) {
        let Some(unknown) = &mut self.unknown else {
            return;
        };
        let now = Instant::now();
        if now < unknown.ask_at {
            return;
        }
        unknown.ask_at = now + ASK_INTERVAL;
        let since = unknown.since;
        let context = self.consumer.context();
        let topic = &self.settings.topic;
        // Asking also tells librdkafka, which would look again only minutes later.
        match self.consumer.fetch_metadata(Some(topic), PROBE_TIMEOUT) {
            Ok(metadata) if context.is_known(&metadata) => self.unknown = None,
            Ok(_) if since.elapsed() >= UNKNOWN_LIMIT.min(self.settings.retry_deadline) => {
                let reason = "the topic or one of its partitions is gone".to_owned();
                self.fail(self.refused(reason));
            }
            Ok(_) => {}
            Err(error) if since.elapsed() >= self.settings.retry_deadline => {
                let reason = format!("the topic is unknown, and can't be asked after: {error}");
                self.fail(self.unavailable(reason));
            }
            Err(error) => debug!(%error, "Could not ask after the topic"),
        }
    }

    /// Fails once no broker has been there for as long as the deadline, or one says that it never will.
    fn check_brokers(&self) {
        let context = self.consumer.context();
        if let Some(reason) = context.permanent_error() {
            // An idle consumer is not told that it was taken after all.
            match self
                .consumer
                .fetch_metadata(Some(&self.settings.topic), PROBE_TIMEOUT)
            {
                Ok(_) => context.all_is_well(),
                Err(_) => return self.fail(self.refused(reason)),
            }
        }
        if let Some((partition, since)) = context.leaderless_since()
            && since.elapsed() >= self.settings.retry_deadline
        {
            let seconds = self.settings.retry_deadline.as_secs_f64();
            return self.fail(self.unavailable(format!(
                "partition {partition} has had no leader for {seconds} s (RETRY_DEADLINE_SECS)"
            )));
        }
        let Some(since) = context.trouble_since() else {
            return;
        };
        if since.elapsed() < self.settings.retry_deadline {
            return;
        }
        // An idle consumer is not told when a broker comes back.
        match self
            .consumer
            .fetch_metadata(Some(&self.settings.topic), PROBE_TIMEOUT)
        {
            Ok(_) => context.all_is_well(),
            Err(error) => {
                let seconds = self.settings.retry_deadline.as_secs_f64();
                let reason = format!("no broker for {seconds} s (RETRY_DEADLINE_SECS): {error}");
                self.fail(self.unavailable(reason));
            }
        }
    }

    /// Fails once nothing has come for as long as the deadline, although there is more: after a broker stood still, a client
    /// has been seen that read no more, and said nothing of it.
    fn check_pulse(&mut self) {
        let context = self.consumer.context();
        if context.is_paused() || !self.waiting.is_empty() {
            self.moved_at = Instant::now();
        }
        if self.moved_at.elapsed() < self.settings.retry_deadline {
            return;
        }
        self.moved_at = Instant::now();
        let positions = context.assignment().positions.clone();
        let topic = &self.settings.topic;
        for (partition, position) in positions {
            // If it can't be asked, that no broker is there is found out elsewhere.
            let Ok((_, high)) = self
                .consumer
                .fetch_watermarks(topic, partition, PROBE_TIMEOUT)
            else {
                return;
            };
            if position < high && self.suspect != Some((partition, position)) {
                // It may have been published just now.
                self.suspect = Some((partition, position));
                let passed = self.settings.retry_deadline.saturating_sub(ASK_PULSE_AGAIN);
                self.moved_at = self.moved_at.checked_sub(passed).unwrap_or(self.moved_at);
                return;
            }
            if position < high {
                let seconds = self.settings.retry_deadline.as_secs_f64();
                return self.fail(self.unavailable(format!(
                    "partition {partition} has {} messages more, and none came for {seconds} s (RETRY_DEADLINE_SECS)",
                    high - position
                )));
            }
        }
        self.suspect = None;
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
