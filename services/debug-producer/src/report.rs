//! What is printed: each line as JSON for programs and as text for people.

mod text;

use serde::Serialize;
use serde_json::value::RawValue;
use streamforge_utils::{latency::LatencySummary, protocol::Event};

use crate::pings::{Ignored, ResponderSummary};
pub(crate) use text::Followed;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// What was expected came.
    Met,
    /// It did not.
    Unmet,
    /// Nothing was expected, and the broker took the command.
    Sent,
    /// A signal ended it.
    Interrupted,
}

/// One line.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Line<'a> {
    /// A ping went out.
    Ping { n: u32, sent_at: f64 },
    /// A worker answered it.
    Pong {
        n: u32,
        round_trip_ms: f64,
        producer: &'a str,
        service: &'a str,
        queue_id: &'a str,
        run: u32,
        instance: &'a str,
    },
    /// Not enough workers answered it in time.
    Lost {
        n: u32,
        sent_at: f64,
        answers: u32,
        expected: u32,
        timeout_secs: f64,
    },
    /// Another command went out.
    Command {
        command: &'static str,
        queue_id: String,
        target: Option<&'a str>,
        run: Option<u32>,
        sent_at: Option<f64>,
        #[serde(skip)]
        to: String,
    },
    /// What a worker said since; `expected` if that settles it one way or the other.
    Event {
        expected: Option<bool>,
        #[serde(rename = "event")]
        raw: &'a RawValue,
        #[serde(skip)]
        event: &'a Event,
    },
    /// What became of the pings.
    #[serde(rename = "summary")]
    Pings(PingSummary),
    /// What became of the other command.
    #[serde(rename = "summary")]
    Order(OrderSummary),
}

/// What became of pings.
#[derive(Debug, Serialize)]
pub(crate) struct PingSummary {
    pub(crate) command: &'static str,
    pub(crate) outcome: Outcome,
    /// Answered by enough workers in time; the others are lost, or were open when a signal came.
    pub(crate) sent: u32,
    pub(crate) answered: u32,
    pub(crate) lost: u32,
    pub(crate) undelivered: u32,
    pub(crate) round_trip: Option<LatencySummary>,
    pub(crate) responders: Vec<ResponderSummary>,
    pub(crate) ignored: Ignored,
    pub(crate) malformed: u64,
    #[serde(skip)]
    pub(crate) to: String,
}

/// What became of another command.
#[derive(Debug, Serialize)]
pub(crate) struct OrderSummary {
    pub(crate) command: &'static str,
    pub(crate) outcome: Outcome,
    /// Workers that did what was expected, and that ended in another way.
    pub(crate) expected: u32,
    pub(crate) unexpected: u32,
    /// Telemetry ids of those that were heard and have not ended.
    pub(crate) missing: Vec<String>,
    pub(crate) malformed: u64,
    #[serde(skip)]
    pub(crate) to: String,
}

/// Text that is JSON, on one line. A line break in JSON is never within a string.
pub(crate) fn one_line(json: &str) -> Box<RawValue> {
    let line = json.replace(['\n', '\r'], " ");
    RawValue::from_string(line).expect("it was parsed before")
}

#[cfg(test)]
mod tests;
