//! Which candles are expected, and that the windows hold each once.

use proptest::prelude::*;
use streamforge_utils::protocol::Interval;

use super::*;

fn at(text: &str) -> TimestampMs {
    text.parse().unwrap()
}

const NO_GRACE: Duration = Duration::ZERO;
const LISTED: &str = "2017-08-17T04:00:00Z";

fn plan(interval: Interval, range: &str, now: &str) -> Result<Plan, PlanError> {
    let grid = Grid::new(interval, at(LISTED));
    let range = range.parse().unwrap();
    Plan::new(&range, grid, Some(at(LISTED)), at(now), NO_GRACE)
}

#[test]
fn a_range_of_the_past_is_expected_whole() {
    let plan = plan(
        Interval::Minute1,
        "2024-08-01:2024-08-31",
        "2024-10-01T00:00:00Z",
    )
    .unwrap();
    assert_eq!((plan.expected(), plan.emptiness()), (44_640, None));
    let windows: Vec<Window> = plan.windows(plan.start, PAGE_LIMIT).collect();
    assert_eq!(windows.len(), 45);
    assert_eq!(windows[0].start, at("2024-08-01T00:00:00Z"));
    assert_eq!(windows[0].end, at("2024-08-01T16:40:00Z"));
    assert_eq!(windows[44].end, at("2024-09-01T00:00:00Z"));
}

#[test]
fn an_end_in_the_future_is_cut_to_the_last_final_candle() {
    for (now, expected) in [
        ("2024-08-01T12:59:59.999Z", 12),
        ("2024-08-01T13:00:00Z", 13),
    ] {
        let plan = plan(Interval::Hour1, "2024-08-01:2024-08-31", now).unwrap();
        assert_eq!(plan.expected(), expected, "at {now}");
    }
}

#[test]
fn a_candle_is_final_some_seconds_after_its_close() {
    let range = "2024-08-01:2024-08-31".parse().unwrap();
    let grid = Grid::new(Interval::Hour1, at(LISTED));
    let grace = Duration::from_secs(3);
    for (now, expected) in [
        ("2024-08-01T13:00:00Z", 12),
        ("2024-08-01T13:00:02.999Z", 12),
        ("2024-08-01T13:00:03Z", 13),
    ] {
        let plan = Plan::new(&range, grid, Some(at(LISTED)), at(now), grace).unwrap();
        assert_eq!(plan.expected(), expected, "at {now}");
    }
    let early = Plan::new(
        &range,
        grid,
        Some(at(LISTED)),
        at("2024-08-01T00:00:01Z"),
        grace,
    );
    let emptiness = early.unwrap().emptiness();
    assert_eq!(emptiness, Some("no candle of this range is final yet"));
}

#[test]
fn a_last_candle_that_has_just_closed_is_waited_for() {
    let grid = Grid::new(Interval::Hour1, at(LISTED));
    let grace = Duration::from_secs(3);
    for (range, now, wait) in [
        ("2024-08-01:2024-08-01", "2024-08-01T23:59:59.999Z", None),
        ("2024-08-01:2024-08-01", "2024-08-02T00:00:00Z", Some(3_000)),
        (
            "2024-08-01:2024-08-01",
            "2024-08-02T00:00:02.500Z",
            Some(500),
        ),
        ("2024-08-01:2024-08-01", "2024-08-02T00:00:03Z", None),
        (
            "2024-08-01T00:00:00Z/2024-08-01T00:30:00Z",
            "2024-08-01T01:00:01Z",
            Some(2_000),
        ),
        (
            "2024-08-01T00:00:00Z/2024-08-01T00:30:00Z",
            "2024-08-01T00:30:01Z",
            None,
        ),
    ] {
        let waits = until_final(&range.parse().unwrap(), grid, at(now), grace);
        assert_eq!(waits.map(|wait| wait.as_millis()), wait, "{range} at {now}");
    }
}

#[test]
fn a_start_in_the_future_is_refused() {
    let error = plan(
        Interval::Hour1,
        "2024-08-02:2024-08-03",
        "2024-08-01T12:00:00Z",
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "TIME_RANGE 2024-08-02:2024-08-03 starts in the future: by the exchange's clock it is 2024-08-01T12:00Z; \
         expected a start before that"
    );
}

