//! The metrics that every worker has. A service adds its own to the same registry.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, proto::MetricFamily};

/// Records of the whole run that their destination acknowledged.
pub const RECORDS_WRITTEN: &str = "streamforge_records_written";
/// Records expected in all.
pub const RECORDS_TOTAL: &str = "streamforge_records_total";
/// Records sent to the dead-letter topic.
pub const RECORDS_REJECTED: &str = "streamforge_records_rejected";
/// Records expected that the exchange does not have.
pub const RECORDS_MISSING: &str = "streamforge_records_missing";
/// Records published although a value is implausible.
pub const RECORDS_SUSPECT: &str = "streamforge_records_suspect";
/// Events handed to Kafka, by kind.
pub const EVENTS: &str = "streamforge_events_total";
/// Events that did not reach Kafka.
pub const EVENTS_LOST: &str = "streamforge_events_lost_total";
/// Commands received, by kind.
pub const COMMANDS: &str = "streamforge_commands_total";
/// Messages on the control topic that are no command.
pub const COMMANDS_MALFORMED: &str = "streamforge_commands_malformed_total";

/// The metrics that every worker has.
#[derive(Debug, Clone)]
pub struct WorkerMetrics {
    /// [`RECORDS_WRITTEN`]
    pub records_written: IntGauge,
    /// [`RECORDS_TOTAL`]
    pub records_total: IntGauge,
    /// [`RECORDS_REJECTED`]
    pub records_rejected: IntGauge,
    /// [`RECORDS_MISSING`]
    pub records_missing: IntGauge,
    /// [`RECORDS_SUSPECT`]
    pub records_suspect: IntGauge,
    /// [`EVENTS`]
    pub events: IntCounterVec,
    /// [`EVENTS_LOST`]
    pub events_lost: IntCounter,
    /// [`COMMANDS`]
    pub commands: IntCounterVec,
    /// [`COMMANDS_MALFORMED`]
    pub commands_malformed: IntCounter,
}

impl WorkerMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// The registry has one of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| registered(registry, IntGauge::new(name, help)?);
        let counter = |name, help| registered(registry, IntCounter::new(name, help)?);
        let labelled = |name, help, label| {
            registered(
                registry,
                IntCounterVec::new(Opts::new(name, help), &[label])?,
            )
        };
        Ok(Self {
            records_written: gauge(
                RECORDS_WRITTEN,
                "Records of the whole run acknowledged by their destination",
            )?,
            records_total: gauge(RECORDS_TOTAL, "Records expected in all; 0 while unknown")?,
            records_rejected: gauge(RECORDS_REJECTED, "Records sent to the dead-letter topic")?,
            records_missing: gauge(
                RECORDS_MISSING,
                "Records expected that the exchange does not have",
            )?,
            records_suspect: gauge(
                RECORDS_SUSPECT,
                "Records published although a value is implausible",
            )?,
            events: labelled(EVENTS, "Events handed to Kafka", "event")?,
            events_lost: counter(EVENTS_LOST, "Events that did not reach Kafka")?,
            commands: labelled(COMMANDS, "Commands received for this worker", "command")?,
            commands_malformed: counter(
                COMMANDS_MALFORMED,
                "Messages on the control topic that are no command",
            )?,
        })
    }
}

/// Registers a collector and hands it back.
///
/// # Errors
/// The registry has its name already.
pub fn registered<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// Prometheus' text format, and its content type.
///
/// # Errors
/// A metric family is empty or inconsistent.
pub fn encode(families: &[MetricFamily]) -> Result<(String, &'static str), prometheus::Error> {
    prometheus::TextEncoder::new()
        .encode_to_string(families)
        .map(|text| (text, prometheus::TEXT_FORMAT))
}
