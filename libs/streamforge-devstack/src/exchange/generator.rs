//! Candles out of a seed: minutes by noise, seconds by splitting a minute.
//!
//! A minute depends on the seed, the symbol and its time alone, and costs well under a microsecond; an hour of them
//! is the unit of work. Everything longer is the sum of its minutes. Seconds go the other way: a minute is split, so
//! that they sum to it to the last digit. Deep history is thus cheap at every length.

use super::{
    amount::ONE,
    bar::Bar,
    noise::{Noise, key_of},
    price::{MINUTES, PricePath},
    symbols::GeneratedSymbol,
};

/// Generates the candles of one symbol.
#[derive(Debug, Clone)]
pub(super) struct Generator {
    path: PricePath,
    wick: Noise,
    size: Noise,
    activity: Noise,
    pub(super) second: Noise,
    /// The smallest step of the price, in 1e-8.
    pub(super) tick: i64,
    /// The smallest step of a quantity, in 1e-8.
    pub(super) lot: i64,
    /// Mean volume of a minute, in lots.
    mean_lots: u64,
}

impl Generator {
    pub(super) fn new(seed: u64, symbol: &GeneratedSymbol) -> Self {
        let key = key_of(seed, symbol.name());
        Self {
            path: PricePath::new(key, symbol.base_ticks),
            wick: Noise::new(key, 100),
            size: Noise::new(key, 101),
            activity: Noise::new(key, 102),
            second: Noise::new(key, 103),
            tick: symbol.tick,
            lot: symbol.lot,
            mean_lots: symbol.mean_lots,
        }
    }

    /// The minutes of `hour` (hours since 1970).
    pub(super) fn minutes_of_hour(&self, hour: i64) -> Box<[Bar; MINUTES]> {
        let prices = self.path.minutes_of_hour(hour);
        // Hours differ in how much is traded: 1/4 to 2 times the mean.
        let activity = 256 + self.activity.bits(hour) % 1_792;
        let first = hour * MINUTES as i64;
        Box::new(std::array::from_fn(|minute| {
            self.minute(
                first + minute as i64,
                prices[minute],
                prices[minute + 1],
                activity,
            )
        }))
    }

    fn minute(&self, number: i64, open: i64, close: i64, activity: u64) -> Bar {
        let wick = self.wick.bits(number);
        let size = self.size.bits(number);
        let (top, bottom) = (open.max(close), open.min(close));
        // Up to 0.07 % beyond the body, small ones more often than large ones.
        let reach = |bits: u64, price: i64| {
            let part = (bits & 0xffff) as i64;
            ((part * part) >> 16) * price / 90_000_000
        };
        let high = top + reach(wick, top);
        let low = (bottom - reach(wick >> 16, bottom)).max(1);
        // The square has the mean 1/3: most minutes are calm.
        let part = size & 0xffff;
        let lots = 1 + (self.mean_lots * activity / 1_024) * ((part * part) >> 16) * 3 / 65_536;
        let trades = 1 + (lots - 1) / (500 + ((size >> 16) & 0x7ff));
        let taker_lots = lots * (300 + ((size >> 32) & 0xffff) * 400 / 65_536) / 1_000;
        // The average price lies between low and high, and is one of the tick grid.
        let average = low + (high - low) * ((wick >> 32) & 0xffff) as i64 / 0xffff;
        let quote_of = |lots: u64| i128::from(lots) * self.quote_of_lot(average * self.tick);
        let volume_of = |lots: u64| i128::from(lots) * i128::from(self.lot);
        Bar {
            open: open * self.tick,
            high: high * self.tick,
            low: low * self.tick,
            close: close * self.tick,
            volume: volume_of(lots),
            quote_volume: quote_of(lots),
            trades,
            taker_volume: volume_of(taker_lots),
            taker_quote_volume: quote_of(taker_lots),
        }
    }

    /// What one lot costs at `price`; exact, since a tick times a lot is a whole number of 1e-8.
    pub(super) fn quote_of_lot(&self, price: i64) -> i128 {
        i128::from(price) * i128::from(self.lot) / i128::from(ONE)
    }
}
