//! What queue-manager says over HTTP, as far as a person is shown it. All of it stands in this file.
//!
//! Fields that are unknown are ignored, and a status that is unknown is shown as it came, so that a newer queue-manager
//! can be asked. Text of others may hold escapes for terminals; [`read`] takes them out.

use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;
use streamforge_utils::protocol::{Gap, TimestampMs};

/// Every answer. Without its first field it is an answer of another program.
#[derive(Debug, Deserialize)]
pub(super) struct Envelope {
    #[serde(rename = "status")]
    _outcome: Outcome,
    /// For people.
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) data: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Success,
    Error,
}

/// `data` of a refusal.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ErrorDetails {
    #[serde(default)]
    pub(super) errors: Vec<FieldFault>,
}

/// One field that can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct FieldFault {
    /// Empty for the whole body.
    pub(super) field: String,
    pub(super) found: String,
    pub(super) expected: String,
}

/// Where a workflow or one of its workers is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Pending,
    Starting,
    Running,
    Stalled,
    Finished,
    Interrupted,
    Error,
    /// One that this command does not know.
    #[serde(untagged)]
    Other(String),
}

impl Status {
    /// Whether it stays.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Finished | Self::Interrupted | Self::Error)
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stalled => "stalled",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Error => "error",
            Self::Other(word) => word,
        }
    }
}

/// How far something is.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub(super) struct Progress {
    pub(super) written: u64,
    pub(super) total: Option<u64>,
    pub(super) rejected: u64,
    pub(super) missing: u64,
    /// Records a second.
    pub(super) rate: Option<f64>,
    /// 0 to 100.
    pub(super) percentage: Option<f64>,
    pub(super) expected_end: Option<TimestampMs>,
}

/// What became of the topics.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(super) struct Retention {
    pub(super) deleted_at: Option<TimestampMs>,
}

/// What a workflow waits for that waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WaitsFor {
    Place,
    Exchange,
    /// Something that this command does not know.
    #[serde(other)]
    Other,
}

/// Where it stands in the row of those that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Turn {
    pub(super) before: u64,
    pub(super) waits_for: WaitsFor,
    pub(super) limit: u64,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Part {
    pub(super) telemetry_id: String,
    pub(super) job_name: String,
    pub(super) collection: Option<String>,
    pub(super) status: Status,
    pub(super) reason: Option<String>,
    /// What its last event says.
    pub(super) message: Option<String>,
    #[serde(default)]
    pub(super) progress: Progress,
    /// Jobs made for it in this run.
    #[serde(default)]
    pub(super) attempts: u32,
    pub(super) exit_code: Option<i32>,
    /// Whether, by its last error, trying again can help.
    pub(super) retryable: Option<bool>,
    #[serde(default)]
    pub(super) gaps: Vec<Gap>,
}

/// A workflow; in lists and in answers to starts without its workers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Workflow {
    pub(super) queue_id: String,
    pub(super) run: u32,
    pub(super) symbol: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) time_range: Option<String>,
    pub(super) status: Status,
    pub(super) reason: Option<String>,
    pub(super) created_at: Option<TimestampMs>,
    /// When it had its turn.
    pub(super) admitted_at: Option<TimestampMs>,
    pub(super) started_at: Option<TimestampMs>,
    pub(super) ended_at: Option<TimestampMs>,
    pub(super) kafka_topic: Option<String>,
    #[serde(default)]
    pub(super) totals: Progress,
    #[serde(default)]
    pub(super) parts: Vec<Part>,
    /// Set once somebody wants it to end.
    pub(super) stop: Option<IgnoredAny>,
    /// Set once somebody wants it to be forgotten.
    pub(super) removal: Option<IgnoredAny>,
    #[serde(default)]
    pub(super) retention: Retention,
    /// Set where it is known while it waits; no message of a stream has it.
    pub(super) turn: Option<Turn>,
}

impl Workflow {
    /// `BTCUSDT api_candles_1m 2024-08-01:2024-08-31`.
    pub(super) fn what(&self) -> String {
        let mut what = format!("{} {}", self.symbol, self.kind);
        if let Some(range) = &self.time_range {
            what = format!("{what} {range}");
        }
        what
    }

    /// Whether it waits for its turn.
    pub(super) fn waits(&self) -> bool {
        self.status == Status::Pending && self.admitted_at.is_none()
    }

    /// Records that a worker is to handle. A writer does not know: it takes what its loader publishes.
    pub(super) fn expected_of(&self, part: &Part) -> Option<u64> {
        part.progress.total.or(self.totals.total)
    }
}

/// `data` of an answer to a start: its workflows, each as it came.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Started {
    Many { queues: Vec<Value> },
    One(Value),
}

impl Started {
    pub(super) fn queues(self) -> Vec<Value> {
        match self {
            Self::Many { queues } => queues,
            Self::One(queue) => vec![queue],
        }
    }
}

/// `data` of `GET /queues`.
#[derive(Debug, Deserialize)]
pub(super) struct QueuePage {
    pub(super) queues: Vec<Value>,
    pub(super) next_cursor: Option<String>,
}

/// `data` of `GET /queues/{id}/events`.
#[derive(Debug, Deserialize)]
pub(super) struct EventPage {
    pub(super) events: Vec<Value>,
    pub(super) next_cursor: Option<String>,
}

/// One row of it.
#[derive(Debug, Deserialize)]
pub(super) struct HistoryEvent {
    pub(super) event: WorkerEvent,
}

