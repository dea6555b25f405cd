//! What a load consists of: which candles are expected, and the pages that hold them. Pure.
//!
//! Every candle of the range that is final when the load begins lies in exactly one window. A candle is final when
//! it has closed some seconds ago by the exchange's clock; candles before the exchange's first are not expected.

use std::{ops::Range, time::Duration};

use streamforge_utils::protocol::{Grid, TimeRange, TimestampMs};

/// The most klines that the exchange gives at once, and so the slots of a window.
pub const PAGE_LIMIT: u16 = 1_000;

/// A half-open stretch of open times to ask the exchange for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First open time.
    pub start: TimestampMs,
    /// Exclusive.
    pub end: TimestampMs,
}

impl Window {
    /// Whether a candle that opens at `open_time` belongs to it.
    pub fn contains(&self, open_time: TimestampMs) -> bool {
        self.start <= open_time && open_time < self.end
    }
}

/// The candles that a load is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where candles of the interval open.
    pub grid: Grid,
    /// No candle before it is asked for.
    pub start: TimestampMs,
    /// Nor from it on. Never after the first candle that is not final.
    pub end: TimestampMs,
    /// Only candles that closed before it are final: the exchange's clock without the grace after a close.
    pub closed_before: TimestampMs,
    /// Number of the first expected candle on the grid.
    pub first_slot: i64,
    /// Number after the last expected one; not below `first_slot`.
    pub end_slot: i64,
    emptiness: Option<&'static str>,
}

/// There is nothing that could be loaded, now or by trying again soon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The range is of the future.
    #[error(
        "TIME_RANGE {range} starts in the future: by the exchange's clock it is {now}; expected a start before that"
    )]
    StartsInFuture {
        /// What was asked for.
        range: TimeRange,
        /// The exchange's clock.
        now: TimestampMs,
    },
}

/// Makes sure that there is something to plan.
///
/// # Errors
/// The range has not begun.
pub fn check_begun(range: &TimeRange, now: TimestampMs) -> Result<(), PlanError> {
    if range.start() < now {
        return Ok(());
    }
    Err(PlanError::StartsInFuture {
        range: range.clone(),
        now,
    })
}

/// How long it takes until the last candle of `range` is final, if it has closed and is not.
pub fn until_final(
    range: &TimeRange,
    grid: Grid,
    now: TimestampMs,
    close_grace: Duration,
) -> Option<Duration> {
    let closes = grid.ceil(range.end());
    let is_final = closes + millis(close_grace);
    if closes > now || is_final <= now {
        return None;
    }
    u64::try_from(is_final.as_millis() - now.as_millis())
        .ok()
        .map(Duration::from_millis)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("a setting of minutes at most")
}

impl Plan {
    /// Plans a load of `range`.
    ///
    /// `first_open` is the open time of the exchange's first candle, `None` if it has none; `now` is its clock, and
    /// a candle is final `close_grace` after its close.
    ///
    /// # Errors
    /// The range has not begun.
    pub fn new(
        range: &TimeRange,
        grid: Grid,
        first_open: Option<TimestampMs>,
        now: TimestampMs,
        close_grace: Duration,
    ) -> Result<Self, PlanError> {
        check_begun(range, now)?;
        let closed_before = now - millis(close_grace);
        // An exchange without any candle has its first one after every range.
        let first_open = first_open.unwrap_or(range.end());
        let end = range.end().min(grid.floor(closed_before));
        // The first candle of all may open off the grid, and it is expected all the same.
        let (start, first_slot) = if first_open > range.start() {
            (first_open, grid.index(first_open))
        } else {
            (range.start(), grid.index(grid.ceil(range.start())))
        };
        let end_slot = grid.index(grid.ceil(end)).max(first_slot);
        let emptiness = if first_open >= range.end() {
            Some("not listed yet in this range")
        } else if end_slot > first_slot {
            None
        } else if end < range.end() {
            Some("no candle of this range is final yet")
        } else {
            Some("no candle opens in this range")
        };
        Ok(Self {
            grid,
            start,
            end: end.max(start),
            closed_before,
            first_slot,
            end_slot,
            emptiness,
        })
    }

    /// How many candles are expected.
    pub fn expected(&self) -> u64 {
        u64::try_from(self.end_slot - self.first_slot).unwrap_or(0)
    }

    /// The slots of the candles that are expected in one of [`Plan::windows`].
    pub fn slots(&self, window: Window) -> Range<i64> {
        // The first candle of all may open off the grid.
        let first = if window.start == self.start {
            self.first_slot
        } else {
            self.grid.index(self.grid.ceil(window.start))
        };
        first..self.grid.index(self.grid.ceil(window.end))
    }

    /// Why nothing is expected, if so.
    pub fn emptiness(&self) -> Option<&'static str> {
        self.emptiness
    }

    /// The windows of at most `slots` candles each that cover what opens from `from` on, in order.
    pub fn windows(&self, from: TimestampMs, slots: u16) -> impl Iterator<Item = Window> + use<> {
        let (grid, end) = (self.grid, self.end);
        let mut next = from.max(self.start);
        std::iter::from_fn(move || {
            if next >= end {
                return None;
            }
            let window = Window {
                start: next,
                end: grid.open(grid.index(next) + i64::from(slots)).min(end),
            };
            next = window.end;
            Some(window)
        })
    }
}

#[cfg(test)]
mod tests;
