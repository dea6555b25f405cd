//! What workers report on `queue-events`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::TimestampMs;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The process is up.
    Started,
    /// It works, or waits and lives.
    Loading,
    /// All done. Nothing follows.
    Finished,
    /// Ended before all was done, because it was told to. Nothing follows.
    Interrupted,
    /// Failed. Nothing follows.
    Error,
    /// The answer to a ping.
    Pong,
}

impl EventKind {
    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Loading => "loading",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Error => "error",
            Self::Pong => "pong",
        }
    }

    /// Whether an instance says nothing after it.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Interrupted | Self::Error)
    }
}

/// Who told an interrupted worker to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterruptReason {
    /// A `stop` command.
    Stop,
    /// SIGTERM or SIGINT.
    Signal,
    /// Its loader was stopped.
    Upstream,
}

/// Candles that the exchange does not have although its neighbours are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Open time of the first missing candle, Unix ms.
    pub start: TimestampMs,
    /// Open time of the first candle that is there again, or the end of what was asked for, Unix ms.
    pub end: TimestampMs,
    /// How many are missing.
    pub missing: u64,
}

/// `2020-06-28T02:00Z to 05:00Z`, the day once if both ends share it.
impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (self.start.to_string(), self.end.to_string());
        match (start.split_once('T'), end.split_once('T')) {
            (Some((day, _)), Some((same, time))) if day == same => write!(f, "{start} to {time}"),
            _ => write!(f, "{start} to {end}"),
        }
    }
}

/// Records of the whole run, earlier attempts included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RecordCounts {
    /// Acknowledged by where they go: the broker for a loader, the database for a writer.
    #[serde(rename = "records_written")]
    pub written: u64,
    /// Expected in all, where that is known.
    #[serde(
        rename = "records_total",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub total: Option<u64>,
    /// Sent to the dead-letter topic.
    #[serde(rename = "records_rejected", default)]
    pub rejected: u64,
    /// Expected, and the exchange does not have them.
    #[serde(rename = "records_missing", default)]
    pub missing: u64,
    /// Met by this process of a loader, and published although a value is implausible: negative, or `high` below `low`.
    #[serde(rename = "records_suspect", default)]
    pub suspect: u64,
}

/// One message on `queue-events`; its Kafka key is `queue_id`.
///
/// `instance` and `seq` order the events of a worker; `timestamp` is for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The workflow.
    pub queue_id: String,
    /// Its run.
    pub run: u32,
    /// Telemetry id of the worker.
    pub producer: String,
    /// New for each process.
    pub instance: String,
    /// Number of the event in its instance, from 1.
    pub seq: u64,
    /// Name of the service.
    pub service: String,
    /// Its version.
    pub service_version: String,
    /// The trading pair.
    pub symbol: String,
    /// Type of the workflow.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about.
    pub event: EventKind,
    /// Repeats `event` for the lifecycle events; absent on `pong`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<EventKind>,
    /// For people.
    pub message: String,
    /// Records of the whole run.
    #[serde(flatten)]
    pub records: RecordCounts,
    /// When records last moved, Unix seconds; tells a hung worker from an idle one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_progress_at: Option<f64>,
    /// Whether this is the instance's last event.
    pub finished: bool,
    /// Wall clock, Unix seconds.
    pub timestamp: f64,
    /// With a loader's last event: the first 100 gaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gaps: Option<Vec<Gap>>,
    /// With `error`: what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// With `error`: whether trying again can help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// With `interrupted`: who told it to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<InterruptReason>,
    /// With `pong`: the ping's `sent_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ping_ts: Option<f64>,
    /// With `pong`: the worker's wall clock, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ponged_at: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind) -> Event {
        Event {
            queue_id: "wf-btcusdt-api_candles_1m-20240801-abc123".into(),
            run: 1,
            producer: "arango-candles__abc123".into(),
            instance: "018f0000-0000-7000-8000-000000000000".into(),
            seq: 7,
            service: "arango-candles".into(),
            service_version: "0.3.0".into(),
            symbol: "BTCUSDT".into(),
            kind: "api_candles_1m".into(),
            event: kind,
            status: (kind != EventKind::Pong).then_some(kind),
            message: "1440 of 44640 records".into(),
            records: RecordCounts {
                written: 1440,
                total: Some(44640),
                rejected: 0,
                missing: 0,
                suspect: 0,
            },
            last_progress_at: Some(1_722_500_124.9),
            finished: kind.is_terminal(),
            timestamp: 1_722_500_125.456,
            gaps: None,
            error_message: None,
            retryable: None,
            reason: None,
            ping_ts: None,
            ponged_at: None,
        }
    }

    #[test]
    fn has_the_shape_of_the_contract() {
        insta::assert_json_snapshot!("loading", event(EventKind::Loading));
        let gap = Gap {
            start: TimestampMs(1_593_309_600_000),
            end: TimestampMs(1_593_320_400_000),
            missing: 3,
        };
        insta::assert_json_snapshot!(
            "finished",
            Event {
                gaps: Some(vec![gap]),
                ..event(EventKind::Finished)
            }
        );
        insta::assert_json_snapshot!(
            "error",
            Event {
                error_message: Some("no broker".into()),
                retryable: Some(true),
                ..event(EventKind::Error)
            }
        );
        let reason = Some(InterruptReason::Upstream);
        insta::assert_json_snapshot!(
            "interrupted",
            Event {
                reason,
                ..event(EventKind::Interrupted)
            }
        );
        let pong = Event {
            ping_ts: Some(1.5),
            ponged_at: Some(1.6),
            ..event(EventKind::Pong)
        };
        insta::assert_json_snapshot!("pong", pong);
    }

    #[test]
    fn a_gap_names_its_day_once() {
        let gap = |start: &str, end: &str| {
            let (start, end) = (start.parse().unwrap(), end.parse().unwrap());
            Gap {
                start,
                end,
                missing: 1,
            }
            .to_string()
        };
        assert_eq!(
            gap("2020-06-28T02:00:00Z", "2020-06-28T05:00:00Z"),
            "2020-06-28T02:00Z to 05:00Z"
        );
        assert_eq!(
            gap("2020-06-28T23:00:00Z", "2020-06-29T01:00:00Z"),
            "2020-06-28T23:00Z to 2020-06-29T01:00Z"
        );
    }

    #[test]
    fn round_trips() {
        let finished = event(EventKind::Finished);
        let text = serde_json::to_string(&finished).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), finished);
    }
}
