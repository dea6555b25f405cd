//! One symbol of the exchange, wherever its candles come from.

use std::collections::BTreeMap;

use serde_json::Value;
use streamforge_utils::protocol::{Interval, TimestampMs};

use super::{
    generated::{self, Generated},
    recording::Recording,
    row::{Query, Row},
    symbols,
};

/// The source of a symbol's candles.
#[derive(Debug)]
pub(super) enum Market {
    Generated(Box<Generated>),
    /// By interval; others are empty.
    Recorded(BTreeMap<Interval, Recording>),
}

impl Market {
    /// The klines that the query asks for and that have opened by `now`, oldest first.
    pub(super) fn rows(&self, query: &Query, now: TimestampMs) -> Vec<Row> {
        match self {
            Self::Generated(market) => market.rows(query, now),
            Self::Recorded(intervals) => intervals
                .get(&query.interval)
                .map(|recording| recording.rows(query, now).to_vec())
                .unwrap_or_default(),
        }
    }

    /// Whether a page of `interval` may take longer than a task may hold its thread.
    pub(super) fn is_slow(&self, interval: Interval) -> bool {
        matches!(self, Self::Generated(_)) && generated::is_slow(interval)
    }

    /// Its entry in `exchangeInfo`.
    pub(super) fn entry(&self, name: &str) -> Value {
        match self {
            Self::Generated(market) => symbols::entry(name, market.symbol.tick, market.symbol.lot),
            Self::Recorded(_) => symbols::entry(name, 1_000_000, 1_000),
        }
    }
}
