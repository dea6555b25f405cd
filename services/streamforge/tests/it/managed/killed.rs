//! Processes that are killed: queue-manager, and workers.

use std::time::Duration;

use super::Managed;
use crate::flow::Plan;

#[tokio::test]
async fn a_manager_that_is_killed_at_any_stage_is_as_if_it_had_waited() {
    let mut managed = Managed::set(Plan::slow_three_days()).await;
    let manager = managed.manager("one").await;
    managed.start(&manager).await;
    // Before anything is launched, or in the middle of that.
    manager.kill().await;
    let manager = managed.manager("two").await;
    managed.until_written(&manager, 1).await;
    manager.kill().await;
    let manager = managed.manager("three").await;
    managed.until_written(&manager, 1_500).await;
    manager.kill().await;
    // Its workers go on without one, and end; what they said meanwhile is read by the next.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let manager = managed.manager("four").await;
    managed.ends_as(&manager, "finished").await;
    managed.flow.assert_complete().await;
    manager.end().await;
}

#[tokio::test]
async fn workers_that_are_killed_are_started_again() {
    let mut managed = Managed::set(Plan::crawling_week()).await;
    let manager = managed.manager("one").await;
    managed.start(&manager).await;
    managed.until_written(&manager, 1).await;
    managed.kill_worker("arango-candles");
    managed.kill_worker("loader-api-candles");
    managed.flow.hurry();
    managed.ends_as(&manager, "finished").await;
    managed.flow.assert_complete().await;
    manager.end().await;
}
