//! Pods that can't start: said in words, for as long as it lasts, and removed when somebody stops it.

use serde_json::{Value, json};

use super::rig::Clustered;
use crate::{
    flow::{LOADER, Plan},
    managed::Manager,
};

/// Waits until a worker is stalled for a reason that has these words, then stops all.
async fn stalls(clustered: Clustered, manager: Manager, words: &[&str]) {
    let is_stalled = |queue: &Value| {
        queue["parts"].as_array().is_some_and(|parts| {
            parts.iter().any(|part| {
                let reason = part["reason"].as_str().unwrap_or_default();
                part["status"] == "stalled" && words.iter().all(|word| reason.contains(word))
            })
        })
    };
    let path = clustered.path();
    let what = format!("it is stalled, and says {words:?}");
    manager.until(&what, &path, is_stalled).await;
    clustered.stop(&manager, false).await;
    clustered.ends_as(&manager, "interrupted").await;
    clustered.remove(manager).await;
}

#[tokio::test]
async fn an_image_that_can_not_be_pulled_is_named() {
    let mut clustered = Clustered::set(Plan::three_days()).await;
    let manager = clustered.manager("one").await;
    let image = "registry.invalid/loader-api-candles:no-such-tag";
    let loader = json!({"image": image});
    clustered.start_with(&manager, loader, json!({})).await;
    stalls(clustered, manager, &["its image can't be pulled", image]).await;
}

#[tokio::test]
async fn a_pod_that_no_node_takes_says_so() {
    let mut clustered = Clustered::set(Plan::three_days()).await;
    let overrides = format!(
        "targets: {{{LOADER}: {{nodeSelector: {{streamforge.test/no-such-node: 'true'}}}}}}"
    );
    let overrides = clustered.write("overrides.yaml", &overrides);
    let more = [("K8S_OVERRIDES_FILE", overrides.as_str())];
    let manager = clustered.manager_with("one", &more).await;
    clustered.start(&manager).await;
    stalls(
        clustered,
        manager,
        &["no node takes it", "nodes are available"],
    )
    .await;
}

#[tokio::test]
async fn a_secret_that_is_missing_is_named() {
    let mut clustered = Clustered::set(Plan::three_days()).await;
    // The loader has one, and may need a password of Kafka.
    let secrets = "streamforge-worker,arango-candles=streamforge-nowhere";
    let more = [("K8S_SECRET", secrets)];
    let manager = clustered.manager_with("one", &more).await;
    clustered.start(&manager).await;
    let words = [
        "its container can't be made",
        "\"streamforge-nowhere\" not found",
    ];
    stalls(clustered, manager, &words).await;
}
