//! Which pong answers which ping, what is lost, and how long round trips took. Pure: it is told the time.
//!
//! A pong answers a ping if it repeats the ping's `sent_at` to the microsecond and comes from a worker that the ping was
//! for. So nobody else's pong counts, and none to an earlier ping.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use rand::RngExt;
use serde::Serialize;
use streamforge_utils::{
    latency::{Latencies, LatencySummary},
    protocol::Event,
};

use crate::request::{Address, Count, Ping};

/// How long others may take to follow, once one has answered.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

/// Unix microseconds, which name a ping. As Unix seconds they have 16 digits, which every JSON parser keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Stamp(i64);

impl Stamp {
    fn of_seconds(seconds: f64) -> Self {
        Self((seconds * 1e6).round() as i64)
    }

    fn seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

/// A ping on its way or answered.
#[derive(Debug)]
struct Sent {
    at: Instant,
    stamp: Stamp,
    answers: u32,
    lost: bool,
}

/// One worker that answered.
#[derive(Debug)]
struct Responder {
    producer: String,
    service: String,
    queue_id: String,
    run: u32,
    round_trips: Latencies,
    /// The pings that it answered, but for those that were given up.
    answered: BTreeSet<usize>,
}

/// What a pong is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pong {
    /// An answer to ping `n`, which took so long.
    Answer {
        /// From 1.
        n: u32,
        /// From sending to receiving, on our clock.
        took: Duration,
    },
    /// This worker answered that ping before.
    Duplicate,
    /// The ping was given up before.
    Late,
    /// An answer to no ping of ours.
    Foreign,
}

/// A ping that was given up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lost {
    /// From 1.
    pub(crate) n: u32,
    /// As the ping had it.
    pub(crate) sent_at: f64,
    /// How many workers did answer.
    pub(crate) answers: u32,
}

/// Pongs that did not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Ignored {
    /// Answers to pings of others, or to earlier ones.
    pub(crate) foreign: u64,
    /// A second answer of the same worker to the same ping.
    pub(crate) duplicate: u64,
    /// After the ping's time-out.
    pub(crate) late: u64,
}

/// One worker that answered, for the summary.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ResponderSummary {
    /// Its telemetry id.
    pub(crate) producer: String,
    /// Its service.
    pub(crate) service: String,
    /// Its workflow.
    pub(crate) queue_id: String,
    /// Its run.
    pub(crate) run: u32,
    /// Its process.
    pub(crate) instance: String,
    /// How many pings it answered.
    pub(crate) answered: u64,
    /// How many it did not.
    pub(crate) lost: u64,
    /// How long they took.
    pub(crate) round_trip: Option<LatencySummary>,
}

/// The pings of one request.
#[derive(Debug)]
pub(crate) struct Pings {
    to: Address,
    timeout: Duration,
    repeat: u32,
    count: Count,
    sent: Vec<Sent>,
    by_stamp: HashMap<Stamp, usize>,
    /// All before it were answered or given up.
    open_from: usize,
    met: u32,
    lost: u32,
    last_heard: Option<Instant>,
    responders: BTreeMap<String, Responder>,
    round_trips: Latencies,
    ignored: Ignored,
}

impl Pings {
    pub(crate) fn new(ping: &Ping) -> Self {
        Self {
            to: ping.to.clone(),
            timeout: ping.timeout,
            repeat: ping.repeat,
            count: ping.expect.unwrap_or(Count::Some),
            sent: Vec::new(),
            by_stamp: HashMap::new(),
            open_from: 0,
            met: 0,
            lost: 0,
            last_heard: None,
            responders: BTreeMap::new(),
            round_trips: Latencies::default(),
            ignored: Ignored::default(),
        }
    }

    /// Notes that a ping goes out now, and gives its number and its `sent_at`.
    ///
    /// `wall_ms`, Unix milliseconds, is made unique by microseconds that are drawn: two programs that ping at the same
    /// moment are not likely to draw the same.
    pub(crate) fn send(&mut self, now: Instant, wall_ms: i64) -> (u32, f64) {
        let mut stamp = Stamp(wall_ms * 1_000 + rand::rng().random_range(0..1_000));
        while self.by_stamp.contains_key(&stamp) {
            stamp.0 += 1;
        }
        self.by_stamp.insert(stamp, self.sent.len());
        self.sent.push(Sent {
            at: now,
            stamp,
            answers: 0,
            lost: false,
        });
        (number(self.sent.len() - 1), stamp.seconds())
    }

