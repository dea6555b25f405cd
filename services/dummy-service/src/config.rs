//! Everything this service can be told: by variables, and by flags, each of which sets one.

mod contradictions;
mod flags;

use serde::Deserialize;
use streamforge_utils::{
    config::{
        ConfigError, Faults, KafkaConfig, OpsConfig, QueueConfig, Reader, Seconds, Section,
        TopicName, Variable, Vars, Within,
    },
    protocol::Interval,
};

pub use flags::FLAGS;

use crate::SERVICE;

/// All variables, a list a section.
pub const VARIABLES: &[&[Variable]] = &[
    QueueConfig::VARIABLES,
    DummyConfig::VARIABLES,
    KafkaConfig::VARIABLES,
    OpsConfig::VARIABLES,
];

/// Of a simulated load without another: the one-minute candles of a month of 31 days.
const DEFAULT_RECORDS_TOTAL: u64 = 44_640;
/// Of records whose `TYPE` has none.
const DEFAULT_INTERVAL: Interval = Interval::Minute1;

/// The whole configuration. Its `Debug` shows no password.
#[derive(Debug, Clone)]
pub struct Config {
    /// How to reach the brokers.
    pub kafka: KafkaConfig,
    /// The workflow.
    pub queue: QueueConfig,
    /// How the worker is watched and how long it tries.
    pub ops: OpsConfig,
    /// What to do.
    pub task: Task,
    /// Whether commands are read.
    pub listens: bool,
    /// Whether the first ping ends it.
    pub exit_on_ping: bool,
    /// When it finishes, from its start.
    pub exit_after: Option<Seconds>,
    /// When it fails, from its start.
    pub fail_after: Option<Seconds>,
}

/// What to do until something ends it.
#[derive(Debug, Clone)]
pub enum Task {
    /// Nothing, until told to simulate a load of so many records.
    Wait(u64),
    /// Pretend to load so many records.
    Simulate(u64),
    /// Publish synthetic records.
    Publish(Publish),
    /// Read the topic.
    Consume(String),
}

/// What to publish, and where to.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The topic.
    pub topic: String,
    /// Records a second.
    pub rate: u64,
    /// Records of the whole run, after which it finishes.
    pub total: Option<u64>,
    /// What each is padded to.
    pub bytes: Option<usize>,
    /// Of the candles.
    pub interval: Interval,
    /// How many partitions are used.
    pub partitions: i32,
    /// Of a topic that has to be made; `None` is the broker's default.
    pub replication: Option<i32>,
    /// Of a topic that has to be made.
    pub retention_hours: u64,
}

/// Heartbeats come every 10 s anyway, so a longer time between `loading` events would not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct LoadingInterval(Seconds);

impl TryFrom<f64> for LoadingInterval {
    type Error = String;

    fn try_from(seconds: f64) -> Result<Self, Self::Error> {
        if seconds > 10.0 {
            return Err(format!(
                "{seconds} is more than 10, and a worker says at least every 10 s that it lives"
            ));
        }
        seconds.try_into().map(Self)
    }
}

/// The variables of this service.
#[derive(Debug, Clone, Deserialize)]
pub struct DummyConfig {
    /// Read from `DUMMY_NOOP`.
    #[serde(rename = "dummy_noop")]
    pub noop: bool,
    /// Read from `DUMMY_EXIT_ON_PING`.
    #[serde(rename = "dummy_exit_on_ping")]
    pub exit_on_ping: bool,
    /// Read from `DUMMY_EXIT_AFTER_SECS`.
    #[serde(rename = "dummy_exit_after_secs")]
    pub exit_after: Option<Seconds>,
    /// Read from `DUMMY_SIMULATE_LOADING`.
    #[serde(rename = "dummy_simulate_loading")]
    pub simulate_loading: bool,
    /// Read from `DUMMY_LOADING_INTERVAL_SECS`, default 10.
    #[serde(rename = "dummy_loading_interval_secs")]
    pub loading_interval: Option<LoadingInterval>,
    /// Read from `DUMMY_RECORDS_TOTAL`; default 44,640 of a simulated load, else no limit.
    #[serde(rename = "dummy_records_total")]
    pub records_total: Option<Within<1, { u32::MAX }>>,
    /// Read from `DUMMY_FAIL_AFTER_SECS`.
    #[serde(rename = "dummy_fail_after_secs")]
    pub fail_after: Option<Seconds>,
    /// Read from `DUMMY_PUBLISH_RATE`.
    #[serde(rename = "dummy_publish_rate")]
    pub publish_rate: Option<Within<1, 1_000_000>>,
    /// Read from `DUMMY_MESSAGE_BYTES`; what a broker takes by default ends at a mebibyte, headers included.
    #[serde(rename = "dummy_message_bytes")]
    pub message_bytes: Option<Within<1, 1_000_000>>,
    /// Read from `DUMMY_CONSUME`.
    #[serde(rename = "dummy_consume")]
    pub consume: bool,
    /// Read from `KAFKA_TOPIC`.
    pub kafka_topic: Option<TopicName>,
    /// Read from `TOPIC_PARTITIONS`, default 1.
    pub topic_partitions: Within<1, 1_000>,
    /// Read from `TOPIC_REPLICATION`, default: the broker's.
    pub topic_replication: Option<Within<1, 32_767>>,
    /// Read from `TOPIC_RETENTION_HOURS`, default 168, as loaders have it.
    pub topic_retention_hours: Within<1, 876_000>,
}

const SECONDS: &str = "seconds, more than 0";
const BOOLEAN: &str = "true or false";

