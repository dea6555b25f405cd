//! Workers that are frozen: they are waited for, and nothing is put in their place.

use rustix::process::Signal;
use serde_json::Value;

use super::Managed;
use crate::flow::{LOADER, Plan, WRITER};

#[tokio::test]
async fn frozen_workers_are_stalled_until_they_go_on() {
    let mut managed = Managed::set(Plan::crawling_week()).await;
    // More than the 10 s at which a worker says that it lives.
    let manager = managed
        .manager_with("one", &[("STALLED_AFTER_SECS", "12")])
        .await;
    managed.start(&manager).await;
    managed.until_written(&manager, 1).await;
    for service in [LOADER, WRITER] {
        managed.signal_worker(service, Signal::STOP);
    }
    let are_stalled = |queue: &Value| {
        let mut parts = queue["parts"].as_array().unwrap().iter();
        parts.all(|part| part["status"] == "stalled")
    };
    let queue = manager
        .until("both are stalled", &managed.path(), are_stalled)
        .await;
    assert_eq!(queue["status"], "stalled", "{queue:#}");
    for part in queue["parts"].as_array().unwrap() {
        let (reason, id) = (&part["reason"], &part["telemetry_id"]);
        let says = |reason: &Value| {
            let text = reason.as_str().unwrap_or_default();
            text.contains("nothing was heard of it since")
        };
        assert!(says(reason), "{id}: {reason}");
    }
    assert!(
        queue["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("nothing was heard")),
        "{queue:#}"
    );
    managed.assert_started_once();
    managed.flow.hurry();
    for service in [LOADER, WRITER] {
        managed.signal_worker(service, Signal::CONT);
    }
    managed.ends_as(&manager, "finished").await;
    managed.flow.assert_complete().await;
    managed.assert_started_once();
    manager.end().await;
}
