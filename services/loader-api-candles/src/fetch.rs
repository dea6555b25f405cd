//! The pages of a plan, several asked for at once, handed over in order.
//!
//! At most `FETCH_IN_FLIGHT` pages are held besides the one that was handed over last. An error ends the row: no page
//! is ever left out. That the exchange has no candle is never believed because an answer is empty: see `confirm`
//! and `beginning`. What becomes of the klines is not its job.

mod beginning;
mod confirm;
mod inquiry;

use std::{
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use streamforge_utils::protocol::{Grid, Interval, Symbol, TimestampMs};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    binance::{BinanceClient, BinanceError},
    kline::Kline,
    plan::{PAGE_LIMIT, Plan, Window},
};
use confirm::confirm;
use inquiry::Inquiry;

/// Klines of consecutive windows, in order.
pub type Pages = Pin<Box<dyn Stream<Item = Result<Vec<Kline>, BinanceError>> + Send>>;

/// One symbol's candles at the exchange.
#[derive(Debug, Clone)]
pub struct CandleSource {
    client: Arc<BinanceClient>,
    symbol: Symbol,
    interval: Interval,
    close_grace: Duration,
    /// Where the exchange was last found to have no candle.
    empty: Arc<Mutex<Option<Range<TimestampMs>>>>,
}

impl CandleSource {
    /// The candles of `symbol` and `interval`, which are final `close_grace` after their close.
    pub fn new(
        client: BinanceClient,
        symbol: Symbol,
        interval: Interval,
        close_grace: Duration,
    ) -> Self {
        Self {
            client: Arc::new(client),
            symbol,
            interval,
            close_grace,
            empty: Arc::default(),
        }
    }

    /// The client that it asks.
    pub fn client(&self) -> &BinanceClient {
        &self.client
    }

    /// What opens from `from` on, up to the end of `plan`, `in_flight` pages at a time.
    pub fn pages(&self, plan: &Plan, from: TimestampMs, in_flight: usize) -> Pages {
        let (source, of) = (self.clone(), Arc::new(plan.clone()));
        stream::iter(plan.windows(from, PAGE_LIMIT))
            .map(move |window| {
                let (source, plan) = (source.clone(), Arc::clone(&of));
                // On tasks of their own, so that answers are read in time also while publishing holds up the row.
                AbortOnDropHandle::new(tokio::spawn(async move {
                    source.whole_window(&plan, window).await
                }))
            })
            .buffered(in_flight)
            // It is only aborted when it is dropped, so what did not end has panicked.
            .map(|joined| {
                joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
            })
            .boxed()
    }

    /// All klines of a window, and none is missing only because one answer lacks it.
    async fn whole_window(&self, plan: &Plan, window: Window) -> Result<Vec<Kline>, BinanceError> {
        let mut inquiry = Inquiry::new(self);
        loop {
            let klines = read(&mut inquiry, plan.grid, window).await?;
            match confirm(&mut inquiry, plan, window, klines).await {
                Err(BinanceError::Contradiction { what }) => inquiry.contradicted(what).await?,
                confirmed => return confirmed,
            }
        }
    }

    /// Whether all of these lie where the exchange was found to have no candle.
    fn is_known_empty(&self, holes: &[Range<TimestampMs>]) -> bool {
        let empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        empty.as_ref().is_some_and(|empty| {
            let within =
                |hole: &Range<TimestampMs>| empty.start <= hole.start && hole.end <= empty.end;
            holes.iter().all(within)
        })
    }

    fn note_empty(&self, empty: Range<TimestampMs>) {
        *self.empty.lock().unwrap_or_else(PoisonError::into_inner) = Some(empty);
    }

    /// Candles that closed before it were settled at `asked_at`, by the exchange's clock: one question is enough.
    fn settled_before(&self, asked_at: TimestampMs) -> TimestampMs {
        let unsettled = self.close_grace + self.client.settings().confirm_after;
        asked_at - i64::try_from(unsettled.as_millis()).unwrap_or(i64::MAX)
    }
}

/// The klines of a window. One page holds them, unless some open off the grid and there are more than slots.
async fn read(
    inquiry: &mut Inquiry<'_>,
    grid: Grid,
    window: Window,
) -> Result<Vec<Kline>, BinanceError> {
    let mut klines: Vec<Kline> = Vec::new();
    let mut rest = window;
    loop {
        let page = inquiry.first_in(rest, PAGE_LIMIT).await?;
        let next = rest_after(grid, window, PAGE_LIMIT, &page);
        klines.extend(page);
        match next {
            Some(start) => rest.start = start,
            None => return Ok(klines),
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
        let page = read_page(format!("[{}]", klines.join(",")).as_bytes())
            .unwrap()
            .klines;
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
