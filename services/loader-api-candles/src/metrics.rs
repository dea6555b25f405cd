//! What `/metrics` tells about a load, besides what every worker tells.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Klines that the exchange sent.
pub const FETCHED: &str = "streamforge_candles_fetched_total";
/// Pages that the exchange sent.
pub const PAGES: &str = "streamforge_candles_pages_total";
/// Rows that the exchange sent twice.
pub const DUPLICATES: &str = "streamforge_candles_duplicates_total";
/// Candles that the broker acknowledged to this process.
pub const PUBLISHED: &str = "streamforge_candles_published_total";
/// Expected candles that the exchange does not have, earlier attempts included.
pub const MISSING: &str = "streamforge_candles_missing";
/// Requests to the exchange that are sent again, by why.
pub const RETRIES: &str = "streamforge_exchange_retries_total";
/// Request weight used in this minute of the exchange's clock.
pub const WEIGHT: &str = "streamforge_exchange_weight_used";
/// Records that wait for their acknowledgement.
pub const IN_FLIGHT: &str = "streamforge_candles_in_flight";

/// The metrics of a load. Clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    fetched: IntCounter,
    pages: IntCounter,
    duplicates: IntCounter,
    published: IntCounter,
    missing: IntGauge,
    retries: IntCounterVec,
    weight: IntGauge,
    in_flight: IntGauge,
}

impl Metrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// The registry has one of the names already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            fetched: IntCounter::new(FETCHED, "Klines that the exchange sent.")?,
            pages: IntCounter::new(PAGES, "Pages of klines that the exchange sent.")?,
            duplicates: IntCounter::new(
                DUPLICATES,
                "Rows that the exchange sent twice, and that were left out.",
            )?,
            published: IntCounter::new(
                PUBLISHED,
                "Candles that the broker acknowledged to this process.",
            )?,
            missing: IntGauge::new(
                MISSING,
                "Expected candles that the exchange does not have, earlier attempts included.",
            )?,
            retries: IntCounterVec::new(
                Opts::new(
                    RETRIES,
                    "Requests to the exchange that were sent again, by why.",
                ),
                &["kind"],
            )?,
            weight: IntGauge::new(
                WEIGHT,
                "Request weight used in this minute of the exchange's clock.",
            )?,
            in_flight: IntGauge::new(IN_FLIGHT, "Records that wait for their acknowledgement.")?,
        };
        registry.register(Box::new(metrics.fetched.clone()))?;
        registry.register(Box::new(metrics.pages.clone()))?;
        registry.register(Box::new(metrics.duplicates.clone()))?;
        registry.register(Box::new(metrics.published.clone()))?;
        registry.register(Box::new(metrics.missing.clone()))?;
        registry.register(Box::new(metrics.retries.clone()))?;
        registry.register(Box::new(metrics.weight.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn fetched(&self, klines: usize, duplicates: usize) {
        self.pages.inc();
        self.fetched.inc_by(klines as u64);
        self.duplicates.inc_by(duplicates as u64);
    }

    /// `published` is the count since the start of this process.
    pub(crate) fn published(&self, published: u64) {
        self.published
            .inc_by(published.saturating_sub(self.published.get()));
    }

    pub(crate) fn missing(&self, missing: u64) {
        self.missing.set(i64::try_from(missing).unwrap_or(i64::MAX));
    }

    pub(crate) fn retried(&self, kind: &str) {
        self.retries.with_label_values(&[kind]).inc();
    }

    pub(crate) fn weight_used(&self, used: u32) {
        self.weight.set(used.into());
    }

    pub(crate) fn in_flight(&self, records: usize) {
        self.in_flight
            .set(i64::try_from(records).unwrap_or(i64::MAX));
    }
}
