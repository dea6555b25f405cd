//! What happens to a topic while a workflow is on it.

use std::time::Duration;

use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use streamforge_utils::{kafka::client_config, protocol::EventKind};

use crate::{
    apache::real,
    flow::{Flow, LOADER, Plan, WRITER},
};

const OPTIONS: fn() -> AdminOptions =
    || AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));

fn admin(flow: &Flow) -> AdminClient<DefaultClientContext> {
    client_config(&flow.kafka.config().unwrap(), "test")
        .create()
        .unwrap()
}

#[tokio::test]
async fn a_loader_makes_its_topic_and_a_writer_its_dead_letters() {
    let plan = Plan {
        partitions: 3,
        ..Plan::slow_three_days()
    };
    let Some(flow) = real(plan).await else {
        return;
    };
    let (loader, writer) = (flow.loader(), flow.writer());
    flow.until_written(LOADER, 1).await;
    flow.kafka
        .publish(&flow.topic, Some(1), "BTCUSDT", "poison", &[])
        .await
        .unwrap();
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    flow.assert_complete().await;
    flow.assert_finished().await;
    assert_eq!(flow.markers().await.len(), 3);
    assert_eq!(flow.dead_letters().await.len(), 1);
}

#[tokio::test]
async fn records_that_were_deleted_before_they_were_read_are_lost_data() {
    let Some(flow) = real(Plan::three_days()).await else {
        return;
    };
    flow.loader().ends_with(0).await;
    let mut until = TopicPartitionList::new();
    until
        .add_partition_offset(&flow.topic, 0, Offset::Offset(1_000))
        .unwrap();
    admin(&flow)
        .delete_records(&until, &OPTIONS())
        .await
        .unwrap();
    flow.writer().ends_with(70).await;
    let ending = flow.ending(WRITER).await;
    assert_eq!(
        (ending.event, ending.retryable),
        (EventKind::Error, Some(false))
    );
    let message = ending.error_message.unwrap();
    assert!(
        message.contains(&flow.topic) && message.contains("1000"),
        "{message}"
    );
    assert!(flow.stored().is_empty());
}

#[tokio::test]
async fn a_load_does_not_go_on_after_numbers_that_were_deleted() {
    let Some(flow) = real(Plan::three_days()).await else {
        return;
    };
    flow.create_topic().await;
    let number = [("streamforge-seq", "1")];
    let sent = flow
        .kafka
        .publish(&flow.topic, Some(0), "BTCUSDT", "{}", &number);
    sent.await.unwrap();
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(&flow.topic, 0, Offset::End)
        .unwrap();
    admin(&flow).delete_records(&all, &OPTIONS()).await.unwrap();
    flow.worker("dummy-service", &[("DUMMY_PUBLISH_RATE", "100")])
        .ends_with(70)
        .await;
    let message = flow.ending("dummy-service").await.error_message.unwrap();
    assert!(
        message.contains(&flow.topic) && message.contains("were deleted"),
        "{message}"
    );
}

#[tokio::test]
async fn partitions_that_are_added_later_are_ignored() {
    let Some(flow) = real(Plan::slow_three_days()).await else {
        return;
    };
    let (loader, writer) = (flow.loader(), flow.writer());
    flow.until_written(WRITER, 1).await;
    let more = NewPartitions::new(&flow.topic, 3);
    let made = admin(&flow).create_partitions([&more], &OPTIONS()).await;
    assert!(made.unwrap()[0].is_ok());
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    // A writer that starts with them there ends all the same.
    flow.writer().ends_with(0).await;
    flow.assert_complete().await;
    assert_eq!(flow.markers().await.len(), 1);
}

#[tokio::test]
async fn a_topic_that_is_deleted_under_a_workflow_is_an_error_that_names_it() {
    let Some(flow) = real(Plan::slow_three_days()).await else {
        return;
    };
    let deadline = [("RETRY_DEADLINE_SECS", "5")];
    let (loader, writer) = (
        flow.worker(LOADER, &deadline),
        flow.worker(WRITER, &deadline),
    );
    flow.until_written(WRITER, 1).await;
    let gone = admin(&flow).delete_topics(&[&flow.topic], &OPTIONS()).await;
    assert!(gone.unwrap()[0].is_ok());
    for (service, worker) in [(LOADER, loader), (WRITER, writer)] {
        let code = worker.ends().await;
        let ending = flow.ending(service).await;
        assert_eq!(ending.event, EventKind::Error, "{ending:#?}");
        let expected = if ending.retryable == Some(true) {
            1
        } else {
            70
        };
        assert_eq!(code, expected, "{ending:#?}");
        let message = ending.error_message.unwrap();
        assert!(message.contains(&flow.topic), "{service}: {message}");
        let is_named =
            message.contains("does not exist") || message.to_lowercase().contains("unknown topic");
        assert!(service != LOADER || is_named, "{service}: {message}");
    }
}

#[tokio::test]
async fn a_record_that_the_topic_does_not_take_is_an_error() {
    let Some(flow) = real(Plan::three_days()).await else {
        return;
    };
    let narrow =
        NewTopic::new(&flow.topic, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "200");
    let made = admin(&flow).create_topics([&narrow], &OPTIONS()).await;
    assert!(made.unwrap()[0].is_ok());
    flow.loader().ends_with(70).await;
    let ending = flow.ending(LOADER).await;
    assert_eq!(
        (ending.event, ending.retryable),
        (EventKind::Error, Some(false))
    );
    let message = ending.error_message.unwrap();
    assert!(
        message.contains(&flow.topic) && message.contains("Message size too large"),
        "{message}"
    );
    assert!(flow.published().await.is_empty());
}

#[tokio::test]
async fn a_topic_that_it_may_not_see_is_an_error_that_names_it() {
    let Some(flow) = real(Plan::three_days()).await else {
        return;
    };
    for service in [LOADER, WRITER] {
        flow.worker(service, &[("KAFKA_TOPIC", "foreign-data")])
            .ends_with(70)
            .await;
        let ending = flow.ending(service).await;
        assert_eq!(ending.retryable, Some(false));
        let message = ending.error_message.unwrap();
        assert!(
            message.contains("foreign-data") && message.contains("authorization failed"),
            "{service}: {message}"
        );
    }
}

#[tokio::test]
async fn three_writers_one_is_killed_and_one_joins_late() {
    let plan = Plan {
        partitions: 3,
        ..Plan::slow_three_days()
    };
    let Some(flow) = real(plan).await else {
        return;
    };
    let writer = |n: u32| {
        let id = format!("arango-candles__{n}");
        // The least that a broker allows, so that a dead member is missed soon.
        let changes = [
            ("TELEMETRY_PRODUCER_ID", id.as_str()),
            ("KAFKA_SESSION_TIMEOUT_MS", "6000"),
        ];
        flow.worker(WRITER, &changes)
    };
    let (first, second) = (writer(1), writer(2));
    let loader = flow.loader();
    flow.until_written(WRITER, 1).await;
    first.kill().await;
    let third = writer(3);
    loader.ends_with(0).await;
    second.ends_with(0).await;
    third.ends_with(0).await;
    flow.assert_complete().await;
    assert_eq!(flow.markers().await.len(), 3, "one marker a partition");
    for ending in flow.endings(WRITER).await {
        assert_eq!(ending.event, EventKind::Finished, "{ending:#?}");
    }
}
