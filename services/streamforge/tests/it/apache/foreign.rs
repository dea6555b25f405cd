//! Transactions of foreign clients on the topics of StreamForge, which itself writes none.

use std::time::Duration;

use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use streamforge_utils::{
    kafka::client_config,
    protocol::{CommandKind, EventKind},
};

use crate::{
    apache::real,
    flow::{Flow, LOADER, Plan, WRITER},
    process::LIMIT,
    stethoscope::debug,
};

/// A transaction that has written to each of these topics and stays open. The broker aborts it after a minute.
async fn open_transaction(flow: &Flow, records: &[(&str, &str)]) -> FutureProducer {
    let producer: FutureProducer = client_config(&flow.kafka.config().unwrap(), "foreign")
        .set("transactional.id", format!("foreign-{}", flow.queue_id))
        .create()
        .unwrap();
    let producer = tokio::task::spawn_blocking(move || {
        producer.init_transactions(LIMIT).unwrap();
        producer.begin_transaction().unwrap();
        producer
    });
    let producer = producer.await.unwrap();
    for (topic, payload) in records {
        let record = FutureRecord::to(topic)
            .key("foreign")
            .partition(0)
            .payload(*payload);
        producer.send(record, LIMIT).await.unwrap();
    }
    producer
}

#[tokio::test]
async fn an_open_foreign_transaction_neither_silences_workers_nor_stalls_the_writer() {
    let Some(flow) = real(Plan::slow_three_days()).await else {
        return;
    };
    let (loader, writer) = (flow.loader(), flow.writer());
    let mut event = flow.events(|events| !events.is_empty()).await.remove(0);
    flow.until_written(WRITER, 1).await;

    event.queue_id = "wf-foreign".to_owned();
    let event = serde_json::to_string(&event).unwrap();
    let records = [
        (
            "queue-control",
            r#"{"command":"start","queue_id":"wf-foreign"}"#,
        ),
        ("queue-events", event.as_str()),
        (flow.topic.as_str(), "foreign"),
    ];
    let foreign = open_transaction(&flow, &records).await;

    let pinged = debug(&flow, &["ping", "--expect-count", "2"]).await;
    assert!(pinged.status.success(), "{pinged:?}");
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    flow.assert_complete().await;
    flow.assert_finished().await;
    assert_eq!(flow.dead_letters().await.len(), 1, "the foreign record");
    // A loader that comes back sees what is behind the open transaction, and publishes nothing twice.
    flow.loader().ends_with(0).await;
    flow.assert_complete().await;
    let waited = tokio::task::spawn_blocking(move || foreign.abort_transaction(LIMIT));
    waited.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_is_obeyed_behind_an_open_foreign_transaction() {
    let Some(flow) = real(Plan::crawling_week()).await else {
        return;
    };
    let (loader, writer) = (flow.loader(), flow.writer());
    flow.until_written(WRITER, 1).await;
    let records = [
        ("queue-control", "foreign"),
        (flow.topic.as_str(), "foreign"),
    ];
    let foreign = open_transaction(&flow, &records).await;
    // One that starts now reads the control topic up to where it ends, behind the open transaction.
    let late = flow.worker(WRITER, &[("TELEMETRY_PRODUCER_ID", "arango-candles__late")]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    flow.send(CommandKind::Stop).await;
    for worker in [loader, writer, late] {
        worker.ends_with(0).await;
    }
    for service in [LOADER, WRITER] {
        for ending in flow.endings(service).await {
            assert_eq!(ending.event, EventKind::Interrupted, "{ending:#?}");
        }
    }
    let waited = tokio::task::spawn_blocking(move || foreign.abort_transaction(LIMIT));
    waited.await.unwrap().unwrap();
}
