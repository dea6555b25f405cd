//! Documents that are spoiled, one at a time, beside others that are not.

use queue_manager::store::{
    Cursor, Filter, Fingerprint, Found, LeaseTimes, NewEvent, Row, Standing, Store, StoreError,
};
use serde_json::{Value, json};
use streamforge_arango::{Collection, Document};
use streamforge_utils::protocol::QueueId;

use super::{NOW, database, queue_id, replica, server};
use crate::store::workflows::{State, state};

const STATES: &str = "streamforge-queue_state";

/// Each way in which a document may be spoiled.
pub(crate) fn spoil(way: &str, document: &mut Value) {
    match way {
        "type" => document["queue_id"] = json!(7),
        "time" => document["created_at"] = json!("yesterday"),
        "missing" => drop(document.as_object_mut().unwrap().remove("created_at")),
        "empty" => *document = json!({}),
        "huge" => document["padding"] = json!("x".repeat(5 << 20)),
        "status" => document["status"] = json!({"a": [1]}),
        other => panic!("{other}"),
    }
}

const WAYS: [&str; 6] = ["type", "time", "missing", "empty", "huge", "status"];

async fn spoil_stored(collection: &Collection, key: &str, way: &str) -> Value {
    let found: Document<Value> = collection.get(key).await.unwrap();
    let mut content = found.content;
    spoil(way, &mut content);
    let replaced = collection.replace(key, &found.revision, &content);
    replaced.await.unwrap();
    content
}

async fn fill(store: &Store, count: usize) {
    let workflows = store.workflows::<State>();
    for state in (0..count).map(state) {
        workflows.insert(&state.queue_id, &state).await.unwrap();
    }
}

