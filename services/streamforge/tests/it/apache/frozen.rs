//! What a frozen broker costs a worker that has more to send than can be in flight.

use std::{fs, time::Duration};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use streamforge_devstack::{
    exchange::{Exchange, Latency},
    kafka::{ApacheKafka, Broker, BrokerAction},
};
use streamforge_utils::{
    kafka::{DATA_PRODUCER_QUEUE_KIB, producer_config},
    protocol::Interval,
};
use tempfile::TempDir;

use crate::{
    apache::{apache, real, script},
    flow::{Flow, LOADER, Plan, WRITER},
    process::Worker,
};

const FREEZE: Duration = Duration::from_secs(20);
/// Of a core.
const MOST: f64 = 0.1;

/// The CPU time of a process so far. Linux counts it in hundredths of a second.
fn cpu(worker: &Worker) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", worker.id())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// Puts more records in that no writer can use than a producer has in flight.
fn flood(flow: &Flow) {
    let config = flow.kafka.config().unwrap();
    let producer: BaseProducer = producer_config(&config, "flood", DATA_PRODUCER_QUEUE_KIB)
        .create()
        .unwrap();
    for _ in 0..100_000 {
        let record = BaseRecord::to(&flow.topic).key("BTCUSDT").payload("poison");
        producer.send(record.partition(0)).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

#[tokio::test]
async fn nobody_spins_while_the_broker_is_frozen() {
    // Some ten seconds of load.
    let plan = Plan {
        interval: Interval::Second1,
        range: "2024-08-01:2024-08-03",
        exchange: Exchange::builder()
            .seed(7)
            .latency(Latency::fixed(Duration::from_millis(50))),
        ..Plan::three_days()
    };
    let Some(mut flow) = real(plan).await else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let broker = ApacheKafka::start(&script(), &dir.path().join("kafka")).await;
    flow.kafka = Broker::Apache(broker.unwrap());
    flow.create_topic().await;
    let dummy_topic = format!("{}-dummy", flow.topic);
    let patient = ("RETRY_DEADLINE_SECS", "120");
    let dummy = [
        patient,
        ("KAFKA_TOPIC", dummy_topic.as_str()),
        ("DUMMY_PUBLISH_RATE", "20000"),
    ];
    let workers = [
        ("loader", flow.worker(LOADER, &[patient])),
        (
            "writer",
            flow.worker(WRITER, &[patient, ("MAX_REJECTED", "1000000")]),
        ),
        ("dummy", flow.worker("dummy-service", &dummy)),
    ];
    for service in [LOADER, "dummy-service"] {
        flow.until_written(service, 1_000).await;
    }
    // Not before: a loader that starts looks for its last record.
    flood(&flow);
    flow.events(|events| events.iter().any(|event| event.records.rejected > 0))
        .await;

    apache(&flow).act(BrokerAction::Freeze, 1).await.unwrap();
    // What was queued elsewhere comes to rest.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before: Vec<_> = workers.iter().map(|(_, worker)| cpu(worker)).collect();
    tokio::time::sleep(FREEZE).await;
    for ((name, worker), before) in workers.iter().zip(before) {
        let used = cpu(worker).saturating_sub(before).as_secs_f64() / FREEZE.as_secs_f64();
        eprintln!("{name}: {:.1} % of a core", used * 100.0);
        assert!(used < MOST, "{name} used {used:.2} of a core");
    }
    apache(&flow).act(BrokerAction::Thaw, 1).await.unwrap();
    for (_, worker) in workers {
        worker.kill().await;
    }
}
