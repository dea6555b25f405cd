//! What happened in a stretch of time, as the generator counts it, and how two stretches become one.

use std::fmt::Write as _;

use streamforge_utils::protocol::TimestampMs;

use super::{amount, row::Row};

/// Prices and volumes of a stretch of time, in steps of 1e-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) open: i64,
    pub(super) high: i64,
    pub(super) low: i64,
    pub(super) close: i64,
    pub(super) volume: i128,
    pub(super) quote_volume: i128,
    pub(super) trades: u64,
    pub(super) taker_volume: i128,
    pub(super) taker_quote_volume: i128,
}

impl Bar {
    /// A stretch without trades at `price`.
    pub(super) fn flat(price: i64) -> Self {
        Self {
            open: price,
            high: price,
            low: price,
            close: price,
            volume: 0,
            quote_volume: 0,
            trades: 0,
            taker_volume: 0,
            taker_quote_volume: 0,
        }
    }

    /// This stretch and a `later` one as one.
    pub(super) fn followed_by(&self, later: &Self) -> Self {
        Self {
            open: self.open,
            high: self.high.max(later.high),
            low: self.low.min(later.low),
            close: later.close,
            volume: self.volume + later.volume,
            quote_volume: self.quote_volume + later.quote_volume,
            trades: self.trades + later.trades,
            taker_volume: self.taker_volume + later.taker_volume,
            taker_quote_volume: self.taker_quote_volume + later.taker_quote_volume,
        }
    }

    /// All of `bars`, in order, as one; `None` if there are none.
    pub(super) fn joined<'a>(bars: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        bars.into_iter()
            .copied()
            .reduce(|sum, bar| sum.followed_by(&bar))
    }

    /// The kline of this stretch, which opens at `open_time` and closes a millisecond before `next_open`.
    pub(super) fn to_row(self, open_time: TimestampMs, next_open: TimestampMs) -> Row {
        let close_time = next_open - 1;
        let mut json = String::with_capacity(192);
        write!(json, "[{}", open_time.as_millis()).expect("writing to a string does not fail");
        let quoted = |json: &mut String, value: i128| {
            json.push_str(",\"");
            amount::write(json, value);
            json.push('"');
        };
        for price in [self.open, self.high, self.low, self.close] {
            quoted(&mut json, i128::from(price));
        }
        quoted(&mut json, self.volume);
        write!(json, ",{}", close_time.as_millis()).expect("writing to a string does not fail");
        quoted(&mut json, self.quote_volume);
        write!(json, ",{}", self.trades).expect("writing to a string does not fail");
        quoted(&mut json, self.taker_volume);
        quoted(&mut json, self.taker_quote_volume);
        json.push_str(",\"0\"]");
        Row {
            open_time,
            close_time,
            json,
        }
    }
}
