//! Intervals agree, any candle can be asked for alone, and pages of any size make the same whole.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn at(text: &str) -> TimestampMs {
    text.parse().unwrap()
}

fn market(seed: u64, gaps: &[Range<TimestampMs>]) -> Generated {
    Generated::new(seed, GeneratedSymbol::new("BTCUSDT"), gaps)
}

fn later() -> TimestampMs {
    at("2026-01-01T00:00:00Z")
}

fn rows(
    market: &Generated,
    interval: Interval,
    start: TimestampMs,
    end: TimestampMs,
    now: TimestampMs,
) -> Vec<Row> {
    market.rows(
        &Query {
            interval,
            start: Some(start),
            end: Some(end - 1),
            limit: usize::MAX,
        },
        now,
    )
}

/// A decimal with eight places as an integer.
fn number(value: &Value) -> i128 {
    value.as_str().unwrap().replace('.', "").parse().unwrap()
}

/// What a longer kline must be, given the shorter ones that open in it, computed from the text alone.
fn joined(shorter: &[Row]) -> Vec<i128> {
    let columns: Vec<_> = shorter.iter().map(Row::columns).collect();
    let of = |column: usize| columns.iter().map(move |row| number(&row[column]));
    vec![
        of(1).next().unwrap(),
        of(2).max().unwrap(),
        of(3).min().unwrap(),
        of(4).next_back().unwrap(),
        of(5).sum(),
        of(7).sum(),
        columns
            .iter()
            .map(|row| i128::from(row[8].as_u64().unwrap()))
            .sum(),
        of(9).sum(),
        of(10).sum(),
    ]
}

fn numbers(row: &Row) -> Vec<i128> {
    let columns = row.columns();
    [1, 2, 3, 4, 5, 7]
        .iter()
        .map(|&column| number(&columns[column]))
        .chain([i128::from(columns[8].as_u64().unwrap())])
        .chain([9, 10].iter().map(|&column| number(&columns[column])))
        .collect()
}

/// Checks every kline of `longer` in the range against the klines of `shorter` that open in it.
fn assert_agree(
    market: &Generated,
    longer: Interval,
    shorter: Interval,
    start: TimestampMs,
    end: TimestampMs,
    now: TimestampMs,
) {
    for row in rows(market, longer, start, end, now) {
        let parts = rows(market, shorter, row.open_time, row.close_time + 1, now);
        assert!(
            !parts.is_empty(),
            "{longer} at {} exists without any {shorter}",
            row.open_time
        );
        assert_eq!(
            numbers(&row),
            joined(&parts),
            "{longer} of {shorter} at {}",
            row.open_time
        );
    }
}

#[test]
fn a_kline_looks_as_the_exchange_writes_it() {
    let start = at("2024-08-01T00:00:00Z");
    let rows = rows(
        &market(7, &[]),
        Interval::Minute1,
        start,
        start + MINUTE,
        later(),
    );
    let columns = rows[0].columns();
    assert_eq!(rows.len(), 1);
    assert_eq!(columns[0], 1_722_470_400_000_i64);
    assert_eq!(columns[6], 1_722_470_459_999_i64);
    assert_eq!(columns[11], "0");
    for column in [1, 2, 3, 4, 5, 7, 9, 10] {
        let text = columns[column].as_str().unwrap();
        assert_eq!(text.split_once('.').unwrap().1.len(), 8, "{text}");
    }
    assert_eq!(serde_json::to_string(&columns).unwrap(), rows[0].json);
}

