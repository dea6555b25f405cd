//! What the API says of workflows where it does not say all: answers to starts, rows of lists, events, logs.

use serde::{Deserialize, Serialize};
use streamforge_utils::protocol::{QueueId, Symbol, TimeRange, TimestampMs, WorkflowKind};
use utoipa::ToSchema;

use crate::{
    admission::Turn,
    plan::Role,
    state::{Part, Progress, RemovalRequest, Status, StopRequest, Workflow},
    store::{Excerpt, Row},
};

/// A workflow that was taken on: all names that it has.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Started {
    /// Names it everywhere.
    #[schema(value_type = String, example = "wf-btcusdt-api_candles_1m-20240801-abc123")]
    pub queue_id: QueueId,
    /// From 1; raised by each retry.
    pub run: u32,
    /// The trading pair.
    #[schema(value_type = String, example = "BTCUSDT")]
    pub symbol: Symbol,
    /// What is moved, and how.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "api_candles_1m")]
    pub kind: WorkflowKind,
    /// What is loaded.
    #[schema(value_type = Option<String>, example = "2024-08-01:2024-08-31")]
    pub time_range: Option<TimeRange>,
    /// The data topic; null where no worker uses one.
    pub kafka_topic: Option<String>,
    /// Where it is.
    pub status: Status,
    /// Its workers, loaders first.
    pub workers: Vec<StartedWorker>,
}

/// A worker of a workflow that was taken on.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct StartedWorker {
    /// The service.
    pub target: String,
    /// What it does.
    #[schema(value_type = String, example = "loader")]
    pub role: Role,
    /// `producer` in its events.
    pub telemetry_id: String,
    /// Its Job.
    pub job_name: String,
    /// Where it writes.
    pub collection_name: Option<String>,
    /// Container image.
    pub image: String,
}

impl From<&Workflow> for Started {
    fn from(workflow: &Workflow) -> Self {
        Self {
            queue_id: workflow.queue_id.clone(),
            run: workflow.run,
            symbol: workflow.symbol.clone(),
            kind: workflow.kind,
            time_range: workflow.time_range.clone(),
            kafka_topic: workflow.kafka_topic.clone(),
            status: workflow.status,
            workers: workflow.parts.iter().map(StartedWorker::from).collect(),
        }
    }
}

impl From<&Part> for StartedWorker {
    fn from(part: &Part) -> Self {
        Self {
            target: part.target.clone(),
            role: part.role,
            telemetry_id: part.telemetry_id.clone(),
            job_name: part.job_name.clone(),
            collection_name: part.collection.clone(),
            image: part.image.clone(),
        }
    }
}

/// The workflows of one request, in the order of its symbols.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct StartedQueues {
    /// One a symbol.
    pub queues: Vec<Started>,
}

/// A workflow with its workers.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Queue {
    /// What is known of it.
    #[serde(flatten)]
    pub workflow: Workflow,
    /// Where it stands in the row while it waits for its turn, and why; null if it does not wait. As it is now: no
    /// message of a stream has it.
    pub turn: Option<Turn>,
}

/// A workflow without its workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueSummary {
    /// Names it everywhere.
    #[schema(value_type = String, example = "wf-btcusdt-api_candles_1m-20240801-abc123")]
    pub queue_id: QueueId,
    /// From 1; raised by each retry.
    pub run: u32,
    /// The trading pair.
    #[schema(value_type = String, example = "BTCUSDT")]
    pub symbol: Symbol,
    /// What is moved, and how.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "api_candles_1m")]
    pub kind: WorkflowKind,
    /// What is loaded.
    #[schema(value_type = Option<String>)]
    pub time_range: Option<TimeRange>,
    /// Where it is.
    pub status: Status,
    /// For people: why it is there.
    pub reason: Option<String>,
    /// When it was asked for, Unix ms.
    #[schema(value_type = i64)]
    pub created_at: TimestampMs,
    /// When this run had its turn, Unix ms. Before, nothing is launched.
    #[schema(value_type = Option<i64>)]
    pub admitted_at: Option<TimestampMs>,
    /// When the first worker of this run was heard of, Unix ms.
    #[schema(value_type = Option<i64>)]
    pub started_at: Option<TimestampMs>,
    /// When its last part became final, Unix ms.
    #[schema(value_type = Option<i64>)]
    pub ended_at: Option<TimestampMs>,
    /// When it last changed, Unix ms.
    #[schema(value_type = i64)]
    pub updated_at: TimestampMs,
    /// How far it is as a whole.
    pub totals: Progress,
    /// Set once somebody wants it to end.
    pub stop: Option<StopRequest>,
    /// Set once somebody wants it to be forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub removal: Option<RemovalRequest>,
    /// Where it stands in the row, in answers to requests and only while it waits for its turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub turn: Option<Turn>,
}

