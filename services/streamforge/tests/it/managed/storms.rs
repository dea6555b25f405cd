//! Whatever others put on queue-events, by thousands: what counts once counts once, what is final stays, and whoever
//! reads keeps up.

use std::time::Duration;

use futures::future::join_all;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{FutureProducer, FutureRecord},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use streamforge_utils::kafka;

use super::{Answer, Managed};
use crate::{
    flow::{DATABASE, Plan},
    process::LIMIT,
};

const TOPIC: &str = "queue-events";
/// Messages of one storm.
const MESSAGES: usize = 3_000;
/// How long one request to the broker may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of no worker: a number that would show.
const LIE: u64 = 987_654_321;

impl Managed {
    /// What the workflow's workers have said so far.
    async fn said(&self) -> Vec<Value> {
        let messages = self.flow.kafka.read_topic(TOPIC).await.unwrap();
        let id = self.flow.queue_id.as_str();
        let of_it = messages
            .iter()
            .filter(|message| message.key() == Some(id.as_bytes()));
        of_it
            .map(|message| serde_json::from_slice(message.payload().unwrap()).unwrap())
            .collect()
    }

    /// Sends a storm, the same kinds again and again.
    async fn storm(&self) {
        let kinds = kinds(&self.said().await);
        let config = self.flow.kafka.config().unwrap();
        let producer: FutureProducer =
            kafka::producer_config(&config, "storm", kafka::DATA_PRODUCER_QUEUE_KIB)
                .create()
                .unwrap();
        // Of each kind some have the workflow's key, some another one or none: keys decide nothing.
        let keys = [Some(self.flow.queue_id.as_str()), Some("wf-nobody"), None];
        let sent = (0..MESSAGES).map(|nth| {
            let mut record = FutureRecord::to(TOPIC).payload(&kinds[nth % kinds.len()]);
            // The workflow's own key only where a reader of its events finds events.
            let is_event = serde_json::from_slice::<Value>(&kinds[nth % kinds.len()])
                .is_ok_and(|value| value["event"].is_string());
            record.key = keys[if is_event { nth % 3 } else { 1 + nth % 2 }];
            producer.send_result(record).unwrap()
        });
        let sent: Vec<_> = sent.collect();
        for delivered in join_all(sent).await {
            delivered.unwrap().unwrap();
        }
    }

