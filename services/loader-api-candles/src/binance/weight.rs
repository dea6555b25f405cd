//! Staying inside the exchange's limit of request weight.
//!
//! Binance counts the weight of all requests from one address in fixed minutes of its own clock, and answers each
//! with what has been used ([limits]). This budget spends at most 90 % of a minute's limit: by its own count, which
//! the exchange's count corrects upward, as others may share the address. What is left of the limit covers clocks
//! that are apart and requests that are on their way. When a minute is spent it waits for the next one.
//!
//! Rate limiters at hand pace evenly and alone; none counts in somebody else's minutes along with what others use.
//!
//! It also holds the gate that a `Retry-After` closes: one refused request stops all that would follow.
//!
//! [limits]: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/limits

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use streamforge_utils::protocol::TimestampMs;
use tokio::time::Instant;

use super::BinanceError;

/// The limit assumed until the exchange has told its own: the lowest that it has had.
const CAUTIOUS_LIMIT: u32 = 1_200;

const MINUTE_MS: i64 = 60_000;

/// Waited beyond the end of a spent minute. Our idea of the exchange's clock is late by the time that its answer
/// took, never early, so this covers only drift.
const MARGIN: Duration = Duration::from_millis(250);

/// The longest silence that a worker waits out. Beyond it the worker ends and says when to come back.
pub(super) const LONGEST_SILENCE: Duration = Duration::from_secs(600);

/// The weight that may still be used, shared by all requests of this process.
#[derive(Debug)]
pub(super) struct WeightBudget(Mutex<State>);

#[derive(Debug)]
struct State {
    budget: u32,
    /// Whether the exchange has told its limit; until then the budget is an assumption.
    knows_limit: bool,
    /// The exchange's clock at an instant of ours.
    clock: (Instant, TimestampMs),
    /// Whether the exchange has told its clock; until then it is this machine's.
    knows_clock: bool,
    minute: i64,
    used: u32,
    /// The exchange said that this minute's weight is used, and not until when.
    is_spent: bool,
    /// Weight of requests that were let through and have not been answered.
    in_flight: u32,
    closed_until: Instant,
    /// Status of the answer that closed it.
    closed_by: u16,
}

/// What to do about a request now.
enum Verdict {
    Go,
    WaitUntil(Instant, Cause),
}

/// What a request is for, as far as the limit is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// Data.
    Data,
    /// The limit itself. No assumed limit holds it back, since it would put an end to the assumption; what the
    /// exchange itself has said does.
    Limit,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The silence that an answer with this status asked for.
    Silence(u16),
    /// The next minute.
    Weight,
}

/// A request waits.
#[derive(Debug)]
pub(super) struct Pause {
    cause: Cause,
    /// By this machine's clock, whole seconds.
    until: TimestampMs,
}

impl fmt::Display for Pause {
    /// `waiting for the exchange: 429, until 09:30:05Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("waiting for the exchange: ")?;
        match self.cause {
            Cause::Silence(status) => write!(f, "{status}")?,
            Cause::Weight => f.write_str("this minute's request weight is used")?,
        }
        write!(f, ", until {}", self.until.to_jiff().strftime("%H:%M:%SZ"))
    }
}

impl State {
    fn now_ms(&self) -> i64 {
        let (instant, at) = self.clock;
        let elapsed = i64::try_from(instant.elapsed().as_millis()).unwrap_or(i64::MAX);
        at.as_millis().saturating_add(elapsed)
    }

    /// Begins a new minute if one has begun. Requests on their way may be counted in it.
    fn roll(&mut self) -> i64 {
        let now_ms = self.now_ms();
        let minute = now_ms.div_euclid(MINUTE_MS);
        if minute > self.minute {
            self.used = self.in_flight;
            self.is_spent = false;
        }
        self.minute = minute;
        now_ms
    }

    fn judge(&mut self, weight: u32, aim: Aim) -> Verdict {
        let now = Instant::now();
        if now < self.closed_until {
            return Verdict::WaitUntil(self.closed_until, Cause::Silence(self.closed_by));
        }
        let now_ms = self.roll();
        let used = self.used.saturating_add(weight);
        let learns = aim == Aim::Limit && !self.knows_limit && !self.is_spent;
        // A request that is heavier than the whole budget goes alone.
        if used <= self.budget || self.used == 0 || learns {
            self.used = used;
            self.in_flight += weight;
            return Verdict::Go;
        }
        let left = u64::try_from((self.minute + 1) * MINUTE_MS - now_ms).unwrap_or(0);
        let until = now + Duration::from_millis(left) + MARGIN;
        Verdict::WaitUntil(until, Cause::Weight)
    }
}

