//! What a message is, by its headers and its value.

use rdkafka::{
    Timestamp,
    message::{Header, OwnedHeaders, OwnedMessage},
};
use streamforge_utils::protocol::{DLQ_TOPIC, MarkerOutcome, REPLAY};

use super::*;

const CANDLE: &str = r#"{"_key":"BTCUSDT_1m_1722470400000","symbol":"BTCUSDT","interval":"1m","open_time":1722470400000,"close_time":1722470459999,"open":64628.01,"high":64640.00,"low":64600.00,"close":64610.43,"volume":12.34567,"quote_asset_volume":797620.12345678,"number_of_trades":812,"taker_buy_base_asset_volume":6.1,"taker_buy_quote_asset_volume":394211.5,"exchange":"binance"}"#;
const MARKER: &str = r#"{"queue_id":"wf-x","run":1,"producer":"loader","last_seq":7,"first_open_time":null,"last_open_time":null,"partitions":3,"time_range":"2024-08-01:2024-08-01","outcome":"finished"}"#;

fn expected() -> Expected {
    Expected {
        queue_id: "wf-x".parse().unwrap(),
        symbol: "BTCUSDT".parse().unwrap(),
        interval: Interval::Minute1,
    }
}

fn reading(payload: &str, headers: &[(&str, &str)]) -> Reading {
    let headers = headers
        .iter()
        .fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header {
                key,
                value: Some(*value),
            })
        });
    let message = OwnedMessage::new(
        Some(payload.as_bytes().to_vec()),
        None,
        "wf-x-data".to_owned(),
        Timestamp::NotAvailable,
        2,
        0,
        Some(headers),
    );
    read(&message, &expected())
}

fn rejection(reading: &Reading) -> (RejectReason, &str) {
    match &reading.content {
        Content::Rejected(rejection) => (rejection.reason, &rejection.error),
        other => panic!("expected a rejection, found {other:?}"),
    }
}

#[test]
fn a_candle_is_written_under_its_key() {
    let reading = reading(CANDLE, &[(SCHEMA, "1"), (SEQ, "7")]);
    assert_eq!(reading.seq, Some(7));
    let key = "BTCUSDT_1m_1722470400000".into();
    assert_eq!(reading.content, Content::Candle { key });
}

#[test]
fn a_candle_of_another_stream_is_rejected_and_still_has_its_number() {
    for other in [
        CANDLE.replace("BTCUSDT", "ETHUSDT"),
        CANDLE.replace("1m", "3m"),
    ] {
        let reading = reading(&other, &[(SCHEMA, "1"), (SEQ, "7")]);
        let (reason, error) = rejection(&reading);
        assert_eq!((reason, reading.seq), (RejectReason::Foreign, Some(7)));
        assert!(error.ends_with("expected BTCUSDT 1m"), "{error}");
    }
}

#[test]
fn headers_must_be_there_and_sound() {
    for (headers, reason, error) in [
        (
            vec![(SEQ, "7")],
            RejectReason::Schema,
            "header streamforge-schema is missing, expected 1",
        ),
        (
            vec![(SEQ, "7"), (SCHEMA, "2")],
            RejectReason::Schema,
            "header streamforge-schema is \"2\", expected 1",
        ),
        (
            vec![(SCHEMA, "1")],
            RejectReason::Sequence,
            "header streamforge-seq is missing, expected a number from 1",
        ),
        (
            vec![(SCHEMA, "1"), (SEQ, "seven")],
            RejectReason::Sequence,
            "header streamforge-seq is \"seven\", expected a number from 1",
        ),
        (
            vec![(SCHEMA, "1"), (SEQ, "0")],
            RejectReason::Sequence,
            "header streamforge-seq is \"0\", expected a number from 1",
        ),
    ] {
        assert_eq!(rejection(&reading(CANDLE, &headers)), (reason, error));
    }
}

#[test]
fn what_is_no_candle_is_rejected_with_its_error() {
    for (payload, part) in [
        ("", "found nothing"),
        ("no", "not a candle"),
        ("[]", "found an array"),
        ("{}", "missing field"),
    ] {
        let reading = reading(payload, &[(SCHEMA, "1"), (SEQ, "7")]);
        let (reason, error) = rejection(&reading);
        assert_eq!((reason, reading.seq), (RejectReason::NotACandle, Some(7)));
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_marker_is_known_by_its_header() {
    let reading = reading(MARKER, &[(SCHEMA, "1"), (EOS, "1")]);
    assert_eq!(reading.seq, None);
    let Content::Marker(marker) = reading.content else {
        panic!("expected a marker, found {:?}", reading.content)
    };
    assert_eq!(
        (marker.last_seq, marker.outcome),
        (7, MarkerOutcome::Finished)
    );
}

#[test]
fn a_marker_that_can_not_be_of_this_partition_is_rejected() {
    for (payload, part) in [
        ("the end".to_owned(), "not a marker"),
        (
            MARKER.replace("wf-x", "wf-y"),
            "a marker of wf-y, expected wf-x",
        ),
        (
            MARKER.replace(r#""partitions":3"#, r#""partitions":2"#),
            "in partition 2 that says there are 2",
        ),
    ] {
        let reading = reading(&payload, &[(SCHEMA, "1"), (EOS, "1")]);
        let (reason, error) = rejection(&reading);
        assert_eq!(reason, RejectReason::BadMarker);
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_replayed_record_is_known_by_its_headers_and_has_no_number() {
    let replayed = [(SCHEMA, "1"), (REPLAY, "wf-x-data/2/7")];
    let as_it_was = [(SCHEMA, "1"), (DLQ_TOPIC, "wf-x-data"), (SEQ, "7")];
    for headers in [replayed.as_slice(), as_it_was.as_slice()] {
        let reading = reading(CANDLE, headers);
        assert_eq!((reading.seq, reading.is_replayed), (None, true));
        assert!(matches!(reading.content, Content::Candle { .. }));
    }
    // A marker that was rejected, put back, is none either.
    let marker = [(SCHEMA, "1"), (DLQ_TOPIC, "wf-x-data"), (EOS, "1")];
    let (reason, _) = rejection(&reading(MARKER, &marker));
    assert_eq!(reason, RejectReason::NotACandle);
    assert!(!reading(CANDLE, &[(SCHEMA, "1"), (SEQ, "7")]).is_replayed);
}

#[test]
fn an_error_that_quotes_a_large_record_is_cut() {
    let huge = CANDLE.replace("BTCUSDT", &"ü".repeat(300_000));
    let reading = reading(&huge, &[(SCHEMA, "1"), (SEQ, "7")]);
    let (_, error) = rejection(&reading);
    assert_eq!(error.chars().count(), MAX_ERROR_CHARS);
}
