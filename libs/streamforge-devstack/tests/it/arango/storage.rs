//! What stays when a server stops and starts again in the same folder.
use std::time::Duration;

use serde_json::json;
use streamforge_devstack::arango::{ArangoServer, StartError};

use super::{PASSWORD, Root};

#[tokio::test]
async fn a_folder_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let start = async || {
        Root::start_with(ArangoServer::builder().in_folder(folder.path().join("new"))).await
    };

    let root = start().await;
    root.post("/_api/database", json!({"name": "d"})).await;
    root.post(
        "/_db/d/_api/collection",
        json!({"name": "x", "waitForSync": true}),
    )
    .await;
    root.post(
        "/_api/index?collection=c",
        json!({"type": "persistent", "fields": ["a"], "name": "n"}),
    )
    .await;
    root.post("/_api/document/c", json!({"_key": "unsynced", "v": 1.5}))
        .await;
    root.post("/_db/d/_api/document/x", json!({"_key": "synced"}))
        .await;
    let generated = root.post("/_api/document/c", json!({})).await.body;
    let read = root.get("/_api/document/c/unsynced").await.body;
    // A cursor that is still open must not keep the file locked.
    root.post(
        "/_api/cursor",
        json!({"query": "FOR d IN c RETURN d", "batchSize": 1}),
    )
    .await;
    root.server.stop().await;

    let root = start().await;
    assert_eq!(root.get("/_api/document/c/unsynced").await.body, read);
    assert_eq!(root.get("/_db/d/_api/document/x/synced").await.status, 200);
    assert_eq!(
        root.get("/_db/d/_api/collection/x/properties").await.body["waitForSync"],
        true
    );
    assert_eq!(
        root.get("/_api/index/c/n").await.body["fields"],
        json!(["a"])
    );
    let next = root.post("/_api/document/c", json!({})).await.body;
    assert!(next["_key"].as_str() > generated["_key"].as_str());
    assert_ne!(next["_rev"], generated["_rev"]);
    root.server.stop().await;
}

#[tokio::test]
async fn what_has_expired_goes_by_itself() {
    let builder = ArangoServer::builder().ttl_interval(Duration::from_millis(50));
    let root = Root::start_with(builder).await;
    let index = json!({"type": "ttl", "fields": ["at"], "expireAfter": 0});
    root.post("/_api/index?collection=c", index).await;
    let documents = json!([
        {"_key": "past", "at": 1_722_470_400},
        {"_key": "future", "at": 4_000_000_000_u64},
    ]);
    root.post("/_api/document/c", documents).await;
    let gone = tokio::time::timeout(Duration::from_secs(10), async {
        while !root.stored("past").is_null() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    gone.await.unwrap();
    assert!(!root.stored("future").is_null());
}

#[tokio::test]
async fn memory_is_forgotten_and_the_port_is_free_again() {
    let root = Root::start().await;
    root.post("/_api/document/c", json!({"_key": "k"})).await;
    let url = root.server.url();
    let port = url.rsplit(':').next().unwrap().parse().unwrap();
    root.server.stop().await;
    assert!(reqwest::get(&url).await.unwrap_err().is_connect());

    let root = Root::start_with(ArangoServer::builder().port(port)).await;
    assert_eq!(root.server.url(), url);
    assert!(root.stored("k").is_null());
}

#[tokio::test]
async fn what_prevents_a_start_is_said() {
    let first = ArangoServer::builder().start().await.unwrap();
    let port = first.url().rsplit(':').next().unwrap().parse().unwrap();
    let taken = ArangoServer::builder()
        .root_password(PASSWORD)
        .port(port)
        .start()
        .await;
    assert!(matches!(taken.err(), Some(StartError::Listen { port: p, .. }) if p == port));

    let folder = tempfile::tempdir().unwrap();
    let running = ArangoServer::builder()
        .in_folder(folder.path())
        .start()
        .await
        .unwrap();
    let second = ArangoServer::builder()
        .in_folder(folder.path())
        .start()
        .await;
    assert!(matches!(second.err(), Some(StartError::Store(_))));
    running.stop().await;

    std::fs::write(folder.path().join("file"), "").unwrap();
    let not_a_folder = ArangoServer::builder()
        .in_folder(folder.path().join("file"))
        .start()
        .await;
    assert!(matches!(not_a_folder.err(), Some(StartError::Store(_))));
}
