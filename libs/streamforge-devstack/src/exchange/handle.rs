//! What a test turns and reads while the exchange runs.

use std::sync::Arc;

use super::{
    clock::Clock,
    faults::{Fault, Latency},
    shared::Shared,
};

/// What the exchange has seen since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Requests of `/api/v3/klines`.
    pub klines: u64,
    /// Requests of `/api/v3/exchangeInfo`.
    pub exchange_info: u64,
    /// Requests of `/api/v3/time`.
    pub time: u64,
    /// Requests of `/api/v3/ping`.
    pub ping: u64,
    /// Requests of anything else.
    pub unknown: u64,
    /// Requests answered with 429, by the limit or by a fault.
    pub answered_429: u64,
    /// Requests answered with 418, by the limit or by a fault.
    pub answered_418: u64,
    /// Requests that arrived before the `Retry-After` of the last 429 or 418 had passed.
    pub too_early: u64,
    /// The most weight that was used in any window, refused requests included.
    pub highest_used_weight: u32,
    /// Requests that wait for their answer now.
    pub in_flight: u32,
    /// The most requests that ever waited at once.
    pub max_in_flight: u32,
}

/// Turns the knobs of a running exchange and reads its counters. Clones act on the same exchange.
#[derive(Debug, Clone)]
pub struct ExchangeHandle {
    pub(super) shared: Arc<Shared>,
}

impl ExchangeHandle {
    /// What the exchange has seen since its start.
    pub fn counters(&self) -> Counters {
        self.shared.knobs().counters
    }

    /// How long every answer takes from now on.
    pub fn set_latency(&self, latency: Latency) {
        self.shared.knobs().latency = latency;
    }

    /// Weight that a window grants from now on; `exchangeInfo` tells it.
    pub fn set_weight_limit(&self, limit: u32) {
        self.shared.knobs().weights.limits.weight = limit;
    }

    /// What time it is on the exchange from now on.
    pub fn set_clock(&self, clock: Clock) {
        self.shared.knobs().clock = clock;
    }

    /// The next `count` klines requests get `fault`; a further call adds to those that wait. A request that the
    /// weight limit refuses does not use one up.
    pub fn fail_next(&self, count: usize, fault: Fault) {
        self.shared.knobs().faults.fail_next(count, fault);
    }

    /// The klines request with this number gets `fault`; the first one since the start of the exchange is 1, and
    /// [`Counters::klines`] tells the last one.
    pub fn fail_nth(&self, number: u64, fault: Fault) {
        self.shared.knobs().faults.fail_nth(number, fault);
    }

    /// Forgets all faults that have not happened yet.
    pub fn clear_faults(&self) {
        self.shared.knobs().faults.clear();
    }
}
