//! Stop, simulate-loading and fail-after, met and unmet.

use rdkafka::message::Message;
use streamforge_utils::{protocol::EventKind, worker::Outcome};

use crate::rig::{Rig, event};

#[tokio::test]
async fn a_stop_ends_all_workers_of_the_queue() {
    let rig = Rig::start();
    let workers = [rig.worker("a").await, rig.worker("b").await];
    let said = rig
        .debug("--command stop --expect-interrupted --json")
        .await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let summary = said.summary();
    assert_eq!(
        (
            &summary["outcome"],
            &summary["expected"],
            &summary["unexpected"]
        ),
        (&"met".into(), &2.into(), &0.into())
    );
    let ended: Vec<_> = said
        .kinds("event")
        .into_iter()
        .filter(|line| line["expected"] == true)
        .collect();
    assert_eq!(ended.len(), 2);
    assert!(
        ended.iter().all(|line| line["event"]["reason"] == "stop"),
        "{said:?}"
    );
    for worker in workers {
        worker.await.unwrap();
    }
}

#[tokio::test]
async fn a_stop_with_drain_says_so() {
    let rig = Rig::apart().await;
    let worker = rig.worker("a").await;
    let said = rig
        .debug("--command stop --drain --expect-interrupted --expect-count 1")
        .await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.contains("interrupted (stop)"), "{said:?}");
    worker.await.unwrap();
    let messages = rig.kafka.read_topic(&rig.control).await.unwrap();
    let command: serde_json::Value =
        serde_json::from_slice(messages[0].payload().unwrap()).unwrap();
    assert_eq!(command["payload"], serde_json::json!({"drain": true}));
}

#[tokio::test]
async fn a_stop_that_nobody_obeys_is_unmet() {
    let rig = Rig::start();
    let _other = rig.worker("a").await;
    let said = rig
        .debug("--command stop --target arango-candles --expect-interrupted --timeout 1")
        .await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.stderr.contains(
            "expected 1 worker or more to say \"interrupted\" because of this stop within 1s: none did"
        ),
        "{said:?}"
    );
    let said = rig.debug("--command stop --target dummy-service --expect-interrupted --expect-count 2 --timeout 2").await;
    assert_eq!(said.code, Some(1), "one is not two: {said:?}");
}

#[tokio::test]
async fn a_worker_that_finishes_instead_is_reported() {
    let rig = Rig::start();
    let worker = rig
        .worker_of(&rig.queue, "dummy-service", "a", |ctx| async move {
            ctx.stop.cancelled().await;
            Ok(Outcome::Done)
        })
        .await;
    let said = rig.debug("--command stop --expect-interrupted").await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.stdout.contains("dummy-service__a finished"),
        "{said:?}"
    );
    assert!(
        said.stderr.contains("0 did, 1 ended in another way"),
        "{said:?}"
    );
    worker.await.unwrap();
}

#[tokio::test]
async fn a_worker_that_lives_on_is_named() {
    let rig = Rig::start();
    let mut running = rig.spawn("--command stop --expect-interrupted --timeout 3 --json");
    assert_eq!(running.json().await["kind"], "command");
    let mut ended = event(&rig.queue, "a", EventKind::Interrupted);
    ended["reason"] = "stop".into();
    rig.publish(&event(&rig.queue, "b", EventKind::Loading).to_string())
        .await;
    rig.publish(&ended.to_string()).await;
    let said = running.end().await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(
        said.summary()["missing"],
        serde_json::json!(["dummy-service__b"])
    );
}

#[tokio::test]
async fn a_command_is_sent_without_waiting() {
    let rig = Rig::start();
    let worker = rig.worker("a").await;
    let said = rig.debug("--command stop --json").await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.summary()["outcome"], "sent");
    worker.await.unwrap();
}

#[tokio::test]
async fn simulated_loading_is_seen_to_grow() {
    let rig = Rig::start();
    let said = rig
        .debug("--command simulate-loading --expect-loading --timeout 1")
        .await;
    assert_eq!(said.code, Some(1), "{said:?}");
    // The first order is no longer obeyed: it is older than this worker.
    let _worker = rig.worker("a").await;
    let said = rig
        .debug("--command simulate-loading --expect-loading --json")
        .await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let grown = said.kinds("event").pop().unwrap();
    assert_eq!(
        (&grown["expected"], &grown["event"]["event"]),
        (&true.into(), &"loading".into())
    );
}

#[tokio::test]
async fn a_failure_on_request_is_awaited() {
    let rig = Rig::start();
    let worker = rig.worker("a").await;
    let said = rig
        .debug("--command fail-after --seconds 0.5 --expect-error")
        .await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.stdout
            .contains("dummy-service__a error (retryable): failed as told"),
        "{said:?}"
    );
    worker.await.unwrap();
    let said = rig
        .debug("--command fail-after --seconds 0.5 --expect-error --timeout 1")
        .await;
    assert_eq!(said.code, Some(1), "nobody is left: {said:?}");
}

#[tokio::test]
async fn a_worker_that_is_stopped_before_it_fails_is_unmet() {
    let rig = Rig::start();
    let _worker = rig.worker("a").await;
    let mut running = rig.spawn("--command fail-after --seconds 60 --expect-error --json");
    assert_eq!(running.json().await["kind"], "command");
    rig.publish(&event(&rig.queue, "b", EventKind::Finished).to_string())
        .await;
    let said = running.end().await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(said.summary()["unexpected"], 1);
}
