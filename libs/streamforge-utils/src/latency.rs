//! How long things took: minimum, median, high percentiles and maximum of any number of durations, in bounded memory.
//!
//! Percentiles come from an HDR histogram of three significant digits: exact to 0.1 % of their value, whatever the
//! distribution. Whoever records takes both ends from one clock.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Durations, from a microsecond to an hour; what is longer counts as an hour.
#[derive(Debug, Clone)]
pub struct Latencies {
    micros: Histogram<u64>,
}

const LONGEST_MICROS: u64 = 3_600_000_000;

impl Default for Latencies {
    fn default() -> Self {
        let micros = Histogram::new_with_bounds(1, LONGEST_MICROS, 3);
        Self {
            micros: micros.expect("the bounds are in order and 3 digits are allowed"),
        }
    }
}

impl Latencies {
    /// Counts one.
    pub fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.saturating_record(micros);
    }

    /// What they were; `None` if there was none.
    pub fn summary(&self) -> Option<LatencySummary> {
        if self.micros.is_empty() {
            return None;
        }
        let millis = |micros: u64| micros as f64 / 1_000.0;
        let at = |quantile| {
            millis(
                self.micros
                    .value_at_quantile(quantile)
                    .min(self.micros.max()),
            )
        };
        Some(LatencySummary {
            count: self.micros.len(),
            min_ms: millis(self.micros.min()),
            median_ms: at(0.5),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            max_ms: millis(self.micros.max()),
        })
    }
}

/// What a set of durations was, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LatencySummary {
    /// How many.
    pub count: u64,
    /// The shortest.
    pub min_ms: f64,
    /// Half took no longer.
    pub median_ms: f64,
    /// 95 of 100 took no longer.
    pub p95_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl fmt::Display for LatencySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "min {:.2} ms, median {:.2} ms, p95 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            self.min_ms, self.median_ms, self.p95_ms, self.p99_ms, self.max_ms
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_thousand() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.summary(), None);
        for millis in (1..=1_000).rev() {
            latencies.record(Duration::from_millis(millis));
        }
        let summary = latencies.summary().unwrap();
        assert_eq!(summary.count, 1_000);
        for (found, expected) in [
            (summary.min_ms, 1.0),
            (summary.median_ms, 500.0),
            (summary.p95_ms, 950.0),
            (summary.p99_ms, 990.0),
            (summary.max_ms, 1_000.0),
        ] {
            assert!(
                (found / expected - 1.0).abs() < 0.001,
                "{found} for {expected}"
            );
        }
    }

    #[test]
    fn what_is_out_of_range_counts_as_its_end() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::MAX);
        let summary = latencies.summary().unwrap();
        assert_eq!((summary.count, summary.min_ms), (2, 0.0));
        assert!(summary.max_ms >= 3_600_000.0, "{summary}");
    }
}