#[test]
fn the_same_seed_gives_the_same_candles_for_ever() {
    let start = at("2024-08-01T00:00:00Z");
    let first = |seed| {
        rows(
            &market(seed, &[]),
            Interval::Minute1,
            start,
            start + MINUTE,
            later(),
        )[0]
        .json
        .clone()
    };
    // If this changes, so does every data set that somebody compared with.
    insta::assert_snapshot!(first(7), @r#"[1722470400000,"41036.78000000","41041.45000000","41011.84000000","41040.13000000","0.09829000",1722470459999,"4031.66610030",4,"0.05514000","2261.73637980","0"]"#);
    assert_ne!(first(7), first(8));
}

#[test]
fn every_interval_agrees_with_the_next_shorter_one() {
    let market = market(7, &[]);
    let (start, end) = (at("2024-02-26T00:00:00Z"), at("2024-03-11T00:00:00Z"));
    for (longer, shorter) in [
        (Interval::Month1, Interval::Day1),
        (Interval::Week1, Interval::Day1),
        (Interval::Day3, Interval::Day1),
        (Interval::Day1, Interval::Hour12),
        (Interval::Hour12, Interval::Hour6),
        (Interval::Day1, Interval::Hour8),
        (Interval::Hour6, Interval::Hour2),
        (Interval::Hour8, Interval::Hour4),
        (Interval::Hour4, Interval::Hour1),
        (Interval::Hour2, Interval::Minute30),
        (Interval::Hour1, Interval::Minute15),
        (Interval::Minute30, Interval::Minute15),
        (Interval::Minute15, Interval::Minute5),
        (Interval::Minute5, Interval::Minute1),
        (Interval::Minute15, Interval::Minute3),
        (Interval::Minute3, Interval::Minute1),
    ] {
        let end = if longer < Interval::Hour1 {
            start + DAY
        } else {
            end
        };
        assert_agree(&market, longer, shorter, start, end, later());
    }
    assert_agree(
        &market,
        Interval::Minute1,
        Interval::Second1,
        start,
        start + HOUR,
        later(),
    );
}

#[test]
fn a_candle_opens_where_the_one_before_closed() {
    let market = market(7, &[]);
    let start = at("2024-08-01T00:00:00Z");
    for (interval, end) in [
        (Interval::Second1, start + HOUR),
        (Interval::Minute1, start + 3 * DAY),
        (Interval::Day1, start + 60 * DAY),
    ] {
        let rows = rows(&market, interval, start, end, later());
        for pair in rows.windows(2) {
            assert_eq!(
                pair[0].columns()[4],
                pair[1].columns()[1],
                "{interval} {}",
                pair[1].open_time
            );
        }
    }
}

#[test]
fn the_listing_cuts_the_first_candles() {
    let market = market(7, &[]);
    let first = |interval| {
        let query = Query {
            interval,
            start: Some(TimestampMs(0)),
            end: None,
            limit: 1,
        };
        market.rows(&query, later())[0].open_time.to_string()
    };
    assert_eq!(first(Interval::Second1), "2017-08-17T04:00Z");
    assert_eq!(first(Interval::Minute1), "2017-08-17T04:00Z");
    assert_eq!(first(Interval::Hour12), "2017-08-17T00:00Z");
    assert_eq!(first(Interval::Day1), "2017-08-17T00:00Z");
    assert_eq!(first(Interval::Day3), "2017-08-17T00:00Z");
    assert_eq!(first(Interval::Week1), "2017-08-14T00:00Z");
    assert_eq!(first(Interval::Month1), "2017-08-01T00:00Z");
    let start = at("2017-08-01T00:00:00Z");
    assert_agree(
        &market,
        Interval::Day1,
        Interval::Minute1,
        start,
        start + 18 * DAY,
        later(),
    );
}

#[test]
fn a_gap_takes_what_lies_in_it_and_cuts_what_it_touches() {
    let gap = at("2021-04-25T04:00:58Z")..at("2021-04-25T08:45:00Z");
    let market = market(7, &[gap]);
    let day = at("2021-04-25T00:00:00Z");
    let opens = |interval, from: &str, to: &str| -> Vec<String> {
        rows(&market, interval, at(from), at(to), later())
            .iter()
            .map(|row| row.open_time.to_string())
            .collect()
    };
    assert_eq!(
        opens(
            Interval::Hour1,
            "2021-04-25T03:00:00Z",
            "2021-04-25T10:00:00Z"
        ),
        [
            "2021-04-25T03:00Z",
            "2021-04-25T04:00Z",
            "2021-04-25T08:00Z",
            "2021-04-25T09:00Z"
        ]
    );
    assert_eq!(
        opens(
            Interval::Minute1,
            "2021-04-25T03:59:00Z",
            "2021-04-25T08:46:00Z"
        ),
        [
            "2021-04-25T03:59Z",
            "2021-04-25T04:00Z",
            "2021-04-25T08:45Z"
        ]
    );
    assert_eq!(
        opens(
            Interval::Second1,
            "2021-04-25T04:00:56Z",
            "2021-04-25T08:45:01Z"
        ),
        [
            "2021-04-25T04:00:56Z",
            "2021-04-25T04:00:57Z",
            "2021-04-25T08:45Z"
        ]
    );
    for (longer, shorter) in [
        (Interval::Day1, Interval::Minute1),
        (Interval::Hour1, Interval::Minute1),
        (Interval::Minute1, Interval::Second1),
    ] {
        let end = if shorter == Interval::Second1 {
            day + 5 * HOUR
        } else {
            day + DAY
        };
        assert_agree(&market, longer, shorter, day, end, later());
    }
}

#[test]
fn gaps_of_years_are_skipped_at_once() {
    let market = market(7, &[at("2018-01-01T00:00:00Z")..at("2024-01-01T00:00:00Z")]);
    let forward = Query {
        interval: Interval::Second1,
        start: Some(at("2017-12-31T23:59:59Z")),
        end: None,
        limit: 3,
    };
    let backward = Query {
        interval: Interval::Second1,
        start: None,
        end: Some(at("2024-01-01T00:00:01Z")),
        limit: 3,
    };
    let opens = |query: &Query| -> Vec<_> {
        market
            .rows(query, later())
            .iter()
            .map(|row| row.open_time.to_string())
            .collect()
    };
    assert_eq!(
        opens(&forward),
        [
            "2017-12-31T23:59:59Z",
            "2024-01-01T00:00Z",
            "2024-01-01T00:00:01Z"
        ]
    );
    assert_eq!(opens(&backward), opens(&forward));
}

#[test]
fn an_open_candle_holds_what_has_been_traded_so_far() {
    let market = market(7, &[]);
    let (open, now) = (at("2024-08-01T00:00:00Z"), at("2024-08-01T00:07:30.500Z"));
    let of = |interval, now| rows(&market, interval, open, open + DAY, now);
    let (early, done) = (of(Interval::Hour1, now), of(Interval::Hour1, later()));
    assert_eq!(early.len(), 1);
    assert!(early[0].close_time > now);
    assert!(
        numbers(&early[0])[4] < numbers(&done[0])[4],
        "volume goes on growing"
    );
    assert_eq!(of(Interval::Minute1, now).len(), 8);
    assert_eq!(of(Interval::Second1, now).len(), 451);
    assert_agree(
        &market,
        Interval::Hour1,
        Interval::Second1,
        open,
        open + HOUR,
        now,
    );
    assert_agree(
        &market,
        Interval::Minute1,
        Interval::Second1,
        open,
        open + HOUR,
        now,
    );
}

#[test]
fn the_start_rounds_up_and_both_ends_are_inclusive() {
    let market = market(7, &[]);
    let open = at("2024-08-01T00:01:00Z");
    let count = |start, end| {
        market
            .rows(
                &Query {
                    interval: Interval::Minute1,
                    start,
                    end,
                    limit: 10,
                },
                later(),
            )
            .len()
    };
    assert_eq!(count(Some(open), Some(open)), 1);
    assert_eq!(count(Some(open - 1), Some(open)), 1);
    assert_eq!(count(Some(open + 1), Some(open + MINUTE - 1)), 0);
    assert_eq!(count(Some(open + 1), Some(open)), 0);
    assert_eq!(count(None, Some(open)), 10);
    assert_eq!(count(None, Some(TimestampMs(0))), 0);
    assert_eq!(count(Some(later() + DAY), None), 0);
    assert_eq!(
        count(
            Some(TimestampMs(253_402_300_799_999)),
            Some(TimestampMs(253_402_300_799_999))
        ),
        0
    );
    let newest = market.rows(
        &Query {
            interval: Interval::Hour1,
            start: None,
            end: None,
            limit: 2,
        },
        later(),
    );
    assert_eq!(
        newest.iter().map(|row| row.open_time).collect::<Vec<_>>(),
        [later() - HOUR, later()]
    );
}

#[test]
fn years_of_minutes_stay_in_order() {
    let market = market(7, &[]);
    for row in rows(
        &market,
        Interval::Day1,
        at("2017-08-17T00:00:00Z"),
        at("2018-08-17T00:00:00Z"),
        later(),
    ) {
        let [open, high, low, close, ..] = numbers(&row)[..] else {
            unreachable!("nine numbers")
        };
        assert!(
            0 < low && low <= open.min(close) && open.max(close) <= high,
            "{}",
            row.json
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_candle_alone_is_the_one_of_the_sequence(
        which in 0..Interval::ALL.len(),
        start in 1_500_000_000_000_i64..1_760_000_000_000,
        gap in 0_i64..40_000_000,
        length in 1_i64..40_000_000,
        pick in 0_usize..30,
    ) {
        let gap = TimestampMs(start + gap)..TimestampMs(start + gap + length);
        let interval = Interval::ALL[which];
        let query = Query { interval, start: Some(TimestampMs(start)), end: None, limit: 30 };
        let sequence = market(3, std::slice::from_ref(&gap)).rows(&query, later());
        if let Some(row) = sequence.get(pick) {
            let alone = Query { interval, start: Some(row.open_time), end: Some(row.open_time), limit: 500 };
            prop_assert_eq!(&market(3, std::slice::from_ref(&gap)).rows(&alone, later()), std::slice::from_ref(row));
        }
        if let Some(last) = sequence.last() {
            let backward = Query { interval, start: None, end: Some(last.open_time), limit: sequence.len() };
            prop_assert_eq!(market(3, &[gap]).rows(&backward, later()), sequence);
        }
    }

    #[test]
    fn pages_of_any_size_make_the_whole(
        which in 0..13_usize,
        start in 1_500_000_000_000_i64..1_760_000_000_000,
        gap in 0_i64..10_000_000,
        length in 1_i64..10_000_000,
        limit in 1_usize..50,
    ) {
        let interval = Interval::ALL[which];
        let step = interval.fixed_ms().unwrap();
        let (start, end) = (TimestampMs(start), TimestampMs(start + step * 120));
        let market = market(3, &[start + gap..start + gap + length]);
        let whole = rows(&market, interval, start, end, later());
        let mut pages = Vec::new();
        let mut from = start;
        loop {
            let page = market.rows(&Query { interval, start: Some(from), end: Some(end - 1), limit }, later());
            let Some(last) = page.last() else { break };
            from = last.open_time + 1;
            pages.extend(page);
        }
        prop_assert_eq!(pages, whole);
    }

    #[test]
    fn hours_are_made_of_minutes_and_minutes_of_seconds(
        seed: u64,
        start in 1_503_000_000_000_i64..1_760_000_000_000,
        gap in 0_i64..10_000_000,
        length in 1_i64..10_000_000,
    ) {
        let start = TimestampMs(start);
        let market = market(seed, &[start + gap..start + gap + length]);
        assert_agree(&market, Interval::Hour2, Interval::Minute1, start, start + 6 * HOUR, later());
        assert_agree(&market, Interval::Minute1, Interval::Second1, start, start + 5 * MINUTE, later());
    }
}
