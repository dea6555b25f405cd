//! What this service counts for `/metrics`, beside what every worker counts. Labels are closed sets, and every series is
//! there from the start.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use streamforge_utils::{
    metrics::registered,
    protocol::{Event, EventKind},
};

/// Events of this worker, by `event`.
pub const EVENTS: &str = "dummy_events_total";
/// Pings heard, counted when they are answered.
pub const PINGS: &str = "dummy_pings_total";
/// Pongs handed to Kafka.
pub const PONGS: &str = "dummy_pongs_total";
/// `error` events.
pub const ERRORS: &str = "dummy_errors_total";
/// 1 for the `status` of the last lifecycle event, 0 for the others.
pub const STATUS: &str = "dummy_status_last";
/// Synthetic records that the broker acknowledged to this process.
pub const PUBLISHED: &str = "dummy_records_published_total";
/// Their values, in bytes.
pub const PUBLISHED_BYTES: &str = "dummy_bytes_published_total";
/// Records a second that were acknowledged in the last second.
pub const PUBLISH_RATE: &str = "dummy_publish_rate";
/// From handing a record to the client until its acknowledgement, in seconds.
pub const DELIVERY_SECONDS: &str = "dummy_delivery_seconds";
/// Records that were read.
pub const CONSUMED: &str = "dummy_records_consumed_total";
/// Their values, in bytes.
pub const CONSUMED_BYTES: &str = "dummy_bytes_consumed_total";
/// Records a second that were read in the last second.
pub const CONSUME_RATE: &str = "dummy_consume_rate";
/// From a record's Kafka timestamp until it was read, in seconds, by two clocks.
pub const CONSUME_SECONDS: &str = "dummy_consume_latency_seconds";
/// What was left out, by `kind`: `numbers` of records, which are lost, or `offsets` without a message, which is no error.
pub const MISSING: &str = "dummy_missing_total";
/// Records whose number had been seen before.
pub const DUPLICATES: &str = "dummy_duplicates_total";
/// Messages without a number that are no marker.
pub const UNNUMBERED: &str = "dummy_unnumbered_total";

/// Everything an event can be.
const KINDS: [EventKind; 6] = [
    EventKind::Started,
    EventKind::Loading,
    EventKind::Finished,
    EventKind::Interrupted,
    EventKind::Error,
    EventKind::Pong,
];

/// The metrics of this service. Clones share their values.
#[derive(Debug, Clone)]
pub struct Metrics {
    events: IntCounterVec,
    pings: IntCounter,
    pongs: IntCounter,
    errors: IntCounter,
    status: IntGaugeVec,
    /// See [`PUBLISHED`].
    pub published: IntCounter,
    /// See [`PUBLISHED_BYTES`].
    pub published_bytes: IntCounter,
    /// See [`PUBLISH_RATE`].
    pub publish_rate: IntGauge,
    /// See [`DELIVERY_SECONDS`].
    pub delivery_seconds: Histogram,
    /// See [`CONSUMED`].
    pub consumed: IntCounter,
    /// See [`CONSUMED_BYTES`].
    pub consumed_bytes: IntCounter,
    /// See [`CONSUME_RATE`].
    pub consume_rate: IntGauge,
    /// See [`CONSUME_SECONDS`].
    pub consume_seconds: Histogram,
    /// [`MISSING`], `offsets`.
    pub missing_offsets: IntCounter,
    /// [`MISSING`], `numbers`.
    pub missing_numbers: IntCounter,
    /// See [`DUPLICATES`].
    pub duplicates: IntCounter,
    /// See [`UNNUMBERED`].
    pub unnumbered: IntCounter,
}

impl Metrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// The registry has one of the names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name, help| registered(registry, IntCounter::new(name, help)?);
        let gauge = |name, help| registered(registry, IntGauge::new(name, help)?);
        let seconds = |name, help| {
            let buckets = vec![
                0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0,
            ];
            let options = HistogramOpts::new(name, help).buckets(buckets);
            registered(registry, Histogram::with_opts(options)?)
        };
        let labelled = |name, help, label| {
            registered(
                registry,
                IntCounterVec::new(Opts::new(name, help), &[label])?,
            )
        };
        let events = labelled(EVENTS, "Events of this worker", "event")?;
        let status = Opts::new(
            STATUS,
            "1 for the status of the last lifecycle event, 0 for the others",
        );
        let status = registered(registry, IntGaugeVec::new(status, &["status"])?)?;
        for kind in KINDS {
            events.with_label_values(&[kind.as_str()]);
            if kind != EventKind::Pong {
                status.with_label_values(&[kind.as_str()]);
            }
        }
        let missing = labelled(MISSING, "What was left out of a partition", "kind")?;
        Ok(Self {
            events,
            status,
            pings: counter(PINGS, "Pings heard, counted when they are answered")?,
            pongs: counter(PONGS, "Pongs handed to Kafka")?,
            errors: counter(ERRORS, "error events")?,
            published: counter(PUBLISHED, "Synthetic records that the broker acknowledged")?,
            published_bytes: counter(PUBLISHED_BYTES, "Bytes of their values")?,
            publish_rate: gauge(
                PUBLISH_RATE,
                "Records acknowledged in the last second, a second",
            )?,
            delivery_seconds: seconds(
                DELIVERY_SECONDS,
                "From handing a record to the client until its acknowledgement",
            )?,
            consumed: counter(CONSUMED, "Records that were read")?,
            consumed_bytes: counter(CONSUMED_BYTES, "Bytes of their values")?,
            consume_rate: gauge(CONSUME_RATE, "Records read in the last second, a second")?,
            consume_seconds: seconds(
                CONSUME_SECONDS,
                "From a record's Kafka timestamp until it was read, by two clocks",
            )?,
            missing_offsets: missing.with_label_values(&["offsets"]),
            missing_numbers: missing.with_label_values(&["numbers"]),
            duplicates: counter(DUPLICATES, "Records whose number had been seen before")?,
            unnumbered: counter(UNNUMBERED, "Messages without a number that are no marker")?,
        })
    }

    /// Counts an event.
    pub fn observe(&self, event: &Event) {
        self.events.with_label_values(&[event.event.as_str()]).inc();
        match event.event {
            EventKind::Pong => {
                self.pings.inc();
                self.pongs.inc();
            }
            EventKind::Error => self.errors.inc(),
            _ => {}
        }
        if let Some(status) = event.status {
            for kind in KINDS.into_iter().filter(|kind| *kind != EventKind::Pong) {
                let gauge = self.status.with_label_values(&[kind.as_str()]);
                gauge.set((kind == status).into());
            }
        }
    }
}
