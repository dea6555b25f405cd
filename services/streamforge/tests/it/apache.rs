//! What only a real broker can show. These tests need an Apache Kafka (`ci/kafka.sh start`, and its folder in
//! `STREAMFORGE_KAFKA_DIR`); without one they say loudly that they were not run.

mod brokers;
mod foreign;
mod frozen;
mod own;
mod refused;
mod topics;
mod up;

use std::path::PathBuf;

use streamforge_devstack::kafka::{ApacheKafka, Broker, KAFKA_DIR};

use crate::flow::{Flow, Plan};

/// A workflow on the Apache Kafka that is shared by all tests, if there is one. It has no data topic yet.
async fn real(plan: Plan) -> Option<Flow> {
    let flow = Flow::start_without_topic(plan).await;
    if flow.kafka.is_real() {
        return Some(flow);
    }
    eprintln!(
        "NOT RUN: this test needs a real broker, and {KAFKA_DIR} names none: run ci/kafka.sh start"
    );
    None
}

/// The broker itself.
fn apache(flow: &Flow) -> &ApacheKafka {
    match &flow.kafka {
        Broker::Apache(apache) => apache,
        Broker::Mock(_) => unreachable!("real() gives none on the mock"),
    }
}

/// The script that starts brokers.
fn script() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../ci/kafka.sh"]
        .iter()
        .collect()
}
