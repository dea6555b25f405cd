//! Everything this writer can be told, read from the environment before anything is connected.

use serde::Deserialize;
use streamforge_arango::ArangoConfig;
use streamforge_utils::{
    config::{
        ConfigError, Faults, KafkaConfig, OpsConfig, QueueConfig, Reader, Section, Variable, Vars,
    },
    kafka::FetchSizes,
    protocol::{self, Interval, WorkflowKind},
};

use crate::SERVICE;

/// Most bytes of records that may be held, so that the writer fits its pod: twice what may be in flight at a time.
pub const MAX_HELD_BYTES: usize = 24 << 20;

/// The variables of all sections, for `--help`.
pub const VARIABLES: &[&[Variable]] = &[
    QueueConfig::VARIABLES,
    WriterConfig::VARIABLES,
    ArangoConfig::VARIABLES,
    KafkaConfig::VARIABLES,
    OpsConfig::VARIABLES,
];

/// The whole configuration. Its `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Config {
    /// How to reach the brokers.
    pub kafka: KafkaConfig,
    /// The workflow.
    pub queue: QueueConfig,
    /// How the worker is watched and how long it tries.
    pub ops: OpsConfig,
    /// How to reach the database.
    pub arango: ArangoConfig,
    /// What to write, where to, and in which portions.
    pub writer: WriterConfig,
    /// Of the candles, from `TYPE`.
    pub interval: Interval,
    /// How much is asked of a broker at a time. No variable sets it; measurements try others.
    pub fetch: FetchSizes,
}

impl Config {
    /// Reads and checks every section.
    ///
    /// # Errors
    /// All faults at once, each with what was found and what is expected.
    pub fn from_vars(vars: &Vars) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(vars);
        let kafka = reader.section::<KafkaConfig>();
        let queue = reader.section::<QueueConfig>();
        let ops = reader.section::<OpsConfig>();
        let arango = reader.section::<ArangoConfig>();
        let writer = reader.section::<WriterConfig>();
        let interval = queue.as_ref().and_then(|queue| match queue.kind {
            WorkflowKind::ApiCandles(interval) => Some(interval),
            other => {
                let expected = format!("api_candles_<interval>: {SERVICE} writes nothing else");
                reader.fault("TYPE", &other.to_string(), &expected);
                None
            }
        });
        reader.finish()?;
        let all = (kafka, queue, ops, arango, writer, interval);
        let (Some(kafka), Some(queue), Some(ops), Some(arango), Some(writer), Some(interval)) = all
        else {
            unreachable!("a section that can't be read is a fault");
        };
        Ok(Self {
            kafka,
            queue,
            ops,
            arango,
            writer,
            interval,
            fetch: FetchSizes::DATA,
        })
    }

    /// The consumer group that all writers of this collection share.
    pub fn group_id(&self) -> String {
        protocol::group_id(&self.queue.queue_id, SERVICE, &self.writer.collection_name)
    }

    /// `producer` in events and dead letters.
    pub fn producer_id(&self) -> String {
        self.queue.producer_id(SERVICE)
    }
}

/// `ARANGO_OVERWRITE_MODE`: what to do with a document that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverwriteMode {
    /// Leave it.
    Ignore,
    /// Put the record in its place.
    Replace,
    /// Merge the record into it, which keeps fields that others added.
    Update,
    /// Refuse the record. Known only so that it can be refused with a reason.
    Conflict,
}

impl OverwriteMode {
    /// The text that the server takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Replace => "replace",
            Self::Update => "update",
            Self::Conflict => "conflict",
        }
    }
}

/// What to write, where to, and in which portions.
#[derive(Debug, Clone, Deserialize)]
pub struct WriterConfig {
    /// The data topic. Read from `KAFKA_TOPIC`.
    #[serde(rename = "kafka_topic")]
    pub topic: String,
    /// Read from `COLLECTION_NAME`; created if it is absent.
    pub collection_name: String,
    /// Most records of a batch. Read from `BATCH_MAX_RECORDS`, default 1000.
    pub batch_max_records: usize,
    /// Most bytes of a batch. Read from `BATCH_MAX_BYTES`, default 1 MiB.
    pub batch_max_bytes: usize,
    /// How long a batch may wait for more records, in ms. Read from `BATCH_LINGER_MS`, default 100.
    pub batch_linger_ms: u64,
    /// Most batches on their way at a time. Read from `ARANGO_IN_FLIGHT`, default 4.
    #[serde(rename = "arango_in_flight")]
    pub in_flight: usize,
    /// Read from `ARANGO_OVERWRITE_MODE`, default `replace`.
    #[serde(rename = "arango_overwrite_mode")]
    pub overwrite_mode: OverwriteMode,
    /// Whether the server answers only after its disk has the batch. Read from `ARANGO_WAIT_FOR_SYNC`, default off.
    #[serde(rename = "arango_wait_for_sync")]
    pub wait_for_sync: bool,
    /// How many records of the whole run may be rejected before the worker fails. Read from `MAX_REJECTED`,
    /// default 1000.
    pub max_rejected: u64,
}

