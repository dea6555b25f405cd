//! Lists, states, histories and logs.

use std::{collections::BTreeMap, time::Duration};

use queue_manager::{
    admission::Limits,
    state::{Status, Workflow},
    store::NewEvent,
};
use reqwest::Method;
use serde_json::{Value, json};
use streamforge_utils::protocol::{QueueId, TimestampMs};

use super::rig::{Answered, Rig, Settings, answered};

fn ids(answer: &Answered) -> Vec<String> {
    let queues = answer.body["data"]["queues"].as_array().unwrap();
    let id = |queue: &Value| queue["queue_id"].as_str().unwrap().to_owned();
    queues.iter().map(id).collect()
}

#[tokio::test]
async fn pages_hold_every_queue_once_whatever_comes_meanwhile() {
    let rig = Rig::start().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(rig.started().await.to_string());
    }
    let mut found = Vec::new();
    let mut path = "/queues?limit=2".to_owned();
    loop {
        let page = rig.get(&path).await;
        assert_eq!(page.code, 200);
        found.extend(ids(&page));
        // What is new is not on later pages.
        rig.started().await;
        match page.body["data"]["next_cursor"].as_str() {
            Some(cursor) => path = format!("/queues?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    found.sort();
    made.sort();
    assert_eq!(found, made);
}

#[tokio::test]
async fn a_list_can_be_filtered() {
    let rig = Rig::start().await;
    let dummy = rig.started().await;
    let candles = json!({"symbol": "ETHUSDT", "type": "api_candles_1m", "time_range": "2024-08-01:2024-08-01"});
    let candles = rig.post("/queues/start", &candles).await;
    let candles = ids(&candles).remove(0);
    rig.change(&dummy, |workflow| {
        workflow.request_stop(false, "a test", TimestampMs::now());
    })
    .await;
    let dummy = dummy.to_string();
    let now = TimestampMs::now().as_millis() + 1;
    for (query, expected) in [
        ("status=interrupted".to_owned(), vec![&dummy]),
        ("status=pending,running".to_owned(), vec![&candles]),
        (
            "status=pending&status=interrupted".to_owned(),
            vec![&candles, &dummy],
        ),
        ("symbol=ETHUSDT".to_owned(), vec![&candles]),
        ("type=dummy".to_owned(), vec![&dummy]),
        ("type=api_candles_1m&status=error".to_owned(), vec![]),
        (format!("created_before={now}"), vec![&candles, &dummy]),
        (format!("created_from={now}"), vec![]),
        (
            "created_from=2024-08-01T00:00:00Z".to_owned(),
            vec![&candles, &dummy],
        ),
    ] {
        for path in ["/queues", "/queues/list"] {
            let mut found = ids(&rig.get(&format!("{path}?{query}")).await);
            let mut expected: Vec<String> = expected.iter().map(|it| (*it).clone()).collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{query}");
        }
    }
}

#[tokio::test]
async fn a_queue_shows_its_workers_and_a_list_does_not() {
    let rig = Rig::start().await;
    let id = rig.started().await;
    let shown = rig.get(&format!("/queues/{id}")).await;
    assert_eq!(shown.body["data"]["queue_id"], id.as_str());
    assert_eq!(shown.body["message"], format!("{id} is pending"));
    assert!(!shown.body["data"]["parts"].as_array().unwrap().is_empty());
    // What the store adds is not shown.
    assert!(shown.body["data"].get("_rev").is_none());
    let listed = rig.get("/queues").await;
    let row = &listed.body["data"]["queues"][0];
    let fields: Vec<&String> = row.as_object().unwrap().keys().collect();
    insta::assert_debug_snapshot!(fields);
}

/// Two places and one loader, and nobody who conducts: what is admitted is what a test admits.
async fn crowded() -> Rig {
    Rig::start_with(Settings {
        run_limits: Limits {
            workflows: 2,
            loaders_per_exchange: 1,
        },
        ..Settings::default()
    })
    .await
}

async fn candles(rig: &Rig) -> QueueId {
    let body = json!({"symbol": "ETHUSDT", "type": "api_candles_1m", "time_range": "2024-08-01:2024-08-01"});
    let started = rig.post("/queues/start", &body).await;
    assert_eq!(started.code, 202, "{:?}", started.body);
    ids(&started).remove(0).parse().unwrap()
}

#[tokio::test]
async fn who_waits_is_shown_with_its_place_in_the_row() {
    let rig = crowded().await;
    let admit = async |id: &QueueId| {
        let now = TimestampMs::now();
        rig.change(id, |workflow| workflow.admit(now)).await;
    };
    let first = candles(&rig).await;
    assert_eq!(turn(&rig, &first).await, Value::Null, "it may start");
    admit(&first).await;
    let (second, third) = (candles(&rig).await, candles(&rig).await);
    let exchange = |before: u32| json!({"before": before, "waits_for": "exchange", "limit": 1});
    turn_is(&rig, &second, exchange(0)).await;
    turn_is(&rig, &third, exchange(1)).await;
    let dummy = rig.started().await;
    turn_is(&rig, &dummy, Value::Null).await;
    admit(&dummy).await;
    let last = rig.started().await;
    let place = json!({"before": 2, "waits_for": "place", "limit": 2});
    turn_is(&rig, &last, place.clone()).await;
    // A list says the same, and of those that do not wait nothing.
    let listed = rig.get("/queues").await;
    let turns: BTreeMap<&str, &Value> = listed.body["data"]["queues"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| Some((row["queue_id"].as_str()?, row.get("turn")?)))
        .collect();
    let expected = [
        (&second, exchange(0)),
        (&third, exchange(1)),
        (&last, place),
    ];
    let expected: BTreeMap<&str, &Value> = expected
        .iter()
        .map(|(id, turn)| (id.as_str(), turn))
        .collect();
    assert_eq!(turns, expected);
    // One that is stopped leaves the row.
    let stop = format!("/queues/stop?queue_id={second}");
    assert_eq!(answered(rig.request(Method::POST, &stop)).await.code, 202);
    turn_is(&rig, &third, exchange(0)).await;
    turn_is(&rig, &second, Value::Null).await;
}

async fn turn(rig: &Rig, id: &QueueId) -> Value {
    let shown = rig.get(&format!("/queues/{id}")).await;
    assert_eq!(shown.code, 200, "{:?}", shown.body);
    shown.body["data"]["turn"].clone()
}

/// Soon: an answer counts for a second.
async fn turn_is(rig: &Rig, id: &QueueId, expected: Value) {
    let mut last = Value::Null;
    let waiting = async {
        loop {
            last = turn(rig, id).await;
            if last == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let limit = Duration::from_secs(60);
    let met = tokio::time::timeout(limit, waiting).await;
    assert!(met.is_ok(), "{id} has {last}, not {expected}");
}

/// Prints what it measures, by hand and in a release build: a p99 under 50 ms is wanted.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures, and takes a while"]
#[expect(clippy::print_stdout, reason = "it says what it measured")]
async fn measure_the_turn_beside_ten_thousand_that_ended() {
    let rig = crowded().await;
    let first = candles(&rig).await;
    let admitted = TimestampMs::now();
    rig.change(&first, |workflow| workflow.admit(admitted))
        .await;
    let last = candles(&rig).await;
    let workflows = rig.store.workflows::<Workflow>();
    let mut ended = workflows.get(&first).await.unwrap().content;
    ended.request_removal("a test", admitted);
    ended.removal = None;
    ended.prepare_failed("it is over", admitted);
    assert!(ended.status.is_final());
    for number in 0..10_000 {
        ended.queue_id = format!("wf-ethusdt-dummy-20240801-{number:06}")
            .parse()
            .unwrap();
        workflows.insert(&ended.queue_id, &ended).await.unwrap();
    }
    for path in [
        format!("/queues/{last}"),
        "/queues".to_owned(),
        "/queues?status=pending".to_owned(),
    ] {
        let mut took = Vec::new();
        for nth in 0..100 {
            if nth % 10 == 0 {
                // Longer than an answer counts.
                tokio::time::sleep(Duration::from_millis(1_100)).await;
            }
            let start = std::time::Instant::now();
            assert_eq!(rig.get(&path).await.code, 200);
            took.push(start.elapsed());
        }
        took.sort_unstable();
        println!(
            "{path}: p50 {:?}, p90 {:?}, longest {:?}",
            took[50], took[90], took[99]
        );
    }
}

#[tokio::test]
async fn events_come_in_pages_in_their_order() {
    let rig = Rig::start().await;
    let id = rig.started().await;
    let path = format!("/queues/{id}/events");
    assert_eq!(rig.get(&path).await.body["data"]["events"], json!([]));
    let events: Vec<NewEvent> = (0..5)
        .map(|offset| NewEvent {
            queue_id: id.clone(),
            partition: 0,
            offset,
            event: json!({"event": "started", "seq": offset}),
        })
        .collect();
    let telemetry = rig.store.telemetry(Duration::from_secs(3_600));
    let now = TimestampMs::now();
    assert_eq!(telemetry.insert(&events, now).await.unwrap(), []);
    let first = rig.get(&format!("{path}?limit=3")).await;
    let cursor = first.body["data"]["next_cursor"].as_str().unwrap();
    let second = rig.get(&format!("{path}?limit=3&cursor={cursor}")).await;
    assert_eq!(second.body["data"]["next_cursor"], Value::Null);
    let of = |page: &Answered| {
        let events = page.body["data"]["events"].as_array().unwrap().clone();
        events
            .iter()
            .map(|it| it["event"]["seq"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!((of(&first), of(&second)), (vec![0, 1, 2], vec![3, 4]));
}

#[tokio::test]
async fn logs_are_the_last_lines_of_each_worker() {
    let rig = Rig::start().await;
    let candles = json!({"symbol": "ETHUSDT", "type": "api_candles_1m", "time_range": "2024-08-01:2024-08-01"});
    let started = rig.post("/queues/start", &candles).await;
    let queue = &started.body["data"]["queues"][0];
    let id = queue["queue_id"].as_str().unwrap();
    let (loader, writer) = (&queue["workers"][0], &queue["workers"][1]);
    rig.logs
        .set(loader["job_name"].as_str().unwrap(), "one\ntwo\nthree\n");
    let all = rig.get(&format!("/queues/{id}/logs?lines=2")).await;
    let logs = &all.body["data"]["logs"];
    assert_eq!(logs[0]["part"], loader["telemetry_id"]);
    assert_eq!(logs[0]["lines"], json!(["two", "three"]));
    assert_eq!(logs[1]["part"], writer["telemetry_id"]);
    assert_eq!(logs[1]["lines"], Value::Null);
    let part = loader["telemetry_id"].as_str().unwrap();
    let one = rig.get(&format!("/queues/{id}/logs?part={part}")).await;
    assert_eq!(one.body["data"]["logs"].as_array().unwrap().len(), 1);
    rig.logs.set_away();
    let away = rig.get(&format!("/queues/{id}/logs")).await;
    assert_eq!(away.code, 503);
    assert!(!away.body.to_string().contains("10.0.0.1"));
}

#[tokio::test]
async fn every_status_is_a_word_that_the_filter_knows() {
    let rig = Rig::start().await;
    for status in Status::ALL {
        let answer = rig
            .get(&format!("/queues?status={}", status.as_str()))
            .await;
        assert_eq!(answer.code, 200, "{status:?}");
    }
}
