//! A loader that is started again on a topic where offsets have no message, or messages are not a loader's.

use std::time::Duration;

use rdkafka::{
    Message,
    admin::{AdminOptions, AlterConfig, ResourceSpecifier},
    message::OwnedMessage,
    producer::{FutureProducer, FutureRecord, Producer},
};
use streamforge_utils::{
    kafka::{TopicReader, client_config},
    protocol::{
        DLQ_OFFSET, DLQ_PARTITION, DLQ_TOPIC, EOS, EOS_VALUE, Interval, Marker, MarkerOutcome,
        REPLAY, SEQ,
    },
};

use crate::rig::{Contents, LIMIT, Rig, at, until};

const START: &str = "2024-08-01T00:00:00Z";
const END: &str = "2024-08-04T00:00:00Z";

/// The 4,320 records of a whole load, without its marker.
async fn whole() -> Vec<OwnedMessage> {
    let rig = Rig::new(|exchange| exchange, &[]).await.topic(1).await;
    rig.run().await.done();
    let mut messages = rig.contents().await.messages;
    messages.pop();
    assert_eq!(messages.len(), 4_320);
    messages
}

fn assert_whole(rig: &Rig, contents: &Contents) {
    let expected = rig.expected(Interval::Minute1, START, END);
    assert_eq!(contents.records, expected);
}

