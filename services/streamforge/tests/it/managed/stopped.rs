//! Workflows that somebody stops, and runs again.

use serde_json::{Value, json};

use super::Managed;
use crate::flow::Plan;

#[tokio::test]
async fn a_stopped_workflow_goes_on_in_its_next_run() {
    let mut managed = Managed::set(Plan::stalled_three_days()).await;
    let manager = managed.manager("one").await;
    managed.start(&manager).await;
    managed.until_written(&manager, 1).await;
    let body = json!({"queue_id": managed.flow.queue_id.as_str(), "drain": true});
    manager.post("/queues/stop", &body).await;
    managed.ends_as(&manager, "interrupted").await;
    managed.flow.assert_stored_is_published().await;
    manager
        .post(&format!("{}/retry", managed.path()), &Value::Null)
        .await;
    let queue = managed.ends_as(&manager, "finished").await;
    assert_eq!(queue["run"], 2, "{queue:#}");
    managed.flow.assert_complete().await;
    manager.end().await;
}
