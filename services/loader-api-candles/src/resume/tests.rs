//! What contradicts a load, and where it goes on.

use rdkafka::{
    Timestamp,
    message::{OwnedHeaders, OwnedMessage},
};
use streamforge_utils::{
    kafka::headers,
    protocol::{DLQ_TOPIC, Interval, Numbers, REPLAY},
};

use super::*;
use crate::{kline, partition::PartitionKey};

const MINUTE: i64 = 60_000;
const FIRST: i64 = 1_722_470_400_000;

fn spec() -> StreamSpec {
    StreamSpec {
        queue_id: "wf-btcusdt-api_candles_1m-20240801-abc123".parse().unwrap(),
        run: 1,
        producer: "loader-api-candles__abc123".to_owned(),
        symbol: "BTCUSDT".parse().unwrap(),
        interval: Interval::Minute1,
        numbers: Numbers::Json,
        time_range: "2024-08-01:2024-08-01".parse().unwrap(),
        partition_key: PartitionKey::Symbol,
        partitions: 1,
    }
}

fn message(partition: i32, key: &str, value: &[u8], headers: OwnedHeaders) -> OwnedMessage {
    OwnedMessage::new(
        Some(value.to_vec()),
        Some(key.as_bytes().to_vec()),
        "data".to_owned(),
        Timestamp::NotAvailable,
        partition,
        0,
        Some(headers),
    )
}

/// The record that `spec` would write for the minute `nth` of its range.
fn record(spec: &StreamSpec, nth: i64) -> OwnedMessage {
    let open = FIRST + nth * MINUTE;
    let page = format!(
        r#"[[{open},"1","2","0.5","1.5","10",{},"15",3,"4","6","0"]]"#,
        open + MINUTE - 1
    );
    let record = kline::read_page(page.as_bytes()).unwrap().klines[0].to_record(
        &spec.symbol,
        spec.interval,
        spec.numbers,
    );
    let key = spec.kafka_key(&record.key);
    let partition = partition_of(key, spec.partitions);
    message(
        partition,
        key,
        &record.value,
        headers::with(&[(SEQ, &(nth + 1).to_string())]),
    )
}

fn marker(spec: &StreamSpec) -> OwnedMessage {
    let marker = Marker {
        queue_id: spec.queue_id.clone(),
        run: 1,
        producer: spec.producer.clone(),
        last_seq: 3,
        first_open_time: Some(TimestampMs(FIRST)),
        last_open_time: Some(TimestampMs(FIRST + 2 * MINUTE)),
        partitions: spec.partitions,
        time_range: spec.time_range.clone(),
        outcome: MarkerOutcome::Interrupted,
    };
    let value = serde_json::to_vec(&marker).unwrap();
    message(0, "", &value, headers::with(&[(EOS, EOS_VALUE)]))
}

#[test]
fn our_own_messages_are_taken() {
    let spec = spec();
    assert_eq!(
        entry(&record(&spec, 7), &spec),
        Ok(Entry::Record {
            seq: 8,
            open_time: TimestampMs(FIRST + 7 * MINUTE)
        })
    );
    assert!(matches!(
        entry(&marker(&spec), &spec),
        Ok(Entry::Marker(marker)) if marker.last_seq == 3
    ));
    let foreign = message(0, "BTCUSDT", b"{}", headers::with(&[]));
    assert_eq!(entry(&foreign, &spec), Ok(Entry::Foreign));
}

#[test]
fn a_record_needs_no_more_than_its_number_and_open_time() {
    let spec = spec();
    let implausible =
        br#"{"open_time":1722470400000,"open":1,"volume":-8589934.59200000,"high":1,"low":2}"#;
    let bare = br#"{"open_time":1722470400000}"#;
    for value in [&implausible[..], bare] {
        let message = message(0, "BTCUSDT", value, headers::with(&[(SEQ, "1")]));
        let expected = Entry::Record {
            seq: 1,
            open_time: TimestampMs(FIRST),
        };
        assert_eq!(entry(&message, &spec), Ok(expected));
    }
}

#[test]
fn a_dead_letter_that_was_put_back_is_not_a_loaders() {
    let spec = spec();
    let value = record(&spec, 0);
    let value = value.payload().unwrap();
    for more in [
        &[(REPLAY, "wf-x-data/0/0")][..],
        &[(DLQ_TOPIC, "wf-x-data"), (SEQ, "1")],
        &[(DLQ_TOPIC, "wf-x-data"), (EOS, EOS_VALUE)],
    ] {
        let put_back = message(0, "BTCUSDT", value, headers::with(more));
        assert_eq!(entry(&put_back, &spec), Ok(Entry::Foreign), "{more:?}");
    }
}

#[test]
fn a_range_in_other_words_is_the_same_range() {
    let spec = spec();
    let other = StreamSpec {
        time_range: "2024-08-01T00:00:00Z/2024-08-02T00:00:00Z".parse().unwrap(),
        ..spec.clone()
    };
    entry(&marker(&other), &spec).unwrap();
}