impl Excerpt for QueueSummary {
    const ATTRIBUTES: &'static [&'static str] = &[
        "queue_id",
        "run",
        "symbol",
        "type",
        "time_range",
        "status",
        "reason",
        "created_at",
        "admitted_at",
        "started_at",
        "ended_at",
        "updated_at",
        "totals",
        "stop",
        "removal",
    ];
}

impl From<Workflow> for QueueSummary {
    fn from(workflow: Workflow) -> Self {
        Self {
            queue_id: workflow.queue_id,
            run: workflow.run,
            symbol: workflow.symbol,
            kind: workflow.kind,
            time_range: workflow.time_range,
            status: workflow.status,
            reason: workflow.reason,
            created_at: workflow.created_at,
            admitted_at: workflow.admitted_at,
            started_at: workflow.started_at,
            ended_at: workflow.ended_at,
            updated_at: workflow.updated_at,
            totals: workflow.totals,
            stop: workflow.stop,
            removal: workflow.removal,
            turn: None,
        }
    }
}

impl From<Row<Self>> for QueueSummary {
    fn from(row: Row<Self>) -> Self {
        match row {
            Row::Workflow(summary) => summary,
            Row::Unreadable { queue_id, what } => Workflow::unreadable(&queue_id, &what).into(),
        }
    }
}

impl QueueSummary {
    /// Whether it waits for its turn.
    pub fn waits(&self) -> bool {
        self.admitted_at.is_none() && !self.status.is_final()
    }
}

/// A page of workflows, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct QueueList {
    /// The workflows.
    pub queues: Vec<QueueSummary>,
    /// `cursor` of the next page; null at the end.
    pub next_cursor: Option<String>,
}

/// An event of a worker, as it came.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct HistoryEvent {
    /// When it was stored, Unix ms.
    #[schema(value_type = i64)]
    pub stored_at: TimestampMs,
    /// The event; docs/protocol.md says what stands in it.
    #[schema(value_type = Object)]
    pub event: serde_json::Value,
}

/// A page of a workflow's events, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct EventList {
    /// The events.
    pub events: Vec<HistoryEvent>,
    /// `cursor` of the next page; null at the end.
    pub next_cursor: Option<String>,
}

/// The end of one worker's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PartLog {
    /// The worker: its telemetry id.
    pub part: String,
    /// Its Job.
    pub job_name: String,
    /// The last lines of its last pod or process, oldest first; null if there is no log, or none any more.
    pub lines: Option<Vec<String>>,
}

/// The ends of logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LogList {
    /// One a worker.
    pub logs: Vec<PartLog>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_that_a_summary_has_is_asked_for() {
        let full = json!({
            "queue_id": "wf-btcusdt-dummy-20240801-abc123", "run": 1, "symbol": "BTCUSDT", "type": "dummy",
            "time_range": null, "status": "error", "reason": null, "created_at": 1, "admitted_at": 1,
            "started_at": 1, "ended_at": 1, "updated_at": 1, "stop": null,
            "totals": {
                "written": 0, "total": null, "rejected": 0, "missing": 0, "rate": null, "percentage": null,
                "expected_end": null
            },
            "removal": {"at": 1, "by": "ops"},
        });
        let summary: QueueSummary = serde_json::from_value(full).unwrap();
        let said = serde_json::to_value(&summary).unwrap();
        let mut attributes: Vec<&String> = said.as_object().unwrap().keys().collect();
        let mut asked = QueueSummary::ATTRIBUTES.to_vec();
        attributes.sort();
        asked.sort_unstable();
        assert_eq!(attributes, asked);
    }
}