    /// Waits until all that is on queue-events was read and stored.
    async fn until_read(&self) {
        let config = self.flow.kafka.config().unwrap();
        let group = self.group.clone();
        let lag = move || {
            let consumer: BaseConsumer = kafka::consumer_config(&config, "lag", &group, 64)
                .create()
                .unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition(TOPIC, 0);
            let committed = consumer.committed_offsets(list, PATIENCE).ok()?;
            let (_, end) = consumer.fetch_watermarks(TOPIC, 0, PATIENCE).ok()?;
            match committed.find_partition(TOPIC, 0)?.offset() {
                Offset::Offset(next) => Some(end - next),
                _ => None,
            }
        };
        let read = async {
            loop {
                let lag = lag.clone();
                let found = tokio::task::spawn_blocking(lag).await.unwrap();
                if found == Some(0) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(LIMIT, read).await.unwrap();
    }
}

/// Messages that say nothing new about a workflow whose workers have said this.
fn kinds(said: &[Value]) -> Vec<Vec<u8>> {
    let mut kinds: Vec<Vec<u8>> = Vec::new();
    let ours = |kinds: &mut Vec<Vec<u8>>, event: Value| kinds.push(event.to_string().into());
    let with = |event: &Value, changes: &Value| {
        let mut event = event.clone();
        let all = changes.as_object().unwrap().clone();
        event.as_object_mut().unwrap().extend(all);
        event
    };
    let ended = json!({
        "event": "finished", "status": "finished", "finished": true, "records_written": LIE, "records_total": LIE,
    });
    let failed = json!({
        "event": "error", "status": "error", "finished": true, "records_written": LIE,
        "error_message": "not so", "retryable": false,
    });
    // Backwards: late, and in the wrong order.
    for event in said.iter().rev() {
        ours(&mut kinds, event.clone());
        for lie in [&ended, &failed] {
            let lie = with(event, lie);
            // The number of one that was heard, with other content.
            ours(&mut kinds, with(&lie, &json!({"seq": 1})));
            // A process that was there before, of which nothing is heard any more.
            let earlier = json!({"instance": "00000000-0000-7000-8000-000000000000", "seq": 9_999});
            ours(&mut kinds, with(&lie, &earlier));
            for run in [0, 99] {
                ours(&mut kinds, with(&lie, &json!({"run": run, "seq": 9_999})));
            }
            for producer in ["arango-candles__nobody", "", "loader-api-candles"] {
                ours(
                    &mut kinds,
                    with(&lie, &json!({"producer": producer, "seq": 9_999})),
                );
            }
            for queue in ["wf-nobody", "", "../../etc/passwd", "*"] {
                ours(
                    &mut kinds,
                    with(&lie, &json!({"queue_id": queue, "seq": 9_999})),
                );
            }
        }
    }
    let malformed = [
        "",
        "{",
        "null",
        "[]",
        "\"finished\"",
        "17",
        "not JSON",
        "{\"event\":\"finished\"}",
        "{\"queue_id\":7,\"event\":[]}",
    ];
    kinds.extend(malformed.map(|text| text.as_bytes().to_vec()));
    kinds.push(vec![0xff, 0xfe, 0x00]);
    kinds.push("[".repeat(10_000).into());
    if let Some(event) = said.first() {
        for wrong in [
            json!({"records_written": -1}),
            json!({"seq": "many"}),
            json!({"event": "exploded"}),
            json!({"run": 1.5}),
        ] {
            let mut event = with(event, &wrong);
            event["queue_id"] = json!("wf-nobody");
            ours(&mut kinds, event);
        }
    }
    kinds
}

/// What may change of a workflow that has ended: how far it has looked.
fn told(queue: &Value) -> Value {
    let mut queue = queue.clone();
    let fields = queue.as_object_mut().unwrap();
    for field in ["positions", "unknown_events", "updated_at"] {
        fields.remove(field).unwrap();
    }
    queue
}

#[tokio::test]
async fn storms_of_events_change_nothing_that_is_true() {
    let mut managed = Managed::with_broker_alone(Plan::crawling_week()).await;
    let manager = managed.manager("one").await;
    managed.start(&manager).await;
    managed.until_written(&manager, 1).await;
    managed.storm().await;
    managed.until_read().await;
    managed.flow.hurry();
    let queue = managed.ends_as(&manager, "finished").await;
    managed.flow.assert_complete().await;
    let count = managed.flow.source().len();
    for progress in [
        &queue["totals"],
        &queue["parts"][0]["progress"],
        &queue["parts"][1]["progress"],
    ] {
        let found = (
            &progress["written"],
            &progress["missing"],
            &progress["rejected"],
        );
        assert_eq!(found, (&json!(count), &json!(0), &json!(0)), "{queue:#}");
    }
    managed.assert_started_once();

    // Now every one of its events is late.
    managed.storm().await;
    managed.until_read().await;
    let shown = managed.ended(&manager).await;
    assert_eq!(told(&shown), told(&queue));
    // And one that reads them while another one has stored some of them.
    managed.storm().await;
    manager.kill().await;
    let manager = managed.manager("two").await;
    managed.until_read().await;
    let shown = managed.ended(&manager).await;
    assert_eq!(told(&shown), told(&queue));
    managed.assert_started_once();

    // What is deleted in the middle of one leaves nothing behind either.
    let path = managed.path();
    let remove = async {
        let removed = manager.ask(Method::DELETE, &path, &[], None).await;
        assert_eq!(removed.unwrap().status, StatusCode::ACCEPTED);
    };
    tokio::join!(managed.storm(), remove);
    let is_gone = |answer: &Answer| answer.status == StatusCode::NOT_FOUND;
    manager
        .until_answer("it is gone", &managed.path(), is_gone)
        .await;
    managed.until_read().await;
    for collection in ["streamforge-queue_state", "streamforge-telemetry"] {
        let documents = managed.flow.arango.documents(DATABASE, collection).unwrap();
        assert_eq!(documents.len(), 0, "left in {collection}");
    }
    manager.end().await;
}
