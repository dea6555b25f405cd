//! The settings of queue-manager, read from the environment once and checked before anything is connected.

mod sections;
mod values;

use streamforge_arango::ArangoConfig;
use streamforge_utils::config::{
    ConfigError, KafkaConfig, OpsConfig, Reader, Section, Variable, Vars,
};

pub use sections::{
    ApiConfig, ExchangeConfig, HealConfig, ImagesConfig, JobsConfig, LauncherKind, TopicsConfig,
};
pub use values::{Images, KubernetesName, LabelValue, Listen, NamePerTarget, SecretKey};

use crate::plan::Planner;

/// What of a worker's settings a server has too: how it logs, and how long it may take to end.
const OPS: &[Variable] = &[
    OpsConfig::VARIABLES[1],
    OpsConfig::VARIABLES[2],
    OpsConfig::VARIABLES[5],
];

/// All variables, a list a section.
pub const VARIABLES: &[&[Variable]] = &[
    ApiConfig::VARIABLES,
    JobsConfig::VARIABLES,
    ImagesConfig::VARIABLES,
    HealConfig::VARIABLES,
    TopicsConfig::VARIABLES,
    ExchangeConfig::VARIABLES,
    KafkaConfig::VARIABLES,
    ArangoConfig::VARIABLES,
    OPS,
];

/// The whole configuration. Its `Debug` shows no password.
#[derive(Debug, Clone)]
pub struct Config {
    /// How it is asked.
    pub api: ApiConfig,
    /// How it launches.
    pub jobs: JobsConfig,
    /// What it launches.
    pub images: ImagesConfig,
    /// How it watches and heals, and what it allows at a time.
    pub heal: HealConfig,
    /// The topics.
    pub topics: TopicsConfig,
    /// The exchange.
    pub exchange: ExchangeConfig,
    /// How to reach the brokers.
    pub kafka: KafkaConfig,
    /// How to reach the database.
    pub arango: ArangoConfig,
    /// How it logs, and how long it may take to end. Its other settings are workers' and stay at their defaults.
    pub ops: OpsConfig,
}

impl Config {
    /// Reads and checks every section.
    ///
    /// # Errors
    /// All faults at once, each with what was found and what is expected.
    pub fn from_vars(vars: &Vars) -> Result<Self, ConfigError> {
        let mut vars = vars.clone();
        // What only workers have of it is none of ours: they get it from elsewhere.
        vars.retain(|name, _| {
            let is = |known: &Variable| known.name == name;
            !OpsConfig::VARIABLES.iter().any(is) || OPS.iter().any(is)
        });
        let mut reader = Reader::new(&vars);
        let api = reader.section();
        let jobs = reader.section();
        let images = reader.section();
        let heal = reader.section();
        let topics = reader.section();
        let exchange = reader.section::<ExchangeConfig>();
        let kafka = reader.section();
        let arango = reader.section();
        let ops = reader.section();
        let url = exchange.as_ref().map(|it| it.binance_api_url.url());
        if let Some((url, host)) = url.and_then(|url| Some((url, url.host_str()?))) {
            reader.refuse_diversion("BINANCE_API_URL", url.scheme(), host);
        }
        reader.finish()?;
        let all_read = "a section that could not be read is a fault";
        Ok(Self {
            api: api.expect(all_read),
            jobs: jobs.expect(all_read),
            images: images.expect(all_read),
            heal: heal.expect(all_read),
            topics: topics.expect(all_read),
            exchange: exchange.expect(all_read),
            kafka: kafka.expect(all_read),
            arango: arango.expect(all_read),
            ops: ops.expect(all_read),
        })
    }

    /// What of it decides how plans are made.
    pub fn planner(&self) -> Planner {
        let is_process = self.jobs.launcher == LauncherKind::Process;
        Planner {
            image_registry: self.images.image_registry.clone(),
            image_tag: self.images.image_tag.clone(),
            images_allowed: self
                .images
                .images_allowed
                .as_ref()
                .map_or_else(Vec::new, |list| list.patterns().to_vec()),
            control_topic: self.topics.queue_control_topic.as_str().to_owned(),
            events_topic: self.topics.queue_events_topic.as_str().to_owned(),
            replication: self.topics.topic_replication.map(|replicas| replicas.get()),
            retention_hours: self.topics.topic_retention_hours.get(),
            partition_records: self.topics.topic_partition_records.map(|most| most.get()),
            // Several workers share a machine, and each pod has a network of its own.
            metrics_port: is_process.then_some(0),
        }
    }
}

#[cfg(test)]
mod tests;
