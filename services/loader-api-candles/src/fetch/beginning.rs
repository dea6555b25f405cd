//! Where the exchange's candles begin, of all and in a range. Believed at once only where nothing hangs on it.

use streamforge_utils::protocol::{Interval, TimeRange, TimestampMs};

use super::{
    CandleSource,
    inquiry::{Inquiry, contradiction},
};
use crate::{
    binance::BinanceError,
    plan::{Plan, Window},
};

impl CandleSource {
    /// The open time of the exchange's first candle up to `now`, its clock; `None` if it has none.
    ///
    /// A plan of `range` depends on it where there is none, where it opens after the start of the range, and for three
    /// days, which are counted from it. There it is confirmed.
    ///
    /// # Errors
    /// See [`BinanceError`].
    pub async fn first_candle(
        &self,
        range: &TimeRange,
        now: TimestampMs,
    ) -> Result<Option<TimestampMs>, BinanceError> {
        let mut inquiry = Inquiry::new(self);
        loop {
            match first_candle(&mut inquiry, range, now).await {
                Err(BinanceError::Contradiction { what }) => inquiry.contradicted(what).await?,
                answered => return answered,
            }
        }
    }

    /// The open time of the first candle from `start` to the end of `plan`; `None` if there is none. Confirmed, unless
    /// it is in the first slot, or none is expected.
    ///
    /// # Errors
    /// See [`BinanceError`].
    pub async fn first_open(
        &self,
        plan: &Plan,
        start: TimestampMs,
    ) -> Result<Option<TimestampMs>, BinanceError> {
        if start >= plan.end {
            return Ok(None);
        }
        let mut inquiry = Inquiry::new(self);
        loop {
            match first_open(&mut inquiry, plan, start).await {
                Err(BinanceError::Contradiction { what }) => inquiry.contradicted(what).await?,
                answered => return answered,
            }
        }
    }
}

async fn first_candle(
    inquiry: &mut Inquiry<'_>,
    range: &TimeRange,
    now: TimestampMs,
) -> Result<Option<TimestampMs>, BinanceError> {
    let all = Window {
        start: TimestampMs(0),
        end: now + 1,
    };
    let first = first_in(inquiry, all).await?;
    let is_late = first.is_none_or(|first| first > range.start());
    if !is_late && inquiry.source.interval != Interval::Day3 {
        return Ok(first);
    }
    let claim = match first {
        Some(first) => format!("has no candle before {first}"),
        None => "has no candle".to_owned(),
    };
    inquiry.pause(&claim).await;
    let before = inquiry.latest_before(first.unwrap_or(all.end), 1).await?;
    if let Some(kline) = before.last() {
        let open = kline.open_time;
        return Err(contradiction(format!(
            "it {claim}, and one that opens at {open}"
        )));
    }
    let in_range = Window {
        start: range.start(),
        end: range.end().min(all.end),
    };
    if is_late {
        let found = first_in(inquiry, in_range).await?;
        if found != first.filter(|first| in_range.contains(*first)) {
            let found = found.map_or("none".to_owned(), |found| format!("one at {found}"));
            return Err(contradiction(format!(
                "it {claim}, and from {} on {found}",
                in_range.start
            )));
        }
    }
    Ok(first)
}

async fn first_open(
    inquiry: &mut Inquiry<'_>,
    plan: &Plan,
    start: TimestampMs,
) -> Result<Option<TimestampMs>, BinanceError> {
    let window = Window {
        start,
        end: plan.end,
    };
    let first = first_in(inquiry, window).await?;
    let slots = plan.slots(window);
    if slots.is_empty() || first.is_some_and(|first| plan.grid.index(first) <= slots.start) {
        return Ok(first);
    }
    let end = first.unwrap_or(window.end);
    inquiry
        .pause(&format!("has no candle from {start} to {end}"))
        .await;
    let latest = inquiry.latest_before(end, 1).await?;
    match latest.last() {
        Some(kline) if kline.open_time < start => Ok(first),
        // Nothing comes before the first candle of all.
        None if first.is_some() && start == plan.start => Ok(first),
        Some(kline) => Err(contradiction(format!(
            "it has no candle from {start} to {end}, and one that opens at {}",
            kline.open_time
        ))),
        None => Err(contradiction(format!(
            "it has no candle before {end}, and has given some"
        ))),
    }
}

async fn first_in(
    inquiry: &mut Inquiry<'_>,
    window: Window,
) -> Result<Option<TimestampMs>, BinanceError> {
    let klines = inquiry.first_in(window, 1).await?;
    Ok(klines.first().map(|kline| kline.open_time))
}
