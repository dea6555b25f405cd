//! What this writer counts for `/metrics`. Labels are closed sets.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use streamforge_arango::RetryKind;

use crate::record::RejectReason;

/// Candles that the database acknowledged.
pub const CANDLES_WRITTEN: &str = "streamforge_candles_written_total";
/// Batches that the database acknowledged.
pub const BATCHES_WRITTEN: &str = "streamforge_batches_written_total";
/// From the first try of a batch to its acknowledgement, in seconds.
pub const BATCH_SECONDS: &str = "streamforge_batch_write_seconds";
/// Requests to the database that are tried again, by `kind`.
pub const RETRIES: &str = "streamforge_arango_retries_total";
/// Records sent to the dead-letter topic, by `reason`.
pub const DEAD_LETTERS: &str = "streamforge_dead_letters_total";
/// Records that came twice and were not written again.
pub const DUPLICATES: &str = "streamforge_duplicates_total";
/// Replayed records that were written or rejected.
pub const REPLAYED: &str = "streamforge_replayed_total";
/// How often reading was paused because the database was slow, which throws away what was fetched.
pub const PAUSES: &str = "streamforge_reading_pauses_total";
/// Messages between what was read and the end of the assigned partitions.
pub const CONSUMER_LAG: &str = "streamforge_consumer_lag_records";
/// Batches on their way to the database.
pub const BATCHES_IN_FLIGHT: &str = "streamforge_batches_in_flight";

/// The metrics of this service. Clones share their values.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// See [`CANDLES_WRITTEN`].
    pub written: IntCounter,
    /// See [`BATCHES_WRITTEN`].
    pub batches: IntCounter,
    batch_seconds: Histogram,
    retries: IntCounterVec,
    rejected: IntCounterVec,
    /// See [`DUPLICATES`].
    pub duplicates: IntCounter,
    /// See [`REPLAYED`].
    pub replayed: IntCounter,
    /// See [`PAUSES`].
    pub pauses: IntCounter,
    /// See [`CONSUMER_LAG`].
    pub lag: IntGauge,
    /// See [`BATCHES_IN_FLIGHT`].
    pub in_flight: IntGauge,
}

impl Metrics {
    /// Registers all of them, so that each is there from the start.
    ///
    /// # Errors
    /// If one of the names is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self::default();
        registry.register(Box::new(metrics.written.clone()))?;
        registry.register(Box::new(metrics.batches.clone()))?;
        registry.register(Box::new(metrics.batch_seconds.clone()))?;
        registry.register(Box::new(metrics.retries.clone()))?;
        registry.register(Box::new(metrics.rejected.clone()))?;
        registry.register(Box::new(metrics.duplicates.clone()))?;
        registry.register(Box::new(metrics.replayed.clone()))?;
        registry.register(Box::new(metrics.pauses.clone()))?;
        registry.register(Box::new(metrics.lag.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        Ok(metrics)
    }

    /// A request is tried again.
    pub fn retried(&self, kind: RetryKind) {
        self.retries.with_label_values(&[kind.as_str()]).inc();
    }

    /// A record is in the dead-letter topic.
    pub fn rejected(&self, reason: RejectReason) {
        self.rejected.with_label_values(&[reason.as_str()]).inc();
    }

    /// A batch of `candles` records was acknowledged after `took`.
    pub fn batch_written(&self, candles: u64, took: Duration) {
        self.written.inc_by(candles);
        self.batches.inc();
        self.batch_seconds.observe(took.as_secs_f64());
    }
}

impl Default for Metrics {
    /// Not registered anywhere.
    fn default() -> Self {
        let counter = |name, help| IntCounter::new(name, help).expect("the name is legal");
        let gauge = |name, help| IntGauge::new(name, help).expect("the name is legal");
        let labelled = |name, help, label| {
            IntCounterVec::new(Opts::new(name, help), &[label]).expect("the names are legal")
        };
        let seconds = HistogramOpts::new(
            BATCH_SECONDS,
            "From the first try of a batch to its acknowledgement, in seconds",
        )
        .buckets(vec![
            0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0,
        ]);
        let metrics = Self {
            written: counter(CANDLES_WRITTEN, "Candles that the database acknowledged"),
            batches: counter(BATCHES_WRITTEN, "Batches that the database acknowledged"),
            batch_seconds: Histogram::with_opts(seconds).expect("the name is legal"),
            retries: labelled(
                RETRIES,
                "Requests to the database that are tried again",
                "kind",
            ),
            rejected: labelled(
                DEAD_LETTERS,
                "Records sent to the dead-letter topic",
                "reason",
            ),
            duplicates: counter(
                DUPLICATES,
                "Records that came twice and were not written again",
            ),
            replayed: counter(REPLAYED, "Replayed records that were written or rejected"),
            pauses: counter(
                PAUSES,
                "How often reading was paused because the database was slow",
            ),
            lag: gauge(
                CONSUMER_LAG,
                "Messages between what was read and the end of the assigned partitions",
            ),
            in_flight: gauge(BATCHES_IN_FLIGHT, "Batches on their way to the database"),
        };
        for kind in RetryKind::ALL {
            metrics.retries.with_label_values(&[kind.as_str()]);
        }
        for reason in RejectReason::ALL {
            metrics.rejected.with_label_values(&[reason.as_str()]);
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_there_from_the_start() {
        let registry = Registry::new();
        Metrics::register(&registry).unwrap();
        let names: Vec<String> = registry
            .gather()
            .iter()
            .map(|family| family.name().to_owned())
            .collect();
        for name in [
            CANDLES_WRITTEN,
            BATCHES_WRITTEN,
            BATCH_SECONDS,
            RETRIES,
            DEAD_LETTERS,
            DUPLICATES,
            REPLAYED,
            PAUSES,
            CONSUMER_LAG,
            BATCHES_IN_FLIGHT,
        ] {
            assert!(
                names.iter().any(|found| found == name),
                "{name} among {names:?}"
            );
        }
    }
}
