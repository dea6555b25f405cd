//! The pages of a plan, several asked for at once, handed over in order.
//!
//! At most `FETCH_IN_FLIGHT` pages are held besides the one that was handed over last. An error ends the row: no page
//! is ever left out. What becomes of the klines is not its job.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt, stream};
use streamforge_utils::protocol::{Grid, Interval, Symbol, TimestampMs};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    binance::{BinanceClient, BinanceError},
    kline::Kline,
    plan::{PAGE_LIMIT, Plan, Window},
};

/// Klines of consecutive windows, in order.
pub type Pages = Pin<Box<dyn Stream<Item = Result<Vec<Kline>, BinanceError>> + Send>>;

/// One symbol's candles at the exchange.
#[derive(Debug, Clone)]
pub struct CandleSource {
    client: Arc<BinanceClient>,
    symbol: Symbol,
    interval: Interval,
}

impl CandleSource {
    /// The candles of `symbol` and `interval`.
    pub fn new(client: BinanceClient, symbol: Symbol, interval: Interval) -> Self {
        Self {
            client: Arc::new(client),
            symbol,
            interval,
        }
    }

    /// What opens from `from` on, up to the end of `plan`, `in_flight` pages at a time.
    pub fn pages(&self, plan: &Plan, from: TimestampMs, in_flight: usize) -> Pages {
        let (source, grid) = (self.clone(), plan.grid);
        stream::iter(plan.windows(from, PAGE_LIMIT))
            .map(move |window| {
                let source = source.clone();
                // On tasks of their own, so that answers are read in time also while publishing holds up the row.
                AbortOnDropHandle::new(tokio::spawn(async move {
                    source.whole_window(grid, window).await
                }))
            })
            .buffered(in_flight)
            // It is only aborted when it is dropped, so what did not end has panicked.
            .map(|joined| {
                joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
            })
            .boxed()
    }

    /// The open time of the first candle in `[start, end)`; `None` if there is none.
    ///
    /// # Errors
    /// See [`BinanceError`].
    pub async fn first_open(
        &self,
        start: TimestampMs,
        end: TimestampMs,
    ) -> Result<Option<TimestampMs>, BinanceError> {
        if start >= end {
            return Ok(None);
        }
        let window = Window { start, end };
        let klines = self
            .client
            .klines(&self.symbol, self.interval, window, 1)
            .await?;
        Ok(klines.first().map(|kline| kline.open_time))
    }

    /// All klines of a window. One page holds them, unless some open off the grid and there are more than slots.
    async fn whole_window(&self, grid: Grid, window: Window) -> Result<Vec<Kline>, BinanceError> {
        let mut klines: Vec<Kline> = Vec::new();
        let mut rest = window;
        loop {
            let page = self
                .client
                .klines(&self.symbol, self.interval, rest, PAGE_LIMIT)
                .await?;
            let next = rest_after(grid, window, PAGE_LIMIT, &page);
            klines.extend(page);
            match next {
                Some(start) => rest.start = start,
                None => return Ok(klines),
            }
        }
    }
}

/// Where to go on after `page` of at most `limit` klines, if `window` may hold more.
///
/// A full page that reaches the window's last slot holds all, if its klines stand on the grid: there is one a slot. No
/// further request is spent on those.
fn rest_after(grid: Grid, window: Window, limit: u16, page: &[Kline]) -> Option<TimestampMs> {
    let last = page.last()?.open_time;
    if page.len() < usize::from(limit) {
        return None;
    }
    let off_grid = |kline: &Kline| grid.floor(kline.open_time) != kline.open_time;
    let further = if page.iter().any(off_grid) {
        last + 1
    } else {
        grid.next(last)
    };
    (further < window.end).then_some(last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kline::read_page;

    const MINUTE: i64 = 60_000;

    /// Where to go on after a page of up to three klines, in the first three minutes of Unix time.
    fn rest(open_times: &[i64]) -> Option<i64> {
        let klines: Vec<String> = open_times
            .iter()
            .map(|open| {
                let close = open + MINUTE - 1;
                format!(r#"[{open},"1","1","1","1","1",{close},"1",1,"1","1","0"]"#)
            })
            .collect();
        let page = read_page(format!("[{}]", klines.join(",")).as_bytes()).unwrap();
        let window = Window {
            start: TimestampMs(0),
            end: TimestampMs(3 * MINUTE),
        };
        let grid = Grid::new(Interval::Minute1, TimestampMs(0));
        rest_after(grid, window, 3, &page).map(TimestampMs::as_millis)
    }

    #[test]
    fn one_kline_a_slot_is_one_page() {
        assert_eq!(rest(&[0, MINUTE, 2 * MINUTE]), None);
        assert_eq!(rest(&[]), None);
        assert_eq!(rest(&[0, 2 * MINUTE]), None, "a page that is not full");
    }

    #[test]
    fn a_full_page_with_more_klines_than_slots_is_gone_on_after() {
        assert_eq!(rest(&[0, 30_000, MINUTE]), Some(MINUTE + 1));
        let in_last_slot = 2 * MINUTE;
        assert_eq!(rest(&[0, 90_000, in_last_slot]), Some(in_last_slot + 1));
        assert_eq!(rest(&[0, MINUTE, 150_000]), Some(150_001));
    }

    #[test]
    fn nothing_is_asked_for_beyond_the_window() {
        let last = 3 * MINUTE - 1;
        assert_eq!(rest(&[0, MINUTE, last]), None);
    }
}