impl Section for WriterConfig {
    const VARIABLES: &'static [Variable] = &[
        Variable::required(
            "KAFKA_TOPIC",
            "the name of the data topic",
            "wf-btcusdt-api_candles_1m-20240801-abc123-data",
        )
        .means("the data topic; waited for, never created"),
        Variable::required(
            "COLLECTION_NAME",
            "the name of a collection",
            "btcusdt_api_candles_1m_2024_08_01",
        )
        .means("collection, created if it is absent"),
        Variable::optional("BATCH_MAX_RECORDS", "a number from 1 to 100000", "1000")
            .default("1000")
            .means("most records of a batch"),
        Variable::optional(
            "BATCH_MAX_BYTES",
            "a number from 1024 to 12582912",
            "1048576",
        )
        .default("1048576")
        .means(
            "most bytes of a batch; a record that is larger goes alone; times ARANGO_IN_FLIGHT at most 12582912",
        ),
        Variable::optional("BATCH_LINGER_MS", "milliseconds from 0 to 60000", "100")
            .default("100")
            .means("how long a batch may wait for more records"),
        Variable::optional("ARANGO_IN_FLIGHT", "a number from 1 to 64", "4")
            .default("4")
            .means("most batches on their way at a time"),
        Variable::optional(
            "ARANGO_OVERWRITE_MODE",
            "ignore, replace or update",
            "replace",
        )
        .default("replace")
        .means("what happens to a document that is there already"),
        Variable::optional("ARANGO_WAIT_FOR_SYNC", "true or false", "false")
            .default("false")
            .means("true: safe against power loss of the database, 3 to 7 times slower"),
        Variable::optional("MAX_REJECTED", "a whole number", "1000")
            .default("1000")
            .means("how many records of the whole run may be rejected before the worker fails"),
    ];

    fn check(&self, faults: &mut Faults) {
        let legal_topic =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        // The dead-letter topic appends four characters, and Kafka allows 249.
        if self.topic.len() > 245 || !self.topic.bytes().all(legal_topic) {
            faults.wrong("KAFKA_TOPIC", &self.topic, "up to 245 of a-z A-Z 0-9 . _ -");
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let name = self.collection_name.as_str();
        if name.len() > 256
            || !name.bytes().all(legal)
            || !name.starts_with(|first: char| first.is_ascii_alphabetic())
        {
            faults.wrong(
                "COLLECTION_NAME",
                name,
                "a letter and then up to 255 of a-z A-Z 0-9 _ -",
            );
        } else if protocol::is_reserved_collection(name) {
            faults.wrong(
                "COLLECTION_NAME",
                name,
                "none of queue-manager's own: queue_state, telemetry, lease, idempotency, and streamforge-...",
            );
        }
        let mut within = |variable: &str, found: u64, least: u64, most: u64| {
            if !(least..=most).contains(&found) {
                let expected = format!("a number from {least} to {most}");
                faults.wrong(variable, &found.to_string(), &expected);
            }
        };
        within(
            "BATCH_MAX_RECORDS",
            self.batch_max_records as u64,
            1,
            100_000,
        );
        within(
            "BATCH_MAX_BYTES",
            self.batch_max_bytes as u64,
            1024,
            MAX_HELD_BYTES as u64 / 2,
        );
        within("BATCH_LINGER_MS", self.batch_linger_ms, 0, 60_000);
        within("ARANGO_IN_FLIGHT", self.in_flight as u64, 1, 64);
        let in_flight = self.batch_max_bytes.saturating_mul(self.in_flight);
        let are_legal =
            self.batch_max_bytes <= MAX_HELD_BYTES / 2 && (1..=64).contains(&self.in_flight);
        if are_legal && in_flight > MAX_HELD_BYTES / 2 {
            let found = format!("{} x {}", self.batch_max_bytes, self.in_flight);
            let expected = format!(
                "a product of at most {}: the writer holds up to twice that in memory",
                MAX_HELD_BYTES / 2
            );
            faults.wrong("BATCH_MAX_BYTES x ARANGO_IN_FLIGHT", &found, &expected);
        }
        if self.overwrite_mode == OverwriteMode::Conflict {
            faults.wrong(
                "ARANGO_OVERWRITE_MODE",
                "conflict",
                "ignore, replace or update: a batch is sent again after a broken connection, and with conflict \
                 every record that had arrived would be refused",
            );
        }
    }
}

#[cfg(test)]
mod tests;
