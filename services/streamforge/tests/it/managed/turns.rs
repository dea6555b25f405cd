//! Limits on what runs at a time: those that wait keep their order, and nobody keeps a place that he does not need.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Managed, Manager, Named};
use crate::flow::Plan;

async fn stop(manager: &Manager, named: &Named) {
    let body = json!({"queue_id": named.id()});
    manager.post("/queues/stop", &body).await;
}

async fn status(manager: &Manager, named: &Named) -> Value {
    let answer = manager.ask(Method::GET, &named.path(), &[], None).await;
    answer.unwrap().body["data"]["status"].clone()
}

/// One has its turn, three wait; the first of these and the one that runs are stopped, then the others have theirs.
async fn wait_in_order(limit: (&str, &str), place_is_free_at: impl Fn(&Value) -> Option<i64>) {
    let mut managed = Managed::set(Plan::crawling_week()).await;
    let manager = managed.manager_with("one", &[limit]).await;
    let mut started = Vec::new();
    for range in [
        "2024-06-11:2024-07-20",
        "2024-08-05:2024-08-05",
        "2024-08-07:2024-08-07",
        "2024-08-09:2024-08-09",
    ] {
        started.push(managed.start_range(&manager, range).await);
    }
    let [runs, cancelled, second, third] = started.try_into().unwrap();
    managed.turn_to(&runs);
    managed.until_written(&manager, 1).await;

    stop(&manager, &cancelled).await;
    managed.turn_to(&cancelled);
    let queue = managed.ends_as(&manager, "interrupted").await;
    assert_eq!(queue["admitted_at"], Value::Null, "{queue:#}");
    assert!(managed.jobs().is_empty(), "it never had a Job");
    for waiting in [&second, &third] {
        assert_eq!(status(&manager, waiting).await, "pending");
    }
    stop(&manager, &runs).await;
    managed.flow.hurry();
    managed.turn_to(&runs);
    let mut before = managed.ends_as(&manager, "interrupted").await;
    for waiting in [&second, &third] {
        managed.turn_to(waiting);
        let queue = managed.ends_as(&manager, "finished").await;
        managed.flow.assert_complete().await;
        managed.assert_started_once();
        let (free, admitted) = (place_is_free_at(&before), queue["admitted_at"].as_i64());
        assert!(free.is_some() && admitted >= free, "{before:#}\n{queue:#}");
        before = queue;
    }
    manager.end().await;
}

#[tokio::test]
async fn workflows_wait_in_order() {
    let ended_at = |queue: &Value| queue["ended_at"].as_i64();
    wait_in_order(("MAX_WORKFLOWS", "1"), ended_at).await;
}

#[tokio::test]
async fn loaders_wait_in_order() {
    // Its writers may go on while the next one loads.
    let ended_at = |queue: &Value| queue["parts"][0]["ended_at"].as_i64();
    wait_in_order(("MAX_LOADERS", "1"), ended_at).await;
}
