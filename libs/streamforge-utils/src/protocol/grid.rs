//! Where candles of an interval open: what is expected, and so what is missing.

use jiff::{civil::Date, tz::TimeZone};

use super::{Interval, TimestampMs};

/// 1970-01-05, the first Monday of the Unix epoch: weeks open on Mondays.
const FIRST_MONDAY_MS: i64 = 4 * 24 * 60 * 60 * 1_000;

/// The open times of an interval, numbered by an index that rises by one a candle.
///
/// Months step by the UTC calendar, weeks from Monday, three days from the first candle that the exchange has,
/// all others from the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    interval: Interval,
    anchor_ms: i64,
}

impl Grid {
    /// The grid of `interval`; `first_open` is the open time of the exchange's first candle, which anchors `3d`.
    pub fn new(interval: Interval, first_open: TimestampMs) -> Self {
        let anchor_ms = match interval {
            Interval::Day3 => first_open.as_millis(),
            Interval::Week1 => FIRST_MONDAY_MS,
            _ => 0,
        };
        Self {
            interval,
            anchor_ms,
        }
    }

    /// The interval of this grid.
    pub fn interval(&self) -> Interval {
        self.interval
    }

    /// The number of the candle that `at` falls into.
    pub fn index(&self, at: TimestampMs) -> i64 {
        match self.interval.fixed_ms() {
            Some(step) => (at.as_millis() - self.anchor_ms).div_euclid(step),
            None => {
                let date = TimeZone::UTC.to_datetime(at.to_jiff()).date();
                i64::from(date.year()) * 12 + i64::from(date.month()) - 1
            }
        }
    }

    /// The open time of the candle with this number.
    pub fn open(&self, index: i64) -> TimestampMs {
        match self.interval.fixed_ms() {
            Some(step) => TimestampMs(self.anchor_ms + index * step),
            None => {
                let year = i16::try_from(index.div_euclid(12))
                    .unwrap_or(i16::MAX)
                    .clamp(-9999, 9999);
                let month = i8::try_from(index.rem_euclid(12) + 1).expect("a remainder of 12 fits");
                let first = Date::new(year, month, 1).expect("the first of a month exists");
                let instant = TimeZone::UTC.to_timestamp(first.at(0, 0, 0, 0));
                TimestampMs::from(instant.unwrap_or(jiff::Timestamp::MIN))
            }
        }
    }

    /// The last open time at or before `at`.
    pub fn floor(&self, at: TimestampMs) -> TimestampMs {
        self.open(self.index(at))
    }

    /// The first open time at or after `at`.
    pub fn ceil(&self, at: TimestampMs) -> TimestampMs {
        let floor = self.floor(at);
        if floor == at { at } else { self.next(floor) }
    }

    /// The open time that follows the candle which `at` falls into: where that candle ends.
    pub fn next(&self, at: TimestampMs) -> TimestampMs {
        self.open(self.index(at) + 1)
    }

    /// How many candles open in `[start, end)`.
    pub fn count(&self, start: TimestampMs, end: TimestampMs) -> u64 {
        let count = self.index(self.ceil(end)) - self.index(self.ceil(start));
        u64::try_from(count).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> TimestampMs {
        text.parse().unwrap()
    }

    #[test]
    fn opens_where_the_exchange_opens() {
        let listed = at("2017-08-17T00:00:00Z");
        for (interval, inside, open, next) in [
            (
                Interval::Minute1,
                "2024-02-29T23:59:30Z",
                "2024-02-29T23:59:00Z",
                "2024-03-01T00:00:00Z",
            ),
            (
                Interval::Hour8,
                "2024-02-29T17:00:00Z",
                "2024-02-29T16:00:00Z",
                "2024-03-01T00:00:00Z",
            ),
            (
                Interval::Day3,
                "2017-08-22T12:00:00Z",
                "2017-08-20T00:00:00Z",
                "2017-08-23T00:00:00Z",
            ),
            (
                Interval::Week1,
                "2024-08-04T23:59:59Z",
                "2024-07-29T00:00:00Z",
                "2024-08-05T00:00:00Z",
            ),
            (
                Interval::Month1,
                "2024-02-29T12:00:00Z",
                "2024-02-01T00:00:00Z",
                "2024-03-01T00:00:00Z",
            ),
            (
                Interval::Month1,
                "2024-12-31T23:59:59Z",
                "2024-12-01T00:00:00Z",
                "2025-01-01T00:00:00Z",
            ),
        ] {
            let grid = Grid::new(interval, listed);
            assert_eq!(grid.floor(at(inside)), at(open), "{interval}");
            assert_eq!(grid.next(at(inside)), at(next), "{interval}");
        }
    }

    #[test]
    fn counts_the_candles_of_a_leap_year() {
        let (start, end) = (at("2024-01-01T00:00:00Z"), at("2025-01-01T00:00:00Z"));
        for (interval, count) in [
            (Interval::Minute1, 527_040),
            (Interval::Day1, 366),
            (Interval::Week1, 53),
            (Interval::Month1, 12),
            (Interval::Day3, 122),
        ] {
            assert_eq!(
                Grid::new(interval, start).count(start, end),
                count,
                "{interval}"
            );
        }
        assert_eq!(
            Grid::new(Interval::Minute1, start).count(end, start),
            0,
            "a reversed range holds nothing"
        );
    }

    proptest! {
        #[test]
        fn every_instant_lies_in_exactly_its_candle(
            which in 0..Interval::ALL.len(),
            at in 0_i64..4_102_444_800_000,
            first in 0_i64..1_700_000_000_000,
        ) {
            let grid = Grid::new(Interval::ALL[which], TimestampMs(first));
            let at = TimestampMs(at);
            let (floor, next) = (grid.floor(at), grid.next(at));
            prop_assert!(floor <= at && at < next);
            prop_assert_eq!(grid.floor(floor), floor);
            prop_assert_eq!(grid.ceil(floor), floor);
            prop_assert_eq!(grid.index(next), grid.index(at) + 1);
            prop_assert_eq!(grid.next(floor), next);
            prop_assert_eq!(grid.count(floor, next), 1);
        }

        #[test]
        fn counts_add_up(
            which in 0..Interval::ALL.len(),
            a in 1_500_000_000_000_i64..1_800_000_000_000,
            b in 0_i64..100_000_000,
            c in 0_i64..100_000_000,
        ) {
            let grid = Grid::new(Interval::ALL[which], TimestampMs(0));
            let (start, middle, end) = (TimestampMs(a), TimestampMs(a + b), TimestampMs(a + b + c));
            prop_assert_eq!(grid.count(start, middle) + grid.count(middle, end), grid.count(start, end));
        }
    }
}
