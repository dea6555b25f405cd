//! The 60 seconds of a minute: what they sum to is given, how it is spread is noise.

use super::{
    amount::ONE,
    bar::Bar,
    generator::Generator,
    noise::between,
    price::MINUTES as SECONDS, // A minute has as many seconds as an hour has minutes.
};

/// Hands out a total in parts by weight, so that the parts sum to the total exactly and none exceeds its share
/// rounded up.
struct Split {
    total: i128,
    weights: i128,
    seen: i128,
    given: i128,
}

impl Split {
    fn new(total: i128, weights: i128) -> Self {
        Self {
            total,
            weights,
            seen: 0,
            given: 0,
        }
    }

    fn next(&mut self, weight: i128) -> i128 {
        if self.weights == 0 {
            return 0;
        }
        self.seen += weight;
        let due = self.total * self.seen / self.weights;
        let part = due - self.given;
        self.given = due;
        part
    }
}

impl Generator {
    /// The seconds of the minute with this `number` (minutes since 1970), which `whole` sums up. Seconds without
    /// trades are flat, as on the exchange.
    pub(super) fn seconds_of_minute(&self, number: i64, whole: &Bar) -> Box<[Bar; SECONDS]> {
        let first = number * SECONDS as i64;
        let bits: [u64; SECONDS] =
            std::array::from_fn(|second| self.second.bits(first + second as i64));
        let mut seconds = Box::new([Bar::flat(whole.open); SECONDS]);
        self.spread_trades(whole, &bits, &mut seconds);
        let active: Vec<usize> = (0..SECONDS)
            .filter(|&second| seconds[second].trades > 0)
            .collect();
        self.draw_prices(whole, &bits, &active, &mut seconds);
        self.spread_quote(whole, &mut seconds);
        seconds
    }

    /// Trades, base volume and taker volume: each trade has at least a lot.
    fn spread_trades(&self, whole: &Bar, bits: &[u64; SECONDS], seconds: &mut [Bar; SECONDS]) {
        let weights = bits.map(|bits| i128::from(bits & 0xff));
        let lots = whole.volume / i128::from(self.lot);
        let trades_total = i128::from(whole.trades);
        let mut trades = Split::new(trades_total, weights.iter().sum());
        let mut spare = Split::new(lots - trades_total, trades_total);
        let mut taker = Split::new(whole.taker_volume / i128::from(self.lot), lots);
        for (second, weight) in seconds.iter_mut().zip(weights) {
            let count = trades.next(weight);
            let lots = count + spare.next(count);
            second.trades = count as u64;
            second.volume = lots * i128::from(self.lot);
            second.taker_volume = taker.next(lots) * i128::from(self.lot);
        }
    }

    /// Opens where the second before closed, ends at the minute's close, and touches its high and its low.
    fn draw_prices(
        &self,
        whole: &Bar,
        bits: &[u64; SECONDS],
        active: &[usize],
        seconds: &mut [Bar; SECONDS],
    ) {
        let count = active.len();
        let pick = |salt: u32| active[(bits[0] >> salt) as usize % count];
        let (highest, lowest) = (pick(16), pick(32));
        let step = (whole.high - whole.low) / self.tick / 4 + 1;
        let mut price = whole.open;
        let mut done = 0;
        for (number, second) in seconds.iter_mut().enumerate() {
            *second = Bar {
                open: price,
                high: price,
                low: price,
                close: price,
                ..*second
            };
            if second.trades == 0 {
                continue;
            }
            done += 1;
            if done == count {
                price = whole.close;
            } else {
                let line = between(
                    whole.open / self.tick,
                    whole.close / self.tick,
                    done as i64,
                    count as i64,
                );
                let noise = (bits[number] >> 48) as i64 % step - step / 2;
                price = ((line + noise) * self.tick).clamp(whole.low, whole.high);
            }
            second.close = price;
            second.high = if number == highest {
                whole.high
            } else {
                second.open.max(price)
            };
            second.low = if number == lowest {
                whole.low
            } else {
                second.open.min(price)
            };
        }
    }

    /// Quote volume: the middle of each second's prices, then all of them moved towards the minute's high or low
    /// until the sum is right. A second whose average price leaves its range by that gets a longer wick.
    fn spread_quote(&self, whole: &Bar, seconds: &mut [Bar; SECONDS]) {
        let lots = |second: &Bar| second.volume / i128::from(self.lot);
        for second in seconds.iter_mut() {
            let middle = second.low + (second.high - second.low) / self.tick / 2 * self.tick;
            second.quote_volume = lots(second) * self.quote_of_lot(middle);
        }
        let missing = whole.quote_volume
            - seconds
                .iter()
                .map(|second| second.quote_volume)
                .sum::<i128>();
        let bound = self.quote_of_lot(if missing >= 0 { whole.high } else { whole.low });
        let room = |second: &Bar| (lots(second) * bound - second.quote_volume).abs();
        let mut rest = Split::new(missing.abs(), seconds.iter().map(room).sum());
        let mut taker = Split::new(whole.taker_quote_volume, whole.quote_volume);
        for second in seconds.iter_mut() {
            second.quote_volume += missing.signum() * rest.next(room(second));
            second.taker_quote_volume = taker.next(second.quote_volume);
            if second.volume == 0 {
                continue;
            }
            // The average price, rounded outwards to the tick grid; the minute's own bounds lie on it.
            let (tick, paid) = (i128::from(self.tick), second.quote_volume * i128::from(ONE));
            let above = (paid + second.volume * tick - 1) / (second.volume * tick) * tick;
            let below = paid / (second.volume * tick) * tick;
            second.high = second.high.max(above as i64);
            second.low = second.low.min(below as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::symbols::GeneratedSymbol, *};

    proptest! {
        #[test]
        fn seconds_sum_to_their_minute(seed: u64, which in 0_usize..5, hour in 417_000_i64..500_000, minute in 0_usize..60) {
            let symbol = GeneratedSymbol::new(["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XYZBTC"][which]);
            let generator = Generator::new(seed, &symbol);
            let whole = generator.minutes_of_hour(hour)[minute];
            let seconds = generator.seconds_of_minute(hour * 60 + minute as i64, &whole);
            prop_assert_eq!(Bar::joined(seconds.iter()).unwrap(), whole);
            let mut before = whole.open;
            for second in seconds.iter() {
                prop_assert_eq!(second.open, before);
                before = second.close;
                prop_assert!(second.low <= second.open.min(second.close) && second.open.max(second.close) <= second.high);
                prop_assert!(second.taker_volume <= second.volume && second.taker_quote_volume <= second.quote_volume);
                prop_assert!(second.quote_volume * i128::from(ONE) >= second.volume * i128::from(second.low));
                prop_assert!(second.quote_volume * i128::from(ONE) <= second.volume * i128::from(second.high));
                prop_assert_eq!(second.trades == 0, second.volume == 0);
            }
        }
    }
}
