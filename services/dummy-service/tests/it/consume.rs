//! Reading back: what is there is counted, what is not there is found.

use dummy_service::metrics::{CONSUMED, DUPLICATES, MISSING, UNNUMBERED};
use streamforge_utils::protocol::{
    CommandKind, EOS, EOS_VALUE, EventKind, InterruptReason, Marker, MarkerOutcome, SEQ,
};

use crate::rig::{Dummy, Rig, is_stop};

async fn publish(rig: &Rig, partition: i32, numbers: &[u64]) {
    for number in numbers {
        let headers = [(SEQ, &*number.to_string())];
        let sent = rig
            .kafka
            .publish(&rig.topic, Some(partition), "BTCUSDT", "{}", &headers);
        sent.await.unwrap();
    }
}

async fn mark(rig: &Rig, partition: i32, partitions: i32, last_seq: u64, outcome: MarkerOutcome) {
    let marker = Marker {
        queue_id: rig.queue_id.clone(),
        run: 1,
        producer: "loader".to_owned(),
        last_seq,
        first_open_time: None,
        last_open_time: None,
        partitions,
        time_range: "2024-08-01:2024-08-01".parse().unwrap(),
        outcome,
    };
    let value = serde_json::to_string(&marker).unwrap();
    let sent = rig
        .kafka
        .publish(&rig.topic, Some(partition), "", &value, &[(EOS, EOS_VALUE)]);
    sent.await.unwrap();
}

fn consumer(rig: &Rig) -> Dummy {
    rig.start_with("--consume", &[rig.here()])
}

#[tokio::test]
async fn what_one_publishes_the_other_reads_to_its_end() {
    let rig = Rig::new();
    let mut reader = consumer(&rig);
    rig.until(&reader, EventKind::Started).await;
    // It waits for the topic, and has it from the first record on.
    rig.create_topic(2).await;
    let changes = [rig.here(), ("TOPIC_PARTITIONS", "2")];
    let mut writer = rig.start_with("--publish-rate 2000 --records-total 4000", &changes);
    writer.ends_with(0).await;
    reader.ends_with(0).await;
    let last = rig.ending(&reader).await;
    assert_eq!(
        (last.event, last.records.written),
        (EventKind::Finished, 4_000)
    );
    assert!(
        last.message.starts_with("4000 records consumed; ")
            && last.message.contains("; latency min ")
            && last.message.ends_with("; no holes"),
        "{}",
        last.message
    );
}

#[tokio::test]
async fn missing_numbers_are_named_at_once_and_end_it_with_70() {
    let rig = Rig::with_topic(1).await;
    publish(&rig, 0, &[1, 2, 3, 6, 6]).await;
    let mut dummy = consumer(&rig);
    let numbers = format!("{MISSING}{{kind=\"numbers\"}}");
    let scraped = dummy
        .until_scraped(|scraped| scraped[CONSUMED] >= 5.0)
        .await;
    assert_eq!((scraped[&numbers], scraped[DUPLICATES]), (2.0, 1.0));
    let hole = "partition 0: 2 sequence numbers missing, expected 4, found 6";
    dummy.until_logged(hole).await;
    rig.events(&dummy, |events| {
        events.iter().any(|event| event.message.contains(hole))
    })
    .await;
    mark(&rig, 0, 1, 6, MarkerOutcome::Finished).await;
    dummy.ends_with(70).await;
    let last = rig.ending(&dummy).await;
    assert_eq!(
        (last.event, last.retryable),
        (EventKind::Error, Some(false))
    );
    assert!(last.error_message.unwrap().contains(hole));
}

#[tokio::test]
async fn records_missing_before_the_marker_are_found_also_by_a_stop() {
    let rig = Rig::with_topic(2).await;
    publish(&rig, 0, &[1, 2]).await;
    mark(&rig, 0, 2, 9, MarkerOutcome::Finished).await;
    let mut dummy = consumer(&rig);
    dummy.until_logged("7 sequence numbers missing").await;
    rig.send(CommandKind::Stop).await;
    dummy.ends_with(70).await;
    assert_eq!(rig.ending(&dummy).await.event, EventKind::Error);
}

#[tokio::test]
async fn it_goes_on_until_every_partition_has_ended() {
    let rig = Rig::with_topic(2).await;
    publish(&rig, 0, &[1]).await;
    mark(&rig, 0, 2, 1, MarkerOutcome::Finished).await;
    // Behind the end nothing counts.
    publish(&rig, 0, &[50]).await;
    let sent = rig.kafka.publish(&rig.topic, Some(1), "x", "{}", &[]);
    sent.await.unwrap();
    let mut dummy = consumer(&rig);
    dummy
        .until_scraped(|scraped| scraped[UNNUMBERED] >= 1.0)
        .await;
    mark(&rig, 1, 2, 0, MarkerOutcome::Finished).await;
    dummy.ends_with(0).await;
    let last = rig.ending(&dummy).await;
    assert_eq!((last.event, last.records.written), (EventKind::Finished, 2));
    assert!(
        last.message.contains("0 duplicates, 1 without a number"),
        "{}",
        last.message
    );
}

#[tokio::test]
async fn an_interrupted_stream_ends_it_as_upstream() {
    let rig = Rig::with_topic(1).await;
    publish(&rig, 0, &[1, 2]).await;
    mark(&rig, 0, 1, 2, MarkerOutcome::Interrupted).await;
    publish(&rig, 0, &[3]).await;
    let mut dummy = consumer(&rig);
    rig.until_written(&dummy, 3).await;
    mark(&rig, 0, 1, 3, MarkerOutcome::Interrupted).await;
    dummy.ends_with(0).await;
    let last = rig.ending(&dummy).await;
    assert_eq!(last.event, EventKind::Interrupted);
    assert_eq!(last.reason, Some(InterruptReason::Upstream));
}

#[tokio::test]
async fn a_stop_and_the_end_of_its_time_end_it_too() {
    let rig = Rig::with_topic(1).await;
    publish(&rig, 0, &[1]).await;
    let mut stopped = consumer(&rig);
    rig.until_written(&stopped, 1).await;
    let mut timed = rig.start_with("--consume --exit-after 3", &[rig.here(), ("RUN", "2")]);
    timed.ends_with(0).await;
    let last = rig.ending(&timed).await;
    assert_eq!((last.event, last.records.written), (EventKind::Finished, 1));
    rig.send(CommandKind::Stop).await;
    stopped.ends_with(0).await;
    assert!(is_stop(&rig.ending(&stopped).await));
}
