//! A workflow that nothing happens to.

use super::Managed;
use crate::flow::Plan;

#[tokio::test]
async fn a_workflow_is_loaded_by_rest_alone() {
    let mut managed = Managed::set(Plan::three_days()).await;
    let manager = managed.manager("one").await;
    managed.start(&manager).await;
    let queue = managed.ends_as(&manager, "finished").await;
    managed.flow.assert_complete().await;
    assert_eq!(queue["totals"]["percentage"], 100.0, "{queue:#}");
    let events = manager
        .until(
            "its events are kept",
            &format!("{}/events", managed.path()),
            |page| {
                page["events"]
                    .as_array()
                    .is_some_and(|events| events.len() >= 4)
            },
        )
        .await;
    let kinds = events["events"].as_array().unwrap().iter();
    let finished = kinds.filter(|event| event["event"]["event"] == "finished");
    assert_eq!(finished.count(), 2, "{events:#}");
    manager.end().await;
}
