//! Topics where offsets have no message, and topics that go away. Only a real broker has them.

use std::time::Duration;

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    producer::{FutureProducer, FutureRecord, Producer},
};
use streamforge_utils::{
    kafka::client_config,
    protocol::{DLQ_TOPIC, EventKind, REPLAY, SEQ},
};

use crate::rig::{LIMIT, Rig};

/// A rig on a real broker, without a topic.
fn real() -> Option<Rig> {
    let rig = Rig::new();
    if rig.kafka.is_real() {
        return Some(rig);
    }
    eprintln!("NOT RUN: this test needs a real broker: run ci/kafka.sh start");
    None
}

fn admin(rig: &Rig) -> AdminClient<DefaultClientContext> {
    let config = rig.kafka.config().unwrap();
    client_config(&config, "test").create().unwrap()
}

/// A transaction of somebody else that is aborted: a record, and a control record behind it.
async fn abort_a_transaction(rig: &Rig) {
    let producer: FutureProducer = client_config(&rig.kafka.config().unwrap(), "foreign")
        .set("transactional.id", format!("{}-foreign", rig.queue_id))
        .create()
        .unwrap();
    let topic = rig.topic.clone();
    let aborted = tokio::task::spawn_blocking(move || {
        producer.init_transactions(LIMIT).unwrap();
        producer.begin_transaction().unwrap();
        let record = FutureRecord::to(&topic).key("x").payload("x").partition(0);
        let sent = producer.send_result(record);
        drop(sent.unwrap_or_else(|(error, _)| panic!("{error}")));
        producer.flush(LIMIT).unwrap();
        producer.abort_transaction(LIMIT).unwrap();
    });
    aborted.await.unwrap();
}

#[tokio::test]
async fn control_records_are_neither_the_end_of_a_load_nor_holes() {
    let Some(rig) = real() else { return };
    rig.create_topic(1).await;
    let mut first = rig.start_with("--publish-rate 400 --fail-after 4", &[rig.here()]);
    first.ends_with(1).await;
    abort_a_transaction(&rig).await;
    let flags = "--publish-rate 1000 --records-total 2500";
    let mut second = rig.start_with(flags, &[rig.here()]);
    second.ends_with(0).await;
    assert_eq!(rig.ending(&second).await.records.written, 2_500);
    let mut reader = rig.start_with("--consume", &[rig.here()]);
    reader.ends_with(0).await;
    let last = rig.ending(&reader).await;
    assert_eq!(last.event, EventKind::Finished);
    assert!(
        last.message
            .contains("; 1 offsets without a message; no holes"),
        "{}",
        last.message
    );
}

#[tokio::test]
async fn a_load_resumes_before_dead_letters_that_were_put_back() {
    let rig = Rig::with_topic(1).await;
    let mut first = rig.start_with("--publish-rate 400 --fail-after 4", &[rig.here()]);
    first.ends_with(1).await;
    for headers in [
        &[(REPLAY, "wf-x-data-dlq/0/0")][..],
        &[(DLQ_TOPIC, "wf-x-data"), (SEQ, "2")],
    ] {
        let sent = rig
            .kafka
            .publish(&rig.topic, Some(0), "BTCUSDT", "{}", headers);
        sent.await.unwrap();
    }
    let flags = "--publish-rate 1000 --records-total 2500";
    let mut second = rig.start_with(flags, &[rig.here()]);
    second.ends_with(0).await;
    let mut reader = rig.start_with("--consume", &[rig.here()]);
    reader.ends_with(0).await;
    let last = rig.ending(&reader).await;
    assert!(
        last.message
            .contains("0 duplicates, 2 without a number; no holes"),
        "{}",
        last.message
    );
}

#[tokio::test]
async fn a_compacted_topic_is_refused() {
    let Some(rig) = real() else { return };
    let compacted = NewTopic::new(&rig.topic, 1, TopicReplication::Fixed(1));
    let compacted = compacted.set("cleanup.policy", "compact");
    let admin = admin(&rig);
    let made = admin
        .create_topics([&compacted], &AdminOptions::new())
        .await;
    made.unwrap()[0].as_ref().unwrap();
    let mut dummy = rig.start_with("--publish-rate 100", &[rig.here()]);
    dummy.ends_with(70).await;
    let said = rig.ending(&dummy).await.error_message.unwrap();
    assert!(
        said.contains("cleanup.policy") && said.contains(&rig.topic),
        "{said}"
    );
}

#[tokio::test]
async fn a_topic_that_is_deleted_while_it_is_written_is_named() {
    let Some(rig) = real() else { return };
    rig.create_topic(1).await;
    let changes = [rig.here(), ("RETRY_DEADLINE_SECS", "5")];
    let mut dummy = rig.start_with("--publish-rate 200", &changes);
    rig.until_written(&dummy, 100).await;
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    let gone = admin(&rig).delete_topics(&[&rig.topic], &options).await;
    assert!(gone.unwrap()[0].is_ok());
    dummy.ends_with(1).await;
    let said = rig.ending(&dummy).await.error_message.unwrap();
    let is_named = said.contains("does not exist") || said.to_lowercase().contains("unknown topic");
    assert!(is_named && said.contains(&rig.topic), "{said}");
}
