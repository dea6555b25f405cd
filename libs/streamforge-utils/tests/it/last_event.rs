//! The last event of a worker: how long it is tried, and the file that has it before Kafka does.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use streamforge_devstack::kafka::{Broker, MockKafka};
use streamforge_utils::{
    protocol::{Event, EventKind},
    worker::{Failure, Outcome},
};
use tempfile::TempDir;

use crate::probe::{LIMIT, Probe};

/// A fail-over of three brokers takes 9 s and more.
const FAIL_OVER: Duration = Duration::from_secs(8);

/// A broker that can be taken away.
fn probe() -> Probe {
    Probe::on(Broker::Mock(MockKafka::start().unwrap()))
}

fn mock(probe: &Probe) -> &MockKafka {
    match &probe.kafka {
        Broker::Mock(mock) => mock,
        Broker::Apache(_) => unreachable!("it is made of a mock"),
    }
}

/// Waits until the worker is there, so that what it loses is only its last event.
async fn until_started(probe: &Probe) {
    probe.events(|events| !events.is_empty()).await;
}

#[tokio::test]
async fn arrives_after_a_fail_over() {
    let probe = probe();
    let (end, ended) = tokio::sync::oneshot::channel();
    let worker = probe.spawn(probe.settings("some-worker", &[]), |_| async {
        ended.await.unwrap();
        Ok(Outcome::Done)
    });
    until_started(&probe).await;
    mock(&probe).down().unwrap();
    end.send(()).unwrap();
    tokio::time::sleep(FAIL_OVER).await;
    assert!(!worker.is_finished(), "it is still being tried");
    mock(&probe).up().unwrap();
    let code = tokio::time::timeout(LIMIT, worker).await.unwrap().unwrap();
    assert_eq!(code, ExitCode::SUCCESS);
    let last = probe.until_ended().await.pop().unwrap();
    assert_eq!(last.event, EventKind::Finished);
}

#[tokio::test]
async fn is_tried_for_a_moment_where_the_body_has_waited_for_kafka_already() {
    let probe = probe();
    let away = [
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("RETRY_DEADLINE_SECS", "14"),
    ];
    let begun = Instant::now();
    let worker = probe.spawn(probe.settings("some-worker", &away), move |_| async move {
        tokio::time::sleep(Duration::from_secs(14).saturating_sub(begun.elapsed())).await;
        Err(Failure::retryable(anyhow::anyhow!("no broker for 14 s")))
    });
    let limit = Duration::from_secs(24);
    let code = tokio::time::timeout(limit, worker).await.unwrap().unwrap();
    assert_eq!(code, ExitCode::from(1));
    assert!(begun.elapsed() >= Duration::from_secs(18));
}

#[tokio::test]
async fn stands_in_a_file_as_kafka_has_it() {
    let probe = Probe::start();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("termination-log");
    std::fs::write(&path, r#"{"of":"an earlier process"}"#).unwrap();
    let settings = probe.settings(
        "some-worker",
        &[("TERMINATION_MESSAGE_PATH", path.to_str().unwrap())],
    );
    let seen = path.clone();
    let worker = probe.spawn(settings, move |_| async move {
        assert_eq!(std::fs::read_to_string(seen).unwrap(), "");
        Err(Failure::permanent(anyhow::anyhow!("no such symbol")))
    });
    assert_eq!(worker.await.unwrap(), ExitCode::from(70));
    let last = probe.until_ended().await.pop().unwrap();
    assert_eq!(last.error_message.as_deref(), Some("no such symbol"));
    let written = std::fs::read(&path).unwrap();
    assert_eq!(serde_json::from_slice::<Event>(&written).unwrap(), last);
}

#[tokio::test]
async fn a_worker_that_may_not_report_ends_soon_after_its_body() {
    let probe = Probe::start();
    if !probe.kafka.is_real() {
        eprintln!("NOT RUN: this test needs a broker that refuses: run ci/kafka.sh start");
        return;
    }
    let refused = [("QUEUE_EVENTS_TOPIC", "foreign-events")];
    let worker = probe.spawn(probe.settings("some-worker", &refused), |_| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(Outcome::Done)
    });
    let code = tokio::time::timeout(LIMIT, worker).await.unwrap().unwrap();
    assert_eq!(code, ExitCode::SUCCESS);
}
