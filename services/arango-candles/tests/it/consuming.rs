//! What comes out of the topic: duplicates, holes, lost offsets, rebalances, pauses.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use arango_candles::metrics::PAUSES;
use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use streamforge_devstack::{arango::Fault, kafka::Broker};
use streamforge_utils::{
    kafka::client_config,
    protocol::{EventKind, SEQ},
};

use crate::workflow::{Workflow, candle, counter};

const PERMANENT: u8 = 70;

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_are_not_written_again() {
    let workflow = Workflow::new().await;
    workflow.publish(0, 1..=100).await;
    workflow.publish(0, 91..=110).await;
    workflow.finish(0, 110, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=110);
    assert_eq!(workflow.arango.counters().documents_written, 110);
    assert_eq!(workflow.last_event().await.records.written, 110);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_in_the_numbers_is_lost_data() {
    let workflow = Workflow::new().await;
    workflow.publish(0, (1..=10).chain(14..=20)).await;
    workflow.finish(0, 20, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::from(PERMANENT));
    workflow.assert_holds(1..=10);
    let last = workflow.last_event().await;
    assert_eq!(
        (last.event, last.retryable),
        (EventKind::Error, Some(false))
    );
    let message = last.error_message.unwrap();
    assert!(
        message.contains(
            "partition 0 before offset 10: 3 records are lost: expected number 11, found 14"
        ),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_that_names_more_records_than_came_is_lost_data() {
    let workflow = Workflow::new().await;
    workflow.publish(0, 1..=10).await;
    workflow.finish(0, 12, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::from(PERMANENT));
    let message = workflow.last_event().await.error_message.unwrap();
    assert!(message.contains("expected number 11"), "{message}");
}

/// More than the mock keeps of a partition, which is 5 MiB; a real broker is told to delete what comes before the last
/// thousand.
async fn overflow(workflow: &Workflow, partition: i32, numbers: std::ops::RangeInclusive<u64>) {
    let padding = " ".repeat(1000);
    let last = *numbers.end();
    for seq in numbers {
        let text = seq.to_string();
        let payload = candle(seq) + &padding;
        if seq % 500 == 0 {
            workflow.send(partition, &payload, &[(SEQ, &text)]).await;
        } else {
            workflow.send_soon(partition, &payload, &[(SEQ, &text)]);
        }
    }
    if let Broker::Apache(apache) = &workflow.kafka {
        let offset = i64::try_from(last).unwrap() - 1_000;
        let deleted = apache.delete_records(&workflow.topic, partition, offset);
        deleted.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_were_deleted_before_they_were_read_are_named() {
    let workflow = Workflow::new().await;
    overflow(&workflow, 0, 1..=7000).await;
    workflow.finish(0, 7000, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::from(PERMANENT));
    let message = workflow.last_event().await.error_message.unwrap();
    assert!(message.contains("offsets 0 to "), "{message}");
    assert!(
        message.contains("were deleted before they were read"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_were_deleted_while_reading_paused_are_named() {
    // Of several partitions librdkafka does not say which one it means.
    for (partitions, partition) in [(1, 0), (2, 1)] {
        let mut workflow = Workflow::with_partitions(partitions).await;
        let port = workflow.set_metrics_port();
        // Room for a few dozen records.
        workflow
            .set("BATCH_MAX_BYTES", "8192")
            .set("ARANGO_IN_FLIGHT", "1")
            .set("RETRY_DEADLINE_SECS", "60");
        workflow.arango.faults().always(Fault::Unavailable);
        workflow.publish(partition, 1..=500).await;
        let writer = workflow.start();
        // Then what was fetched is thrown away.
        workflow
            .wait_until(|_| counter(port, PAUSES).is_some_and(|pauses| pauses > 0))
            .await;
        overflow(&workflow, partition, 501..=7500).await;
        workflow.arango.faults().clear();
        let start = Instant::now();
        assert_eq!(writer.ended().await, ExitCode::from(PERMANENT));
        assert!(start.elapsed() < Duration::from_secs(30), "not at once");
        let message = workflow.last_event().await.error_message.unwrap();
        let expected = format!("partition {partition} were deleted before they were read");
        assert!(message.contains(&expected), "{message}");
    }
}

/// A database that takes less than a second for a batch is not so slow that reading pauses, which would throw away what was
/// fetched, and fetch it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_its_time_does_not_pause_reading() {
    let mut workflow = Workflow::new().await;
    let port = workflow.set_metrics_port();
    workflow
        .set("BATCH_MAX_BYTES", "8192")
        .set("ARANGO_IN_FLIGHT", "1");
    workflow.arango.faults().delay(Duration::from_millis(500));
    workflow.publish(0, 1..=400).await;
    let writer = workflow.start();
    workflow.wait_for_written(200).await;
    assert_eq!(counter(port, PAUSES), Some(0));
    workflow.arango.faults().clear();
    workflow.finish(0, 400, 1).await;
    assert_eq!(writer.ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_while_it_is_read_is_named_as_the_cause() {
    let mut workflow = Workflow::new().await;
    if !workflow.kafka.is_real() {
        eprintln!("not run: the mock broker deletes no topics");
        return;
    }
    workflow.set("RETRY_DEADLINE_SECS", "10");
    workflow.publish(0, 1..=100).await;
    let writer = workflow.start();
    workflow.wait_for_written(100).await;
    let admin: AdminClient<DefaultClientContext> =
        client_config(&workflow.kafka.config().unwrap(), "test")
            .create()
            .unwrap();
    let deleted = admin.delete_topics(&[&workflow.topic], &AdminOptions::new());
    deleted.await.unwrap()[0].as_ref().unwrap();
    assert_eq!(writer.ended().await, ExitCode::from(PERMANENT));
    let message = workflow.last_event().await.error_message.unwrap();
    assert!(message.contains("is gone"), "{message}");
    assert!(message.contains("Unknown topic"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_record_of_a_key_wins() {
    let workflow = Workflow::new().await;
    let first = candle(1).replace(r#""number_of_trades":812"#, r#""number_of_trades":1"#);
    workflow.send(0, &first, &[(SEQ, "1")]).await;
    workflow.send(0, &candle(1), &[(SEQ, "2")]).await;
    workflow.finish(0, 2, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds([1]);
    assert_eq!(workflow.last_event().await.records.written, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_writer_takes_its_share_and_nothing_is_lost() {
    let mut workflow = Workflow::with_partitions(2).await;
    let one = workflow.start();
    for partition in [0, 1] {
        workflow.publish(partition, 1..=200).await;
    }
    workflow.wait_for_written(400).await;
    let two = workflow
        .set("TELEMETRY_PRODUCER_ID", "arango-candles__abc123-2")
        .start();
    for seq in 201..=400 {
        workflow.publish(0, [seq]).await;
        workflow.publish(1, [seq]).await;
        // No waiting, but a loader's pace: records come before, during and after the change of the group.
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    for partition in [0, 1] {
        workflow.finish(partition, 400, 2).await;
    }
    assert_eq!(one.ended().await, ExitCode::SUCCESS);
    assert_eq!(two.ended().await, ExitCode::SUCCESS);
    workflow.assert_holds((1..=400).chain(1_000_001..=1_000_400));
    // Some may be written twice: the mock, unlike Kafka, takes no commits while a group changes.
    let events = workflow
        .events(|events| {
            events
                .iter()
                .filter(|event| event.event.is_terminal())
                .count()
                == 2
        })
        .await;
    let last: Vec<_> = events
        .iter()
        .filter(|event| event.event.is_terminal())
        .collect();
    let written: u64 = last.iter().map(|event| event.records.written).sum();
    assert_eq!(
        written, 800,
        "each counts the partitions that it has: {last:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_database_pauses_reading_and_nothing_is_lost() {
    let mut workflow = Workflow::new().await;
    // Room for three small batches: the rest waits in the broker.
    workflow
        .set("BATCH_MAX_BYTES", "8192")
        .set("ARANGO_IN_FLIGHT", "1");
    workflow.arango.faults().delay(Duration::from_millis(50));
    workflow.publish(0, 1..=1500).await;
    workflow.finish(0, 1500, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=1500);
    assert_eq!(workflow.arango.counters().documents_written, 1500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_paused_is_read_on_after_the_group_has_changed() {
    let mut workflow = Workflow::with_partitions(2).await;
    workflow
        .set("BATCH_MAX_BYTES", "8192")
        .set("ARANGO_IN_FLIGHT", "1");
    for partition in [0, 1] {
        workflow.publish(partition, 1..=300).await;
        workflow.finish(partition, 300, 2).await;
    }
    // A batch in seven seconds: for nearly all of them reading is paused.
    workflow.arango.faults().delay(Duration::from_secs(7));
    let one = workflow.start();
    workflow.wait_for_written(1).await;
    let two = workflow
        .set("TELEMETRY_PRODUCER_ID", "arango-candles__abc123-2")
        .start();
    // No waiting, but the time in which the group changes while the database is that slow.
    tokio::time::sleep(Duration::from_secs(15)).await;
    workflow.arango.faults().clear();
    assert_eq!(one.ended().await, ExitCode::SUCCESS);
    assert_eq!(two.ended().await, ExitCode::SUCCESS);
    workflow.assert_holds((1..=300).chain(1_000_001..=1_000_300));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_for_a_while_is_waited_for() {
    let workflow = Workflow::with_broker_alone().await;
    let writer = workflow.start();
    workflow.publish(0, 1..=100).await;
    workflow.wait_for_written(100).await;
    workflow.kafka.down().unwrap();
    // No waiting, but the time that the broker is away.
    tokio::time::sleep(Duration::from_secs(2)).await;
    workflow.kafka.up().unwrap();
    workflow.publish(0, 101..=200).await;
    workflow.finish(0, 200, 1).await;
    assert_eq!(writer.ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=200);
}
