//! When a candle counts as missing: not because one answer lacks it. It is asked for again some time later, by another
//! question, and the answers have to agree.

use std::ops::Range;

use streamforge_utils::protocol::{Grid, TimestampMs};

use super::inquiry::{Inquiry, contradiction};
use crate::{
    binance::BinanceError,
    kline::Kline,
    plan::{PAGE_LIMIT, Plan, Window},
};

/// Slots of one window that are empty so far: from where they begin to the next kline, or to the window's end.
type Hole = Range<TimestampMs>;

/// What `klines`, the exchange's first answer about `window`, are with what it says when it is asked again.
///
/// # Errors
/// [`BinanceError::Contradiction`] if answers contradict each other.
pub(super) async fn confirm(
    inquiry: &mut Inquiry<'_>,
    plan: &Plan,
    window: Window,
    mut klines: Vec<Kline>,
) -> Result<Vec<Kline>, BinanceError> {
    loop {
        let holes = holes(plan.grid, plan.slots(window), window, &klines);
        let (Some(first), Some(last)) = (holes.first(), holes.last()) else {
            break;
        };
        if inquiry.source.is_known_empty(&holes) {
            break;
        }
        inquiry
            .pause(&format!("gave no candle from {} on", first.start))
            .await;
        let mut end = window.end;
        if last.end == window.end {
            // The page was shorter than the slots that were left. What comes behind the window tells how far the hole
            // goes, so that the next windows need not ask.
            let after = klines.last().map(|kline| kline.open_time + 1);
            let rest = Window {
                start: after.unwrap_or(window.start),
                end: plan.end,
            };
            let left = plan.slots(window).end - plan.grid.index(last.start);
            let limit = u16::try_from(left)
                .unwrap_or(PAGE_LIMIT)
                .clamp(1, PAGE_LIMIT);
            let mut more = inquiry.first_in(rest, limit).await?;
            let beyond = more.partition_point(|kline| window.contains(kline.open_time));
            end = more.get(beyond).map_or(plan.end, |kline| kline.open_time);
            if beyond > 0 {
                more.truncate(beyond);
                klines.extend(more);
                continue;
            }
        }
        look_back(inquiry, first.start, end, &klines).await?;
        if last.end == window.end {
            inquiry.source.note_empty(last.start..end);
        }
        break;
    }
    settle(inquiry, window, &mut klines).await?;
    Ok(klines)
}

/// The slots without a kline.
fn holes(grid: Grid, slots: Range<i64>, window: Window, klines: &[Kline]) -> Vec<Hole> {
    let mut holes = Vec::new();
    let mut next = slots.start;
    let mut hole = |from: i64, to: i64, end: TimestampMs| {
        if from < to {
            holes.push(grid.open(from).max(window.start)..end);
        }
    };
    for kline in klines {
        let slot = grid.index(kline.open_time);
        hole(next, slot, kline.open_time);
        next = next.max(slot + 1);
    }
    hole(next, slots.end, window.end);
    holes
}

/// Asks backwards, by the end alone: the latest klines before `end`, as far back as `from` and one more. They have to be
/// the last ones of `klines`, so that nothing lies in what is called empty.
async fn look_back(
    inquiry: &mut Inquiry<'_>,
    from: TimestampMs,
    mut end: TimestampMs,
    klines: &[Kline],
) -> Result<(), BinanceError> {
    loop {
        let known = &klines[..klines.partition_point(|kline| kline.open_time < end)];
        let inside = known.len() - known.partition_point(|kline| kline.open_time < from);
        let limit = (inside + 1).min(PAGE_LIMIT.into());
        let asked = u16::try_from(limit).expect("at most a page");
        let latest = inquiry.latest_before(end, asked).await?;
        let expected = &known[known.len().saturating_sub(limit)..];
        let mut found = latest.iter().rev();
        for kline in expected.iter().rev() {
            let same = found.next().map(|kline| kline.open_time);
            if same != Some(kline.open_time) {
                return Err(differs(from, end, same, Some(kline.open_time)));
            }
        }
        if let Some(kline) = found.next() {
            // Before the first one that is known here there has to be something, but not in what is called empty.
            if kline.open_time >= from {
                return Err(differs(from, end, Some(kline.open_time), None));
            }
            return Ok(());
        }
        if latest.len() < limit {
            return Err(differs(from, end, None, None));
        }
        if limit > inside {
            return Ok(());
        }
        end = expected[0].open_time;
    }
}

