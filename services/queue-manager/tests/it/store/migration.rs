//! A database that an earlier release filled, whose collections had no prefix.

use std::{collections::BTreeMap, time::Duration};

use queue_manager::store::{Filter, Fingerprint, LeaseTimes, Reservation, Store, StoreError};
use serde_json::{Value, json};
use streamforge_arango::{CollectionSpec, IndexKind, IndexSpec};
use streamforge_devstack::arango::{ArangoServer, Fault, FaultScope};

use super::{DATABASE, NOW, database, queue_id, server};
use crate::store::workflows::{State, state};

const TIMES: LeaseTimes = LeaseTimes {
    length: Duration::from_millis(600),
    held_for: Duration::from_millis(400),
    every: Duration::from_millis(50),
};
/// For replicas that share the machine.
const SHARED: LeaseTimes = LeaseTimes {
    length: Duration::from_millis(3_000),
    held_for: Duration::from_millis(2_000),
    every: Duration::from_millis(50),
};
const WORKFLOWS: usize = 450;
const CANDLES: usize = 30;

fn event(number: usize) -> (String, Value) {
    let id = queue_id(number);
    let event = json!({
        "queue_id": id, "partition": 0, "offset": number, "stored_at": NOW.as_millis(),
        "expires_at": 4_000_000_000_i64, "event": {"event": "finished"},
    });
    (format!("{}:0:{number}", id.as_str()), event)
}

/// What the release before the prefix leaves behind: its collections, indexes and documents, and in between what a
/// writer put there whose collection was `queue_state`.
async fn fill(server: &ArangoServer, holder: Option<&str>) {
    let old = database(server);
    let spec = |name: &str, fields: &'static [&'static str], kind| CollectionSpec {
        name: name.to_owned(),
        variable: None,
        indexes: vec![IndexSpec {
            name: "old",
            fields,
            kind,
        }],
    };
    old.prepare(&[
        spec(
            "queue_state",
            &["created_at", "queue_id"],
            IndexKind::Persistent,
        ),
        spec("telemetry", &["expires_at"], IndexKind::Expiry),
        spec("lease", &["holder"], IndexKind::Persistent),
        spec("idempotency", &["expires_at"], IndexKind::Expiry),
    ])
    .await
    .unwrap();
    let insert = async |collection: &str, documents: Vec<(String, Value)>| {
        let refused = old.collection(collection).insert_absent(&documents).await;
        assert!(refused.unwrap().is_empty());
    };
    let states = (0..WORKFLOWS).map(state);
    let states = states.map(|state| {
        let key = state.queue_id.as_str().to_owned();
        (key, serde_json::to_value(state).unwrap())
    });
    insert("queue_state", states.collect()).await;
    let candles = (0..CANDLES).map(|n| (format!("BTCUSDT_1m_{n}"), json!({"open": 1})));
    insert("queue_state", candles.collect()).await;
    insert("telemetry", (0..WORKFLOWS).map(event).collect()).await;
    let claim = json!({"holder": holder, "token": 7, "beat": 3});
    insert("lease", vec![("conductor".to_owned(), claim)]).await;
    let record = json!({"request": "a", "answer": 7, "expires_at": 4_000_000_000_i64});
    insert("idempotency", vec![("0".repeat(64), record)]).await;
}

/// What stands in a collection, without what names the write.
fn held(server: &ArangoServer, collection: &str) -> Option<BTreeMap<String, Value>> {
    let mut documents = server.documents(DATABASE, collection).ok()?;
    for document in documents.values_mut() {
        document.as_object_mut().unwrap().remove("write_id");
    }
    Some(documents)
}

