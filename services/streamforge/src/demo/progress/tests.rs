use serde_json::json;

use super::*;
use crate::events::tests::{QUEUE, board, event};

fn workflow() -> Workflow {
    Workflow {
        queue_id: QUEUE.parse().unwrap(),
        symbol: "BTCUSDT".parse().unwrap(),
        interval: "1m".parse().unwrap(),
        range: "2024-08-01:2024-08-07".parse().unwrap(),
        data_topic: format!("{QUEUE}-data"),
        collection: "btcusdt_api_candles_1m_2024_08_01".to_owned(),
        partitions: 1,
    }
}

#[test]
fn a_writer_is_measured_by_its_loader() {
    let before = Reading::of(&board([]), &workflow(), arango_candles::SERVICE);
    assert_eq!(
        (before.done, before.total, before.state),
        (0, None, "starting")
    );

    let board = board([
        event(
            loader_api_candles::SERVICE,
            "finished",
            json!({"records_written": 97, "records_total": 100, "records_missing": 3}),
        ),
        event(
            arango_candles::SERVICE,
            "loading",
            json!({"records_written": 40}),
        ),
    ]);
    for (service, reading) in [
        (loader_api_candles::SERVICE, (97, Some(97), "done")),
        (arango_candles::SERVICE, (40, Some(97), "")),
    ] {
        let Reading { done, total, state } = Reading::of(&board, &workflow(), service);
        assert_eq!((done, total, state), reading, "{service}");
    }
}

#[test]
fn lines_come_when_they_are_due_and_once() {
    let workflows = [workflow()];
    let mut lines = Lines::default();
    let running = board([
        event(
            loader_api_candles::SERVICE,
            "loading",
            json!({"records_written": 4000, "records_total": 10080}),
        ),
        event(
            arango_candles::SERVICE,
            "loading",
            json!({"records_written": 1000}),
        ),
    ]);
    assert!(lines.due(&workflows, &running, false).is_empty());
    let line = "BTCUSDT 1m: 4,000 of 10,080 published, 1,000 written";
    assert_eq!(lines.due(&workflows, &running, true), [line]);
    assert!(
        lines.due(&workflows, &running, true).is_empty(),
        "nothing moved"
    );

    let ended = board([event(
        loader_api_candles::SERVICE,
        "finished",
        json!({"finished": true, "message": "10080 candles, none missing"}),
    )]);
    let line = "BTCUSDT 1m: loader-api-candles finished: 10080 candles, none missing";
    assert_eq!(lines.due(&workflows, &ended, false), [line]);
    assert!(
        lines.due(&workflows, &ended, false).is_empty(),
        "it ended once"
    );
}

const QUEUED: &str = "waiting for the exchange: connection refused";

/// A board on which the loader and the writer have written so much, and the loader says so.
fn standing(published: u64, written: u64, message: &str) -> Board {
    board([
        event(
            loader_api_candles::SERVICE,
            "loading",
            json!({"records_written": published, "records_total": 10_080, "message": message}),
        ),
        event(
            arango_candles::SERVICE,
            "loading",
            // It says so for as long as nobody tells it otherwise.
            json!({"records_written": written, "message": "joining the consumer group"}),
        ),
    ])
}

#[test]
fn a_changed_message_is_told_once_if_nothing_moves() {
    let workflows = [workflow()];
    let mut lines = Lines::default();
    let began = Instant::now();
    let mut at = |seconds, board: &Board| {
        let now = began + Duration::from_secs(seconds);
        lines.waits(&workflows, board, now)
    };
    let none: [&str; 0] = [];
    let waiting = standing(4_000, 4_000, QUEUED);
    assert_eq!(at(0, &waiting), none, "it has just moved");
    assert_eq!(at(1, &waiting), none);
    let line = format!("BTCUSDT 1m: loader-api-candles: {QUEUED}");
    assert_eq!(at(2, &waiting), [line.as_str()]);
    assert_eq!(at(60, &waiting), none);
    let other = standing(4_000, 4_000, "waiting for the exchange: 503");
    let other_line = "BTCUSDT 1m: loader-api-candles: waiting for the exchange: 503";
    assert_eq!(at(61, &other), [other_line]);
    let moved = standing(5_000, 4_000, QUEUED);
    assert_eq!(at(62, &moved), none);
    let writer = "BTCUSDT 1m: arango-candles: joining the consumer group";
    assert_eq!(at(64, &moved), [writer], "it is the writer that is behind");
}

#[test]
fn silence_is_told_of_after_five_seconds() {
    let loading = |service, written: u64, message: &str| {
        let counts =
            json!({"records_written": written, "records_total": 10_080, "message": message});
        event(service, "loading", counts)
    };
    let of_loader = |message| loading(loader_api_candles::SERVICE, 4_000, message);
    for (board, line) in [
        (board([]), Some("waiting for loader-api-candles to start")),
        (
            board([
                of_loader("4000 of 10080 records"),
                loading(arango_candles::SERVICE, 4_000, ""),
            ]),
            Some("waiting for loader-api-candles to get candles from the exchange"),
        ),
        (
            board([of_loader("")]),
            Some("waiting for arango-candles to start"),
        ),
        (
            board([
                of_loader(""),
                loading(
                    arango_candles::SERVICE,
                    3_999,
                    "3999 of 10080 records written, 1 rejected",
                ),
            ]),
            Some("waiting for arango-candles to write candles"),
        ),
        (
            board([
                event(
                    loader_api_candles::SERVICE,
                    "finished",
                    json!({"finished": true}),
                ),
                event(
                    arango_candles::SERVICE,
                    "finished",
                    json!({"finished": true}),
                ),
            ]),
            None,
        ),
    ] {
        let workflows = [workflow()];
        let mut lines = Lines::default();
        let began = Instant::now();
        let mut told = Vec::new();
        for seconds in 0..=4 {
            let now = began + Duration::from_secs(seconds);
            told.extend(lines.waits(&workflows, &board, now));
        }
        assert!(told.is_empty(), "{told:?} came too early");
        for seconds in 5..=60 {
            let now = began + Duration::from_secs(seconds);
            told.extend(lines.waits(&workflows, &board, now));
        }
        let line = line.map(|line| format!("BTCUSDT 1m: {line}"));
        assert_eq!(told, Vec::from_iter(line));
        let waits = SERVICES
            .iter()
            .any(|service| lines.is_waited_for(&workflows[0], service));
        assert_eq!(waits, !told.is_empty());
    }
}
