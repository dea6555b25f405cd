//! Recorded responses, served again.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use streamforge_devstack::{
    exchange::{Exchange, Recording},
    recordings::recordings_dir,
};
use streamforge_utils::protocol::{Interval, TimestampMs};

use super::{client, get, klines};

const HOURS: [&str; 2] = [
    "klines_BTCUSDT_1h_start1588280400000_end1591880400000_limit1000.json",
    "klines_BTCUSDT_1h_start1591880400000_end1593572400000_limit1000_GAP.json",
];
const MINUTES: &str = "klines_BTCUSDT_1m_start1588740088000_end1588743688000.json";
const DAYS: &str = "klines_BTCUSDT_1d_start1546300800000_end1577836799000_limit1000.json";

fn path(folder: &std::path::Path, name: &str) -> PathBuf {
    folder.join("rest").join(name)
}

async fn text(exchange: &Exchange, path: &str) -> String {
    client()
        .get(exchange.url().join(path).unwrap())
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_recorded_query_gets_the_recorded_answer_digit_for_digit() {
    let Some(folder) = recordings_dir() else {
        return;
    };
    let read = |interval, names: &[&str]| {
        Recording::from_files(
            "BTCUSDT",
            interval,
            names.iter().map(|name| path(&folder, name)),
        )
        .unwrap()
    };
    let exchange = Exchange::builder()
        .recording(read(Interval::Hour1, &HOURS))
        .recording(read(Interval::Minute1, &[MINUTES]))
        .recording(read(Interval::Day1, &[DAYS]))
        .start()
        .await
        .unwrap();
    for (interval, rest, name) in [
        (
            "1h",
            "&startTime=1588280400000&endTime=1591880400000&limit=1000",
            HOURS[0],
        ),
        (
            "1h",
            "&startTime=1591880400000&endTime=1593572400000&limit=1000",
            HOURS[1],
        ),
        (
            "1m",
            "&startTime=1588740088000&endTime=1588743688000",
            MINUTES,
        ),
        (
            "1d",
            "&startTime=1546300800000&endTime=1577836799000&limit=1000",
            DAYS,
        ),
    ] {
        let recorded = fs::read_to_string(path(&folder, name)).unwrap();
        assert_eq!(
            text(&exchange, &klines(interval, rest)).await,
            recorded.trim(),
            "{name}"
        );
    }
    assert_eq!(
        get(&exchange, &klines("5m", "")).await.1,
        json!([]),
        "an interval that is not recorded is empty"
    );
    let (status, body) = get(&exchange, "api/v3/klines?symbol=ETHUSDT&interval=1h").await;
    assert_eq!(
        (status.as_u16(), body),
        (400, json!({"code": -1121, "msg": "Invalid symbol."}))
    );
    let (_, info) = get(&exchange, "api/v3/exchangeInfo").await;
    assert_eq!(info["symbols"].as_array().unwrap().len(), 1);
    assert_eq!(info["symbols"][0]["symbol"], "BTCUSDT");
    exchange.stop().await;
}

#[tokio::test]
async fn pages_join_across_a_real_gap() {
    let Some(folder) = recordings_dir() else {
        return;
    };
    let recording = Recording::from_files(
        "BTCUSDT",
        Interval::Hour1,
        HOURS.map(|name| path(&folder, name)),
    )
    .unwrap();
    assert_eq!(recording.len(), 1_468);
    let exchange = Exchange::builder()
        .recording(recording)
        .start()
        .await
        .unwrap();
    let mut from = 0;
    let mut seen: Vec<Value> = Vec::new();
    loop {
        let (_, page) = get(
            &exchange,
            &klines("1h", &format!("&startTime={from}&limit=97")),
        )
        .await;
        let Some(last) = page.as_array().unwrap().last() else {
            break;
        };
        from = last[0].as_i64().unwrap() + 1;
        seen.extend(page.as_array().unwrap().iter().cloned());
    }
    let end = TimestampMs(from);
    assert_eq!(
        json!(seen),
        json!(
            exchange
                .klines("BTCUSDT", Interval::Hour1, TimestampMs(0), end)
                .unwrap()
        )
    );
    let jumps: Vec<_> = seen
        .windows(2)
        .map(|pair| (pair[0][0].as_i64().unwrap(), pair[1][0].as_i64().unwrap()))
        .filter(|(before, after)| after - before != 3_600_000)
        .collect();
    assert_eq!(
        jumps,
        [(1_593_306_000_000, 1_593_320_400_000)],
        "2020-06-28 02:00, 03:00 and 04:00 are missing"
    );
    exchange.stop().await;
}
