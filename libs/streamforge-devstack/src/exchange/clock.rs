//! What time it is on the exchange.

use streamforge_utils::protocol::TimestampMs;

/// The exchange's clock: it decides which candles have opened, and `/api/v3/time` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// This machine's.
    #[default]
    System,
    /// Ahead of this machine's by so many milliseconds; behind, if negative.
    Offset(i64),
    /// Stands still.
    Fixed(TimestampMs),
}

impl Clock {
    /// A clock that shows `at` now and runs on.
    pub fn starting_at(at: TimestampMs) -> Self {
        Self::Offset(at.as_millis() - TimestampMs::now().as_millis())
    }

    /// What it shows.
    pub fn now(&self) -> TimestampMs {
        match *self {
            Self::System => TimestampMs::now(),
            Self::Offset(millis) => TimestampMs::now() + millis,
            Self::Fixed(at) => at,
        }
    }

    /// Milliseconds that always run, for limits by the minute: a clock that stands still must not keep a client out
    /// for ever.
    pub(super) fn running_millis(&self) -> i64 {
        match *self {
            Self::Fixed(_) => TimestampMs::now().as_millis(),
            _ => self.now().as_millis(),
        }
    }
}