/// Writes `messages` in a transaction, which ends as `commits` says and leaves a control record behind them.
async fn transact(rig: &Rig, messages: &[OwnedMessage], commits: bool) {
    let producer: FutureProducer = client_config(&rig.kafka.config().unwrap(), "foreign")
        .set("transactional.id", format!("{}-foreign", rig.queue_id))
        .create()
        .unwrap();
    let begun = tokio::task::spawn_blocking(move || {
        producer.init_transactions(LIMIT).unwrap();
        producer.begin_transaction().unwrap();
        producer
    });
    let producer = begun.await.unwrap();
    for message in messages {
        let mut record = FutureRecord::<[u8], [u8]>::to(&rig.topic).partition(0);
        record.key = message.key();
        record.payload = message.payload();
        record.headers = message.headers().cloned();
        let sent = producer.send_result(record);
        drop(sent.unwrap_or_else(|(error, _)| panic!("{error}")));
    }
    let ended = tokio::task::spawn_blocking(move || {
        if commits {
            producer.commit_transaction(LIMIT).unwrap();
        } else {
            producer.flush(LIMIT).unwrap();
            producer.abort_transaction(LIMIT).unwrap();
        }
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn a_load_resumes_after_control_records_and_aborted_ones() {
    let whole = whole().await;
    // What the transactions after the load's first thousand records hold, and how each ends.
    let foreign = OwnedMessage::new(
        Some(b"foreign".to_vec()),
        None,
        String::new(),
        rdkafka::Timestamp::NotAvailable,
        0,
        0,
        None,
    );
    let foreign = std::slice::from_ref(&foreign);
    for (of_load, others) in [
        ("committed", vec![]),
        ("committed", vec![(foreign, false), (foreign, true)]),
        ("plain", vec![(foreign, false); 20]),
    ] {
        let rig = Rig::new(|exchange| exchange, &[]).await;
        let Some(rig) = rig.topic_with(&[]).await else {
            return;
        };
        if of_load == "committed" {
            transact(&rig, &whole[..1_000], true).await;
        } else {
            rig.fill(&whole[..1_000]).await;
        }
        for (messages, commits) in &others {
            transact(&rig, messages, *commits).await;
        }
        let counts = rig.run().await.done().counts();
        assert_eq!(
            (counts.written, counts.missing),
            (4_320, 0),
            "{of_load}, {} others",
            others.len()
        );
        let again = rig.run().await.done();
        assert!(
            again.message().ends_with("all were published before"),
            "{}",
            again.message()
        );
    }
}

#[tokio::test]
async fn a_topic_with_nothing_but_a_control_record_is_an_empty_one() {
    let rig = Rig::new(|exchange| exchange, &[]).await;
    let Some(rig) = rig.topic_with(&[]).await else {
        return;
    };
    let foreign = OwnedMessage::new(
        Some(b"foreign".to_vec()),
        None,
        String::new(),
        rdkafka::Timestamp::NotAvailable,
        0,
        0,
        None,
    );
    transact(&rig, std::slice::from_ref(&foreign), false).await;
    assert_eq!(rig.run().await.done().counts().written, 4_320);
}

/// Compaction is switched off again, since a topic that is compacted is refused.
#[tokio::test]
async fn a_load_resumes_where_compaction_has_left_holes() {
    let rig = Rig::new(|exchange| exchange, &[]).await;
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.compaction.lag.ms", "100"),
    ];
    let Some(rig) = rig.topic_with(&compacted).await else {
        return;
    };
    let whole = whole().await;
    rig.fill(&whole[..500]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    for text in ["begins a segment", "foreign"] {
        let left = rig.kafka.publish(&rig.topic, Some(0), text, text, &[]);
        left.await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let config = rig.kafka.config().unwrap();
    let reader = TopicReader::new(&config, "test", "wf-test").unwrap();
    let compacted = async {
        while reader.message_at(&rig.topic, 0, 7).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(LIMIT, compacted).await.unwrap();
    let kept =
        AlterConfig::new(ResourceSpecifier::Topic(&rig.topic)).set("cleanup.policy", "delete");
    let altered = rig
        .admin()
        .alter_configs([&kept], &AdminOptions::new())
        .await;
    altered.unwrap()[0].as_ref().unwrap();
    let counts = rig.run().await.done().counts();
    assert_eq!((counts.written, counts.missing), (4_320, 0));
}

/// Dead letters that were put back, before and behind each kind of end, and the loader started again.
#[tokio::test]
async fn a_dead_letter_that_was_put_back_never_counts() {
    let whole = whole().await;
    for outcome in [
        None,
        Some(MarkerOutcome::Interrupted),
        Some(MarkerOutcome::Finished),
    ] {
        for is_behind in [false, true] {
            let rig = Rig::new(|exchange| exchange, &[]).await.topic(1).await;
            let published = if outcome == Some(MarkerOutcome::Finished) {
                whole.len()
            } else {
                1_000
            };
            rig.fill(&whole[..published]).await;
            if !is_behind {
                put_back(&rig, &whole).await;
            }
            if let Some(outcome) = outcome {
                mark(&rig, &whole[..published], outcome).await;
            }
            if is_behind {
                put_back(&rig, &whole).await;
            }
            let case = format!("{outcome:?}, behind: {is_behind}");
            let counts = rig.run().await.done().counts();
            assert_eq!((counts.written, counts.missing), (4_320, 0), "{case}");
            let contents = rig.contents().await;
            assert_eq!(contents.replayed, 3, "{case}");
            assert_whole(&rig, &contents);
            let finished = contents.markers[&0]
                .iter()
                .filter(|marker| marker.outcome == MarkerOutcome::Finished);
            assert_eq!(finished.count(), 1, "{case}");
        }
    }
}

/// Puts records 1 and 7 back, as `dlq replay` and as a tool that copies headers do; and what is no candle.
async fn put_back(rig: &Rig, whole: &[OwnedMessage]) {
    let text = |nth: usize| std::str::from_utf8(whole[nth].payload().unwrap()).unwrap();
    let coordinates = format!("{}-dlq/0/0", rig.topic);
    let old = [
        (DLQ_TOPIC, rig.topic.as_str()),
        (DLQ_PARTITION, "0"),
        (DLQ_OFFSET, "6"),
        (SEQ, "7"),
    ];
    for (payload, headers) in [
        (text(0), &[(REPLAY, coordinates.as_str())][..]),
        (text(6), &old),
        ("poison", &[(REPLAY, "x")]),
    ] {
        let sent = rig
            .kafka
            .publish(&rig.topic, Some(0), "BTCUSDT", payload, headers);
        sent.await.unwrap();
    }
}

async fn mark(rig: &Rig, published: &[OwnedMessage], outcome: MarkerOutcome) {
    let open_time = |message: &OwnedMessage| {
        let value: serde_json::Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
        serde_json::from_value(value["open_time"].clone()).unwrap()
    };
    let marker = Marker {
        queue_id: rig.queue_id.clone(),
        run: 1,
        producer: "loader".to_owned(),
        last_seq: published.len() as u64,
        first_open_time: published.first().map(open_time),
        last_open_time: published.last().map(open_time),
        partitions: 1,
        time_range: "2024-08-01:2024-08-03".parse().unwrap(),
        outcome,
    };
    let value = serde_json::to_string(&marker).unwrap();
    let headers = [(EOS, EOS_VALUE)];
    let sent = rig.kafka.publish(&rig.topic, Some(0), "", &value, &headers);
    sent.await.unwrap();
}

#[tokio::test]
async fn a_load_resumes_after_a_record_that_is_no_possible_candle() {
    let rig = Rig::new(|exchange| exchange, &[]).await.topic(1).await;
    let open = at(START).as_millis();
    let value = format!(
        r#"{{"_key":"BTCUSDT_1m_{open}","symbol":"BTCUSDT","interval":"1m","open_time":{open},"close_time":{},
            "open":1.5,"high":1,"low":2,"close":1,"volume":-8589934.59200000,"quote_asset_volume":1,
            "number_of_trades":1,"taker_buy_base_asset_volume":1,"taker_buy_quote_asset_volume":1,"exchange":"binance"}}"#,
        open + 59_999
    );
    let headers = [(SEQ, "1")];
    let sent = rig
        .kafka
        .publish(&rig.topic, Some(0), "BTCUSDT", &value, &headers);
    sent.await.unwrap();
    assert_eq!(rig.run().await.done().counts().written, 4_320);
    let records = rig.contents().await.records;
    assert_eq!(records.len(), 4_320);
    assert_eq!(records[0]["volume"], -8_589_934.592);
}

#[tokio::test]
async fn any_number_of_foreign_messages_is_passed_over_in_bounded_time() {
    let rig = Rig::new(|exchange| exchange, &[]).await.topic(1).await;
    let foreign = |offset| {
        OwnedMessage::new(
            Some(b"foreign".to_vec()),
            None,
            String::new(),
            rdkafka::Timestamp::NotAvailable,
            0,
            offset,
            None,
        )
    };
    let many: Vec<OwnedMessage> = (0..20_000).map(foreign).collect();
    rig.fill(&whole().await[..10]).await;
    rig.fill(&many).await;
    let running = rig.start();
    // Each of them asked for by itself took a minute and more.
    let progress = running.progress.clone();
    let resumed = tokio::time::timeout(
        Duration::from_secs(20),
        until(|| progress.counts().written > 10),
    );
    assert!(resumed.await.is_ok(), "it searches for the last record");
    running.ended().await.done();
}
