//! Durations as variables have them.

use std::time::Duration;

use serde::Deserialize;

/// A duration given as seconds, fractions allowed; more than 0 and at most ten years.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Seconds(Duration);

impl Seconds {
    /// As a duration.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<f64> for Seconds {
    type Error = String;

    fn try_from(seconds: f64) -> Result<Self, Self::Error> {
        const TEN_YEARS: f64 = 315_360_000.0;
        if seconds > 0.0 && seconds <= TEN_YEARS {
            Ok(Self(Duration::from_secs_f64(seconds)))
        } else {
            Err(format!("{seconds} is not between 0 and {TEN_YEARS}"))
        }
    }
}