#[test]
fn what_is_of_another_load_names_both_sides() {
    let ours = spec();
    let other = |change: fn(&mut StreamSpec)| {
        let mut spec = ours.clone();
        change(&mut spec);
        spec
    };
    let other_queue =
        other(|spec| spec.queue_id = "wf-btcusdt-api_candles_1m-20240801-zzz999".parse().unwrap());
    let other_range = other(|spec| spec.time_range = "2024-08-01:2024-08-02".parse().unwrap());
    let other_symbol = other(|spec| spec.symbol = "ETHBTC".parse().unwrap());
    let other_interval = other(|spec| spec.interval = Interval::Minute3);
    let other_key = other(|spec| spec.partition_key = PartitionKey::Record);
    let more_partitions = other(|spec| spec.partitions = 7);
    let strings = other(|spec| spec.numbers = Numbers::String);
    for (message, problem) in [
        (
            marker(&other_queue),
            "is a marker of QUEUE_ID wf-btcusdt-api_candles_1m-20240801-zzz999, and this load's is \
             wf-btcusdt-api_candles_1m-20240801-abc123",
        ),
        (
            marker(&other_range),
            "is a marker of TIME_RANGE 2024-08-01:2024-08-02, and this load's is 2024-08-01:2024-08-01",
        ),
        (
            marker(&more_partitions),
            "is a marker of a load over so many partitions (TOPIC_PARTITIONS): 7, and this load's is 1",
        ),
        (
            record(&other_symbol, 0),
            "is a candle of ETHBTC, and this load's is BTCUSDT",
        ),
        (
            record(&other_interval, 0),
            "is a candle of interval 3m, and this load's is 1m",
        ),
        (
            record(&ours, 1_440),
            "is the candle of 2024-08-02T00:00Z, which is not in TIME_RANGE 2024-08-01:2024-08-01",
        ),
        (
            record(&strings, 0),
            "has its numbers written with NUMBERS string, and this load's is json",
        ),
        (
            record(&other_key, 0),
            "has the key BTCUSDT_1m_1722470400000, and this load's is BTCUSDT (PARTITION_KEY)",
        ),
        (
            record(&more_partitions, 0),
            "has the key \"BTCUSDT\", which belongs to partition 0 of 1: it was loaded over another number of \
             partitions (TOPIC_PARTITIONS)",
        ),
        (
            message(0, "BTCUSDT", b"{}", headers::with(&[(SEQ, "0")])),
            "has \"0\" in the header streamforge-seq, which is no number of a loader's",
        ),
        (
            message(0, "BTCUSDT", b"[1]", headers::with(&[(SEQ, "1")])),
            "is not a candle: expected a JSON object",
        ),
        (
            message(0, "", b"{}", headers::with(&[(EOS, EOS_VALUE)])),
            "is no end-of-stream marker: missing field `queue_id` at line 1 column 2",
        ),
    ] {
        assert_eq!(entry(&message, &ours), Err(problem.to_owned()));
    }
}

fn at(last: Option<i64>) -> PartitionState {
    PartitionState {
        last_seq: last.map_or(0, |last| u64::try_from(last).unwrap() + 1),
        first_open: last.map(|_| TimestampMs(FIRST)),
        is_first_known: last.is_some(),
        last_open: last.map(|last| TimestampMs(FIRST + last * MINUTE)),
        ..PartitionState::default()
    }
}

#[test]
fn goes_on_after_the_smallest_last_candle_of_the_partitions_in_reach() {
    let record_key = StreamSpec {
        partition_key: PartitionKey::Record,
        partitions: 3,
        ..spec()
    };
    let open = |nth: i64| Some(TimestampMs(FIRST + nth * MINUTE));
    let states = [at(Some(5)), at(Some(3)), at(Some(9))];
    assert_eq!(last_in_all(&states, &record_key), open(3));
    assert_eq!(last_in_any(&states, &record_key), open(9));
    let one_empty = [at(Some(5)), at(None), at(Some(9))];
    assert_eq!(last_in_all(&one_empty, &record_key), None);

    let symbol_key = StreamSpec {
        partitions: 3,
        ..spec()
    };
    let mine = usize::try_from(symbol_key.reachable()[0]).unwrap();
    let mut states = [at(None); 3];
    states[mine] = at(Some(4));
    assert_eq!(last_in_all(&states, &symbol_key), open(4));
    assert_eq!(last_in_all(&[at(None); 3], &symbol_key), None);
}

#[test]
fn one_finished_marker_is_enough_and_an_interrupted_one_is_not() {
    let ended = |outcome| PartitionState {
        outcome,
        ..PartitionState::default()
    };
    assert!(is_complete(&[
        ended(None),
        ended(Some(MarkerOutcome::Finished))
    ]));
    assert!(!is_complete(&[
        ended(None),
        ended(Some(MarkerOutcome::Interrupted))
    ]));
}

#[test]
fn a_topic_that_begins_later_than_the_range_was_loaded_with_another_range() {
    let spec = spec();
    let states = [at(Some(5))];
    check_beginning("data", &states, &spec, TimestampMs(FIRST)).unwrap();
    let error =
        check_beginning("data", &states, &spec, TimestampMs(FIRST - 60 * MINUTE)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "topic \"data\", partition 0: its records begin at 2024-08-01T00:00Z, and TIME_RANGE 2024-08-01:2024-08-01 \
         begins with the candle of 2024-07-31T23:00Z: it was loaded with another range"
    );
    assert!(error.is_permanent());
    let deleted = [PartitionState {
        is_first_known: false,
        ..states[0]
    }];
    check_beginning("data", &deleted, &spec, TimestampMs(FIRST - MINUTE)).unwrap();
}
