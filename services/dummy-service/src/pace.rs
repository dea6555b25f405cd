//! When records are due, by an absolute schedule: no drift, and what a stall held back is made up for.
//!
//! Rate limiters (governor, leaky-bucket) were looked at and left out: they bound a rate from above, cell by cell, and
//! what a limited caller missed is gone beyond the burst. A load has to reach its rate on average, so it asks the clock how
//! many records are due by now and sends the difference, in whole numbers.

use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two looks at the clock: at 50,000 records a second 250 are due at a time.
const SHORTEST_TICK: Duration = Duration::from_millis(5);
/// The longest, so that a slow rate is even and a stop is not noticed late.
const LONGEST_TICK: Duration = Duration::from_millis(50);

/// So many records a second from a point in time on.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    start: Instant,
    rate: u64,
}

impl Pace {
    /// `rate` records a second from `start` on.
    pub fn new(start: Instant, rate: u64) -> Self {
        Self { start, rate }
    }

    /// When it began.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// How many records are due by `now`. The first is due one record's time after the start.
    pub fn due(&self, now: Instant) -> u64 {
        const NANOS: u128 = 1_000_000_000;
        let elapsed = now.saturating_duration_since(self.start).as_nanos();
        u64::try_from(elapsed * u128::from(self.rate) / NANOS).unwrap_or(u64::MAX)
    }

    /// How often to look at the clock.
    pub fn tick(rate: u64) -> Duration {
        let one = Duration::from_nanos(1_000_000_000 / rate.max(1));
        one.clamp(SHORTEST_TICK, LONGEST_TICK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_drifts() {
        let start = Instant::now();
        for (rate, seconds) in [(1, 86_400), (3, 1_000_000), (50_000, 86_400), (999_999, 7)] {
            let pace = Pace::new(start, rate);
            assert_eq!(pace.due(start), 0);
            let end = start + Duration::from_secs(seconds);
            assert_eq!(pace.due(end), rate * seconds);
            assert_eq!(pace.due(end - Duration::from_nanos(1)), rate * seconds - 1);
        }
    }

    #[test]
    fn looks_at_the_clock_often_but_not_idly() {
        assert_eq!(Pace::tick(1), LONGEST_TICK);
        assert_eq!(Pace::tick(100), Duration::from_millis(10));
        assert_eq!(Pace::tick(50_000), SHORTEST_TICK);
    }
}
