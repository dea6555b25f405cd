//! What a dead letter says, also where the record does not fit.

use rdkafka::{
    Timestamp,
    message::{Header, Headers, OwnedHeaders},
};
use streamforge_utils::{
    kafka::headers,
    protocol::{
        DLQ_ERROR, DLQ_OFFSET, DLQ_PARTITION, DLQ_PRODUCER, DLQ_REASON, DLQ_SIZE, DLQ_TOPIC,
        SCHEMA, SEQ,
    },
};

use super::*;
use crate::record::RejectReason;

fn message(payload: &[u8], headers: OwnedHeaders) -> OwnedMessage {
    OwnedMessage::new(
        Some(payload.to_vec()),
        Some(b"BTCUSDT".to_vec()),
        "wf-x-data".to_owned(),
        Timestamp::NotAvailable,
        2,
        41,
        Some(headers),
    )
}

fn rejection() -> Rejection {
    Rejection::new(RejectReason::NotACandle, "e".repeat(5000))
}

const COORDINATES: [(&str, &str); 6] = [
    (SCHEMA, "1"),
    (DLQ_REASON, "not-a-candle"),
    (DLQ_TOPIC, "wf-x-data"),
    (DLQ_PARTITION, "2"),
    (DLQ_OFFSET, "41"),
    (DLQ_PRODUCER, "arango-candles__abc123"),
];

#[test]
fn a_dead_letter_keeps_its_headers_and_says_why_and_from_where() {
    let message = message(b"not json", headers::with(&[(SEQ, "7")]));
    let letter = Letter::of(&message, &rejection(), "arango-candles__abc123");
    assert_eq!(letter.payload, Some(b"not json".as_slice()));
    let letter = message.clone().replace_headers(Some(letter.headers));
    for (name, value) in COORDINATES.into_iter().chain([(SEQ, "7")]) {
        assert_eq!(headers::get(&letter, name), Some(value), "{name}");
    }
    assert_eq!(headers::get(&letter, DLQ_ERROR).unwrap().len(), 1000);
    assert_eq!(headers::get(&letter, DLQ_SIZE), None);
}

#[test]
fn a_dead_letter_that_does_not_fit_is_small_whatever_came_with_it() {
    let mut own = headers::with(&[(SEQ, "7"), ("note", &"n".repeat(700_000))]);
    for number in 0..10_000 {
        let key = format!("header-{number}");
        own = own.insert(Header {
            key: &key,
            value: Some("x"),
        });
    }
    let message = message(&vec![b' '; 3_000_000], own);
    let letter = Letter::without_value(&message, &rejection(), "arango-candles__abc123");
    assert_eq!(letter.payload, None);
    assert_eq!(letter.key, Some(b"BTCUSDT".as_slice()));
    let length = |header: Header<'_, &[u8]>| header.key.len() + header.value.map_or(0, <[u8]>::len);
    let bytes: usize = letter.headers.iter().map(length).sum();
    assert!(bytes < 10_000, "{bytes}");
    let letter = message.clone().replace_headers(Some(letter.headers));
    for (name, value) in COORDINATES
        .into_iter()
        .chain([(SEQ, "7"), (DLQ_SIZE, "3000000")])
    {
        assert_eq!(headers::get(&letter, name), Some(value), "{name}");
    }
}

#[test]
fn a_record_that_is_rejected_again_has_the_headers_of_its_last_rejection_only() {
    let own = headers::with(&[(DLQ_REASON, "refused"), (DLQ_SIZE, "9"), (SEQ, "7")]);
    let message = message(b"no", own);
    let letter = Letter::of(&message, &rejection(), "writer");
    let reasons: Vec<_> = letter
        .headers
        .iter()
        .filter(|header| header.key == DLQ_REASON)
        .map(|header| header.value)
        .collect();
    assert_eq!(reasons, [Some(b"not-a-candle".as_slice())]);
    assert!(letter.headers.iter().all(|header| header.key != DLQ_SIZE));
}

#[test]
fn a_letter_that_is_too_large_is_known_by_its_code() {
    let error = |code| KafkaError::MessageProduction(code);
    assert!(is_too_large(&error(RDKafkaErrorCode::MessageSizeTooLarge)));
    assert!(!is_too_large(&error(RDKafkaErrorCode::QueueFull)));
}
