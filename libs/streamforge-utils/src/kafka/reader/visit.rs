//! Reading stretches of several partitions under one assignment, in the order that whoever takes the messages asks for.
//!
//! Each partition has a queue of its own, which librdkafka bounds; so what is held does not depend on how much is read,
//! nor on how far apart the partitions are.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, base_consumer::PartitionQueue},
    error::KafkaError,
    message::{BorrowedMessage, Message},
    types::RDKafkaErrorCode,
};

use super::KafkaContext;
use crate::kafka::{is_lost_position, is_permanent};

/// How long one look for the next message takes. The client's own events are served between two of them.
const POLL: Duration = Duration::from_millis(100);
/// How long the client's events may take. Not zero, which ends at the first line for the log.
const SERVE: Duration = Duration::from_millis(1);
/// After so many messages the client's events are served even if there is always a next message.
const SERVE_EVERY: u32 = 10_000;

/// The offsets `[from, to)` of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The partition.
    pub partition: i32,
    /// The first offset.
    pub from: i64,
    /// Exclusive.
    pub to: i64,
}

/// Takes the messages of some stretches, each in order, and decides which stretch gives the next one.
pub trait Visit: Send + 'static {
    /// The index of the stretch whose next message is wanted; `None` if enough was seen. Must not be one that has
    /// ended. Asked again before each message.
    fn wants(&mut self) -> Option<usize>;
    /// Takes the next message of a stretch. Offsets without a message are left out.
    fn take(&mut self, index: usize, message: &BorrowedMessage<'_>);
    /// There is no further message in this stretch.
    fn end(&mut self, index: usize);
}

/// One visit: how far it is, so that it can be resumed by another assignment.
pub(super) struct Session<V> {
    pub(super) topic: String,
    pub(super) visitor: V,
    /// `from` is the next offset to read.
    stretches: Vec<Stretch>,
    has_ended: Vec<bool>,
    /// When the last message came.
    pub(super) moved_at: Instant,
    /// Set when nobody waits for the result any more.
    pub(super) is_cancelled: Arc<AtomicBool>,
}

impl<V: Visit> Session<V> {
    pub(super) fn new(topic: &str, stretches: Vec<Stretch>, visitor: V) -> Self {
        let mut session = Self {
            topic: topic.to_owned(),
            visitor,
            has_ended: vec![false; stretches.len()],
            stretches,
            moved_at: Instant::now(),
            is_cancelled: Arc::default(),
        };
        for index in 0..session.stretches.len() {
            if session.stretches[index].from >= session.stretches[index].to {
                session.end(index);
            }
        }
        session
    }

    /// Reads until the visitor has seen enough. Gives up after `patience` without a message.
    pub(super) fn run(
        &mut self,
        consumer: &Arc<BaseConsumer<KafkaContext>>,
        patience: Duration,
    ) -> Result<(), KafkaError> {
        let mut open = TopicPartitionList::with_capacity(self.stretches.len());
        for (stretch, has_ended) in self.stretches.iter().zip(&self.has_ended) {
            if !has_ended {
                let from = Offset::Offset(stretch.from);
                open.add_partition_offset(&self.topic, stretch.partition, from)?;
            }
        }
        // Before the assignment: a message that is fetched before its partition has a queue would go to the client's main
        // one. Once an application has asked for a partition's queue, librdkafka does not forward it any more.
        let mut queues = Vec::with_capacity(self.stretches.len());
        for stretch in &self.stretches {
            let queue = consumer.split_partition_queue(&self.topic, stretch.partition);
            queues.push(queue.ok_or(KafkaError::MessageConsumption(
                RDKafkaErrorCode::UnknownPartition,
            ))?);
        }
        consumer.assign(&open)?;
        let read = self.read(consumer, &queues, patience);
        consumer.unassign()?;
        read
    }

