//! What waits to be handed over, by partition. Pure: time comes from outside.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use rdkafka::message::{Headers as _, OwnedHeaders};

/// What a message takes in a request besides key and value, and each of its headers besides its texts: upper bounds.
const MESSAGE_OVERHEAD: usize = 36;
const HEADER_OVERHEAD: usize = 10;

/// Bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Messages of a batch.
    pub(super) batch_messages: usize,
    /// Bytes of a batch, as a request has them before compression.
    pub(super) batch_bytes: usize,
    /// Messages that are queued or in flight.
    pub(super) messages: usize,
    /// Bytes of their keys and values.
    pub(super) bytes: usize,
    /// How long a message waits for others that fill its batch.
    pub(super) linger: Duration,
}

/// A message that is not handed over yet.
pub(super) struct Waiting<O> {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
    pub(super) headers: OwnedHeaders,
    pub(super) opaque: O,
    queued_at: Instant,
    wire_bytes: usize,
}

impl<O> Waiting<O> {
    pub(super) fn new(key: Option<&[u8]>, value: &[u8], headers: OwnedHeaders, opaque: O) -> Self {
        let of_headers: usize = headers
            .iter()
            .map(|header| HEADER_OVERHEAD + header.key.len() + header.value.map_or(0, <[u8]>::len))
            .sum();
        Self {
            wire_bytes: size(key, value) + of_headers + MESSAGE_OVERHEAD,
            key: key.map(<[u8]>::to_vec),
            value: value.to_vec(),
            headers,
            opaque,
            queued_at: Instant::now(),
        }
    }

    /// Of key and value.
    pub(super) fn bytes(&self) -> usize {
        size(self.key.as_deref(), &self.value)
    }
}

fn size(key: Option<&[u8]>, value: &[u8]) -> usize {
    key.map_or(0, <[u8]>::len) + value.len()
}

/// What to do now.
pub(super) enum Next<O> {
    /// Hand this over.
    Batch(i32, Vec<Waiting<O>>),
    /// Nothing before then.
    At(Instant),
    /// Nothing.
    Nothing,
    /// Nothing any more.
    Closed,
}

/// The messages of all partitions.
pub(super) struct Lanes<O> {
    limits: Limits,
    lanes: BTreeMap<i32, Lane<O>>,
    messages: usize,
    bytes: usize,
    is_closed: bool,
}

struct Lane<O> {
    waiting: VecDeque<Waiting<O>>,
    wire_bytes: usize,
    in_flight: usize,
}

impl<O> Default for Lane<O> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            wire_bytes: 0,
            in_flight: 0,
        }
    }
}

impl<O> Lane<O> {
    fn is_full(&self, limits: &Limits) -> bool {
        self.waiting.len() >= limits.batch_messages || self.wire_bytes >= limits.batch_bytes
    }

    /// When its next batch is due, while nothing is in flight.
    fn due(&self, limits: &Limits, now: Instant) -> Option<Instant> {
        let oldest = self.waiting.front().filter(|_| self.in_flight == 0)?;
        Some(if self.is_full(limits) {
            now
        } else {
            oldest.queued_at + limits.linger
        })
    }

    /// At least one message, and as many as fit into a request.
    fn take(&mut self, limits: &Limits) -> Vec<Waiting<O>> {
        let mut bytes = 0;
        let fitting = self.waiting.iter().take(limits.batch_messages);
        let count = fitting
            .take_while(|message| {
                bytes += message.wire_bytes;
                bytes <= limits.batch_bytes
            })
            .count();
        let batch: Vec<_> = self
            .waiting
            .drain(..count.max(1).min(self.waiting.len()))
            .collect();
        self.wire_bytes -= batch
            .iter()
            .map(|message| message.wire_bytes)
            .sum::<usize>();
        self.in_flight = batch.len();
        batch
    }
}