fn differs(
    from: TimestampMs,
    end: TimestampMs,
    found: Option<TimestampMs>,
    known: Option<TimestampMs>,
) -> BinanceError {
    let tell = |open: Option<TimestampMs>| {
        open.map_or("no candle".to_owned(), |open| {
            format!("the candle of {open}")
        })
    };
    contradiction(match known {
        Some(_) => format!(
            "asked for what opens from {from} to {end} it gave {}, asked backwards from the end {}",
            tell(known),
            tell(found)
        ),
        None if found.is_some() => format!(
            "asked for what opens from {from} to {end} it gave no candle there, asked backwards from the end {}",
            tell(found)
        ),
        None => {
            format!("asked backwards from {end} it gave no candle, and before {from} it has some")
        }
    })
}

/// Asks again for candles that had closed only just before they were asked for: servers that are behind the others
/// may have given them as they were before their last trades.
async fn settle(
    inquiry: &mut Inquiry<'_>,
    window: Window,
    klines: &mut Vec<Kline>,
) -> Result<(), BinanceError> {
    loop {
        let settled = inquiry.source.settled_before(inquiry.asked_at);
        let at = klines.partition_point(|kline| kline.close_time < settled);
        let Some(first) = klines.get(at) else {
            return Ok(());
        };
        let fresh = Window {
            start: first.open_time,
            end: window.end,
        };
        inquiry
            .pause(&format!(
                "closed the candle of {} just now",
                first.open_time
            ))
            .await;
        let again = inquiry.first_in(fresh, PAGE_LIMIT).await?;
        if again == klines[at..] {
            return Ok(());
        }
        if again.len() < klines.len() - at {
            return Err(contradiction(format!(
                "from {} on it gave {} candles, and then {}",
                fresh.start,
                klines.len() - at,
                again.len()
            )));
        }
        tracing::warn!(
            open_time = %fresh.start,
            "The exchange has changed a candle after its close; took the later one"
        );
        klines.truncate(at);
        klines.extend(again);
    }
}

#[cfg(test)]
mod tests {
    use streamforge_utils::protocol::Interval;

    use super::*;
    use crate::kline::read_page;

    const HOUR: i64 = 3_600_000;

    fn holes_of(open_times: &[i64], start: i64, slots: Range<i64>) -> Vec<(i64, i64)> {
        let rows: Vec<String> = open_times
            .iter()
            .map(|open| format!(r#"[{open},"1","1","1","1","1",{open},"1",1,"1","1","0"]"#))
            .collect();
        let klines = read_page(format!("[{}]", rows.join(",")).as_bytes())
            .unwrap()
            .klines;
        let window = Window {
            start: TimestampMs(start),
            end: TimestampMs(slots.end * HOUR),
        };
        let grid = Grid::new(Interval::Hour1, TimestampMs(0));
        holes(grid, slots, window, &klines)
            .into_iter()
            .map(|hole| (hole.start.as_millis(), hole.end.as_millis()))
            .collect()
    }

    #[test]
    fn slots_without_a_kline_are_holes() {
        let whole = [0, HOUR, 2 * HOUR];
        assert_eq!(holes_of(&whole, 0, 0..3), []);
        assert_eq!(holes_of(&[], 0, 0..3), [(0, 3 * HOUR)]);
        assert_eq!(holes_of(&whole[1..], 0, 0..3), [(0, HOUR)]);
        assert_eq!(holes_of(&whole[..1], 0, 0..3), [(HOUR, 3 * HOUR)]);
        assert_eq!(
            holes_of(&[HOUR, 3 * HOUR], 0, 0..5),
            [(0, HOUR), (2 * HOUR, 3 * HOUR), (4 * HOUR, 5 * HOUR)]
        );
        let off_grid = [HOUR / 2, HOUR + 1, HOUR + 2, 2 * HOUR + 5];
        assert_eq!(holes_of(&off_grid, 0, 0..3), []);
        assert_eq!(
            holes_of(&[HOUR], HOUR / 2, 0..2),
            [(HOUR / 2, HOUR)],
            "a first candle of all that opens off the grid"
        );
    }
}