/// An event of a worker, as far as it is shown.
#[derive(Debug, Deserialize)]
pub(super) struct WorkerEvent {
    pub(super) producer: String,
    #[serde(default)]
    pub(super) run: u32,
    #[serde(default)]
    pub(super) instance: String,
    #[serde(default)]
    pub(super) seq: u64,
    pub(super) event: String,
    #[serde(default)]
    pub(super) message: String,
    pub(super) error_message: Option<String>,
    pub(super) reason: Option<String>,
    /// Unix seconds.
    pub(super) timestamp: f64,
}

/// `data` of `GET /queues/{id}/logs`.
#[derive(Debug, Deserialize)]
pub(super) struct LogList {
    pub(super) logs: Vec<Value>,
}

/// One row of it.
#[derive(Debug, Deserialize)]
pub(super) struct PartLog {
    pub(super) part: String,
    pub(super) job_name: String,
    /// None: there is no log, or none any more.
    pub(super) lines: Option<Vec<String>>,
}

/// A message of the stream.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Told {
    Snapshot {
        queues: Vec<Value>,
    },
    Change {
        queue: Value,
    },
    Deleted {
        queue_id: String,
    },
    /// Nothing that this command knows.
    #[serde(other)]
    Unknown,
}

/// Reads what came, without what would steer a terminal.
///
/// # Errors
/// It has another form.
pub(super) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, serde_json::Error> {
    T::deserialize(plain(value.clone()))
}

fn plain(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains(char::is_control) => {
            Value::String(text.replace(|c: char| c.is_control() && c != '\t', "\u{fffd}"))
        }
        Value::Array(all) => all.into_iter().map(plain).collect(),
        Value::Object(all) => all
            .into_iter()
            .map(|(name, value)| (name, plain(value)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) const ID: &str = "wf-btcusdt-api_candles_1m-20240801-abc123";
    /// The clock of these tests, Unix ms: 2024-08-01T00:05Z.
    pub(crate) const NOW: TimestampMs = TimestampMs(1_722_470_700_000);

    /// A workflow as `GET /queues/{id}` gives it, half-way, with the fields of `more`.
    pub(crate) fn workflow_json(more: Value) -> Value {
        let mut workflow = json!({
            "schema": 1, "queue_id": ID, "run": 1, "symbol": "BTCUSDT", "type": "api_candles_1m",
            "time_range": "2024-08-01:2024-08-31", "kafka_topic": format!("{ID}-data"), "status": "running",
            "reason": null, "created_at": NOW.0 - 300_000, "started_at": NOW.0 - 290_000, "ended_at": null,
            "totals": {"written": 20_133, "total": 44_640, "rejected": 0, "missing": 0, "rate": 1440.2,
                "percentage": 45.1, "expected_end": NOW.0 + 17_000},
            "parts": [
                {"telemetry_id": "loader-api-candles__abc123", "job_name": "job-loader-api-candles-btcusdt-abc123",
                    "collection": null, "status": "running", "reason": null, "message": "30000 of 44640 records",
                    "progress": {"written": 30_000, "total": 44_640, "rejected": 0, "missing": 0, "rate": 1500.0,
                        "percentage": 67.2, "expected_end": NOW.0 + 9_000},
                    "attempts": 1, "exit_code": null, "gaps": []},
                {"telemetry_id": "arango-candles__abc123", "job_name": "job-arango-candles-btcusdt-abc123",
                    "collection": "btcusdt_api_candles_1m_2024_08_01", "status": "running", "reason": null,
                    "message": "20133 records",
                    "progress": {"written": 20_133, "total": null, "rejected": 0, "missing": 0, "rate": 1440.2,
                        "percentage": 45.1, "expected_end": NOW.0 + 17_000},
                    "attempts": 1, "exit_code": null, "gaps": []},
            ],
            "stop": null, "retention": {"tried_at": null, "deleted_at": null, "kept_because": null},
        });
        let fields = more.as_object().cloned().unwrap_or_default();
        workflow.as_object_mut().unwrap().extend(fields);
        workflow
    }

    pub(crate) fn workflow(more: Value) -> Workflow {
        read(&workflow_json(more)).unwrap()
    }

    #[test]
    fn a_status_of_a_newer_queue_manager_is_shown_as_it_came() {
        let workflow = workflow(json!({"status": "paused", "colour": "blue"}));
        assert_eq!(workflow.status.as_str(), "paused");
        assert!(!workflow.status.is_final());
        let turn: Turn = read(&json!({"before": 3, "waits_for": "moon", "limit": 1})).unwrap();
        assert_eq!(turn.waits_for, WaitsFor::Other);
        let told: Told = read(&json!({"type": "greeting"})).unwrap();
        assert!(matches!(told, Told::Unknown));
    }

    #[test]
    fn json_of_another_program_is_no_answer() {
        let said = |text: &str| serde_json::from_str::<Envelope>(text).is_ok();
        assert!(said(
            r#"{"status": "error", "message": "why", "data": null}"#
        ));
        assert!(!said(
            r#"{"code": 401, "error": true, "errorMessage": "not authorized"}"#
        ));
    }

    #[test]
    fn text_of_others_does_not_steer_the_terminal() {
        let workflow = workflow(json!({"reason": "a\u{1b}[2Jb\nc"}));
        assert_eq!(workflow.reason.as_deref(), Some("a\u{fffd}[2Jb\u{fffd}c"));
    }
}
