//! Durations as variables have them.

use std::time::Duration;

use serde::Deserialize;

/// A duration given as seconds, fractions allowed; at least a millisecond and at most ten years.
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
        // What is shorter would be 0 where milliseconds are counted, and 0 often means "for ever".
        const MILLISECOND: f64 = 0.001;
        const TEN_YEARS: f64 = 315_360_000.0;
        if (MILLISECOND..=TEN_YEARS).contains(&seconds) {
            Ok(Self(Duration::from_secs_f64(seconds)))
        } else {
            Err(format!(
                "{seconds} is not between {MILLISECOND} and {TEN_YEARS}"
            ))
        }
    }
}
