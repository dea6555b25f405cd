//! A broker that is stopped and started in mid-load: a test of these has one of its own.

use std::time::Duration;

use streamforge_devstack::kafka::{ApacheKafka, Broker};
use streamforge_utils::protocol::EventKind;
use tempfile::TempDir;

use crate::{
    apache::{real, script},
    flow::{Flow, LOADER, Plan, WRITER},
};

/// A workflow on a broker of its own, if real ones are to be used, and the folder of that broker.
async fn on_its_own(plan: Plan) -> Option<(Flow, TempDir)> {
    let mut flow = real(plan).await?;
    let dir = TempDir::new().unwrap();
    let broker = ApacheKafka::start(&script(), &dir.path().join("kafka")).await;
    flow.kafka = Broker::Apache(broker.unwrap());
    Some((flow, dir))
}

fn broker(flow: &Flow) -> &ApacheKafka {
    super::apache(flow)
}

#[tokio::test]
async fn both_workers_go_on_when_the_broker_is_back() {
    let Some((flow, _dir)) = on_its_own(Plan::slow_two_weeks()).await else {
        return;
    };
    // Long enough for a broker that starts while other tests run.
    let patient = [("RETRY_DEADLINE_SECS", "120")];
    let (loader, writer) = (flow.worker(LOADER, &patient), flow.worker(WRITER, &patient));
    flow.until_written(WRITER, 1).await;
    broker(&flow).down().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    broker(&flow).up().await.unwrap();
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    flow.assert_complete().await;
    flow.assert_finished().await;
}

#[tokio::test]
async fn a_broker_that_stays_away_is_an_error_that_can_pass() {
    let Some((flow, _dir)) = on_its_own(Plan::slow_two_weeks()).await else {
        return;
    };
    // Yet long enough for their start on a busy machine.
    let hasty = [("RETRY_DEADLINE_SECS", "8")];
    let (loader, writer) = (flow.worker(LOADER, &hasty), flow.worker(WRITER, &hasty));
    flow.until_written(WRITER, 1).await;
    broker(&flow).down().await.unwrap();
    loader.ends_with(1).await;
    writer.ends_with(1).await;
    // Restarted as a Job would, with the broker back, they lose nothing.
    broker(&flow).up().await.unwrap();
    let (loader, writer) = (flow.loader(), flow.writer());
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    flow.assert_complete().await;
    for service in [LOADER, WRITER] {
        let last = flow.endings(service).await.pop().unwrap();
        assert_eq!(last.event, EventKind::Finished, "{last:#?}");
    }
}
