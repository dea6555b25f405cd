//! How far a part is, and how fast: counts from its events, and what follows from them.
//!
//! The rate is that of the last half minute or so, from counts and the worker's own clock, so it does not matter when
//! an event was read. A process that begins again lower neither takes back what was counted nor makes a rate below 0.

use serde::{Deserialize, Serialize};
use streamforge_utils::protocol::{EventKind, RecordCounts, TimestampMs};
use utoipa::ToSchema;

/// Seconds after which a change of pace has come through to two thirds.
const SMOOTHING_SECS: f64 = 20.0;
/// No forecast goes farther: a year, in ms. Beyond, it says nothing.
const FORECAST_LIMIT_MS: f64 = 365.0 * 86_400_000.0;

/// How far something is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Records that are where they go: the topic for a loader, the database for a writer.
    pub written: u64,
    /// Records expected in all, where that is known.
    pub total: Option<u64>,
    /// Records in the dead-letter topic.
    pub rejected: u64,
    /// Records that the exchange does not have.
    pub missing: u64,
    /// Records a second, lately; after the end, when it last worked.
    pub rate: Option<f64>,
    /// 0 to 100, to one decimal.
    pub percentage: Option<f64>,
    /// When it ends if it goes on like this, Unix ms.
    #[schema(value_type = Option<i64>)]
    pub expected_end: Option<TimestampMs>,
}

/// The point that the next rate is measured from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sample {
    /// The worker's clock, Unix ms.
    pub at: i64,
    /// Records handled then.
    pub done: u64,
}

impl Progress {
    /// Records that were handled, one way or the other.
    pub fn done(&self) -> u64 {
        self.written + self.rejected + self.missing
    }

    /// Takes the counts of an event. A process that was started again says 0 until it has looked up what there is, so
    /// counts only grow, except that what stands in `finished` is the truth.
    pub(crate) fn count(&mut self, kind: EventKind, counts: &RecordCounts) {
        if kind == EventKind::Finished {
            self.written = counts.written;
            self.rejected = counts.rejected;
            self.missing = counts.missing;
        } else {
            self.written = self.written.max(counts.written);
            self.rejected = self.rejected.max(counts.rejected);
            self.missing = self.missing.max(counts.missing);
        }
        self.total = counts.total.or(self.total);
    }

    /// Measures the rate since `sample` and moves that on.
    pub(crate) fn measure(&mut self, sample: &mut Option<Sample>, at: i64, counts: &RecordCounts) {
        let done = counts.written + counts.rejected + counts.missing;
        let next = Sample { at, done };
        if done < self.done() {
            // It begins again lower, and what it catches up with is no pace.
            *sample = None;
            return;
        }
        let Some(last) = *sample else {
            *sample = Some(next);
            return;
        };
        if at <= last.at {
            return;
        }
        let seconds = (at - last.at) as f64 / 1_000.0;
        let pace = done.saturating_sub(last.done) as f64 / seconds;
        let rate = match self.rate {
            None => pace,
            Some(rate) => rate + (1.0 - (-seconds / SMOOTHING_SECS).exp()) * (pace - rate),
        };
        self.rate = Some(rounded(rate, 1_000.0));
        *sample = Some(next);
    }

    /// Derives percentage and expected end from what is done of `expected`; `at` is when that was known.
    pub(crate) fn forecast(&mut self, done: u64, expected: Option<u64>, at: Option<TimestampMs>) {
        self.percentage = expected.map(|expected| percentage(done, expected));
        let left = expected.map(|expected| expected.saturating_sub(done));
        self.expected_end = match (left, self.rate, at) {
            (Some(left), Some(rate), Some(at)) if rate > 0.0 => {
                let millis = left as f64 / rate * 1_000.0;
                (millis <= FORECAST_LIMIT_MS).then(|| at + millis as i64)
            }
            _ => None,
        };
    }
}

/// Never 100 before it is: 99.96 is 99.9.
fn percentage(done: u64, expected: u64) -> f64 {
    if done >= expected {
        return 100.0;
    }
    (done as f64 / expected as f64 * 1_000.0).floor() / 10.0
}

pub(crate) fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}
