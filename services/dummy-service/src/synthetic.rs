//! Made-up candles: valid, deterministic, one a number. The same symbol, interval and number always give the same
//! record, so a load can be gone on with and looked up.

use std::borrow::Cow;

use streamforge_utils::protocol::{
    Candle, Decimal, Grid, Interval, Numbers, Symbol, TimeRange, TimestampMs,
};

/// 2020-01-01: the first candle opens at or after it.
const FIRST: TimestampMs = TimestampMs(1_577_836_800_000);
/// 9000-01-01: candles begin anew there, since times beyond the calendar can't be written as text.
const LAST: TimestampMs = TimestampMs(221_845_392_000_000);
/// What a field that fills a record up costs beside its filling.
const PADDING_FIELD: &[u8] = br#","padding":"""#;

/// Makes the records of one symbol and interval.
#[derive(Debug, Clone)]
pub struct Synthetic {
    symbol: Symbol,
    interval: Interval,
    grid: Grid,
    first: i64,
    /// How many open times there are.
    span: u64,
    /// What every record is padded to.
    bytes: Option<usize>,
}

impl Synthetic {
    /// Records of this symbol and interval, each padded to `bytes` where that is given.
    pub fn new(symbol: Symbol, interval: Interval, bytes: Option<usize>) -> Self {
        let grid = Grid::new(interval, FIRST);
        let start = grid.ceil(FIRST);
        Self {
            symbol,
            interval,
            grid,
            first: grid.index(start),
            span: grid.count(start, LAST),
            bytes,
        }
    }

    /// The fewest bytes that every record can be padded to.
    pub fn least_bytes(symbol: &Symbol, interval: Interval) -> usize {
        let any = Self::new(symbol.clone(), interval, None);
        any.record(any.span).len() + PADDING_FIELD.len()
    }

    /// When the candle with this number, from 1, opens.
    pub fn open_time(&self, number: u64) -> TimestampMs {
        let step = number.saturating_sub(1) % self.span;
        self.grid.open(self.first + step.cast_signed())
    }

    /// From the first candle to the end of the one with this number; one candle if there is none.
    pub fn time_range(&self, last: u64) -> TimeRange {
        let last = last.clamp(1, self.span);
        let end = self.grid.next(self.open_time(last));
        format!("{}/{end}", self.open_time(1))
            .parse()
            .expect("both ends are in the calendar, and the end comes later")
    }

    /// The value of the record with this number.
    pub fn record(&self, number: u64) -> Vec<u8> {
        let open_time = self.open_time(number);
        let mixed = mix(number);
        // Always as many digits, so that all records are of about one size.
        let open = 6_000_000 + mixed % 1_000_000;
        let close = 6_000_000 + (mixed >> 20) % 1_000_000;
        let (high, low) = (open.max(close) + 150, open.min(close) - 150);
        let trades = 1_000 + (mixed >> 40) % 9_000;
        let price = |cents: u64| format!("{}.{:02}", cents / 100, cents % 100);
        let volume = |times: u64| format!("{}.{:05}", trades / times, mixed % 100_000);
        let texts = [
            price(open),
            price(high),
            price(low),
            price(close),
            volume(100),
            volume(1),
            volume(200),
            volume(2),
        ];
        let [open, high, low, close, base, quote, taker_base, taker_quote] = texts
            .each_ref()
            .map(|digits| Decimal::new(digits, Numbers::Json).expect("digits, a point and digits"));
        let candle = Candle {
            key: Cow::Owned(Candle::key_of(&self.symbol, self.interval, open_time)),
            symbol: Cow::Borrowed(self.symbol.as_str()),
            interval: self.interval,
            open_time,
            close_time: self.grid.next(open_time) - 1,
            open,
            high,
            low,
            close,
            volume: base,
            quote_asset_volume: quote,
            number_of_trades: trades,
            taker_buy_base_asset_volume: taker_base,
            taker_buy_quote_asset_volume: taker_quote,
            exchange: Cow::Borrowed("synthetic"),
        };
        let mut value = serde_json::to_vec(&candle).expect("a candle has no key that is not text");
        if let Some(bytes) = self.bytes {
            pad(&mut value, bytes);
        }
        value
    }
}

/// Adds a field, so that an object has exactly so many bytes.
fn pad(object: &mut Vec<u8>, bytes: usize) {
    let filling = bytes.saturating_sub(object.len() + PADDING_FIELD.len());
    object.pop();
    object.extend_from_slice(&PADDING_FIELD[..PADDING_FIELD.len() - 1]);
    object.resize(object.len() + filling, b'x');
    object.extend_from_slice(b"\"}");
}

/// Spreads numbers over all values, the finalizer of SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>): records that
/// follow each other must not compress better than real ones because they rise by one.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn symbol() -> Symbol {
        "BTCUSDT".parse().unwrap()
    }

    #[test]
    fn steps_on_the_grid_from_2020() {
        let minutes = Synthetic::new(symbol(), Interval::Minute1, None);
        assert_eq!(minutes.open_time(1).to_string(), "2020-01-01T00:00Z");
        assert_eq!(minutes.open_time(61).to_string(), "2020-01-01T01:00Z");
        let months = Synthetic::new(symbol(), Interval::Month1, None);
        assert_eq!(months.open_time(14).to_string(), "2021-02-01T00:00Z");
        assert_eq!(
            minutes.time_range(60).as_str(),
            "2020-01-01T00:00Z/2020-01-01T01:00Z"
        );
        assert_eq!(minutes.time_range(0), minutes.time_range(1));
    }

    #[test]
    fn begins_anew_before_the_calendar_ends() {
        for interval in Interval::ALL {
            let synthetic = Synthetic::new(symbol(), interval, None);
            let span = synthetic.span;
            assert_eq!(synthetic.open_time(span + 1), synthetic.open_time(1));
            assert!(synthetic.open_time(span) > synthetic.open_time(span - 1));
            Candle::parse(&synthetic.record(span)).unwrap();
            synthetic.time_range(u64::MAX);
        }
    }

    proptest! {
        #[test]
        fn every_record_is_a_candle_of_just_so_many_bytes(number in 1..u64::MAX, more in 0_usize..2_000, at in 0_usize..16) {
            let interval = Interval::ALL[at];
            let bytes = Synthetic::least_bytes(&symbol(), interval) + more;
            let padded = Synthetic::new(symbol(), interval, Some(bytes)).record(number);
            prop_assert_eq!(padded.len(), bytes);
            let plain = Synthetic::new(symbol(), interval, None);
            let record = plain.record(number);
            let (padded, record) = (Candle::parse(&padded).unwrap(), Candle::parse(&record).unwrap());
            prop_assert_eq!(padded.open_time, plain.open_time(number));
            prop_assert_eq!(record.close_time + 1, plain.grid.next(record.open_time));
            prop_assert_eq!(padded.close.digits(), record.close.digits());
        }
    }
}
