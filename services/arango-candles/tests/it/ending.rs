//! When and how a writer ends.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use streamforge_utils::protocol::{EventKind, InterruptReason};

use crate::workflow::Workflow;

#[tokio::test(flavor = "multi_thread")]
async fn all_candles_are_written_and_the_writer_finishes() {
    let workflow = Workflow::new().await;
    workflow.publish(0, 1..=2500).await;
    workflow.finish(0, 2500, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=2500);
    let last = workflow.last_event().await;
    assert_eq!(last.event, EventKind::Finished);
    assert_eq!(
        (last.records.written, last.records.total),
        (2500, Some(2500))
    );
    assert_eq!(last.records.rejected, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_after_the_last_commit_it_ends_and_counts_the_whole_run() {
    let workflow = Workflow::new().await;
    workflow.publish(0, 1..=300).await;
    workflow.finish(0, 300, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    let written = workflow.arango.counters().documents_written;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    assert_eq!(
        workflow.arango.counters().documents_written,
        written,
        "nothing is written twice"
    );
    let last = workflow.last_event().await;
    assert_eq!(
        (last.event, last.records.written),
        (EventKind::Finished, 300)
    );
    assert_eq!(last.records.total, Some(300));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_is_there_first_waits_for_topic_records_and_marker() {
    let workflow = Workflow::without_topic(|builder| builder).await;
    let writer = workflow.start();
    workflow.wait_for_message("waiting for topic").await;
    workflow.create_topic(1).await;
    workflow.publish(0, 1..=10).await;
    workflow.wait_for_written(10).await;
    assert!(writer.is_running());
    workflow.publish(0, 11..=20).await;
    workflow.finish(0, 20, 1).await;
    assert_eq!(writer.ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=20);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_after_a_finished_marker_is_read() {
    let workflow = Workflow::new().await;
    workflow.publish(0, 1..=10).await;
    workflow.finish(0, 10, 1).await;
    workflow.publish(0, 11..=15).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=10);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_marker_ends_it_as_interrupted_upstream() {
    let workflow = Workflow::new().await;
    workflow.publish(0, 1..=10).await;
    workflow.mark(0, 10, 1, 1, "interrupted").await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=10);
    let last = workflow.last_event().await;
    assert_eq!(last.event, EventKind::Interrupted);
    assert_eq!(last.reason, Some(InterruptReason::Upstream));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_marker_of_an_older_run_is_passed_over() {
    let mut workflow = Workflow::new().await;
    workflow.publish(0, 1..=10).await;
    workflow.mark(0, 10, 1, 1, "interrupted").await;
    let writer = workflow.set("RUN", "2").start();
    workflow.wait_for_written(10).await;
    workflow.publish(0, 11..=20).await;
    workflow.mark(0, 20, 1, 2, "finished").await;
    assert_eq!(writer.ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=20);
    assert_eq!(workflow.last_event().await.event, EventKind::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_share_a_topic_and_both_finish() {
    let mut workflow = Workflow::with_partitions(2).await;
    let one = workflow.start();
    let two = workflow
        .set("TELEMETRY_PRODUCER_ID", "arango-candles__abc123-2")
        .start();
    for partition in [0, 1] {
        workflow.publish(partition, 1..=500).await;
    }
    workflow.finish(0, 500, 2).await;
    workflow.wait_for_written(500).await;
    assert!(
        one.is_running() && two.is_running(),
        "a partition is still open"
    );
    workflow.finish(1, 500, 2).await;
    assert_eq!(one.ended().await, ExitCode::SUCCESS);
    assert_eq!(two.ended().await, ExitCode::SUCCESS);
    workflow.assert_holds((1..=500).chain(1_000_001..=1_000_500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_without_a_partition_ends_when_the_others_are_done() {
    let mut workflow = Workflow::new().await;
    let one = workflow.start();
    let two = workflow
        .set("TELEMETRY_PRODUCER_ID", "arango-candles__abc123-2")
        .start();
    workflow.publish(0, 1..=50).await;
    workflow.finish(0, 50, 1).await;
    assert_eq!(one.ended().await, ExitCode::SUCCESS);
    assert_eq!(two.ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=50);
    let events = workflow
        .events(|events| {
            events
                .iter()
                .filter(|event| event.event.is_terminal())
                .count()
                == 2
        })
        .await;
    assert!(
        events
            .iter()
            .filter(|event| event.event.is_terminal())
            .all(|event| event.event == EventKind::Finished)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_were_added_later_are_ignored() {
    let mut workflow = Workflow::with_partitions(2).await;
    // The loader knows of one.
    workflow.publish(0, 1..=50).await;
    workflow.finish(0, 50, 1).await;
    let one = workflow.start();
    let two = workflow
        .set("TELEMETRY_PRODUCER_ID", "arango-candles__abc123-2")
        .start();
    assert_eq!(one.ended().await, ExitCode::SUCCESS);
    assert_eq!(two.ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_obeyed_and_what_was_held_is_safe() {
    let mut workflow = Workflow::new().await;
    // Nothing but the stop makes the batch go.
    workflow.set("BATCH_LINGER_MS", "60000");
    workflow.publish(0, 1..=100).await;
    let writer = workflow.start();
    workflow.wait_for_message("0 records written").await;
    let stop = format!(
        r#"{{"command":"stop","queue_id":"{}","sent_at":1722500000.123}}"#,
        workflow.queue_id
    );
    workflow.command(&stop).await;
    assert_eq!(writer.ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=100);
    let last = workflow.last_event().await;
    assert_eq!(
        (last.event, last.reason),
        (EventKind::Interrupted, Some(InterruptReason::Stop))
    );
    assert_eq!(last.records.written, 100);

    // What was written was committed: the next one goes on behind it.
    let written = workflow.arango.counters().documents_written;
    workflow
        .set("BATCH_LINGER_MS", "10")
        .set("QUEUE_STARTED_AT", "99999999999");
    workflow.finish(0, 100, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    assert_eq!(workflow.arango.counters().documents_written, written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_empties_the_topic_and_then_ends() {
    let workflow = Workflow::new().await;
    workflow.publish(0, 1..=100).await;
    let writer = workflow.start();
    let drain = format!(
        r#"{{"command":"stop","queue_id":"{}","payload":{{"drain":true}},"sent_at":1722500000.123}}"#,
        workflow.queue_id
    );
    workflow.command(&drain).await;
    workflow.wait_for_written(100).await;
    assert!(writer.is_running(), "more may come for 10 s");
    let last = Instant::now();
    workflow.publish(0, 101..=150).await;
    assert_eq!(writer.ended().await, ExitCode::SUCCESS);
    assert!(last.elapsed() >= Duration::from_secs(10));
    workflow.assert_holds(1..=150);
    let last = workflow.last_event().await;
    assert_eq!(
        (last.event, last.reason),
        (EventKind::Interrupted, Some(InterruptReason::Stop))
    );
}
