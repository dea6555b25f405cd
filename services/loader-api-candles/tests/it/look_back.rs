//! Looking back for gaps at what earlier attempts have published: how fast it is, and what is said meanwhile.

use std::time::{Duration, Instant};

use rdkafka::message::OwnedMessage;
use streamforge_devstack::exchange::Latency;
use streamforge_utils::{kafka::headers, protocol::EOS};

use crate::rig::{Rig, at, until};

const HALF_A_DAY: u64 = 43_200;
/// Longer than a busy machine takes for that, in a debug build.
const PATIENCE: Duration = Duration::from_secs(300);

async fn seconds() -> Rig {
    let gap = at("2024-08-01T05:00:00Z")..at("2024-08-01T05:00:10Z");
    let changes = [
        ("TYPE", "api_candles_1s"),
        ("TIME_RANGE", "2024-08-01T00:00:00Z/2024-08-01T12:00:00Z"),
        ("PARTITION_KEY", "record"),
        ("FETCH_IN_FLIGHT", "8"),
    ];
    Rig::new(|exchange| exchange.gap(gap), &changes)
        .await
        .topic(3)
        .await
}

/// The records of a whole load, and how long that took.
async fn loaded() -> (Vec<OwnedMessage>, Duration) {
    let rig = seconds().await;
    let begun = Instant::now();
    assert_eq!(
        rig.start()
            .ended_within(PATIENCE)
            .await
            .done()
            .counts()
            .written,
        HALF_A_DAY - 10
    );
    let took = begun.elapsed();
    let messages = rig.contents().await.messages.into_iter();
    let records = messages.filter(|message| headers::get(message, EOS).is_none());
    (records.collect(), took)
}

#[tokio::test]
async fn looking_back_takes_at_most_twice_as_long_as_loading() {
    let (records, load) = loaded().await;
    let rig = seconds().await;
    rig.fill(&records).await;
    let begun = Instant::now();
    let progress = rig.start().ended_within(PATIENCE).await.done();
    let look_back = begun.elapsed();
    eprintln!("{HALF_A_DAY} records: loaded in {load:?}, looked back at in {look_back:?}");
    let counts = progress.counts();
    assert_eq!((counts.written, counts.missing), (HALF_A_DAY - 10, 10));
    assert!(progress.message().contains("10 missing in 1 gap"));
    assert!(
        look_back <= 2 * load,
        "loaded in {load:?}, looked back at in {look_back:?}"
    );
}

#[tokio::test]
async fn looking_back_is_progress_and_says_how_far_it_is() {
    let (records, _) = loaded().await;
    let rig = seconds().await;
    rig.fill(&records).await;
    rig.exchange
        .handle()
        .set_latency(Latency::fixed(Duration::from_millis(1)));
    let running = rig.start();
    let progress = running.progress.clone();
    let mut said = String::new();
    until(|| {
        said = progress.message();
        said.starts_with("looking back at what was published: ")
    })
    .await;
    assert!(
        said.ends_with(&format!(" of {} messages", HALF_A_DAY - 10)),
        "{said}"
    );
    let noted = progress.last_progress_at().unwrap();
    assert!(noted > 0.0);
    running.ended_within(PATIENCE).await.done();
    assert!(!progress.message().starts_with("looking back"));
}
