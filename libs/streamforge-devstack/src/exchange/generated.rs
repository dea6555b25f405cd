//! A generated symbol as the exchange shows it: from its listing until now, without the configured gaps, at every
//! interval.
//!
//! A candle is what exists of its seconds. So a longer candle that a gap or the listing cuts is made of the rest, a
//! candle that is still open holds what has been traded so far and goes on changing, and one without any second does
//! not exist.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Mutex, PoisonError},
};

use streamforge_utils::protocol::{Grid, Interval, TimestampMs};

use super::{
    bar::Bar,
    generator::Generator,
    price::MINUTES,
    row::{Query, Row},
    symbols::GeneratedSymbol,
};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The candles of one generated symbol.
#[derive(Debug)]
pub(super) struct Generated {
    pub(super) symbol: GeneratedSymbol,
    generator: Generator,
    /// The first second that exists, Unix milliseconds.
    first: i64,
    /// When no second exists: half-open, on whole seconds, in order, apart from each other.
    gaps: Vec<Range<i64>>,
    /// Whole days, by days since 1970: what months and weeks would spend their time on.
    days: Mutex<HashMap<i64, Bar>>,
}

fn up_to_second(at: i64) -> i64 {
    -(-at).div_euclid(SECOND) * SECOND
}

/// Gaps in order, overlapping ones as one. A second is lost if its opening is.
fn normalised(gaps: &[Range<TimestampMs>]) -> Vec<Range<i64>> {
    let on_seconds = |gap: &Range<TimestampMs>| {
        up_to_second(gap.start.as_millis())..up_to_second(gap.end.as_millis())
    };
    let mut gaps: Vec<_> = gaps
        .iter()
        .map(on_seconds)
        .filter(|gap| !gap.is_empty())
        .collect();
    gaps.sort_by_key(|gap| gap.start);
    let mut merged: Vec<Range<i64>> = Vec::new();
    for gap in gaps {
        match merged.last_mut() {
            Some(last) if gap.start <= last.end => last.end = last.end.max(gap.end),
            _ => merged.push(gap),
        }
    }
    merged
}

impl Generated {
    pub(super) fn new(seed: u64, symbol: GeneratedSymbol, gaps: &[Range<TimestampMs>]) -> Self {
        Self {
            generator: Generator::new(seed, &symbol),
            first: up_to_second(symbol.listed_at().as_millis()),
            gaps: normalised(gaps),
            days: Mutex::default(),
            symbol,
        }
    }

    /// The klines that the query asks for and that have opened by `now`, oldest first.
    pub(super) fn rows(&self, query: &Query, now: TimestampMs) -> Vec<Row> {
        let grid = Grid::new(
            query.interval,
            TimestampMs(self.first - self.first.rem_euclid(DAY)),
        );
        let first_open = grid.floor(TimestampMs(self.first));
        let last = query.end.unwrap_or(now).min(now);
        let mut reader = Reader {
            market: self,
            exists_until: up_to_second(now.as_millis() + 1),
            hour: None,
            minute: None,
        };
        let mut rows = Vec::new();
        if let Some(start) = query.start {
            let mut open = grid.ceil(start.max(first_open));
            while open <= last && rows.len() < query.limit {
                let next = grid.next(open);
                match reader.bar(open.as_millis(), next.as_millis()) {
                    Some(bar) => {
                        rows.push(bar.to_row(open, next));
                        open = next;
                    }
                    None => {
                        open = next.max(grid.floor(TimestampMs(self.after_gap(next.as_millis()))))
                    }
                }
            }
        } else {
            let mut open = grid.floor(last);
            while open >= first_open && rows.len() < query.limit {
                let next = grid.next(open);
                let row = reader
                    .bar(open.as_millis(), next.as_millis())
                    .map(|bar| bar.to_row(open, next));
                let found = row.is_some();
                rows.extend(row);
                let before = open.as_millis() - 1;
                open = grid.floor(TimestampMs(if found {
                    before
                } else {
                    self.before_gap(before)
                }));
            }
            rows.reverse();
        }
        rows
    }

