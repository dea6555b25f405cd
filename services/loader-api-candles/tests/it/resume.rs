//! Loads that were killed and started again: the topic ends up as if nothing had happened.

use std::time::Duration;

use rdkafka::{Message, message::OwnedMessage};
use streamforge_devstack::exchange::{Clock, Latency};
use streamforge_utils::{
    kafka::headers,
    protocol::{EOS, Interval, MarkerOutcome},
};

use crate::rig::{Contents, Rig, at};

const START: &str = "2024-08-01T00:00:00Z";
const END: &str = "2024-08-04T00:00:00Z";

fn is_marker(message: &OwnedMessage) -> bool {
    headers::get(message, EOS).is_some()
}

fn assert_whole(rig: &Rig, contents: &Contents) {
    assert_eq!(
        contents.records,
        rig.expected(Interval::Minute1, START, END)
    );
    for markers in contents.markers.values() {
        let outcomes: Vec<_> = markers.iter().map(|marker| marker.outcome).collect();
        assert_eq!(outcomes, [MarkerOutcome::Finished]);
    }
}

#[tokio::test]
async fn killed_in_mid_load_and_started_again() {
    for (partition_key, partitions) in [("symbol", 1), ("record", 3)] {
        let rig = Rig::new(
            |exchange| exchange,
            &[("PARTITION_KEY", partition_key), ("FETCH_IN_FLIGHT", "2")],
        )
        .await
        .topic(partitions)
        .await;
        rig.exchange
            .handle()
            .set_latency(Latency::fixed(Duration::from_millis(100)));
        for least in [1, 1_500, 3_000] {
            let running = rig.start();
            running.published(least).await;
            running.kill().await;
            let so_far = rig.contents().await;
            assert!(so_far.records.len() as u64 >= least && so_far.markers.is_empty());
        }
        let counts = rig.run().await.done().counts();
        assert_eq!(
            (counts.written, counts.total, counts.missing),
            (4_320, Some(4_320), 0)
        );
        assert_whole(&rig, &rig.contents().await);
    }
}

#[tokio::test]
async fn what_others_have_left_in_the_topic_is_passed_over() {
    let rig = Rig::new(
        |exchange| exchange,
        &[("PARTITION_KEY", "record"), ("FETCH_IN_FLIGHT", "1")],
    )
    .await
    .topic(2)
    .await;
    rig.exchange
        .handle()
        .set_latency(Latency::fixed(Duration::from_millis(200)));
    let leave = async |partition| {
        for text in ["not json", "{}"] {
            let left = rig
                .kafka
                .publish(&rig.topic, Some(partition), "", text, &[]);
            left.await.unwrap();
        }
    };
    // At the beginning, at the end of an attempt, and behind the markers.
    leave(0).await;
    let running = rig.start();
    running.published(1).await;
    running.kill().await;
    leave(0).await;
    leave(1).await;
    rig.run().await.done();
    leave(1).await;
    let again = rig.run().await.done().counts();
    assert_eq!((again.written, again.missing), (4_320, 0));
    let contents = rig.contents().await;
    assert_eq!(contents.foreign, 8);
    assert_whole(&rig, &contents);
}

/// What a whole load leaves, on an exchange without candles in two stretches.
async fn with_gaps(partition_key: &str, partitions: i32) -> (Rig, Contents) {
    let rig = rig_with_gaps(partition_key, partitions).await;
    rig.run().await.done();
    let contents = rig.contents().await;
    (rig, contents)
}

async fn rig_with_gaps(partition_key: &str, partitions: i32) -> Rig {
    let gap = |from: &str, to: &str| at(from)..at(to);
    Rig::new(
        |exchange| {
            exchange
                .gap(gap("2024-08-01T05:00:00Z", "2024-08-01T05:10:00Z"))
                .gap(gap("2024-08-03T07:00:00Z", "2024-08-03T07:05:00Z"))
        },
        &[("PARTITION_KEY", partition_key)],
    )
    .await
    .topic(partitions)
    .await
}

const GAPS: &str =
    "4305 candles, 15 missing in 2 gaps: 2024-08-01T05:00Z to 05:10Z, 2024-08-03T07:00Z to 07:05Z";

#[tokio::test]
async fn after_any_crash_gaps_of_earlier_attempts_are_counted_and_listed() {
    for (partition_key, partitions) in [("symbol", 1), ("record", 3)] {
        let (_rig, whole) = with_gaps(partition_key, partitions).await;
        // Each partition was cut at a place of its own, as partitions are not written in step.
        for keep in [
            [1_000, 700, 900],
            [0, 10, 0],
            [1_300, 1_400, 1_500],
            [100, 0, 1_200],
        ] {
            let rig = rig_with_gaps(partition_key, partitions).await;
            let mut left = keep;
            let prefix = whole.messages.iter().filter(|message| {
                let left = &mut left[usize::try_from(message.partition()).unwrap()];
                *left = usize::saturating_sub(*left, 1);
                *left > 0 && !is_marker(message)
            });
            rig.fill(prefix).await;
            let progress = rig.run().await.done();
            assert_eq!(progress.message(), GAPS, "{partition_key} {keep:?}");
            let counts = progress.counts();
            assert_eq!(
                (counts.written, counts.total, counts.missing),
                (4_305, Some(4_320), 15)
            );
            assert_whole(&rig, &rig.contents().await);
        }
    }
}

