//! What is said to workers on `queue-control`.

use serde::{Deserialize, Serialize};

use super::QueueId;

/// What a worker is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandKind {
    /// Information: the workflow was launched.
    Start,
    /// End as soon as what is held is safe; see [`CommandPayload::drain`].
    Stop,
    /// Answer with a `pong` event.
    Ping,
    /// To the dummy service: pretend to load.
    SimulateLoading,
    /// To the dummy service: fail after [`CommandPayload::seconds`].
    FailAfter,
}

impl CommandKind {
    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Ping => "ping",
            Self::SimulateLoading => "simulate-loading",
            Self::FailAfter => "fail-after",
        }
    }
}

/// Details of a command.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct CommandPayload {
    /// For `fail-after`: seconds to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// For `stop`: the loader ends, the writers empty the topic first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
}

/// One message on `queue-control`; its Kafka key is `queue_id`. Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// What to do.
    pub command: CommandKind,
    /// A queue id, or `*` or `all` for everyone.
    pub queue_id: String,
    /// Only that run of the workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u32>,
    /// A service or a telemetry id; absent means every worker of the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<CommandPayload>,
    /// The sender's wall clock, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<f64>,
    /// With `start`: the symbol of the workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// With `start`: its type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// With `start`: its range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_range: Option<String>,
    /// With `start`: its data topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka_topic: Option<String>,
    /// With `start`: where the records go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection_name: Option<String>,
    /// With `start`: who was launched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telemetry_id: Option<String>,
    /// With `start`: the container image that was launched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

impl Command {
    /// A command to every worker of `queue_id`, sent now.
    pub fn new(command: CommandKind, queue_id: &str) -> Self {
        let sent_at = super::TimestampMs::now().as_millis() as f64 / 1_000.0;
        Self {
            command,
            queue_id: queue_id.to_owned(),
            run: None,
            target: None,
            payload: None,
            sent_at: Some(sent_at),
            symbol: None,
            kind: None,
            time_range: None,
            kafka_topic: None,
            collection_name: None,
            telemetry_id: None,
            image: None,
        }
    }

    /// Whether it is for everyone, whatever their queue.
    pub fn is_for_all(&self) -> bool {
        matches!(self.queue_id.as_str(), "*" | "all")
    }

    /// Whether it is for this worker.
    pub fn addresses(
        &self,
        queue_id: &QueueId,
        run: u32,
        service: &str,
        telemetry_id: &str,
    ) -> bool {
        let queue = self.is_for_all() || self.queue_id == queue_id.as_str();
        let target = self.target.as_deref();
        queue
            && self.run.is_none_or(|wanted| wanted == run)
            && target.is_none_or(|wanted| wanted == service || wanted == telemetry_id)
    }

    /// Whether the writers should empty the topic before they end.
    pub fn drains(&self) -> bool {
        self.payload.is_some_and(|payload| payload.drain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: &str = "wf-btcusdt-api_candles_1m-20240801-abc123";

    fn stop() -> Command {
        Command {
            sent_at: Some(1_722_500_000.123),
            ..Command::new(CommandKind::Stop, QUEUE)
        }
    }

    #[test]
    fn has_the_shape_of_the_contract() {
        insta::assert_json_snapshot!(
            "stop",
            Command {
                run: Some(1),
                target: Some("arango-candles".into()),
                ..stop()
            }
        );
        insta::assert_json_snapshot!(
            "fail_after",
            Command {
                command: CommandKind::FailAfter,
                payload: Some(CommandPayload {
                    seconds: Some(2.5),
                    drain: false
                }),
                ..stop()
            }
        );
        insta::assert_json_snapshot!(
            "drain",
            Command {
                payload: Some(CommandPayload {
                    seconds: None,
                    drain: true
                }),
                ..stop()
            }
        );
    }

    #[test]
    fn unknown_fields_are_ignored_and_unknown_commands_are_not() {
        let known = format!(
            r#"{{"command":"ping","queue_id":"{QUEUE}","colour":"red","payload":{{"x":1}}}}"#
        );
        assert_eq!(
            serde_json::from_str::<Command>(&known).unwrap().command,
            CommandKind::Ping
        );
        for wrong in [
            r#"{"command":"dance","queue_id":"*"}"#,
            r#"{"command":"stop"}"#,
            "[]",
            "1",
            "{",
        ] {
            assert!(serde_json::from_str::<Command>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_by_queue_run_and_target() {
        let queue: QueueId = QUEUE.parse().unwrap();
        let to_us = |command: &Command| {
            command.addresses(&queue, 2, "arango-candles", "arango-candles__abc123")
        };
        assert!(to_us(&stop()));
        for all in ["*", "all"] {
            assert!(to_us(&Command {
                queue_id: all.into(),
                ..stop()
            }));
        }
        assert!(!to_us(&Command {
            queue_id: "wf-other".into(),
            ..stop()
        }));
        assert!(to_us(&Command {
            run: Some(2),
            ..stop()
        }));
        assert!(!to_us(&Command {
            run: Some(1),
            ..stop()
        }));
        for ours in ["arango-candles", "arango-candles__abc123"] {
            assert!(to_us(&Command {
                target: Some(ours.into()),
                ..stop()
            }));
        }
        for others in ["loader-api-candles", "arango-candles__abc123-2", ""] {
            assert!(!to_us(&Command {
                target: Some(others.into()),
                ..stop()
            }));
        }
    }
}
