//! Which workflow a worker belongs to, and where it hears and speaks.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Faults, Section, Variable, checked};
use crate::protocol::{Interval, QueueId, Symbol, WorkflowKind};

/// The workflow of a worker. `queue` is one pipeline run, not a Kafka queue.
#[derive(Debug, Clone, Deserialize)]
pub struct QueueConfig {
    /// Read from `QUEUE_ID`.
    pub queue_id: QueueId,
    /// Read from `SYMBOL`.
    pub symbol: Symbol,
    /// Read from `TYPE`.
    #[serde(rename = "type")]
    pub kind: WorkflowKind,
    /// Raised each time the workflow is run again. Read from `RUN`, default 1.
    #[serde(deserialize_with = "checked::at_least_one")]
    pub run: u32,
    /// Must agree with the interval in `TYPE`. Read from `INTERVAL`.
    pub interval: Option<Interval>,
    /// `producer` in events; at most 200 printable characters. Read from `TELEMETRY_PRODUCER_ID`; see [`QueueConfig::producer_id`].
    #[serde(default, deserialize_with = "checked::name")]
    pub telemetry_producer_id: Option<String>,
    /// Where commands come. Read from `QUEUE_CONTROL_TOPIC`, default `queue-control`.
    #[serde(deserialize_with = "checked::topic")]
    pub queue_control_topic: String,
    /// Where events go. Read from `QUEUE_EVENTS_TOPIC`, default `queue-events`.
    #[serde(deserialize_with = "checked::topic")]
    pub queue_events_topic: String,
    /// Unix seconds; a `stop` since then is obeyed. Read from `QUEUE_STARTED_AT`, default: the process's start.
    #[serde(default, deserialize_with = "checked::unix_seconds")]
    pub queue_started_at: Option<f64>,
    /// File that gets the last event, too. Read from `TERMINATION_MESSAGE_PATH`, default none.
    pub termination_message_path: Option<PathBuf>,
}

impl QueueConfig {
    /// `TELEMETRY_PRODUCER_ID`, else `{service}__{hostname}`.
    pub fn producer_id(&self, service: &str) -> String {
        self.telemetry_producer_id.clone().unwrap_or_else(|| {
            let host = gethostname::gethostname();
            format!("{service}__{}", host.to_string_lossy())
        })
    }
}

impl Section for QueueConfig {
    const VARIABLES: &'static [Variable] = &[
        Variable::required(
            "QUEUE_ID",
            "wf- and then up to 125 of a-z A-Z 0-9 . _ -",
            "wf-btcusdt-api_candles_1m-20240801-abc123",
        )
        .means("the workflow"),
        Variable::required("SYMBOL", "2 to 20 of A-Z and 0-9", "BTCUSDT").means("the trading pair"),
        Variable::required("TYPE", "a type of workflow", "api_candles_1m")
            .means("what it moves, and from where"),
        Variable::optional("RUN", "a whole number from 1", "1")
            .default("1")
            .means("raised each time the workflow is run again"),
        Variable::optional(
            "INTERVAL",
            "one of 1s 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w 1M",
            "1m",
        )
        .otherwise("from TYPE")
        .means("must agree with the interval in TYPE"),
        Variable::optional(
            "TELEMETRY_PRODUCER_ID",
            "up to 200 printable characters",
            "arango-candles__abc123",
        )
        .otherwise("{service}__{hostname}")
        .means("who speaks in events"),
        Variable::optional(
            "QUEUE_CONTROL_TOPIC",
            "the name of a topic",
            "queue-control",
        )
        .default("queue-control")
        .means("where commands come"),
        Variable::optional("QUEUE_EVENTS_TOPIC", "the name of a topic", "queue-events")
            .default("queue-events")
            .means("where events go"),
        Variable::optional("QUEUE_STARTED_AT", "Unix seconds", "1722500000")
            .otherwise("the start of the process")
            .means("a stop since then is obeyed, also one sent before the worker was up"),
        Variable::optional(
            "TERMINATION_MESSAGE_PATH",
            "the path of a file",
            "/dev/termination-log",
        )
        .otherwise("none")
        .means("file that gets the last event too, as JSON of at most 4096 bytes"),
    ];

    fn check(&self, faults: &mut Faults) {
        match (self.interval, self.kind.interval()) {
            (Some(asked), Some(of_kind)) if asked != of_kind => {
                faults.wrong(
                    "INTERVAL",
                    asked.as_str(),
                    &format!("{of_kind}, as TYPE is {}", self.kind),
                );
            }
            (Some(asked), None) => {
                faults.wrong(
                    "INTERVAL",
                    asked.as_str(),
                    &format!("nothing, as TYPE {} has no interval", self.kind),
                );
            }
            _ => {}
        }
    }
}
