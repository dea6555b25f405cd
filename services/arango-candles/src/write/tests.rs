//! The loop without brokers and database: the test gives and takes partitions.

use std::future::ready;

use secrecy::SecretString;
use streamforge_arango::{ArangoConfig, AuthMode, Retry, Session};
use streamforge_utils::{config::KafkaConfig, shutdown::StopSignal};
use tokio::sync::mpsc;

use super::*;
use crate::{
    arango::WriteOptions,
    config::OverwriteMode,
    consume::tests::{Broker, assigned, detached, revoked},
};

const LIMIT: Duration = Duration::from_secs(5);

/// A writer that can reach nothing.
fn writer() -> (Broker, Writer) {
    let (broker, consumer) = detached();
    let metrics = Metrics::default();
    let arango = ArangoConfig {
        url: "http://127.0.0.1:9".parse().unwrap(),
        database: "streamforge".to_owned(),
        user: "root".to_owned(),
        password: SecretString::from("x"),
        ca_path: None,
        auth: AuthMode::Basic,
    };
    let options = WriteOptions {
        database: "streamforge".to_owned(),
        collection: "candles".to_owned(),
        overwrite_mode: OverwriteMode::Replace,
        wait_for_sync: false,
    };
    let session = Arc::new(Session::new(&arango, LIMIT).unwrap());
    let retry = Arc::new(Retry::new(LIMIT));
    let kafka = kafka();
    let parts = Parts {
        consumer,
        bulk: Arc::new(Bulk::new(session, retry, &options)),
        dead_letters: DeadLetters::new(&kafka, "wf-x-data", "writer", LIMIT, metrics.clone()),
        reader: TopicReader::new(&kafka, "writer", "wf-x").unwrap(),
        progress: Progress::default(),
        metrics,
    };
    let settings = Settings {
        topic: "wf-x-data".to_owned(),
        partitions: 1,
        expected: Expected {
            queue_id: "wf-x".parse().unwrap(),
            symbol: "BTCUSDT".parse().unwrap(),
            interval: streamforge_utils::protocol::Interval::Minute1,
        },
        run: 1,
        limits: Limits {
            max_records: 10,
            max_bytes: 1000,
            linger: Duration::ZERO,
        },
        in_flight: 1,
        max_rejected: 0,
        retry_deadline: LIMIT,
        grace: LIMIT,
    };
    (broker, Writer::new(settings, parts))
}

fn kafka() -> KafkaConfig {
    let vars = [(
        "KAFKA_BOOTSTRAP_SERVERS".to_owned(),
        "127.0.0.1:9".to_owned(),
    )];
    let vars = vars.into_iter().collect();
    let mut reader = streamforge_utils::config::Reader::new(&vars);
    reader.section().unwrap()
}

async fn give(writer: &mut Writer, partitions: &[i32]) -> mpsc::UnboundedSender<Delivery> {
    let (event, deliveries) = assigned(1, partitions);
    writer.on_event(event).await.unwrap();
    deliveries
}

/// A batch that never lands.
fn hold(writer: &Writer) {
    writer.in_flight.push(Box::pin(std::future::pending()));
}

#[tokio::test(start_paused = true)]
async fn partitions_given_while_the_last_ones_are_settled_are_taken_on() {
    let (broker, mut writer) = writer();
    give(&mut writer, &[0]).await;
    hold(&writer);
    let (event, answered) = revoked(crate::consume::REVOKE_LIMIT);
    let (next, _deliveries) = assigned(3, &[0, 1]);
    broker.tell(next);
    let start = Instant::now();
    writer.on_event(event).await.unwrap();
    assert!(start.elapsed() < LIMIT, "there is nothing to wait for");
    assert!(answered.try_recv().is_ok());
    assert!(writer.assignment.has(1) && writer.deliveries.is_some());
    assert!(writer.in_flight.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_answered_while_somebody_waits_for_the_answer() {
    let (_broker, mut writer) = writer();
    give(&mut writer, &[0]).await;
    hold(&writer);
    let (event, _answered) = revoked(crate::consume::REVOKE_LIMIT);
    let start = Instant::now();
    // The writer is late itself.
    tokio::time::advance(crate::consume::REVOKE_LIMIT / 2).await;
    writer.on_event(event).await.unwrap();
    assert!(start.elapsed() <= crate::consume::REVOKE_LIMIT + TICK);
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_end_between_two_assignments() {
    let (_broker, mut writer) = writer();
    let stop = StopSignal::new();
    stop.drain();
    give(&mut writer, &[0]).await;
    let (event, _answered) = revoked(crate::consume::REVOKE_LIMIT);
    writer.on_event(event).await.unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(
        writer.outcome(&stop),
        None,
        "others may have unread records"
    );

    give(&mut writer, &[0]).await;
    writer.assignment.partition_mut(0).unwrap().reach_end();
    assert_eq!(writer.outcome(&stop), None, "not silent for long enough");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(writer.outcome(&stop), Some(Outcome::Stopped));
}

#[tokio::test]
async fn nothing_is_taken_while_a_partition_is_full() {
    let (_broker, mut writer) = writer();
    let _deliveries = give(&mut writer, &[0]).await;
    assert!(writer.takes_more());
    let offsets = writer.assignment.partition_mut(0).unwrap().offsets_mut();
    for offset in 0..i64::try_from(offsets::MAX_OUTSTANDING).unwrap() {
        offsets.take(offset, offsets::Origin::Foreign);
    }
    assert!(!writer.takes_more());
    writer.in_flight.push(Box::pin(ready(Ok(Landed::Batch {
        generation: writer.assignment.generation(),
        id: 0,
        written: vec![(0, 0)],
        refused: Vec::new(),
        took: Duration::ZERO,
    }))));
    let landed = writer.in_flight.next().await.unwrap().unwrap();
    writer.on_landed(landed).unwrap();
    assert!(writer.takes_more());
}
