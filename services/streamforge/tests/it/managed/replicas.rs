//! Two queue-managers over one store.

use super::Managed;
use crate::flow::Plan;

#[tokio::test]
async fn of_two_replicas_one_takes_over_when_the_other_is_killed() {
    let mut managed = Managed::set(Plan::slow_three_days()).await;
    let first = managed.manager("one").await;
    let second = managed.manager("two").await;
    // Any may serve; the first one has the lease.
    managed.start(&second).await;
    managed.until_written(&second, 1).await;
    first.kill().await;
    managed.ends_as(&second, "finished").await;
    managed.flow.assert_complete().await;
    second.end().await;
}
