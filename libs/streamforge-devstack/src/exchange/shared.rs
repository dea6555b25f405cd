//! What the routes, the handle and the exchange share.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    clock::Clock,
    faults::{Fault, FaultPlan, Latency},
    handle::Counters,
    market::Market,
    weights::{Verdict, Weights},
};

/// The routes that the exchange has; their weight is the real one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Klines,
    ExchangeInfo,
    Time,
    Ping,
    Unknown,
}

impl Route {
    fn weight(self) -> u32 {
        match self {
            Self::Klines => 2,
            Self::ExchangeInfo => 20,
            Self::Time | Self::Ping => 1,
            Self::Unknown => 0,
        }
    }
}

/// What changes while the exchange runs.
#[derive(Debug, Default)]
pub(super) struct Knobs {
    pub(super) clock: Clock,
    pub(super) latency: Latency,
    pub(super) faults: FaultPlan,
    pub(super) weights: Weights,
    pub(super) counters: Counters,
    /// Until when the last 429 or 418 told clients to wait, in running milliseconds.
    pub(super) wait_until: i64,
}

/// The exchange behind its socket.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) markets: BTreeMap<String, Arc<Market>>,
    knobs: Mutex<Knobs>,
    /// Cancelled when the exchange stops.
    pub(super) stopped: CancellationToken,
}

/// What was decided about a request when it arrived. While it lives the request is in flight.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) clock: Clock,
    pub(super) delay: Duration,
    pub(super) used_weight: u32,
    pub(super) weight_limit: u32,
    pub(super) verdict: Verdict,
    pub(super) fault: Option<Fault>,
    shared: Arc<Shared>,
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.shared.knobs().counters.in_flight -= 1;
    }
}

impl Shared {
    pub(super) fn new(markets: BTreeMap<String, Arc<Market>>, knobs: Knobs) -> Self {
        Self {
            markets,
            knobs: Mutex::new(knobs),
            stopped: CancellationToken::new(),
        }
    }

    pub(super) fn knobs(&self) -> MutexGuard<'_, Knobs> {
        self.knobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request and decides what it gets.
    pub(super) fn arrive(self: &Arc<Self>, route: Route) -> Arrival {
        let mut knobs = self.knobs();
        let knobs = &mut *knobs;
        let counters = &mut knobs.counters;
        let count = match route {
            Route::Klines => &mut counters.klines,
            Route::ExchangeInfo => &mut counters.exchange_info,
            Route::Time => &mut counters.time,
            Route::Ping => &mut counters.ping,
            Route::Unknown => &mut counters.unknown,
        };
        *count += 1;
        let number = *count;
        counters.in_flight += 1;
        counters.max_in_flight = counters.max_in_flight.max(counters.in_flight);
        let now = knobs.clock.running_millis();
        if now < knobs.wait_until {
            counters.too_early += 1;
        }
        let verdict = knobs.weights.charge(now, route.weight());
        counters.highest_used_weight = knobs.weights.highest;
        let granted = verdict == Verdict::Granted && route == Route::Klines;
        Arrival {
            clock: knobs.clock,
            delay: knobs.latency.draw(),
            used_weight: knobs.weights.used(),
            weight_limit: knobs.weights.limits.weight,
            verdict,
            fault: if granted {
                knobs.faults.take(number)
            } else {
                None
            },
            shared: Arc::clone(self),
        }
    }

    /// Notes that a client is told to wait, by 418 if `banned`, else by 429.
    pub(super) fn tell_to_wait(&self, retry_after_secs: u64, banned: bool) {
        let mut knobs = self.knobs();
        let wait = i64::try_from(retry_after_secs.saturating_mul(1_000)).unwrap_or(i64::MAX / 2);
        knobs.wait_until = knobs.clock.running_millis().saturating_add(wait);
        let counters = &mut knobs.counters;
        *(if banned {
            &mut counters.answered_418
        } else {
            &mut counters.answered_429
        }) += 1;
    }
}
