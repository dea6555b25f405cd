//! Nothing goes wrong, or somebody stops it.

use serde_json::{Value, json};

use super::rig::{Clustered, slow};
use crate::flow::{LOADER, Plan, WRITER};

#[tokio::test]
async fn a_workflow_is_loaded_by_rest_alone() {
    let mut clustered = Clustered::set(Plan::three_days()).await;
    let manager = clustered.manager("one").await;
    clustered.start(&manager).await;
    let queue = clustered.ends_as(&manager, "finished").await;
    assert_eq!(queue["totals"]["percentage"], 100.0, "{queue:#}");
    assert_eq!(clustered.cluster.jobs(clustered.id()).await.len(), 2);
    let logs = format!("{}/logs", clustered.path());
    let has_log = |logs: &Value| logs.to_string().contains(LOADER);
    manager.until("there is a log", &logs, has_log).await;
    clustered.completes(manager).await;
}

#[tokio::test]
async fn a_stopped_workflow_goes_on_in_its_next_run() {
    let mut clustered = Clustered::set(slow()).await;
    let manager = clustered.manager("one").await;
    clustered.start(&manager).await;
    clustered.until_written(&manager, 1).await;
    clustered.stop(&manager, true).await;
    clustered.ends_as(&manager, "interrupted").await;
    clustered.assert_stored_is_published().await;
    let retry = format!("{}/retry", clustered.path());
    manager.post(&retry, &Value::Null).await;
    let queue = clustered.completes(manager).await;
    assert_eq!(queue["run"], 2, "{queue:#}");
}

#[tokio::test]
async fn a_manager_that_is_killed_is_as_if_it_had_waited() {
    let mut clustered = Clustered::set(slow()).await;
    let manager = clustered.manager("one").await;
    clustered.start(&manager).await;
    // Before anything is launched, or in the middle of that.
    manager.kill().await;
    let manager = clustered.manager("two").await;
    clustered.until_written(&manager, 1).await;
    manager.kill().await;
    let manager = clustered.manager("three").await;
    assert_eq!(clustered.cluster.jobs(clustered.id()).await.len(), 2);
    clustered.completes(manager).await;
}

#[tokio::test]
async fn a_worker_that_fails_for_good_ends_its_workflow() {
    let mut clustered = Clustered::set(slow()).await;
    let manager = clustered.manager("one").await;
    // Not one record may be rejected.
    let strict = json!({"env": {"MAX_REJECTED": "0"}});
    clustered.start_with(&manager, json!({}), strict).await;
    clustered.until_written(&manager, 1).await;
    clustered.poison().await;
    let queue = clustered.ends_as(&manager, "error").await;
    let reason = queue["reason"].as_str().unwrap();
    assert!(reason.contains("arango-candles"), "{reason}");
    let parts = queue["parts"].as_array().unwrap();
    assert_eq!(
        parts[0]["status"], "interrupted",
        "its loader was stopped: {queue:#}"
    );
    // It was not tried again.
    clustered
        .cluster
        .ended_once_with(clustered.id(), WRITER, 70)
        .await;
    clustered.remove(manager).await;
}
