//! Places for listeners, and each token's fair share of them.
//!
//! While there are free places anyone gets one. Once there are none, a token with fewer places than its share gets the
//! newest of the token that has most; a token that has its share is refused. So however many streams one token opens, each
//! other one gets its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use prometheus::IntGauge;
use tokio_util::sync::CancellationToken;

/// All places.
#[derive(Clone)]
pub(super) struct Shares {
    most: usize,
    taken: IntGauge,
    seats: Arc<Mutex<Seats>>,
}

#[derive(Default)]
struct Seats {
    next: u64,
    /// By token, the oldest first. Those that were told to go are not in it.
    by_token: BTreeMap<String, BTreeMap<u64, CancellationToken>>,
}

/// A place, until this is dropped.
pub(super) struct Seat {
    shares: Shares,
    token: String,
    number: u64,
    needed: CancellationToken,
}

impl Shares {
    pub(super) fn new(most: usize, taken: IntGauge) -> Self {
        Self {
            most,
            taken,
            seats: Arc::default(),
        }
    }

    /// A place for one more stream of this token; None if it has its share and all are taken.
    pub(super) fn seat(&self, token: &str) -> Option<Seat> {
        let mut seats = self.seats();
        let all: usize = seats.by_token.values().map(BTreeMap::len).sum();
        if all >= self.most {
            let own = seats.by_token.get(token).map_or(0, BTreeMap::len);
            let others = seats.by_token.keys().filter(|name| *name != token).count();
            let share = self.most / (others + 1);
            let largest = seats
                .by_token
                .values_mut()
                .max_by_key(|seats| seats.len())?;
            // Nothing is gained by passing one on from a token that then has fewer.
            if own >= share || largest.len() <= own + 1 {
                return None;
            }
            let (_, displaced) = largest.pop_last()?;
            displaced.cancel();
        }
        let number = seats.next;
        seats.next += 1;
        let needed = CancellationToken::new();
        let own = seats.by_token.entry(token.to_owned()).or_default();
        own.insert(number, needed.clone());
        self.taken.inc();
        Some(Seat {
            shares: self.clone(),
            token: token.to_owned(),
            number,
            needed,
        })
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().expect("nothing in here panics")
    }
}

impl Seat {
    /// Comes back once another token needs the place.
    pub(super) async fn is_needed(&self) {
        self.needed.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shares.taken.dec();
        let mut seats = self.shares.seats();
        if let Some(own) = seats.by_token.get_mut(&self.token) {
            own.remove(&self.number);
            if own.is_empty() {
                seats.by_token.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(most: usize) -> Shares {
        Shares::new(most, IntGauge::new("taken", "in a test").unwrap())
    }

    #[test]
    fn a_token_beyond_its_share_makes_room_for_others() {
        let shares = shares(4);
        let greedy: Vec<Seat> = (0..4).map(|_| shares.seat("greedy").unwrap()).collect();
        assert!(shares.seat("greedy").is_none());
        let first = shares.seat("other").unwrap();
        let second = shares.seat("other").unwrap();
        let needed: Vec<bool> = greedy.iter().map(|it| it.needed.is_cancelled()).collect();
        assert_eq!(needed, [false, false, true, true], "the newest go");
        // Both have their share now.
        assert!(shares.seat("other").is_none());
        assert!(shares.seat("greedy").is_none());
        // A third one gets its own.
        let _third = shares.seat("third").unwrap();
        assert!(shares.seat("third").is_none());
        drop((first, second, greedy));
        assert_eq!(shares.taken.get(), 1);
        let again: Vec<_> = (0..3).filter_map(|_| shares.seat("greedy")).collect();
        assert_eq!(again.len(), 3);
    }

    #[test]
    fn more_tokens_than_places_share_what_there_is() {
        let shares = shares(2);
        let _both = (shares.seat("a").unwrap(), shares.seat("b").unwrap());
        assert!(shares.seat("c").is_none(), "each has one");
    }
}