#[test]
fn before_the_listing_nothing_is_expected() {
    let now = "2024-08-01T12:00:00Z";
    let before = plan(Interval::Hour1, "2017-01-01:2017-08-16", now).unwrap();
    assert_eq!(before.expected(), 0);
    assert_eq!(before.emptiness(), Some("not listed yet in this range"));
    assert_eq!(before.windows(before.start, PAGE_LIMIT).count(), 0);

    let across = plan(Interval::Hour1, "2017-08-16:2017-08-17", now).unwrap();
    assert_eq!((across.expected(), across.start), (20, at(LISTED)));

    let grid = Grid::new(Interval::Hour1, TimestampMs(0));
    let range = "2017-08-16:2017-08-17".parse().unwrap();
    let never = Plan::new(&range, grid, None, at(now), NO_GRACE).unwrap();
    assert_eq!(
        (never.expected(), never.emptiness()),
        (0, Some("not listed yet in this range"))
    );
}

#[test]
fn a_first_candle_off_the_grid_is_expected() {
    let first = at("2018-02-09T09:28:14Z");
    let range = "2018-02-09:2018-02-09".parse().unwrap();
    let plan = Plan::new(
        &range,
        Grid::new(Interval::Hour1, first),
        Some(first),
        at("2024-08-01T12:00:00Z"),
        NO_GRACE,
    )
    .unwrap();
    assert_eq!((plan.start, plan.expected()), (first, 15));
}

#[test]
fn a_candle_that_is_still_open_leaves_nothing_to_load() {
    let plan = plan(
        Interval::Day1,
        "2024-08-01:2024-08-02",
        "2024-08-01T12:00:00Z",
    )
    .unwrap();
    assert_eq!(plan.expected(), 0);
    assert_eq!(
        plan.emptiness(),
        Some("no candle of this range is final yet")
    );
    assert_eq!(plan.windows(plan.start, PAGE_LIMIT).count(), 0);
}

#[test]
fn odd_instants_expect_the_candles_that_open_between_them() {
    let plan = plan(
        Interval::Hour1,
        "2024-08-01T00:30:00Z/2024-08-01T04:30:00Z",
        "2024-10-01T00:00:00Z",
    )
    .unwrap();
    assert_eq!(plan.expected(), 4, "01:00 to 04:00");
    assert_eq!(
        (plan.start, plan.end),
        (at("2024-08-01T00:30:00Z"), at("2024-08-01T04:30:00Z"))
    );
}

proptest! {
    #[test]
    fn windows_cover_what_is_left_of_the_range_exactly_once(
        which in 1..Interval::ALL.len(),
        start in 1_400_000_000_000_i64..1_700_000_000_000,
        length in 1_i64..3_000_000_000,
        listed in 1_400_000_000_000_i64..1_700_000_000_000,
        age in 1_i64..4_000_000_000,
        slots in 1_u16..1_001,
        done in 0_i64..1_000_000_000,
    ) {
        let text = format!("{}/{}", TimestampMs(start).to_jiff(), TimestampMs(start + length).to_jiff());
        let range: TimeRange = text.parse().unwrap();
        let grid = Grid::new(Interval::ALL[which], TimestampMs(listed));
        let plan = Plan::new(&range, grid, Some(TimestampMs(listed)), TimestampMs(start + age), NO_GRACE).unwrap();
        let from = plan.start + done;

        let mut next = from;
        let mut count = 0;
        for window in plan.windows(from, slots) {
            prop_assert_eq!(window.start, next, "no hole and no overlap");
            prop_assert!(window.start < window.end);
            let held = grid.index(window.end - 1) - grid.index(window.start) + 1;
            prop_assert!(held <= i64::from(slots), "{} candles do not fit into a page", held);
            next = window.end;
            count += grid.count(window.start, window.end);
        }
        prop_assert_eq!(next, if from < plan.end { plan.end } else { from });
        if done == 0 && listed <= start {
            prop_assert_eq!(count, plan.expected());
        }
        prop_assert!(plan.end <= range.end().max(plan.start));
        prop_assert!(plan.end == plan.start || grid.next(plan.end - 1) <= TimestampMs(start + age), "all are final");
    }
}
