//! Loads that go well, and those that can't.

use rdkafka::Message;
use streamforge_devstack::{
    exchange::{Clock, GeneratedSymbol, Recording},
    recordings::recordings_dir,
};
use streamforge_utils::protocol::{Interval, MarkerOutcome, TimestampMs};

use crate::rig::{NOW, Rig, at};

#[tokio::test]
async fn every_final_candle_is_published_in_order_and_the_end_is_marked() {
    let rig = Rig::new(|exchange| exchange, &[]).await.topic(1).await;
    let begun = TimestampMs::now();
    let progress = rig.run().await.done();
    assert_eq!(progress.message(), "4320 candles, none missing");
    let counts = progress.counts();
    assert_eq!(
        (counts.written, counts.total, counts.missing),
        (4_320, Some(4_320), 0)
    );

    let contents = rig.contents().await;
    let expected = rig.expected(
        Interval::Minute1,
        "2024-08-01T00:00:00Z",
        "2024-08-04T00:00:00Z",
    );
    assert_eq!(expected.len(), 4_320);
    assert_eq!(contents.records, expected);
    let first = &contents.messages[0];
    assert_eq!(first.key(), Some(b"BTCUSDT".as_slice()));
    let published_at = first.timestamp().to_millis().unwrap();
    assert!(
        published_at >= begun.as_millis(),
        "the time of publishing, not the candle's"
    );

    let markers = &contents.markers[&0];
    assert_eq!(markers.len(), 1);
    let marker = &markers[0];
    assert_eq!(marker.outcome, MarkerOutcome::Finished);
    assert_eq!((marker.last_seq, marker.partitions), (4_320, 1));
    assert_eq!(marker.first_open_time, Some(at("2024-08-01T00:00:00Z")));
    assert_eq!(marker.last_open_time, Some(at("2024-08-03T23:59:00Z")));
    assert_eq!(
        rig.exchange.handle().counters().klines,
        6,
        "five pages and the first candle"
    );
}

#[tokio::test]
async fn digits_are_those_of_the_exchange() {
    let rig = Rig::new(
        |exchange| exchange,
        &[("TIME_RANGE", "2024-08-01T00:00:00Z/2024-08-01T00:10:00Z")],
    )
    .await
    .topic(1)
    .await;
    rig.run().await.done();
    let klines = rig
        .exchange
        .klines(
            "BTCUSDT",
            Interval::Minute1,
            at("2024-08-01T00:00:00Z"),
            at("2024-08-01T00:10:00Z"),
        )
        .unwrap();
    let contents = rig.contents().await;
    for (message, kline) in contents.messages.iter().zip(&klines) {
        let text = String::from_utf8_lossy(message.payload().unwrap());
        let volume = kline[5].as_str().unwrap();
        assert!(text.contains(&format!("\"volume\":{volume},")), "{text}");
    }
}

#[tokio::test]
async fn the_recorded_pages_load_whole_and_their_gap_is_told() {
    let Some(folder) = recordings_dir() else {
        return;
    };
    let page = |name: &str| folder.join("rest").join(name);
    let recording = Recording::from_files(
        "BTCUSDT",
        Interval::Hour1,
        &[
            page("klines_BTCUSDT_1h_start1588280400000_end1591880400000_limit1000.json"),
            page("klines_BTCUSDT_1h_start1591880400000_end1593572400000_limit1000_GAP.json"),
        ],
    )
    .unwrap();
    let rig = Rig::new(
        |exchange| exchange.recording(recording),
        &[
            ("TYPE", "api_candles_1h"),
            ("TIME_RANGE", "2020-04-30T21:00:00Z/2020-07-01T04:00:00Z"),
        ],
    )
    .await
    .topic(1)
    .await;
    let progress = rig.run().await.done();
    assert_eq!(
        progress.message(),
        "1468 candles, 3 missing in 1 gap: 2020-06-28T02:00Z to 05:00Z"
    );
    let counts = progress.counts();
    assert_eq!(
        (counts.written, counts.total, counts.missing),
        (1_468, Some(1_471), 3)
    );
    let expected = rig.expected(
        Interval::Hour1,
        "2020-04-30T21:00:00Z",
        "2020-07-01T04:00:00Z",
    );
    assert_eq!(rig.contents().await.records, expected);
}

#[tokio::test]
async fn candles_that_are_still_open_are_left_out() {
    let rig = Rig::new(
        |exchange| exchange.clock(Clock::Fixed(at("2024-08-02T10:20:30Z"))),
        &[
            ("TIME_RANGE", "2024-08-02:2024-12-31"),
            ("TYPE", "api_candles_15m"),
        ],
    )
    .await
    .topic(1)
    .await;
    let progress = rig.run().await.done();
    assert_eq!(progress.counts().total, Some(41));
    let contents = rig.contents().await;
    assert_eq!(contents.records.len(), 41);
    assert_eq!(
        contents.records[40]["open_time"],
        at("2024-08-02T10:00:00Z").as_millis()
    );
}