#[tokio::test]
async fn a_complete_topic_is_left_as_it_is() {
    let (rig, whole) = with_gaps("record", 3).await;
    let asked = rig.exchange.handle().counters().klines;
    let progress = rig.run().await.done();
    assert_eq!(
        progress.message(),
        format!("{GAPS}; all were published before")
    );
    let counts = progress.counts();
    assert_eq!(
        (counts.written, counts.total, counts.missing),
        (4_305, Some(4_320), 15)
    );
    assert_eq!(rig.contents().await.messages.len(), whole.messages.len());
    let asked_again = rig.exchange.handle().counters().klines - asked;
    assert_eq!(
        asked_again, 3,
        "the listing, the first candle and one after the last"
    );
}

#[tokio::test]
async fn killed_between_markers_only_the_lacking_ones_are_written() {
    let (loaded, whole) = with_gaps("record", 3).await;
    let mut rig = rig_with_gaps("record", 3).await;
    rig.set("QUEUE_ID", loaded.queue_id.as_str());
    let without_two = whole
        .messages
        .iter()
        .filter(|message| !is_marker(message) || message.partition() == 1);
    rig.fill(without_two).await;
    assert_eq!(rig.run().await.done().counts().written, 4_305);
    let contents = rig.contents().await;
    assert_whole(&rig, &contents);
    for partition in 0..3 {
        let (ours, theirs) = (&contents.markers[&partition], &whole.markers[&partition]);
        assert_eq!(ours, theirs, "a marker tells the same, whoever writes it");
    }
}

#[tokio::test]
async fn what_became_final_since_a_finished_load_is_not_added_and_said() {
    let rig = Rig::new(
        |exchange| exchange.clock(Clock::Fixed(at("2024-08-02T00:01:00Z"))),
        &[],
    )
    .await
    .topic(1)
    .await;
    assert_eq!(rig.run().await.done().counts().written, 1_440);
    rig.exchange
        .handle()
        .set_clock(Clock::Fixed(at("2024-08-03T00:00:00Z")));
    let progress = rig.run().await.done();
    let counts = progress.counts();
    assert_eq!(
        (counts.written, counts.total, counts.missing),
        (1_440, Some(1_440), 0)
    );
    assert_eq!(
        progress.message(),
        "1440 candles, published before; the exchange has more from 2024-08-02T00:00Z on, which only a new workflow \
         loads"
    );
}

#[tokio::test]
async fn what_contradicts_the_load_is_refused_for_good() {
    for (name, value, problem) in [
        (
            "TIME_RANGE",
            "2024-08-01:2024-08-02",
            "is a marker of TIME_RANGE 2024-08-01:2024-08-03",
        ),
        ("QUEUE_ID", "wf-another", "is a marker of QUEUE_ID"),
        (
            "SYMBOL",
            "ETHUSDT",
            "is a candle of BTCUSDT, and this load's is ETHUSDT",
        ),
        (
            "TYPE",
            "api_candles_3m",
            "is a candle of interval 1m, and this load's is 3m",
        ),
        ("PARTITION_KEY", "record", "(PARTITION_KEY)"),
        ("TOPIC_PARTITIONS", "1", "(TOPIC_PARTITIONS)"),
        (
            "NUMBERS",
            "string",
            "has its numbers written with NUMBERS json, and this load's is string",
        ),
    ] {
        let mut rig = Rig::new(|exchange| exchange, &[("TOPIC_PARTITIONS", "2")])
            .await
            .topic(2)
            .await;
        rig.run().await.done();
        let before = rig.contents().await.messages.len();
        rig.set(name, value);
        let failure = rig.run().await.failure();
        assert!(!failure.is_retryable());
        let text = failure.message();
        assert!(
            text.contains(problem) && text.contains(&rig.topic),
            "{name}={value} gave {text}"
        );
        assert_eq!(rig.contents().await.messages.len(), before);
    }
}

#[tokio::test]
async fn a_range_that_begins_earlier_than_the_topic_is_refused() {
    let (_rig, whole) = with_gaps("symbol", 1).await;
    let mut rig = rig_with_gaps("symbol", 1).await;
    rig.fill(
        whole
            .messages
            .iter()
            .filter(|message| !is_marker(message))
            .take(500),
    )
    .await;
    rig.set("TIME_RANGE", "2024-07-30:2024-08-03");
    let failure = rig.run().await.failure();
    assert!(!failure.is_retryable());
    assert!(
        failure
            .message()
            .contains("it was loaded with another range"),
        "{}",
        failure.message()
    );
}
