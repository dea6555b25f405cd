//! A workflow as it is to be run: what a checked request becomes before anything is created.

mod check;
mod pipeline;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use streamforge_utils::protocol::{QueueId, Symbol, TimeRange, TimestampMs, WorkflowKind};

pub use check::Planner;

/// What a worker does in its workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Fills the data topic. If it fails for good, its writers are stopped.
    Loader,
    /// Empties the data topic.
    Writer,
    /// Neither: simulates a worker.
    Dummy,
}

/// A workflow: names and workers. Nothing of it exists yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Names it everywhere.
    pub queue_id: QueueId,
    /// From 1; raised each time what did not finish is run again.
    pub run: u32,
    /// The trading pair.
    pub symbol: Symbol,
    /// What is moved, and how.
    pub kind: WorkflowKind,
    /// What is loaded; None where the type has no range.
    pub time_range: Option<TimeRange>,
    /// When it was asked for: Unix ms; its day stands in the names.
    pub launched: TimestampMs,
    /// The data topic, which is made before the Jobs; None where no worker uses one.
    pub kafka_topic: Option<String>,
    /// Its partitions; loaders are told by `TOPIC_PARTITIONS`.
    pub partitions: u32,
    /// Its replicas, as `TOPIC_REPLICATION` has them; None is the broker's default.
    pub replication: Option<u32>,
    /// Hours until its records are deleted, as `TOPIC_RETENTION_HOURS` has them.
    pub retention_hours: u32,
    /// Loaders first.
    pub workers: Vec<PlannedWorker>,
}

/// One worker of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedWorker {
    /// The service: `loader-api-candles`, `arango-candles`, `dummy-service`, ….
    pub target: String,
    /// What it does.
    pub role: Role,
    /// `producer` in its events: unique in the workflow, the same in every run.
    pub telemetry_id: String,
    /// Of this run: `job-{target}-{symbol}-{short}[-{nth}][-r{run}]`, at most 63, DNS-1123.
    pub job_name: String,
    /// Container image; a launcher of processes has no use for it.
    pub image: String,
    /// Where it writes.
    pub collection_name: Option<String>,
    /// The whole environment of its own: workflow, topic, range, what the request sets. Neither connections nor
    /// passwords, which are common to all workers, nor `QUEUE_STARTED_AT` and `RUN`, which each launch sets.
    pub env: BTreeMap<String, String>,
    /// Whether it works through a range and ends, so that a deadline for its Job makes sense.
    pub is_historical: bool,
}

impl PlannedWorker {
    /// Which of its service it is, from 1: the number at the end of its telemetry id.
    pub(crate) fn nth(&self) -> u32 {
        let number = self.telemetry_id.rsplit_once('-').and_then(|(id, number)| {
            // The target's name has dashes too.
            id.contains("__").then(|| number.parse().ok())?
        });
        number.unwrap_or(1)
    }
}

#[cfg(test)]
mod tests;

/// What an operator could have set.
#[cfg(test)]
pub(crate) fn planner_for_tests() -> Planner {
    Planner {
        image_registry: "registry.example/streamforge".to_owned(),
        image_tag: "1.2.3".to_owned(),
        images_allowed: vec!["ours/*".to_owned()],
        control_topic: "queue-control".to_owned(),
        events_topic: "queue-events".to_owned(),
        replication: Some(3),
        retention_hours: 168,
        partition_records: None,
        metrics_port: Some(0),
    }
}