/// Everything was moved, once, and nothing else was touched.
async fn assert_migrated(server: &ArangoServer, store: &Store) {
    let workflows = store.workflows::<State>();
    let found = workflows.all(&Filter::default()).await.unwrap();
    assert_eq!(found.len(), WORKFLOWS);
    for number in [0, 1, 199, 200, WORKFLOWS - 1] {
        let found = workflows.get(&queue_id(number)).await.unwrap();
        assert_eq!(found.content, state(number));
    }
    let events = held(server, "streamforge-telemetry").unwrap();
    assert_eq!(events.len(), WORKFLOWS);
    let (key, mut expected) = event(17);
    expected["_key"] = key.clone().into();
    assert_eq!(events[&key], expected);
    assert_eq!(held(server, "streamforge-idempotency").unwrap().len(), 1);
    let claim = &held(server, "streamforge-lease").unwrap()["conductor"];
    assert!(claim["token"].as_u64() > Some(7), "{claim}");
    // Candles stay where their writer put them; what was ours only is gone.
    let left = held(server, "queue_state").unwrap();
    assert_eq!(left.len(), CANDLES);
    assert!(left.keys().all(|key| key.starts_with("BTCUSDT_1m_")));
    for gone in ["telemetry", "idempotency"] {
        assert_eq!(held(server, gone), None, "{gone}");
    }
    // The earlier release can't read this claim, so it never reconciles again.
    let claim = &held(server, "lease").unwrap()["conductor"];
    assert!(claim["holder"].is_object(), "{claim}");
}

#[tokio::test]
async fn what_an_earlier_release_left_is_moved_once() {
    let server = server().await;
    fill(&server, None).await;
    let store = Store::new(database(&server));
    store.prepare(TIMES).await.unwrap();
    assert_migrated(&server, &store).await;
    // What is deleted afterwards does not come back.
    store
        .workflows::<State>()
        .remove(&queue_id(3))
        .await
        .unwrap();
    Store::new(database(&server)).prepare(TIMES).await.unwrap();
    let gone = store.workflows::<State>().get(&queue_id(3)).await;
    assert!(matches!(gone, Err(StoreError::NotFound(_))), "{gone:?}");
    let reserved = store
        .idempotency()
        .reserve::<Value>("ops", "new", &Fingerprint::of(&[b"a"]), NOW)
        .await;
    assert!(matches!(reserved.unwrap(), Reservation::Fresh(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_replicas_that_start_at_once_move_it_together() {
    let server = server().await;
    // Of a leader that was killed: its lease runs out.
    fill(&server, Some("killed")).await;
    let stores: Vec<Store> = (0..4).map(|_| Store::new(database(&server))).collect();
    let preparing = stores.iter().map(|store| async {
        store.prepare(SHARED).await.unwrap();
        // Nobody serves before everything is there.
        let found = store.workflows::<State>().all(&Filter::default()).await;
        assert_eq!(found.unwrap().len(), WORKFLOWS);
    });
    futures::future::join_all(preparing).await;
    assert_migrated(&server, &stores[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_dies_in_the_middle_leaves_what_the_next_one_completes() {
    let server = server().await;
    fill(&server, None).await;
    // The lease of each has to run out before the next one begins.
    for ends_after in [40, 120, 680, 740, 1_360, 1_440, 1_600] {
        let store = Store::new(database(&server));
        let preparing = tokio::spawn(async move { store.prepare(TIMES).await });
        tokio::time::sleep(Duration::from_millis(ends_after)).await;
        preparing.abort();
        let _ = preparing.await;
    }
    // Answers that get lost on the way are no trouble either.
    server.faults().scope(FaultScope::Everything);
    server.faults().next(Fault::DropAfterWrite, 3);
    let store = Store::new(database(&server));
    store.prepare(TIMES).await.unwrap();
    assert_migrated(&server, &store).await;
}

#[tokio::test]
async fn a_fresh_database_and_collections_of_others_are_left_alone() {
    let server = server().await;
    let other = database(&server);
    let spec = CollectionSpec {
        name: "telemetry".to_owned(),
        variable: None,
        indexes: Vec::new(),
    };
    other.prepare(&[spec]).await.unwrap();
    let sensors = other.collection("telemetry");
    sensors.insert("s1", &json!({"celsius": 21})).await.unwrap();
    let store = Store::new(database(&server));
    store.prepare(TIMES).await.unwrap();
    assert_eq!(held(&server, "telemetry").unwrap().len(), 1);
    assert_eq!(held(&server, "streamforge-telemetry").unwrap().len(), 0);
    assert_eq!(held(&server, "lease"), None);
}
