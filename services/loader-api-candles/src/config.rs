//! The settings of one load, read from the environment once and checked before anything is connected.

mod values;

use std::time::Duration;

use serde::Deserialize;
use streamforge_utils::{
    config::{ConfigError, KafkaConfig, OpsConfig, QueueConfig, Reader, Section, Variable, Vars},
    protocol::{Interval, Numbers, TimeRange, WorkflowKind},
};

use crate::{binance::CONFIRM_AFTER, partition::PartitionKey};
pub use values::{ApiUrl, CloseGrace, TopicName, Within};

/// All variables of this worker, a list a section.
pub const VARIABLES: &[&[Variable]] = &[
    QueueConfig::VARIABLES,
    SourceConfig::VARIABLES,
    PublishConfig::VARIABLES,
    KafkaConfig::VARIABLES,
    OpsConfig::VARIABLES,
];

/// Pages asked for at a time. Each is up to 0.5 MiB once it is read, and a worker has 64 MiB.
pub type InFlight = Within<1, 32>;
/// Far more partitions than writers are of use for.
pub type Partitions = Within<1, 1_000>;
/// What Kafka's protocol holds.
pub type Replication = Within<1, 32_767>;
/// Up to a century.
pub type RetentionHours = Within<1, 876_000>;

/// Everything that a load is configured with. Its `Debug` shows no password.
#[derive(Debug, Clone)]
pub struct Config {
    /// The workflow.
    pub queue: QueueConfig,
    /// Length of its candles, from `TYPE`.
    pub interval: Interval,
    /// What to load, and from where.
    pub source: SourceConfig,
    /// Where to, and how.
    pub publish: PublishConfig,
    /// The brokers.
    pub kafka: KafkaConfig,
    /// How the worker is watched and how long it tries.
    pub ops: OpsConfig,
    /// Pause before the exchange is asked again to confirm what it does not have. No variable: tests shorten it.
    pub confirm_after: Duration,
}

/// What to load, and from where.
#[derive(Debug, Clone, Deserialize)]
pub struct SourceConfig {
    /// A candle belongs to it if its open time does. Read from `TIME_RANGE`.
    pub time_range: TimeRange,
    /// Base URL of the exchange's API. Read from `BINANCE_API_URL`, default `https://api.binance.com`.
    pub binance_api_url: ApiUrl,
    /// Pages asked for at a time. Read from `FETCH_IN_FLIGHT`, default 4: enough to hide the way to the exchange,
    /// and few enough that the weight limit is met by waiting, not by refusals.
    pub fetch_in_flight: InFlight,
    /// How long after its close, by the exchange's clock, a candle is final. Read from `CANDLE_CLOSE_GRACE_SECS`,
    /// default 3 s: trades of the last moment and servers that are behind have arrived by then.
    pub candle_close_grace_secs: CloseGrace,
}

/// Where to publish, and how.
#[derive(Debug, Clone, Deserialize)]
pub struct PublishConfig {
    /// The data topic. Read from `KAFKA_TOPIC`.
    pub kafka_topic: TopicName,
    /// How many partitions are used; others stay empty. Read from `TOPIC_PARTITIONS`, default 1: a number that the
    /// topic decides could change between attempts.
    pub topic_partitions: Partitions,
    /// Replicas of a topic that has to be made. Read from `TOPIC_REPLICATION`, default: the broker's.
    pub topic_replication: Option<Replication>,
    /// Hours until records of a topic that has to be made are deleted. Read from `TOPIC_RETENTION_HOURS`, default
    /// 168, a week: time to notice and to load again.
    pub topic_retention_hours: RetentionHours,
    /// What decides a record's partition. Read from `PARTITION_KEY`, default `symbol`.
    pub partition_key: PartitionKey,
    /// How prices and volumes are written. Read from `NUMBERS`, default `json`.
    pub numbers: Numbers,
}

impl Section for SourceConfig {
    const VARIABLES: &'static [Variable] = &[
        Variable::required(
            "TIME_RANGE",
            "YYYY-MM-DD:YYYY-MM-DD, both days inclusive, or two ISO 8601 instants with a / between them",
            "2024-08-01:2024-08-31",
        )
        .means("what to load, UTC; a candle belongs to it if its open time does"),
        Variable::optional(
            "BINANCE_API_URL",
            "an http or https URL without user, query and fragment",
            "https://api.binance.com",
        )
        .default("https://api.binance.com")
        // What is no URL may hold a password all the same.
        .secret()
        .means("base URL of the exchange's API"),
        Variable::optional("FETCH_IN_FLIGHT", "a whole number from 1 to 32", "4")
            .default("4")
            .means("pages of 1000 candles asked for at a time"),
        Variable::optional("CANDLE_CLOSE_GRACE_SECS", "seconds from 0 to 600", "3")
            .default("3")
            .means("how long after its close, by the exchange's clock, a candle is final"),
    ];
}

impl Section for PublishConfig {
    const VARIABLES: &'static [Variable] = &[
        Variable::required(
            "KAFKA_TOPIC",
            "the name of a topic: up to 249 of a-z A-Z 0-9 . _ -",
            "wf-btcusdt-api_candles_1m-20240801-abc123-data",
        )
        .means("the data topic; made if it is not there"),
        Variable::optional("TOPIC_PARTITIONS", "a whole number from 1 to 1000", "1")
            .default("1")
            .means("how many partitions are used, others stay empty; a run keeps the number it began with"),
        Variable::optional("TOPIC_REPLICATION", "a whole number from 1 to 32767", "3")
            .otherwise("the broker's")
            .means("replicas of a topic that has to be made"),
        Variable::optional("TOPIC_RETENTION_HOURS", "a whole number of hours from 1", "168")
            .default("168")
            .means("hours until records of a topic that has to be made are deleted"),
        Variable::optional("PARTITION_KEY", "symbol or record", "symbol")
            .default("symbol")
            .means("symbol keeps a symbol in one partition, in order; record spreads it, for several writers"),
        Variable::optional("NUMBERS", "json or string", "json")
            .default("json")
            .means("prices and volumes as JSON numbers or as strings; both keep the exchange's digits"),
    ];
}

impl Config {
    /// Reads and checks all sections.
    ///
    /// # Errors
    /// Every variable that is missing, malformed or contradicts another.
    pub fn from_vars(vars: &Vars) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(vars);
        let queue = reader.section();
        let source = reader.section::<SourceConfig>();
        let publish = reader.section();
        let kafka = reader.section();
        let ops = reader.section();
        // By itself: with another variable of its section at fault, it is still wrong. What is no type at all has been
        // noted.
        let kind = vars.get("TYPE").and_then(|kind| kind.trim().parse().ok());
        let interval = kind.and_then(|kind| match kind {
            WorkflowKind::ApiCandles(interval) => Some(interval),
            other => {
                reader.fault(
                    "TYPE",
                    &other.to_string(),
                    "api_candles_<interval>, which is all that loader-api-candles loads",
                );
                None
            }
        });
        let url = source.as_ref().map(|source| source.binance_api_url.url());
        if let Some((url, host)) = url.and_then(|url| Some((url, url.host_str()?))) {
            reader.refuse_diversion("BINANCE_API_URL", url.scheme(), host);
        }
        reader.finish()?;
        let all_read = "a section that could not be read is a fault";
        Ok(Self {
            queue: queue.expect(all_read),
            interval: interval.expect(all_read),
            source: source.expect(all_read),
            publish: publish.expect(all_read),
            kafka: kafka.expect(all_read),
            ops: ops.expect(all_read),
            confirm_after: CONFIRM_AFTER,
        })
    }
}

#[cfg(test)]
mod tests;
