//! Which candles count as closed, which values as plausible, and what a limit of others costs.

use std::time::Duration;

use loader_api_candles::binance::CONFIRM_AFTER;
use serde_json::json;
use streamforge_devstack::exchange::Clock;
use streamforge_utils::protocol::{Interval, TimestampMs};

use crate::{
    rig::{Rig, at, until},
    twist::Answer,
    verified::{END, SECOND_PAGE, millis, rig, twist},
};

#[tokio::test]
async fn a_candle_that_has_just_closed_is_left_out_and_one_of_the_boundary_asked_for_twice() {
    let boundary = millis("2024-08-02T10:00:00Z");
    for (now, count) in [
        (boundary + 2_999, 39),
        (boundary + 3_000, 40),
        (boundary + 10_000, 40),
    ] {
        let mut rig = Rig::new(
            |exchange| exchange.clock(Clock::Fixed(TimestampMs(now))),
            &[
                ("TIME_RANGE", "2024-08-02:2024-12-31"),
                ("TYPE", "api_candles_15m"),
            ],
        )
        .await
        .topic(1)
        .await;
        rig.confirm_after = CONFIRM_AFTER;
        let proxy = twist(&mut rig, |_, answer| answer).await;
        rig.run().await.done();
        let records = rig.contents().await.records;
        assert_eq!(records.len(), count);
        let asked = proxy.klines().len();
        assert_eq!(
            asked,
            if now == boundary + 3_000 { 3 } else { 2 },
            "at {now}"
        );
    }
}

#[tokio::test]
async fn a_candle_that_changes_at_the_boundary_is_taken_as_it_is_later() {
    let now = at("2024-08-02T10:00:03Z");
    let mut rig = Rig::new(
        |exchange| exchange.clock(Clock::Fixed(now)),
        &[
            ("TIME_RANGE", "2024-08-02:2024-12-31"),
            ("TYPE", "api_candles_15m"),
        ],
    )
    .await
    .topic(1)
    .await;
    rig.confirm_after = CONFIRM_AFTER;
    twist(&mut rig, |asked, answer| {
        if !asked.is_klines() || asked.nth != 2 {
            return answer;
        }
        answer.rows(|rows| rows.last_mut().unwrap()[5] = json!("0.00000001"))
    })
    .await;
    rig.run().await.done();
    let expected = rig.expected(
        Interval::Minute15,
        "2024-08-02T00:00:00Z",
        "2024-08-02T10:00:00Z",
    );
    assert_eq!(rig.contents().await.records, expected);
}

#[tokio::test]
async fn the_last_candle_of_a_past_range_is_waited_for() {
    let rig = Rig::new(
        |exchange| exchange.clock(Clock::starting_at(at(END))),
        &[("CANDLE_CLOSE_GRACE_SECS", "1.5")],
    )
    .await
    .topic(1)
    .await;
    let progress = rig.run().await.done();
    assert_eq!(progress.message(), "4320 candles, none missing");
}

#[tokio::test]
async fn what_others_have_used_does_not_hold_up_the_plan() {
    let mut rig = rig(&[]).await;
    let proxy = twist(&mut rig, |_, answer| {
        let used = answer.headers.trim().rsplit(' ').next().unwrap();
        let used: u32 = 3_000 + used.parse::<u32>().unwrap();
        Answer {
            headers: format!("x-mbx-used-weight-1m: {used}\r\n"),
            ..answer
        }
    })
    .await;
    let running = rig.start();
    until(|| running.progress.counts().total == Some(4_320)).await;
    let asked = |path: &str| proxy.asked(path)[0].at;
    // From the first question on: what comes before depends on the machine. The next minute is 30 s away.
    let planned = asked("/api/v3/klines") - asked("/api/v3/time");
    assert!(planned < Duration::from_secs(2), "{planned:?}");
    assert!(asked("/api/v3/exchangeInfo") < asked("/api/v3/klines"));
    let progress = running.ended().await.done();
    assert_eq!(progress.message(), "4320 candles, none missing");
}

#[tokio::test]
async fn implausible_candles_are_published_and_counted() {
    let mut rig = rig(&[]).await;
    let second = millis(SECOND_PAGE);
    twist(&mut rig, move |asked, answer| {
        if !asked.is_klines() || asked.start() != Some(second) {
            return answer;
        }
        answer.rows(|rows| {
            rows[10][5] = json!("-8589934.59200000");
            rows[11][2] = json!("0.00000001");
            rows[12][5] = json!("-0.00000000");
        })
    })
    .await;
    let progress = rig.run().await.done();
    assert_eq!(
        progress.message(),
        "4320 candles, none missing; 2 with implausible values"
    );
    let counts = progress.counts();
    assert_eq!((counts.written, counts.suspect), (4_320, 2));
    let records = rig.contents().await.records;
    assert_eq!(records[1_010]["volume"], json!(-8_589_934.592));
}