    fn read(
        &mut self,
        consumer: &BaseConsumer<KafkaContext>,
        queues: &[PartitionQueue<KafkaContext>],
        patience: Duration,
    ) -> Result<(), KafkaError> {
        let begun = Instant::now();
        let (mut served, mut last_error) = (0, None);
        while let Some(index) = self.visitor.wants() {
            let polled = queues[index].poll(POLL);
            let is_message = matches!(polled, Some(Ok(_)));
            match polled {
                Some(Ok(message)) => self.take(index, &message),
                Some(Err(KafkaError::PartitionEOF(_))) => self.end(index),
                Some(Err(error)) => last_error = Some(unless_passing(error)?),
                None => {}
            }
            served += 1;
            if is_message && served < SERVE_EVERY {
                continue;
            }
            served = 0;
            match consumer.poll(SERVE) {
                Some(Err(error)) => last_error = Some(unless_passing(error)?),
                // It would be missing from its stretch.
                Some(Ok(_)) => {
                    let misrouted = KafkaError::MessageConsumption(RDKafkaErrorCode::BadMessage);
                    return Err(misrouted);
                }
                None => {}
            }
            if self.is_cancelled.load(Ordering::Relaxed) {
                return Err(KafkaError::Canceled);
            }
            if self.moved_at.max(begun).elapsed() >= patience {
                let timed_out = KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
                return Err(last_error.unwrap_or(timed_out));
            }
        }
        Ok(())
    }

    fn take(&mut self, index: usize, message: &BorrowedMessage<'_>) {
        self.moved_at = Instant::now();
        let stretch = &mut self.stretches[index];
        let (offset, to) = (message.offset(), stretch.to);
        stretch.from = offset + 1;
        if offset < to {
            self.visitor.take(index, message);
        }
        if offset + 1 >= to {
            self.end(index);
        }
    }

    fn end(&mut self, index: usize) {
        self.moved_at = Instant::now();
        self.has_ended[index] = true;
        self.visitor.end(index);
    }
}

/// What the client itself goes on after is only remembered.
fn unless_passing(error: KafkaError) -> Result<KafkaError, KafkaError> {
    if is_permanent(&error) || is_lost_position(&error) {
        Err(error)
    } else {
        Ok(error)
    }
}

/// Reads one stretch until `pick` makes something of a message.
pub(super) struct First<T, F> {
    pick: F,
    pub(super) found: Option<T>,
    has_ended: bool,
}

impl<T, F> First<T, F> {
    pub(super) fn new(pick: F) -> Self {
        Self {
            pick,
            found: None,
            has_ended: false,
        }
    }
}

impl<T, F> Visit for First<T, F>
where
    T: Send + 'static,
    F: FnMut(&BorrowedMessage<'_>) -> Option<T> + Send + 'static,
{
    fn wants(&mut self) -> Option<usize> {
        (self.found.is_none() && !self.has_ended).then_some(0)
    }

    fn take(&mut self, _: usize, message: &BorrowedMessage<'_>) {
        self.found = (self.pick)(message);
    }

    fn end(&mut self, _: usize) {
        self.has_ended = true;
    }
}

/// Reads one whole stretch, and keeps the last of what `pick` makes of its messages.
pub(super) struct Last<T, F> {
    pub(super) pick: F,
    pub(super) found: Option<T>,
    has_ended: bool,
}

impl<T, F> Last<T, F> {
    pub(super) fn new(pick: F) -> Self {
        Self {
            pick,
            found: None,
            has_ended: false,
        }
    }
}

impl<T, F> Visit for Last<T, F>
where
    T: Send + 'static,
    F: FnMut(&BorrowedMessage<'_>) -> Option<T> + Send + 'static,
{
    fn wants(&mut self) -> Option<usize> {
        (!self.has_ended).then_some(0)
    }

    fn take(&mut self, _: usize, message: &BorrowedMessage<'_>) {
        if let Some(found) = (self.pick)(message) {
            self.found = Some(found);
        }
    }

    fn end(&mut self, _: usize) {
        self.has_ended = true;
    }
}