    /// What a pong that was received at `now` is.
    pub(crate) fn pong(&mut self, event: &Event, now: Instant) -> Pong {
        let stamp = event.ping_ts.map(Stamp::of_seconds);
        let index = stamp.and_then(|stamp| self.by_stamp.get(&stamp).copied());
        let Some(index) = index.filter(|_| self.to.covers(event)) else {
            self.ignored.foreign += 1;
            return Pong::Foreign;
        };
        let sent = &mut self.sent[index];
        let took = now.saturating_duration_since(sent.at);
        if sent.lost || took > self.timeout {
            self.ignored.late += 1;
            return Pong::Late;
        }
        let responder = self
            .responders
            .entry(event.instance.clone())
            .or_insert_with(|| Responder {
                producer: event.producer.clone(),
                service: event.service.clone(),
                queue_id: event.queue_id.clone(),
                run: event.run,
                round_trips: Latencies::default(),
                answered: BTreeSet::new(),
            });
        if !responder.answered.insert(index) {
            self.ignored.duplicate += 1;
            return Pong::Duplicate;
        }
        responder.round_trips.record(took);
        self.round_trips.record(took);
        self.last_heard = Some(now);
        sent.answers += 1;
        if sent.answers == self.count.least() {
            self.met += 1;
        }
        Pong::Answer {
            n: number(index),
            took,
        }
    }

    /// Gives up the pings whose time is over, and tells which were not answered by enough.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Lost> {
        let mut lost = Vec::new();
        while let Some(sent) = self.sent.get_mut(self.open_from) {
            if now < sent.at + self.timeout {
                break;
            }
            sent.lost = true;
            let index = self.open_from;
            self.open_from += 1;
            for responder in self.responders.values_mut() {
                responder.answered.remove(&index);
            }
            if sent.answers < self.count.least() {
                self.lost += 1;
                lost.push(Lost {
                    n: number(index),
                    sent_at: sent.stamp.seconds(),
                    answers: sent.answers,
                });
            }
        }
        lost
    }

    /// When there may be something to give up or to end.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let settled = self.settles_at();
        let expires = self
            .sent
            .get(self.open_from)
            .map(|sent| sent.at + self.timeout);
        [settled, expires].into_iter().flatten().min()
    }

    /// Whether all were sent, and each was answered by enough or given up, and nobody else is waited for.
    pub(crate) fn is_done(&self, now: Instant) -> bool {
        self.is_all_sent()
            && (self.open_from == self.sent.len() || self.settles_at().is_some_and(|at| at <= now))
    }

    fn settles_at(&self) -> Option<Instant> {
        if !self.is_all_sent() || self.met + self.lost < self.repeat {
            return None;
        }
        let last = self.last_heard?;
        Some(match self.count {
            Count::Some => last + SETTLE,
            Count::AtLeast(_) => last,
        })
    }

    pub(crate) fn is_all_sent(&self) -> bool {
        number(self.sent.len()) > self.repeat
    }

    /// How many were sent.
    pub(crate) fn sent(&self) -> u32 {
        number(self.sent.len()) - 1
    }

    /// How many were answered by enough.
    pub(crate) fn met(&self) -> u32 {
        self.met
    }

    /// How many were given up.
    pub(crate) fn lost(&self) -> u32 {
        self.lost
    }

    pub(crate) fn ignored(&self) -> Ignored {
        self.ignored
    }

    pub(crate) fn round_trip(&self) -> Option<LatencySummary> {
        self.round_trips.summary()
    }

    /// Who answered, by telemetry id.
    pub(crate) fn responders(&self) -> Vec<ResponderSummary> {
        let sent = u64::from(self.sent());
        let mut responders: Vec<_> = self
            .responders
            .iter()
            .map(|(instance, responder)| {
                let round_trip = responder.round_trips.summary();
                let answered = round_trip.map_or(0, |summary| summary.count);
                ResponderSummary {
                    producer: responder.producer.clone(),
                    service: responder.service.clone(),
                    queue_id: responder.queue_id.clone(),
                    run: responder.run,
                    instance: instance.clone(),
                    answered,
                    lost: sent.saturating_sub(answered),
                    round_trip,
                }
            })
            .collect();
        responders.sort_by(|a, b| (&a.producer, &a.instance).cmp(&(&b.producer, &b.instance)));
        responders
    }
}

/// Numbers for people begin at 1.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX - 1) + 1
}

#[cfg(test)]
mod tests;