impl<O> Lanes<O> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            lanes: BTreeMap::new(),
            messages: 0,
            bytes: 0,
            is_closed: false,
        }
    }

    /// Whether a message may be queued. One alone always may.
    pub(super) fn has_room(&self, key: Option<&[u8]>, value: &[u8]) -> bool {
        self.messages == 0
            || (self.messages < self.limits.messages
                && self.bytes + size(key, value) <= self.limits.bytes)
    }

    /// Queues a message; whether [`Lanes::next`] should be asked again.
    pub(super) fn push(&mut self, partition: i32, message: Waiting<O>) -> bool {
        self.messages += 1;
        self.bytes += message.bytes();
        let lane = self.lanes.entry(partition).or_default();
        let was_full = lane.is_full(&self.limits);
        lane.wire_bytes += message.wire_bytes;
        lane.waiting.push_back(message);
        lane.in_flight == 0
            && (lane.waiting.len() == 1 || (!was_full && lane.is_full(&self.limits)))
    }

    pub(super) fn next(&mut self, now: Instant) -> Next<O> {
        if self.is_closed {
            return Next::Closed;
        }
        let limits = &self.limits;
        let due = self
            .lanes
            .iter()
            .filter_map(|(partition, lane)| Some((lane.due(limits, now)?, *partition)))
            .min();
        match due {
            None => Next::Nothing,
            Some((at, _)) if at > now => Next::At(at),
            Some((_, partition)) => {
                let lane = self.lanes.entry(partition).or_default();
                Next::Batch(partition, lane.take(&self.limits))
            }
        }
    }

    /// A message that was handed over is settled; whether [`Lanes::next`] should be asked again.
    pub(super) fn settled(&mut self, partition: i32, bytes: usize) -> bool {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        let lane = self.lanes.entry(partition).or_default();
        lane.in_flight = lane.in_flight.saturating_sub(1);
        lane.in_flight == 0 && !lane.waiting.is_empty()
    }

    /// Messages that are queued or in flight.
    pub(super) fn unsettled(&self) -> usize {
        self.messages
    }

    /// Drops what waits.
    pub(super) fn clear(&mut self) {
        for lane in self.lanes.values_mut() {
            let bytes: usize = lane.waiting.iter().map(Waiting::bytes).sum();
            self.messages -= lane.waiting.len();
            self.bytes -= bytes;
            lane.waiting.clear();
            lane.wire_bytes = 0;
        }
    }

    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        batch_messages: 3,
        batch_bytes: 1_000,
        messages: 8,
        bytes: 2_000,
        linger: Duration::from_secs(60),
    };

    fn message(bytes: usize) -> Waiting<()> {
        Waiting::new(None, &vec![0; bytes], OwnedHeaders::new(), ())
    }

    /// The partition and the size of the next batch.
    fn taken(lanes: &mut Lanes<()>, now: Instant) -> Option<(i32, usize)> {
        match lanes.next(now) {
            Next::Batch(partition, batch) => Some((partition, batch.len())),
            Next::At(_) | Next::Nothing | Next::Closed => None,
        }
    }

    #[test]
    fn a_partition_has_one_batch_in_flight_and_the_others_go_on() {
        let mut lanes = Lanes::new(LIMITS);
        for _ in 0..5 {
            lanes.push(0, message(10));
        }
        let now = Instant::now();
        assert_eq!(taken(&mut lanes, now), Some((0, 3)));
        assert!(
            taken(&mut lanes, now + LIMITS.linger * 2).is_none(),
            "three are in flight"
        );
        for _ in 0..3 {
            lanes.push(1, message(10));
        }
        assert_eq!(taken(&mut lanes, now), Some((1, 3)));
        assert!(!lanes.settled(0, 10));
        assert!(!lanes.settled(0, 10));
        assert!(lanes.settled(0, 10), "the last of the batch");
        assert!(taken(&mut lanes, now).is_none(), "two may wait for a third");
        let later = Instant::now() + LIMITS.linger;
        assert_eq!(taken(&mut lanes, later), Some((0, 2)));
        assert_eq!(lanes.unsettled(), 5);
    }

    #[test]
    fn a_batch_fits_into_a_request_and_a_large_message_goes_alone() {
        let mut lanes = Lanes::new(LIMITS);
        lanes.push(0, message(1_500));
        lanes.push(0, message(400));
        assert!(!lanes.has_room(None, &[0; 200]), "bytes are bounded");
        let now = Instant::now();
        assert_eq!(taken(&mut lanes, now), Some((0, 1)));
        assert!(lanes.settled(0, 1_500));
        lanes.push(0, message(400));
        lanes.push(0, message(400));
        assert_eq!(
            taken(&mut lanes, now),
            Some((0, 2)),
            "three have 1,308 bytes"
        );
    }

    #[test]
    fn messages_are_bounded_and_nothing_is_left_after_clear() {
        let mut lanes = Lanes::new(LIMITS);
        for _ in 0..LIMITS.messages {
            assert!(lanes.has_room(None, b"x"));
            lanes.push(0, message(1));
        }
        assert!(!lanes.has_room(None, b"x"));
        assert_eq!(taken(&mut lanes, Instant::now()), Some((0, 3)));
        lanes.clear();
        assert_eq!(lanes.unsettled(), 3, "what is in flight");
        lanes.close();
        assert!(matches!(lanes.next(Instant::now()), Next::Closed));
    }
}
