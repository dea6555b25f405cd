//! Killed with -9 and started again, as a Job does.

use streamforge_utils::protocol::EventKind;

use crate::flow::{Flow, LOADER, Plan, WRITER};

#[tokio::test]
async fn a_loader_goes_on_after_what_it_published() {
    for partitions in [1, 3] {
        let flow = Flow::start(Plan {
            partitions,
            ..Plan::slow_three_days()
        })
        .await;
        let (loader, writer) = (flow.loader(), flow.writer());
        flow.until_written(LOADER, 1_000).await;
        loader.kill().await;
        let before = flow.published().await.len();
        assert!(
            (1_000..4_320).contains(&before),
            "{before} records before the kill"
        );
        flow.loader().ends_with(0).await;
        writer.ends_with(0).await;
        flow.assert_complete().await;
        flow.assert_finished().await;
    }
}

#[tokio::test]
async fn a_loader_that_was_done_publishes_nothing_again() {
    let flow = Flow::start(Plan::three_days()).await;
    for _ in 0..2 {
        flow.loader().ends_with(0).await;
        assert_eq!(flow.markers().await.len(), 1);
    }
    flow.writer().ends_with(0).await;
    flow.assert_complete().await;
    for ending in flow.endings(LOADER).await {
        assert_eq!(
            (ending.event, ending.records.written),
            (EventKind::Finished, 4_320)
        );
    }
}

#[tokio::test]
async fn a_writer_goes_on_after_what_it_committed() {
    let flow = Flow::start(Plan::slow_three_days()).await;
    let (loader, writer) = (flow.loader(), flow.writer());
    flow.until_written(WRITER, 500).await;
    writer.kill().await;
    let writer = flow.writer();
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    flow.assert_complete().await;
    flow.assert_finished().await;
}

#[tokio::test]
async fn a_writer_that_was_done_ends_again() {
    let flow = Flow::start(Plan::three_days()).await;
    flow.loader().ends_with(0).await;
    for _ in 0..2 {
        flow.writer().ends_with(0).await;
    }
    for ending in flow.endings(WRITER).await {
        assert_eq!(
            (ending.event, ending.records.written),
            (EventKind::Finished, 4_320),
            "the whole run is counted"
        );
    }
    flow.assert_complete().await;
}