#[tokio::test]
async fn one_symbol_can_be_spread_over_all_partitions() {
    let rig = Rig::new(|exchange| exchange, &[("PARTITION_KEY", "record")])
        .await
        .topic(3)
        .await;
    assert_eq!(rig.run().await.done().counts().written, 4_320);
    let contents = rig.contents().await;
    let expected = rig.expected(
        Interval::Minute1,
        "2024-08-01T00:00:00Z",
        "2024-08-04T00:00:00Z",
    );
    assert_eq!(contents.records, expected);
    let last_seqs: Vec<u64> = (0..3)
        .map(|partition| contents.markers[&partition][0].last_seq)
        .collect();
    assert_eq!(last_seqs.iter().sum::<u64>(), 4_320);
    assert!(last_seqs.iter().all(|seq| *seq > 1_000), "{last_seqs:?}");
}

#[tokio::test]
async fn with_the_symbol_as_key_all_partitions_get_a_marker() {
    let rig = Rig::new(|exchange| exchange, &[]).await.topic(3).await;
    rig.run().await.done();
    let contents = rig.contents().await;
    let mut last_seqs: Vec<u64> = (0..3)
        .map(|partition| contents.markers[&partition][0].last_seq)
        .collect();
    last_seqs.sort_unstable();
    assert_eq!(last_seqs, [0, 0, 4_320]);
}

#[tokio::test]
async fn before_the_listing_is_no_gap() {
    let listed = |at| GeneratedSymbol::new("BTCUSDT").listed(at);
    let early = Rig::new(
        |exchange| exchange.symbols([listed(at("2024-09-01T00:00:00Z"))]),
        &[],
    )
    .await
    .topic(1)
    .await;
    let progress = early.run().await.done();
    assert_eq!(
        progress.message(),
        "0 candles: not listed yet in this range"
    );
    assert_eq!(progress.counts().total, Some(0));
    assert_eq!(early.contents().await.markers[&0][0].last_seq, 0);

    let across = Rig::new(
        |exchange| exchange.symbols([listed(at("2024-08-03T00:00:00Z"))]),
        &[],
    )
    .await
    .topic(1)
    .await;
    let counts = across.run().await.done().counts();
    assert_eq!(
        (counts.written, counts.total, counts.missing),
        (1_440, Some(1_440), 0)
    );
}

#[tokio::test]
async fn a_range_of_the_future_is_refused_for_good() {
    let rig = Rig::new(
        |exchange| exchange,
        &[("TIME_RANGE", "2024-10-02:2024-10-03")],
    )
    .await
    .topic(1)
    .await;
    let failure = rig.run().await.failure();
    assert!(!failure.is_retryable());
    assert!(
        failure
            .message()
            .contains("TIME_RANGE 2024-10-02:2024-10-03 starts in the future"),
        "{}",
        failure.message()
    );
    assert!(
        failure.message().contains(&NOW[..16]),
        "{}",
        failure.message()
    );
}

#[tokio::test]
async fn an_unknown_symbol_ends_with_the_exchanges_own_message_and_leaves_no_topic() {
    let rig = Rig::new(|exchange| exchange, &[("SYMBOL", "NOSUCHCOIN")]).await;
    let failure = rig.run().await.failure();
    assert!(!failure.is_retryable());
    assert_eq!(
        failure.message(),
        "ask the exchange for NOSUCHCOIN 1m: the exchange refused exchangeInfo: -1121 Invalid symbol. (HTTP 400)"
    );
    assert!(rig.contents().await.messages.is_empty());
}

#[tokio::test]
async fn a_topic_with_fewer_partitions_than_asked_for_is_refused() {
    let rig = Rig::new(|exchange| exchange, &[("TOPIC_PARTITIONS", "4")])
        .await
        .topic(2)
        .await;
    let failure = rig.run().await.failure();
    assert!(!failure.is_retryable());
    assert_eq!(
        failure.message(),
        format!(
            "topic {:?} has 2 partitions, and TOPIC_PARTITIONS is 4; expected at most 2",
            rig.topic
        )
    );
}

#[tokio::test]
async fn partitions_that_were_added_later_stay_empty() {
    let rig = Rig::new(
        |exchange| exchange,
        &[("TOPIC_PARTITIONS", "2"), ("PARTITION_KEY", "record")],
    )
    .await
    .topic(3)
    .await;
    rig.run().await.done();
    let contents = rig.contents().await;
    assert!(
        contents
            .messages
            .iter()
            .all(|message| message.partition() < 2)
    );
    assert_eq!(contents.markers.len(), 2);
    assert_eq!(contents.markers[&0][0].partitions, 2);
}

#[tokio::test]
async fn one_partition_is_used_unless_more_are_asked_for() {
    let rig = Rig::new(|exchange| exchange, &[("PARTITION_KEY", "record")]).await;
    // What an operator has made, or has added to since the run began.
    rig.create_topic(3).await;
    rig.run().await.done();
    let contents = rig.contents().await;
    assert_eq!(contents.records.len(), 4_320);
    assert_eq!(contents.markers.keys().collect::<Vec<_>>(), [&0]);
    assert_eq!(contents.markers[&0][0].partitions, 1);
}
