//! Documents that are spoiled while the controller runs: it skips them, leaves them as they are, and goes on.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use streamforge_devstack::exchange::Latency;

use super::{Managed, Manager, Named};
use crate::flow::{CRAWL, DATABASE, PASSWORD, Plan};

const STATES: &str = "streamforge-queue_state";

impl Managed {
    /// Puts a document into the database past queue-manager, whatever its revision.
    async fn put(&self, collection: &str, key: &str, document: &Value) {
        let url = format!(
            "{}/_db/{DATABASE}/_api/document/{collection}/{key}",
            self.flow.arango.url()
        );
        let http = reqwest::Client::new();
        let sent = http.put(url).basic_auth("root", Some(PASSWORD));
        let answer = sent.json(document).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    fn stored(&self, collection: &str) -> BTreeMap<String, Value> {
        self.flow.arango.documents(DATABASE, collection).unwrap()
    }
}

/// How many documents of a collection were found to be unreadable.
async fn counted(manager: &Manager, collection: &str) -> u64 {
    let answer = manager.http.get(format!("{}/metrics", manager.url));
    let text = answer.send().await.unwrap().text().await.unwrap();
    let name =
        format!("streamforge_manager_unreadable_documents_total{{collection=\"{collection}\"}} ");
    let found = text.lines().find_map(|line| line.strip_prefix(&name));
    found.map_or(0, |count| count.parse().unwrap())
}

fn spoil(way: usize, document: &mut Value) {
    match way {
        0 => document["parts"] = json!("none"),
        1 => drop(document.as_object_mut().unwrap().remove("positions")),
        2 => document["reason"] = json!("x".repeat(5 << 20)),
        _ => {
            document["schema"] = json!(2);
            document["invented_later"] = json!(true);
        }
    }
}

#[tokio::test]
async fn spoiled_documents_stop_nothing_and_stay_as_they_are() {
    let mut managed = Managed::set(Plan::three_days()).await;
    let manager = managed.manager("one").await;
    managed.flow.exchange.handle().set_latency(CRAWL);
    let mut spoiled: Vec<Named> = Vec::new();
    for range in [
        "2024-01-01:2024-02-09",
        "2024-03-01:2024-04-09",
        "2024-05-01:2024-06-09",
        "2024-07-01:2024-07-09",
    ] {
        spoiled.push(managed.start_range(&manager, range).await);
    }
    for named in &spoiled {
        managed.turn_to(named);
        let is_running = |queue: &Value| queue["status"] == "running";
        manager.until("it runs", &named.path(), is_running).await;
    }
    let mut put: Vec<Value> = Vec::new();
    for (way, named) in spoiled.iter().enumerate() {
        let mut document = managed.stored(STATES)[named.id()].clone();
        spoil(way, &mut document);
        managed.put(STATES, named.id(), &document).await;
        put.push(document);
    }
    // Of each other collection one, too.
    let events = managed.stored("streamforge-telemetry");
    let event = events.keys().find(|key| key.starts_with(spoiled[0].id()));
    let of_first = json!({"queue_id": spoiled[0].id(), "partition": 0, "offset": 0});
    managed
        .put("streamforge-telemetry", event.unwrap(), &of_first)
        .await;
    let claim = json!({"holder": [1], "token": "x"});
    managed.put("streamforge-lease", "conductor", &claim).await;

    let is_unreadable = |queue: &Value| {
        let reason = queue["reason"].as_str().unwrap_or_default();
        queue["status"] == "error" && reason.starts_with("unreadable: ")
    };
    for named in &spoiled {
        let path = named.path();
        let shown = manager.until("it is shown as unreadable", &path, is_unreadable);
        assert_eq!(shown.await["queue_id"], named.id());
        let stop = json!({"queue_id": named.id()});
        let refused = manager.ask(Method::POST, "/queues/stop", &[], Some(&stop));
        assert_eq!(refused.await.unwrap().status, StatusCode::CONFLICT);
    }
    let listed = manager.until("all are listed", "/queues", |_| true).await;
    let listed = listed["queues"].as_array().unwrap();
    for named in &spoiled {
        let row = listed.iter().find(|row| row["queue_id"] == named.id());
        assert!(is_unreadable(row.unwrap()), "{listed:#?}");
    }
    let events = format!("{}/events", spoiled[0].path());
    manager.until("its other events", &events, |_| true).await;

    // Whoever reconciles takes the lease again, and the next workflow is complete.
    managed
        .flow
        .exchange
        .handle()
        .set_latency(Latency::default());
    let next = managed.start_range(&manager, "2024-08-01:2024-08-03").await;
    managed.turn_to(&next);
    managed.ends_as(&manager, "finished").await;
    managed.flow.assert_complete().await;
    assert_eq!(counted(&manager, STATES).await, 4, "{}", manager.said());
    assert_eq!(counted(&manager, "streamforge-telemetry").await, 1);
    let said = manager.said();
    let logged = said
        .lines()
        .filter(|line| line.contains("Skipping a document"));
    assert_eq!(logged.count(), 5, "{said}");
    let stored = managed.stored(STATES);
    for (named, put) in spoiled.iter().zip(&put) {
        assert!(stored[named.id()] == *put, "{} was overwritten", named.id());
        managed.turn_to(named);
        assert!(!managed.jobs().is_empty(), "the Jobs of {}", named.id());
    }
    manager.end().await;
}
