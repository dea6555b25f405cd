//! What was asked for is done, also if queue-manager is killed right after it said so, and again while it is at it.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Managed, Manager, Named};
use crate::flow::{CRAWL, DATABASE, Plan};

impl Managed {
    async fn remove(&self, manager: &Manager, named: &Named, query: &str) {
        let path = format!("{}{query}", named.path());
        let answer = manager.ask(Method::DELETE, &path, &[], None).await.unwrap();
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:#?}");
    }

    /// Waits until it is not known any more; then there is nothing left of it but what it has loaded.
    async fn until_gone(&mut self, manager: &Manager, named: &Named) {
        let is_gone = |answer: &super::Answer| answer.status == StatusCode::NOT_FOUND;
        manager
            .until_answer("it is gone", &named.path(), is_gone)
            .await;
        self.turn_to(named);
        assert!(self.jobs().is_empty(), "{} has Jobs", named.id());
        for collection in ["streamforge-queue_state", "streamforge-telemetry"] {
            let documents = self.flow.arango.documents(DATABASE, collection).unwrap();
            let of_it = documents
                .values()
                .filter(|document| document["queue_id"] == named.id());
            assert_eq!(of_it.count(), 0, "{} has {collection}", named.id());
        }
        // The mock can delete no topics.
        if self.flow.kafka.is_real() {
            let messages = self.flow.kafka.read_topic(&named.topic).await.unwrap();
            assert!(messages.is_empty(), "{} is there", named.topic);
        }
    }
}

#[tokio::test]
async fn what_was_asked_for_is_done_after_a_kill() {
    let mut managed = Managed::set(Plan::stalled_three_days()).await;
    let manager = managed.manager("one").await;
    let stop = |named: &Named, drain: bool| json!({"queue_id": named.id(), "drain": drain});
    let retried = managed.start(&manager).await;
    managed.until_written(&manager, 1).await;
    manager.post("/queues/stop", &stop(&retried, false)).await;
    managed.ends_as(&manager, "interrupted").await;
    // The others are not to end by themselves, however busy the machine is.
    managed.flow.exchange.handle().set_latency(CRAWL);
    let mut started = Vec::new();
    for range in [
        "2024-01-01:2024-02-09",
        "2024-03-01:2024-04-09",
        "2024-05-01:2024-06-09",
    ] {
        started.push(managed.start_range(&manager, range).await);
    }
    let [stopped, drained, removed] = started.try_into().unwrap();
    for named in [&stopped, &drained, &removed] {
        managed.turn_to(named);
        managed.until_written(&manager, 1).await;
    }
    manager.post("/queues/stop", &stop(&stopped, false)).await;
    manager.post("/queues/stop", &stop(&drained, true)).await;
    manager
        .post(&format!("{}/retry", retried.path()), &Value::Null)
        .await;
    managed.remove(&manager, &removed, "?force=true").await;
    manager.kill().await;
    // In the middle of all that.
    let manager = managed.manager("two").await;
    manager.until_conducts(true).await;
    manager.kill().await;
    let manager = managed.manager("three").await;

    managed.until_gone(&manager, &removed).await;
    for named in [&stopped, &drained] {
        managed.turn_to(named);
        managed.ends_as(&manager, "interrupted").await;
    }
    managed.flow.assert_stored_is_published().await;
    managed.flow.hurry();
    managed.turn_to(&retried);
    let queue = managed.ends_as(&manager, "finished").await;
    assert_eq!(queue["run"], 2, "{queue:#}");
    managed.flow.assert_complete().await;

    // What has ended goes the same way.
    for named in [&stopped, &drained, &retried] {
        managed.remove(&manager, named, "").await;
    }
    manager.kill().await;
    let manager = managed.manager("four").await;
    for named in [&stopped, &drained, &retried] {
        managed.until_gone(&manager, named).await;
    }
    manager.end().await;
}
