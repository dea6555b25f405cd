//! Commands and signals at every stage.

use rustix::process::Signal;
use streamforge_utils::protocol::{CommandKind, EventKind, InterruptReason};

use crate::flow::{Flow, LOADER, Plan, WRITER};

#[tokio::test]
async fn stop_in_mid_load() {
    let flow = Flow::start(Plan::stalled_three_days()).await;
    let (loader, writer) = (flow.loader(), flow.writer());
    flow.until_written(LOADER, 1).await;
    flow.send(CommandKind::Stop).await;
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    for service in [LOADER, WRITER] {
        let ending = flow.ending(service).await;
        assert_eq!(ending.event, EventKind::Interrupted, "{ending:#?}");
        let reason = ending.reason.unwrap();
        assert!(
            reason == InterruptReason::Stop
                || (service == WRITER && reason == InterruptReason::Upstream)
        );
    }
    let markers = flow.markers().await;
    assert_eq!(
        (markers.len(), &markers[0]["outcome"]),
        (1, &"interrupted".into())
    );
    let written = flow.ending(LOADER).await.records.written;
    assert!(
        (1..4_320).contains(&written),
        "{written} records before the stop"
    );

    // The next run goes on where this one ended.
    let next = [("RUN", "2"), ("QUEUE_STARTED_AT", "")];
    let (loader, writer) = (flow.worker(LOADER, &next), flow.worker(WRITER, &next));
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    flow.assert_complete().await;
    flow.assert_finished().await;
}

#[tokio::test]
async fn a_writer_ends_when_only_its_loader_is_stopped() {
    let flow = Flow::start(Plan::stalled_three_days()).await;
    let (loader, writer) = (flow.loader(), flow.writer());
    flow.until_written(LOADER, 1).await;
    let mut stop =
        streamforge_utils::protocol::Command::new(CommandKind::Stop, flow.queue_id.as_str());
    stop.target = Some(LOADER.to_owned());
    flow.kafka.send_command(&stop).await.unwrap();
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    let ending = flow.ending(WRITER).await;
    assert_eq!(
        (ending.event, ending.reason),
        (EventKind::Interrupted, Some(InterruptReason::Upstream))
    );
    flow.assert_stored_is_published().await;
}

#[tokio::test]
async fn a_drain_empties_the_topic() {
    let flow = Flow::start(Plan::stalled_three_days()).await;
    let (loader, writer) = (flow.loader(), flow.writer());
    flow.until_written(LOADER, 1).await;
    let mut stop =
        streamforge_utils::protocol::Command::new(CommandKind::Stop, flow.queue_id.as_str());
    stop.payload = Some(streamforge_utils::protocol::CommandPayload {
        drain: true,
        seconds: None,
    });
    flow.kafka.send_command(&stop).await.unwrap();
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    assert_eq!(flow.ending(WRITER).await.event, EventKind::Interrupted);
    flow.assert_stored_is_published().await;
}

#[tokio::test]
async fn stop_before_the_workers_are_up() {
    let flow = Flow::start(Plan::three_days()).await;
    flow.send(CommandKind::Stop).await;
    let (loader, writer) = (flow.loader(), flow.writer());
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    for service in [LOADER, WRITER] {
        assert_eq!(
            flow.ending(service).await.event,
            EventKind::Interrupted,
            "{service}"
        );
    }
}

#[tokio::test]
async fn sigterm_and_a_restart() {
    let flow = Flow::start(Plan::stalled_three_days()).await;
    let (loader, writer) = (flow.loader(), flow.writer());
    flow.until_written(WRITER, 1).await;
    loader.signal(Signal::TERM);
    writer.signal(Signal::TERM);
    loader.ends_with(143).await;
    writer.ends_with(143).await;
    for service in [LOADER, WRITER] {
        let ending = flow.ending(service).await;
        assert_eq!(
            (ending.event, ending.reason),
            (EventKind::Interrupted, Some(InterruptReason::Signal))
        );
    }
    assert!(
        flow.markers().await.is_empty(),
        "after a signal a restart goes on"
    );

    let (loader, writer) = (flow.loader(), flow.writer());
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    flow.assert_complete().await;
    flow.assert_finished().await;
}

#[tokio::test]
async fn sigint_is_told_from_sigterm() {
    let flow = Flow::start(Plan::stalled_three_days()).await;
    let loader = flow.loader();
    flow.until_written(LOADER, 1).await;
    loader.signal(Signal::INT);
    loader.ends_with(130).await;
}

#[tokio::test]
async fn sigterm_before_there_is_anything_to_do() {
    let flow = Flow::start_without_topic(Plan::three_days()).await;
    let writer = flow.writer();
    flow.events(|events| !events.is_empty()).await;
    writer.signal(Signal::TERM);
    writer.ends_with(143).await;
    assert_eq!(
        flow.ending(WRITER).await.reason,
        Some(InterruptReason::Signal)
    );
}