impl Default for WeightBudget {
    fn default() -> Self {
        let mut state = State {
            budget: 0,
            knows_limit: false,
            clock: (Instant::now(), TimestampMs::now()),
            knows_clock: false,
            minute: i64::MIN,
            used: 0,
            is_spent: false,
            in_flight: 0,
            closed_until: Instant::now(),
            closed_by: 0,
        };
        state.budget = usable(CAUTIOUS_LIMIT);
        Self(Mutex::new(state))
    }
}

/// 90 % of a limit.
fn usable(limit: u32) -> u32 {
    u32::try_from(u64::from(limit) * 9 / 10).expect("less than the limit")
}

impl WeightBudget {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the limit of a minute, as the exchange tells it.
    pub(super) fn set_limit(&self, limit: u32) {
        let mut state = self.state();
        state.budget = usable(limit);
        state.knows_limit = true;
    }

    /// Sets the exchange's clock: `at` is what it said in an answer that has just come.
    pub(super) fn set_clock(&self, at: TimestampMs) {
        let mut state = self.state();
        state.clock = (Instant::now(), at);
        state.knows_clock = true;
    }

    /// The exchange's clock, and whether the exchange has told it; else this machine's.
    pub(super) fn clock(&self) -> (TimestampMs, bool) {
        let state = self.state();
        (TimestampMs(state.now_ms()), state.knows_clock)
    }

    /// Waits until a request of `weight` may be sent, and counts it. `on_pause` is told of each wait.
    ///
    /// # Errors
    /// The exchange has asked for more silence than a worker waits out.
    pub(super) async fn admit(
        &self,
        weight: u32,
        aim: Aim,
        mut on_pause: impl FnMut(Pause),
    ) -> Result<Admission<'_>, BinanceError> {
        loop {
            let (until, cause) = match self.state().judge(weight, aim) {
                Verdict::Go => {
                    return Ok(Admission {
                        budget: self,
                        weight,
                    });
                }
                Verdict::WaitUntil(until, cause) => (until, cause),
            };
            let wait = until.saturating_duration_since(Instant::now());
            if wait > LONGEST_SILENCE {
                return Err(come_back_in(wait));
            }
            on_pause(Pause {
                cause,
                until: clock_after(wait),
            });
            tokio::time::sleep_until(until).await;
        }
    }

    /// Lets no request through for `silence`, at most ten years, from now, as an answer with `status` asked.
    ///
    /// # Errors
    /// That is longer than a worker waits out.
    pub(super) fn close(&self, status: u16, silence: Duration) -> Result<(), BinanceError> {
        let mut state = self.state();
        let until = Instant::now() + silence;
        if until > state.closed_until {
            state.closed_until = until;
            state.closed_by = status;
        }
        if silence > LONGEST_SILENCE {
            return Err(come_back_in(silence));
        }
        Ok(())
    }

    /// Takes this minute for spent.
    pub(super) fn spend_minute(&self) {
        let mut state = self.state();
        state.roll();
        state.used = state.used.max(state.budget);
        state.is_spent = true;
    }

    /// The weight used in this minute, as far as we know.
    pub(super) fn used(&self) -> u32 {
        let mut state = self.state();
        state.roll();
        state.used
    }
}

fn come_back_in(wait: Duration) -> BinanceError {
    BinanceError::ComeBackLater {
        until: clock_after(wait),
    }
}

/// What this machine's clock says after `wait`.
fn clock_after(wait: Duration) -> TimestampMs {
    let millis = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2);
    // Whole seconds, rounded up: the time is for people.
    let until = (TimestampMs::now() + millis).as_millis();
    TimestampMs((until + 999) / 1_000 * 1_000)
}

/// A request that was let through. Dropped once it is answered, or given up.
#[derive(Debug)]
pub(super) struct Admission<'a> {
    budget: &'a WeightBudget,
    weight: u32,
}

impl Admission<'_> {
    /// Takes over the exchange's count from the header of the answer, if it is above ours: others may share the
    /// address. Requests on their way may be in it or not; they are few, and what is left of the limit covers them.
    pub(super) fn settle(self, used: u32) {
        let mut state = self.budget.state();
        state.roll();
        state.used = state.used.max(used);
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.in_flight = state.in_flight.saturating_sub(self.weight);
    }
}

#[cfg(test)]
mod tests;