impl Section for DummyConfig {
    const VARIABLES: &'static [Variable] = &[
        Variable::optional("DUMMY_NOOP", BOOLEAN, "false")
            .default("false")
            .means("true: say started, then wait; commands are not read"),
        Variable::optional("DUMMY_EXIT_ON_PING", BOOLEAN, "false")
            .default("false")
            .means("true: answer the first ping, then finish"),
        Variable::optional("DUMMY_EXIT_AFTER_SECS", SECONDS, "60")
            .means("finish after this time, counted from the start of the process"),
        Variable::optional("DUMMY_SIMULATE_LOADING", BOOLEAN, "false")
            .default("false")
            .means("true: count up records, 100 a second"),
        Variable::optional(
            "DUMMY_LOADING_INTERVAL_SECS",
            "seconds, more than 0 and at most 10",
            "10",
        )
        .otherwise("10")
        .means("time between loading events of a simulated load"),
        Variable::optional(
            "DUMMY_RECORDS_TOTAL",
            "a whole number from 1 to 4294967295",
            "44640",
        )
        .otherwise("44640 if simulated, else no limit")
        .means("finish after so many records of the whole run"),
        Variable::optional("DUMMY_FAIL_AFTER_SECS", SECONDS, "60")
            .means("fail after this time, counted from the start of the process, with exit code 1"),
        Variable::optional(
            "DUMMY_PUBLISH_RATE",
            "a whole number from 1 to 1000000",
            "1000",
        )
        .means("publish so many candles a second to KAFKA_TOPIC"),
        Variable::optional(
            "DUMMY_MESSAGE_BYTES",
            "a whole number from 1 to 1000000",
            "1000",
        )
        .otherwise("a candle as it is")
        .means("pad each of them to exactly this size"),
        Variable::optional("DUMMY_CONSUME", BOOLEAN, "false")
            .default("false")
            .means("true: read KAFKA_TOPIC, look for holes, and time records from the broker on (LogAppendTime)"),
        Variable::optional(
            "KAFKA_TOPIC",
            "the name of a topic: up to 249 of a-z A-Z 0-9 . _ -",
            "wf-btcusdt-dummy-20240801-abc123-data",
        )
        .means("the data topic; made for publishing, waited for by a consumer"),
        Variable::optional("TOPIC_PARTITIONS", "a whole number from 1 to 1000", "1")
            .default("1")
            .means("how many partitions are published to, others stay empty"),
        Variable::optional("TOPIC_REPLICATION", "a whole number from 1 to 32767", "3")
            .otherwise("the broker's")
            .means("replicas of a topic that has to be made"),
        Variable::optional(
            "TOPIC_RETENTION_HOURS",
            "a whole number of hours from 1",
            "168",
        )
        .default("168")
        .means("hours until records of a topic that has to be made are deleted"),
    ];

    fn check(&self, faults: &mut Faults) {
        contradictions::check(self, faults);
    }
}

impl Config {
    /// Reads and checks every section.
    ///
    /// # Errors
    /// All faults at once, contradictions included.
    pub fn from_vars(vars: &Vars) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(vars);
        let kafka = reader.section::<KafkaConfig>();
        let queue = reader.section::<QueueConfig>();
        let ops = reader.section::<OpsConfig>();
        let dummy = reader.section::<DummyConfig>();
        if let (Some(dummy), Some(queue)) = (&dummy, &queue) {
            contradictions::check_bytes(dummy, queue, &mut reader);
        }
        reader.finish()?;
        let (Some(kafka), Some(queue), Some(ops), Some(dummy)) = (kafka, queue, ops, dummy) else {
            unreachable!("a section that can't be read is a fault");
        };
        let task = task(&dummy, &queue);
        let ops = match &task {
            Task::Wait(_) | Task::Simulate(_) => {
                let default = LoadingInterval::try_from(10.0).expect("10 s are allowed");
                ops.with_progress_interval(dummy.loading_interval.unwrap_or(default).0)
            }
            Task::Publish(_) | Task::Consume(_) => ops,
        };
        Ok(Self {
            kafka,
            queue,
            ops,
            task,
            listens: !dummy.noop,
            exit_on_ping: dummy.exit_on_ping,
            exit_after: dummy.exit_after,
            fail_after: dummy.fail_after,
        })
    }
}

impl Config {
    /// A group that this workflow has the right to. Nothing is ever committed to it.
    pub fn group_id(&self) -> String {
        format!("{}-{SERVICE}", self.queue.queue_id)
    }
}

fn task(dummy: &DummyConfig, queue: &QueueConfig) -> Task {
    let total = dummy.records_total.map(|total| u64::from(total.get()));
    let topic = dummy.kafka_topic.as_ref();
    match (topic, dummy.publish_rate) {
        (Some(topic), Some(rate)) => Task::Publish(Publish {
            topic: topic.as_str().to_owned(),
            rate: rate.get().into(),
            total,
            bytes: dummy.message_bytes.map(|bytes| bytes.get() as usize),
            interval: queue.kind.interval().unwrap_or(DEFAULT_INTERVAL),
            partitions: dummy.topic_partitions.get_i32(),
            replication: dummy.topic_replication.map(Within::get_i32),
            retention_hours: dummy.topic_retention_hours.get().into(),
        }),
        (Some(topic), None) if dummy.consume => Task::Consume(topic.as_str().to_owned()),
        _ if dummy.simulate_loading => Task::Simulate(total.unwrap_or(DEFAULT_RECORDS_TOTAL)),
        _ => Task::Wait(total.unwrap_or(DEFAULT_RECORDS_TOTAL)),
    }
}

#[cfg(test)]
mod tests;
