//! A signal at every stage ends it with 143 or 130, and with one `interrupted` where a broker can be told.

use rustix::process::Signal;
use streamforge_utils::protocol::{EOS, EventKind};

use crate::rig::{Dummy, Rig, is_signal};

async fn is_terminated(rig: &Rig, mut dummy: Dummy) {
    dummy.signal(Signal::TERM);
    dummy.ends_with(143).await;
    let last = rig.ending(&dummy).await;
    assert!(is_signal(&last), "{last:?}");
}

#[tokio::test]
async fn before_kafka_is_reachable() {
    let rig = Rig::with_broker_alone().await;
    rig.kafka.down().unwrap();
    let mut dummy = rig.start("");
    dummy.until_logged("Serving /metrics").await;
    dummy.signal(Signal::TERM);
    dummy.ends_with(143).await;
}

#[tokio::test]
async fn while_it_waits() {
    let rig = Rig::new();
    for flags in ["", "--noop", "--exit-after 3600"] {
        let dummy = rig.start(flags);
        rig.until(&dummy, EventKind::Started).await;
        is_terminated(&rig, dummy).await;
    }
}

#[tokio::test]
async fn sigint_ends_with_130() {
    let rig = Rig::new();
    let mut dummy = rig.start("");
    rig.until(&dummy, EventKind::Started).await;
    dummy.signal(Signal::INT);
    dummy.ends_with(130).await;
    assert!(is_signal(&rig.ending(&dummy).await));
}

#[tokio::test]
async fn while_it_simulates() {
    let rig = Rig::new();
    let dummy = rig.start("--simulate-loading --loading-interval 0.1");
    rig.until_written(&dummy, 10).await;
    is_terminated(&rig, dummy).await;
}

#[tokio::test]
async fn while_it_publishes_and_no_marker_is_written() {
    let rig = Rig::with_topic(1).await;
    let dummy = rig.start_with("--publish-rate 500", &[rig.here()]);
    rig.until_written(&dummy, 100).await;
    is_terminated(&rig, dummy).await;
    let messages = rig.messages().await;
    let marked = |message| streamforge_utils::kafka::headers::get(message, EOS).is_some();
    assert!(messages.len() >= 100 && !messages.iter().any(marked));
}

#[tokio::test]
async fn while_it_publishes_and_the_broker_is_away() {
    let rig = Rig::with_broker_alone().await;
    rig.create_topic(1).await;
    let changes = [rig.here(), ("SHUTDOWN_GRACE_SECS", "2")];
    let mut dummy = rig.start_with("--publish-rate 500", &changes);
    rig.until_written(&dummy, 100).await;
    rig.kafka.down().unwrap();
    dummy
        .until_scraped(|scraped| scraped["dummy_publish_rate"] == 0.0)
        .await;
    dummy.signal(Signal::TERM);
    dummy.ends_with(143).await;
}

#[tokio::test]
async fn while_it_consumes_or_waits_for_the_topic() {
    let rig = Rig::new();
    let changes = [rig.here()];
    let waiting = rig.start_with("--consume", &changes);
    rig.until(&waiting, EventKind::Started).await;
    is_terminated(&rig, waiting).await;
    rig.create_topic(1).await;
    let reading = rig.start_with("--consume", &changes);
    rig.kafka
        .publish(
            &rig.topic,
            Some(0),
            "BTCUSDT",
            "{}",
            &[("streamforge-seq", "1")],
        )
        .await
        .unwrap();
    rig.until_written(&reading, 1).await;
    is_terminated(&rig, reading).await;
}