async fn listed(store: &Store, size: usize) -> (Vec<QueueId>, Vec<QueueId>) {
    let workflows = store.workflows::<State>();
    let (mut good, mut bad, mut after) = (Vec::new(), Vec::new(), None::<Cursor>);
    for _ in 0..100 {
        let page = workflows
            .list(&Filter::default(), after.as_ref(), size)
            .await;
        let page = page.unwrap();
        for row in page.rows {
            match row {
                Row::Workflow(state) => good.push(state.queue_id),
                Row::Unreadable { queue_id, .. } => bad.push(queue_id),
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return (good, bad),
        }
    }
    panic!("the list has no end");
}

#[tokio::test]
async fn one_spoiled_state_hides_no_other() {
    for way in WAYS {
        let server = server().await;
        let store = replica(&server).await;
        fill(&store, 6).await;
        let spoiled = queue_id(3);
        let collection = database(&server).collection(STATES);
        spoil_stored(&collection, spoiled.as_str(), way).await;
        let others: Vec<QueueId> = [5, 4, 2, 1, 0].map(queue_id).into();

        for size in [1, 2, 100] {
            let (good, bad) = listed(&store, size).await;
            assert_eq!(good, others, "{way} {size}");
            // Without its own name it can be asked for only.
            let expected = match way {
                "type" => vec![],
                _ => vec![spoiled.clone()],
            };
            assert_eq!(bad, expected, "{way} {size}");
        }
        let workflows = store.workflows::<State>();
        let read = workflows.get(&spoiled).await;
        assert!(
            matches!(read, Err(StoreError::Unreadable(_))),
            "{way} {read:?}"
        );
        let ids: Vec<QueueId> = (0..6).map(queue_id).collect();
        let asked: Vec<&QueueId> = ids.iter().collect();
        for (number, found) in workflows.get_many(&asked).await.unwrap().iter().enumerate() {
            assert_eq!(matches!(found, Found::Unreadable), number == 3, "{way}");
        }
        assert_eq!(
            workflows.all(&Filter::default()).await.unwrap().len(),
            5,
            "{way}"
        );
        let revisions = workflows.revisions(&Filter::default()).await.unwrap();
        assert_eq!(revisions.len(), 6, "{way}");
        let mark = queue_manager::store::Mark::at(NOW);
        let (changed, next) = store.changes::<State>().since(&mark, 100).await.unwrap();
        assert_eq!((changed.len(), next), (5, None), "{way}");

        // It is counted once, and nobody overwrites it.
        let registry = prometheus::Registry::new();
        store.quarantine().register(&registry).unwrap();
        let counted = registry.gather()[0].get_metric()[0]
            .get_counter()
            .get_value();
        assert_eq!(counted, 1.0, "{way}");
        let changed = workflows.update(&spoiled, |_| true).await;
        assert!(matches!(changed, Err(StoreError::Unreadable(_))), "{way}");
    }
}

#[tokio::test]
async fn a_key_that_is_no_queue_id_is_passed_over() {
    let server = server().await;
    let store = replica(&server).await;
    fill(&store, 3).await;
    let collection = database(&server).collection(STATES);
    let candle = json!({"open": 1, "created_at": NOW.as_millis(), "queue_id": "x"});
    collection
        .insert("BTCUSDT_1m_1722470400000", &candle)
        .await
        .unwrap();
    for size in [1, 100] {
        assert_eq!(listed(&store, size).await.0.len(), 3);
    }
    let workflows = store.workflows::<State>();
    assert_eq!(
        workflows.revisions(&Filter::default()).await.unwrap().len(),
        3
    );
}

#[tokio::test]
async fn a_spoiled_event_hides_no_other() {
    let server = server().await;
    let store = replica(&server).await;
    let telemetry = store.telemetry(std::time::Duration::from_secs(3600));
    let events: Vec<NewEvent> = (0..5)
        .map(|offset| NewEvent {
            queue_id: queue_id(1),
            partition: 0,
            offset,
            event: json!({"event": "started"}),
        })
        .collect();
    telemetry.insert(&events, NOW).await.unwrap();
    let collection = database(&server).collection("streamforge-telemetry");
    for (offset, attribute, value) in [
        (1, "stored_at", json!("soon")),
        (2, "offset", json!("two")),
        (3, "event", json!("x".repeat(5 << 20))),
    ] {
        let key = format!("{}:0:{offset}", queue_id(1));
        let found: Document<Value> = collection.get(&key).await.unwrap();
        let mut content = found.content;
        content[attribute] = value;
        collection
            .replace(&key, &found.revision, &content)
            .await
            .unwrap();
    }
    for size in [1, 100] {
        let (mut found, mut after) = (Vec::new(), None::<Cursor>);
        loop {
            let page = telemetry
                .list(&queue_id(1), after.as_ref(), size)
                .await
                .unwrap();
            found.extend(page.rows.into_iter().map(|row| row.offset));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, [0, 4], "{size}");
    }
}

#[tokio::test]
async fn a_spoiled_claim_is_taken_once_it_stands() {
    let server = server().await;
    let store = replica(&server).await;
    let times = LeaseTimes {
        // A claim of 5 MiB is read within half of `held_for`, also by a busy machine.
        length: std::time::Duration::from_millis(3_000),
        held_for: std::time::Duration::from_millis(2_000),
        every: std::time::Duration::from_millis(20),
    };
    let collection = database(&server).collection("streamforge-lease");
    for (number, spoiled) in [
        json!({}),
        json!({"holder": 7, "token": "x", "beat": []}),
        json!({"holder": {"a": 1}, "token": -1, "beat": 1.5}),
        json!({"holder": "x", "token": u64::MAX, "beat": u64::MAX, "y": "x".repeat(5 << 20)}),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("lease-{number}");
        collection.insert(&name, &spoiled).await.unwrap();
        let mut lease = store.lease(&name, "me", times);
        let started = tokio::time::Instant::now();
        loop {
            if let Standing::Held { .. } = lease.step().await.unwrap() {
                break;
            }
            assert!(started.elapsed().as_secs() < 10, "{spoiled}");
            tokio::time::sleep(times.every).await;
        }
        assert!(started.elapsed() >= times.length);
    }
}

#[tokio::test]
async fn a_spoiled_reservation_is_trouble_for_its_key_alone() {
    let server = server().await;
    let store = replica(&server).await;
    let idempotency = store.idempotency();
    let request = Fingerprint::of(&[b"a"]);
    let reserve = async |key: &'static str| {
        idempotency
            .reserve::<Value>("ops", key, &request, NOW)
            .await
    };
    reserve("one").await.unwrap();
    let collection = database(&server).collection("streamforge-idempotency");
    let keys = server
        .documents(super::DATABASE, "streamforge-idempotency")
        .unwrap();
    let key = keys.keys().next().unwrap();
    let found: Document<Value> = collection.get(key).await.unwrap();
    let spoiled = json!({"request": 7});
    collection
        .replace(key, &found.revision, &spoiled)
        .await
        .unwrap();
    let refused = reserve("one").await;
    assert!(
        matches!(refused, Err(StoreError::Unreadable(_))),
        "{refused:?}"
    );
    reserve("two").await.unwrap();
}
