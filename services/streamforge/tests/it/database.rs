//! ArangoDB away, slow, or cutting connections: everything arrives, and nothing goes to the dead letters.

use std::time::Duration;

use streamforge_devstack::arango::Fault;
use streamforge_utils::protocol::EventKind;

use crate::flow::{Flow, LOADER, Plan, WRITER};

async fn completes_in_spite_of(fault: impl FnOnce(&Flow)) {
    let flow = Flow::start(Plan::three_days()).await;
    fault(&flow);
    let (loader, writer) = (flow.loader(), flow.writer());
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    flow.assert_complete().await;
    flow.assert_finished().await;
    assert!(
        flow.dead_letters().await.is_empty(),
        "an outage is no poison"
    );
    assert_eq!(flow.arango.faults().pending(), 0, "all faults were met");
}

#[tokio::test]
async fn unavailable_for_a_while() {
    completes_in_spite_of(|flow| flow.arango.faults().next(Fault::Unavailable, 4)).await;
}

#[tokio::test]
async fn a_proxy_that_answers_in_plain_text() {
    completes_in_spite_of(|flow| flow.arango.faults().next(Fault::UnavailablePlainText, 3)).await;
}

#[tokio::test]
async fn connections_dropped_before_the_write() {
    completes_in_spite_of(|flow| flow.arango.faults().next(Fault::DropBeforeWrite, 3)).await;
}

#[tokio::test]
async fn connections_dropped_after_the_write() {
    completes_in_spite_of(|flow| flow.arango.faults().next(Fault::DropAfterWrite, 3)).await;
}

#[tokio::test]
async fn a_slow_database() {
    completes_in_spite_of(|flow| flow.arango.faults().delay(Duration::from_millis(300))).await;
}

#[tokio::test]
async fn away_for_longer_than_the_deadline() {
    let flow = Flow::start(Plan::three_days()).await;
    flow.arango.faults().always(Fault::Unavailable);
    flow.loader().ends_with(0).await;
    flow.worker(WRITER, &[("RETRY_DEADLINE_SECS", "1")])
        .ends_with(1)
        .await;
    let ending = flow.ending(WRITER).await;
    assert_eq!(
        (ending.event, ending.retryable),
        (EventKind::Error, Some(true))
    );
    assert!(flow.dead_letters().await.is_empty());
    assert_eq!(flow.ending(LOADER).await.event, EventKind::Finished);

    // The next attempt finds it well.
    flow.arango.faults().clear();
    flow.writer().ends_with(0).await;
    flow.assert_complete().await;
}
