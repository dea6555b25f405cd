//! Three brokers, of which one is frozen and one is killed in mid-load.

use std::time::{Duration, Instant};

use streamforge_devstack::kafka::{ApacheKafka, Broker, BrokerAction};
use tempfile::TempDir;

use crate::{
    apache::{apache, real, script},
    flow::{Flow, LOADER, Plan, WRITER},
};

/// From the freeze to the election: the session of a broker, and as long again should the controller be the frozen one.
const ELECTION: Duration = Duration::from_secs(20);
/// From the election until the load resumes.
const FAIL_OVER: Duration = Duration::from_secs(15);
/// What is left of the load then, on a busy machine. With librdkafka's own 60 s a load ends 50 s after the election.
const REST: Duration = Duration::from_secs(15);

/// Waits until another broker than `old` leads partition 0.
async fn until_elected(flow: &Flow, old: u32) {
    let since = Instant::now();
    loop {
        match apache(flow).leader(&flow.topic, 0) {
            Ok(Some(leader)) if leader != old => return,
            _ => assert!(since.elapsed() < ELECTION, "no new leader was elected"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_frozen_leader_holds_a_load_up_until_another_is_elected() {
    let plan = Plan {
        partitions: 3,
        ..Plan::slow_two_weeks()
    };
    // Outlives the brokers, which are stopped by what stands in it.
    let dir = TempDir::new().unwrap();
    let Some(mut flow) = real(plan).await else {
        return;
    };
    let brokers = ApacheKafka::start_several(&script(), &dir.path().join("kafka"), 3).await;
    flow.kafka = Broker::Apache(brokers.unwrap());
    flow.create_topic().await;
    let patient = [("RETRY_DEADLINE_SECS", "60")];
    let (loader, writer) = (flow.worker(LOADER, &patient), flow.worker(WRITER, &patient));
    flow.until_written(WRITER, 1).await;

    let leader = apache(&flow).leader(&flow.topic, 0).unwrap().unwrap();
    apache(&flow)
        .act(BrokerAction::Freeze, leader)
        .await
        .unwrap();
    until_elected(&flow, leader).await;
    let elected = Instant::now();
    // The exchange is no longer what takes time.
    flow.hurry();
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    assert!(
        elected.elapsed() < FAIL_OVER + REST,
        "the load ended {:?} after the election",
        elected.elapsed()
    );
    // With the broker still frozen.
    flow.assert_finished().await;
    flow.assert_complete().await;
}
