//! One kline as the exchange sends it, and what a query asks for.

use serde_json::Value;
use streamforge_utils::protocol::{Interval, TimestampMs};

/// One kline, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) open_time: TimestampMs,
    /// Inclusive: the last millisecond that belongs to the candle.
    pub(super) close_time: TimestampMs,
    /// The array of 12, as it goes over the wire.
    pub(super) json: String,
}

impl Row {
    /// The columns of the array.
    pub(super) fn columns(&self) -> Vec<Value> {
        serde_json::from_str(&self.json)
            .expect("a row is an array: generated so, or checked when it was read")
    }
}

/// Which klines of a symbol are asked for. Both ends are inclusive and look at the open time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) interval: Interval,
    pub(super) start: Option<TimestampMs>,
    pub(super) end: Option<TimestampMs>,
    pub(super) limit: usize,
}

/// A page of klines as the body of a response.
pub(super) fn body_of(rows: &[Row]) -> String {
    let mut body =
        String::with_capacity(2 + rows.iter().map(|row| row.json.len() + 1).sum::<usize>());
    body.push('[');
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str(&row.json);
    }
    body.push(']');
    body
}