    /// The first gap that ends after `at`.
    fn gap_from(&self, at: i64) -> Option<&Range<i64>> {
        self.gaps
            .get(self.gaps.partition_point(|gap| gap.end <= at))
    }

    /// `at`, or the end of the gap that it lies in.
    fn after_gap(&self, at: i64) -> i64 {
        self.gap_from(at)
            .filter(|gap| gap.start <= at)
            .map_or(at, |gap| gap.end)
    }

    /// `at`, or the last millisecond before the gap that it lies in.
    fn before_gap(&self, at: i64) -> i64 {
        self.gap_from(at)
            .filter(|gap| gap.start <= at)
            .map_or(at, |gap| gap.start - 1)
    }

    /// A whole day, days since 1970, as if it had no gap.
    fn day(&self, day: i64) -> Bar {
        if let Some(bar) = self
            .days
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&day)
        {
            return *bar;
        }
        let hours = (day * 24..(day + 1) * 24).map(|hour| {
            Bar::joined(self.generator.minutes_of_hour(hour).iter()).expect("an hour has minutes")
        });
        let bar = hours
            .reduce(|sum, hour| sum.followed_by(&hour))
            .expect("a day has hours");
        self.days
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(day, bar);
        bar
    }
}

/// Sums up what exists. Remembers the last hour and minute, since queries walk through time.
struct Reader<'a> {
    market: &'a Generated,
    /// Seconds that open from here on have not happened.
    exists_until: i64,
    hour: Option<(i64, Box<[Bar; MINUTES]>)>,
    minute: Option<(i64, Box<[Bar; MINUTES]>)>,
}

impl Reader<'_> {
    /// What exists of `[from, to)`, both on whole seconds; `None` if nothing does.
    fn bar(&mut self, from: i64, to: i64) -> Option<Bar> {
        let to = to.min(self.exists_until);
        let mut at = from.max(self.market.first);
        let mut sum: Option<Bar> = None;
        while at < to {
            let until = match self.market.gap_from(at) {
                Some(gap) if gap.start <= at => {
                    at = gap.end;
                    continue;
                }
                Some(gap) => gap.start.min(to),
                None => to,
            };
            let (bar, length) = self.longest(at, until);
            sum = Some(sum.map_or(bar, |sum| sum.followed_by(&bar)));
            at += length;
        }
        sum
    }

    /// The longest of day, hour, minute and second that starts at `at` and ends by `until`, and its length.
    fn longest(&mut self, at: i64, until: i64) -> (Bar, i64) {
        let fits = |length: i64| at % length == 0 && at + length <= until;
        if fits(DAY) {
            (self.market.day(at / DAY), DAY)
        } else if fits(HOUR) {
            (
                Bar::joined(self.minutes(at / HOUR).iter()).expect("an hour has minutes"),
                HOUR,
            )
        } else if fits(MINUTE) {
            (self.minute(at / MINUTE), MINUTE)
        } else {
            (self.second(at / SECOND), SECOND)
        }
    }

    fn minutes(&mut self, hour: i64) -> &[Bar; MINUTES] {
        match &mut self.hour {
            Some((number, _)) if *number == hour => {}
            slot => *slot = Some((hour, self.market.generator.minutes_of_hour(hour))),
        }
        &self.hour.as_ref().expect("set above").1
    }

    fn minute(&mut self, minute: i64) -> Bar {
        self.minutes(minute.div_euclid(60))[minute.rem_euclid(60) as usize]
    }

    fn second(&mut self, second: i64) -> Bar {
        let number = second.div_euclid(60);
        if self
            .minute
            .as_ref()
            .is_none_or(|(known, _)| *known != number)
        {
            let whole = self.minute(number);
            self.minute = Some((
                number,
                self.market.generator.seconds_of_minute(number, &whole),
            ));
        }
        self.minute.as_ref().expect("set above").1[second.rem_euclid(60) as usize]
    }
}

/// Whether a page of `interval` is summed from enough minutes to be worth a thread of its own.
pub(super) fn is_slow(interval: Interval) -> bool {
    interval >= Interval::Hour1
}

#[cfg(test)]
mod tests;
