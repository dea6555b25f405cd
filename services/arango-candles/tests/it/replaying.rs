//! Dead letters that were put back, and what others left in the topic.

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use rdkafka::{
    Message,
    producer::{BaseProducer, BaseRecord, Producer},
};
use streamforge_utils::{
    kafka::{TopicReader, client_config, headers},
    protocol::{
        DLQ_OFFSET, DLQ_PARTITION, DLQ_REASON, DLQ_TOPIC, EOS, EventKind, InterruptReason, REPLAY,
        SEQ,
    },
};

use crate::workflow::{COLLECTION, Workflow, candle, key};

const PERMANENT: u8 = 70;

/// A candle that differs from the one of this minute.
fn corrected(minute: u64) -> String {
    candle(minute).replace(r#""number_of_trades":812"#, r#""number_of_trades":813"#)
}

fn trades(workflow: &Workflow, minute: u64) -> i64 {
    let trades = workflow.documents()[&key(minute)]["number_of_trades"].as_f64();
    // A whole number below 1,000.
    trades.unwrap() as i64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_was_put_back_behind_the_end_is_written() {
    let workflow = Workflow::new().await;
    workflow.publish(0, 1..=3).await;
    workflow.send(0, "not a candle", &[(SEQ, "4")]).await;
    workflow.publish(0, 5..=7).await;
    workflow.finish(0, 7, 1).await;
    // Put back as `streamforge dlq replay` does, twice, and as a tool does that copies headers.
    let place = format!("{}/0/3", workflow.topic);
    let replayed = [(REPLAY, place.as_str())];
    workflow.send(0, &candle(4), &replayed).await;
    workflow.send(0, &corrected(4), &replayed).await;
    let copied = [
        (SEQ, "2"),
        (DLQ_REASON, "refused"),
        (DLQ_TOPIC, workflow.topic.as_str()),
        (DLQ_PARTITION, "0"),
        (DLQ_OFFSET, "1"),
    ];
    workflow.send(0, &corrected(2), &copied).await;
    // And what is none of that: a plain duplicate behind the end.
    workflow.send(0, &corrected(3), &[(SEQ, "3")]).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    assert_eq!(workflow.documents().len(), 7);
    assert_eq!(trades(&workflow, 4), 813, "the later offset wins");
    assert_eq!(trades(&workflow, 2), 813);
    assert_eq!(trades(&workflow, 3), 812);
    let last = workflow.last_event().await;
    assert_eq!(last.event, EventKind::Finished);
    let counts = (
        last.records.written,
        last.records.rejected,
        last.records.total,
    );
    assert_eq!(counts, (9, 1, Some(7)));

    // What comes when it has ended is written by the next one, which writes nothing else.
    let written = workflow.arango.counters().documents_written;
    workflow.send(0, &corrected(5), &replayed).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    assert_eq!(trades(&workflow, 5), 813);
    assert_eq!(workflow.arango.counters().documents_written, written + 1);
    assert_eq!(workflow.last_event().await.records.written, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_duplicates_in_the_stream_only_replayed_ones_are_written() {
    let workflow = Workflow::new().await;
    workflow.publish(0, 1..=3).await;
    workflow.send(0, &corrected(1), &[(SEQ, "1")]).await;
    workflow.send(0, &corrected(2), &[(REPLAY, "x/0/1")]).await;
    // A dead letter that is one again.
    workflow.send(0, "still none", &[(REPLAY, "x/0/9")]).await;
    // Numbers go on where they were.
    workflow.publish(0, 4..=6).await;
    workflow.finish(0, 6, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    assert_eq!((trades(&workflow, 1), trades(&workflow, 2)), (812, 813));
    let last = workflow.last_event().await;
    let counts = (
        last.records.written,
        last.records.rejected,
        last.records.total,
    );
    assert_eq!(counts, (7, 1, Some(6)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_message_behind_an_interrupted_marker_does_not_keep_writers_waiting() {
    let mut workflow = Workflow::with_partitions(2).await;
    for partition in [0, 1] {
        workflow.publish(partition, 1..=10).await;
        workflow.mark(partition, 10, 2, 1, "interrupted").await;
        workflow.send(partition, "hello", &[]).await;
    }
    let one = workflow.start();
    let two = workflow
        .set("TELEMETRY_PRODUCER_ID", "arango-candles__abc123-2")
        .start();
    assert_eq!(one.ended().await, ExitCode::SUCCESS);
    assert_eq!(two.ended().await, ExitCode::SUCCESS);
    // A change of the group may make one a dead letter twice.
    let letters = workflow.dead_letters().await;
    let partitions: BTreeSet<_> = letters
        .iter()
        .filter_map(|letter| headers::get(letter, DLQ_PARTITION))
        .collect();
    assert_eq!(partitions, BTreeSet::from(["0", "1"]));
    // Also one that starts when the foreign message is committed.
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    assert_eq!(workflow.dead_letters().await.len(), letters.len());
    let last = workflow.last_event().await;
    assert_eq!(last.reason, Some(InterruptReason::Upstream));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_that_names_more_partitions_than_there_are_is_rejected() {
    let workflow = Workflow::new().await;
    workflow.publish(0, 1..=5).await;
    workflow.mark(0, 5, 50_000_000, 1, "finished").await;
    workflow.mark(0, 5, 2, 1, "interrupted").await;
    workflow.publish(0, 6..=8).await;
    workflow.finish(0, 8, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=8);
    let letters = workflow.dead_letters().await;
    let reasons: Vec<_> = letters
        .iter()
        .map(|letter| headers::get(letter, DLQ_REASON))
        .collect();
    assert_eq!(reasons, [Some("bad-marker"); 2]);
}

/// Writes `payloads` in one transaction and ends it, which takes one more offset. Only a real broker does that.
fn transaction(workflow: &Workflow, partition: i32, payloads: &[&str], commit: bool) -> bool {
    if !workflow.kafka.is_real() {
        eprintln!("not run: the mock broker has no transactions");
        return false;
    }
    let limit = Duration::from_secs(20);
    let producer: BaseProducer = client_config(&workflow.kafka.config().unwrap(), "foreign")
        .set("transactional.id", &workflow.topic)
        .create()
        .unwrap();
    producer.init_transactions(limit).unwrap();
    producer.begin_transaction().unwrap();
    for payload in payloads {
        let record = BaseRecord::<(), _>::to(&workflow.topic)
            .payload(*payload)
            .partition(partition);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(limit).unwrap();
    if commit {
        producer.commit_transaction(limit).unwrap();
    } else {
        producer.abort_transaction(limit).unwrap();
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_without_a_message_at_the_end_is_not_waited_for() {
    let mut workflow = Workflow::new().await;
    workflow.set("RETRY_DEADLINE_SECS", "7");
    workflow.publish(0, 1..=10).await;
    if !transaction(&workflow, 0, &["foreign"], true) {
        return;
    }
    let writer = workflow.start();
    workflow.wait_for_written(10).await;
    // No waiting, but more than the deadline, and the time in which it looks again.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(writer.is_running(), "nothing is missing");
    workflow.publish(0, 11..=20).await;
    workflow.finish(0, 20, 1).await;
    assert_eq!(writer.ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=20);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_without_a_message_behind_a_marker_are_committed() {
    for outcome in ["finished", "interrupted"] {
        let mut workflow = Workflow::with_partitions(2).await;
        for partition in [0, 1] {
            workflow.publish(partition, 1..=10).await;
            workflow.mark(partition, 10, 2, 1, outcome).await;
            if !transaction(&workflow, partition, &["foreign"], true) {
                return;
            }
        }
        let one = workflow.start();
        let two = workflow
            .set("TELEMETRY_PRODUCER_ID", "arango-candles__abc123-2")
            .start();
        assert_eq!(one.ended().await, ExitCode::SUCCESS, "{outcome}");
        assert_eq!(two.ended().await, ExitCode::SUCCESS, "{outcome}");
        let kafka = workflow.kafka.config().unwrap();
        let group = format!("{}-arango-candles-{COLLECTION}", workflow.queue_id);
        let reader = TopicReader::new(&kafka, "test", &group).unwrap();
        for committed in reader.committed(&workflow.topic, &[0, 1]).await.unwrap() {
            let high = reader
                .watermarks(&workflow.topic, committed.partition)
                .await;
            let high = high.unwrap().high;
            assert_eq!(
                high, 13,
                "ten records, a marker, one foreign, one for the transaction"
            );
            assert_eq!(committed.offset, Some(high), "{outcome}: {committed:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_marker_that_was_put_back_ends_nothing() {
    let workflow = Workflow::new().await;
    workflow.publish(0, 1..=3).await;
    let headers = [(EOS, "1"), (DLQ_TOPIC, workflow.topic.as_str())];
    workflow.send(0, "the end", &headers).await;
    workflow.publish(0, 4..=5).await;
    workflow.publish(0, [7]).await;
    assert_eq!(workflow.start().ended().await, ExitCode::from(PERMANENT));
    workflow.assert_holds(1..=5);
    let letters = workflow.dead_letters().await;
    assert_eq!(letters[0].payload(), Some(b"the end".as_slice()));
}
