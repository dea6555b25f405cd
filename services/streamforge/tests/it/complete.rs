//! Loads that nobody disturbs, in every order of starting.

use std::time::{Duration, Instant};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    error::KafkaError,
    message::Message,
};
use streamforge_utils::{
    kafka,
    protocol::{Event, EventKind, TimestampMs},
};

use crate::flow::{Flow, LOADER, Plan, WRITER};

#[tokio::test]
async fn loader_and_writer_together() {
    let flow = Flow::start(Plan::three_days()).await;
    let (loader, writer) = (flow.loader(), flow.writer());
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    flow.assert_complete().await;
    flow.assert_finished().await;
    let events = flow.events(|_| true).await;
    for service in [LOADER, WRITER] {
        let kinds: Vec<_> = events
            .iter()
            .filter(|event| event.service == service)
            .map(|event| event.event)
            .collect();
        assert_eq!(
            (kinds[0], kinds.last()),
            (EventKind::Started, Some(&EventKind::Finished)),
            "{service}"
        );
    }
    let ending = flow.ending(LOADER).await;
    assert_eq!(
        (ending.records.total, ending.records.missing),
        (Some(4_320), 0)
    );
    assert!(flow.dead_letters().await.is_empty());
    let markers = flow.markers().await;
    assert_eq!(markers.len(), 1);
    assert_eq!(
        (&markers[0]["outcome"], &markers[0]["last_seq"]),
        (&"finished".into(), &4_320.into())
    );
}

#[tokio::test]
async fn writer_first_and_the_topic_later() {
    let flow = Flow::start_without_topic(Plan::three_days()).await;
    let writer = flow.writer();
    flow.events(|events| !events.is_empty()).await;
    flow.create_topic().await;
    flow.loader().ends_with(0).await;
    writer.ends_with(0).await;
    flow.assert_complete().await;
    flow.assert_finished().await;
}

#[tokio::test]
async fn writer_after_the_loader_is_gone() {
    let flow = Flow::start(Plan::three_days()).await;
    flow.loader().ends_with(0).await;
    flow.writer().ends_with(0).await;
    flow.assert_complete().await;
    flow.assert_finished().await;
}

#[tokio::test]
async fn two_writers_share_the_records_of_three_partitions() {
    let flow = Flow::start(Plan {
        partitions: 3,
        ..Plan::slow_three_days()
    })
    .await;
    let writers = ["1", "2"].map(|n| {
        flow.worker(
            WRITER,
            &[("TELEMETRY_PRODUCER_ID", &format!("arango-candles__{n}"))],
        )
    });
    flow.loader().ends_with(0).await;
    for writer in writers {
        writer.ends_with(0).await;
    }
    flow.assert_complete().await;
    assert_eq!(flow.markers().await.len(), 3, "one marker a partition");
    let endings = flow.endings(WRITER).await;
    assert_eq!(endings.len(), 2);
    assert_eq!(
        endings
            .iter()
            .map(|ending| ending.records.written)
            .sum::<u64>(),
        4_320,
        "{endings:#?}"
    );
}

#[tokio::test]
async fn candles_that_are_still_open_are_left_out() {
    // A range that ends in the future: it loads to the last candle that is final.
    let now = TimestampMs::now().as_millis();
    let (start, end) = (
        TimestampMs(now - 90 * 60_000),
        TimestampMs(now + 90 * 60_000),
    );
    let range = format!("{start}/{end}");
    let flow = Flow::start(Plan {
        range: range.leak(),
        ..Plan::three_days()
    })
    .await;
    let (loader, writer) = (flow.loader(), flow.writer());
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    let stored = flow.stored();
    assert!(
        (89..=91).contains(&stored.len()),
        "{} candles",
        stored.len()
    );
    assert!(
        stored
            .values()
            .all(|candle| candle["close_time"].as_i64().unwrap() < TimestampMs::now().as_millis())
    );
    flow.assert_stored_is_published().await;
}

#[tokio::test]
async fn started_is_on_the_topic_soon() {
    let flow = Flow::start(Plan::stalled_three_days()).await;
    let events: StreamConsumer =
        kafka::consumer_config(&flow.kafka.config().unwrap(), "test", "test", 1024)
            .create()
            .unwrap();
    let mut places = TopicPartitionList::new();
    places
        .add_partition_offset("queue-events", 0, Offset::Beginning)
        .unwrap();
    events.assign(&places).unwrap();
    // Connected, and at the end of what is there: what is measured is the worker.
    while !matches!(events.recv().await, Err(KafkaError::PartitionEOF(_))) {}
    for service in [LOADER, WRITER] {
        let begun = Instant::now();
        let worker = flow.worker(service, &[]);
        loop {
            let Ok(message) = events.recv().await else {
                continue;
            };
            let event: Event = serde_json::from_slice(message.payload().unwrap()).unwrap();
            if event.queue_id == flow.queue_id.as_str() && event.service == service {
                break;
            }
        }
        eprintln!(
            "{service}: started is on the topic {:?} after exec",
            begun.elapsed()
        );
        assert!(begun.elapsed() < Duration::from_secs(10));
        worker.kill().await;
    }
}
