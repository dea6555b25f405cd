//! A message of the data topic, read: a candle, an end-of-stream marker, or something that can't be written.
//!
//! Pure. It decides what a message is; what becomes of it is decided in [`crate::write`].

use rdkafka::Message;
use streamforge_utils::{
    kafka::headers,
    protocol::{
        Candle, EOS, EOS_VALUE, Interval, Marker, QueueId, SCHEMA, SCHEMA_VERSION, SEQ, Symbol,
    },
};

/// How much of an error is kept, in characters: it may quote the whole record, and goes to logs, headers and events.
pub const MAX_ERROR_CHARS: usize = 1_000;

/// What the records of a topic have in common.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Whose markers count.
    pub queue_id: QueueId,
    /// Of every candle.
    pub symbol: Symbol,
    /// Of every candle.
    pub interval: Interval,
}

/// Why a record can't be written: a closed set, for metrics and the header of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// It has another schema, or none.
    Schema,
    /// It has no number, or one that is none.
    Sequence,
    /// It is not JSON, not a candle or not a possible one.
    NotACandle,
    /// It is a candle of another symbol or interval.
    Foreign,
    /// It says it is a marker and is none.
    BadMarker,
    /// The database refused it for its own sake.
    Refused,
    /// The database takes no request as large as this one record.
    TooLarge,
}

impl RejectReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Schema,
        Self::Sequence,
        Self::NotACandle,
        Self::Foreign,
        Self::BadMarker,
        Self::Refused,
        Self::TooLarge,
    ];

    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Sequence => "sequence",
            Self::NotACandle => "not-a-candle",
            Self::Foreign => "foreign",
            Self::BadMarker => "bad-marker",
            Self::Refused => "refused",
            Self::TooLarge => "too-large",
        }
    }
}

/// Why one record was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The kind of fault.
    pub reason: RejectReason,
    /// The error, for people: its first 1,000 characters.
    pub error: String,
}

impl Rejection {
    /// A fault of this kind.
    pub fn new(reason: RejectReason, error: impl Into<String>) -> Self {
        let mut error = error.into();
        if let Some((end, _)) = error.char_indices().nth(MAX_ERROR_CHARS) {
            error.truncate(end);
        }
        Self { reason, error }
    }
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A candle with this document key, to be written as it is.
    Candle {
        /// `{SYMBOL}_{interval}_{open_time}`.
        key: Box<str>,
    },
    /// The end of a stream.
    Marker(Box<Marker>),
    /// Neither.
    Rejected(Rejection),
}

/// A message, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Its number in the partition, from 1; known of some rejected records too. Markers and replayed records have none.
    pub seq: Option<u64>,
    /// Whether it is a dead letter that was put back. Then it is no marker.
    pub is_replayed: bool,
    /// What it is.
    pub content: Content,
}

/// Reads one message. It never fails: what can't be read is [`Content::Rejected`].
pub fn read<M: Message>(message: &M, expected: &Expected) -> Reading {
    let header = |name| headers::get(message, name);
    let payload = message.payload().unwrap_or_default();
    let is_replayed = headers::is_replayed(message);
    let is_marker = !is_replayed && header(EOS) == Some(EOS_VALUE);
    // Known even of a record that is rejected: the next one would else look as if records were lost.
    let seq = header(SEQ)
        .and_then(|text| text.parse().ok())
        .filter(|seq| *seq > 0 && !is_marker && !is_replayed);
    let content = if header(SCHEMA) != Some(SCHEMA_VERSION) {
        let error = unexpected_header(SCHEMA, header(SCHEMA), SCHEMA_VERSION);
        Content::Rejected(Rejection::new(RejectReason::Schema, error))
    } else if is_marker {
        read_marker(payload, message.partition(), expected)
    } else if seq.is_none() && !is_replayed {
        let error = unexpected_header(SEQ, header(SEQ), "a number from 1");
        Content::Rejected(Rejection::new(RejectReason::Sequence, error))
    } else {
        match read_candle(payload, expected) {
            Ok(key) => Content::Candle { key },
            Err(rejection) => Content::Rejected(rejection),
        }
    };
    Reading {
        seq,
        is_replayed,
        content,
    }
}

fn read_candle(payload: &[u8], expected: &Expected) -> Result<Box<str>, Rejection> {
    let candle = Candle::parse(payload)
        .map_err(|error| Rejection::new(RejectReason::NotACandle, error.to_string()))?;
    if candle.symbol != expected.symbol.as_str() || candle.interval != expected.interval {
        return Err(Rejection::new(
            RejectReason::Foreign,
            format!(
                "a candle of {} {}, expected {} {}",
                candle.symbol, candle.interval, expected.symbol, expected.interval
            ),
        ));
    }
    Ok(candle.key.into())
}

fn read_marker(payload: &[u8], partition: i32, expected: &Expected) -> Content {
    let bad = |error: String| Content::Rejected(Rejection::new(RejectReason::BadMarker, error));
    let marker: Marker = match serde_json::from_slice(payload) {
        Ok(marker) => marker,
        Err(error) => return bad(format!("not a marker: {error}")),
    };
    if marker.queue_id != expected.queue_id {
        return bad(format!(
            "a marker of {}, expected {}",
            marker.queue_id, expected.queue_id
        ));
    }
    if marker.partitions <= partition {
        return bad(format!(
            "a marker in partition {partition} that says there are {} partitions",
            marker.partitions
        ));
    }
    Content::Marker(Box::new(marker))
}

fn unexpected_header(name: &str, found: Option<&str>, expected: &str) -> String {
    match found {
        Some(found) => format!("header {name} is {found:?}, expected {expected}"),
        None => format!("header {name} is missing, expected {expected}"),
    }
}

#[cfg(test)]
mod tests;
