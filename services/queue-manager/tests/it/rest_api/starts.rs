//! Starts: what they make, what they refuse, and that a key makes it once.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
};

use axum::{Router, extract::Query, routing::get};
use futures::future::join_all;
use queue_manager::state::{Status, Workflow};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::rig::{Answered, Rig, Settings, answered, fields};

fn candles() -> Value {
    json!({"symbol": "BTCUSDT", "type": "api_candles_1m", "time_range": "2024-08-01:2024-08-01"})
}

fn keyed(rig: &Rig, path: &str, key: &str, body: &Value) -> RequestBuilder {
    let request = rig.request(Method::POST, path);
    request.header("Idempotency-Key", key).json(body)
}

/// Says these in turn, and then that it knows whatever it is asked for.
async fn with_exchange(answers: &[(u16, &'static str)]) -> Rig {
    let answers = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
    let info = move |Query(asked): Query<Asked>| async move {
        let next = answers.lock().unwrap().pop_front();
        match next {
            Some((code, body)) => (StatusCode::from_u16(code).unwrap(), body.to_owned()),
            None => {
                let known = json!({"symbols": [{"symbol": asked.symbol}]});
                (StatusCode::OK, known.to_string())
            }
        }
    };
    let app = Router::new().route("/api/v3/exchangeInfo", get(info));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let settings = Settings {
        exchange: Some(url.parse().unwrap()),
        ..Settings::default()
    };
    Rig::start_with(settings).await
}

#[derive(Deserialize)]
struct Asked {
    symbol: String,
}

async fn count(rig: &Rig) -> usize {
    let list = rig.get("/queues").await;
    list.body["data"]["queues"].as_array().unwrap().len()
}

/// The random end of ids and the day of the launch are what differs.
fn settled(answer: &Answered) -> Value {
    let mut text = answer.body.to_string();
    let data = &answer.body["data"];
    let queues = data["queues"].as_array().cloned();
    for queue in queues.unwrap_or_else(|| vec![data.clone()]) {
        let id = queue["queue_id"].as_str().unwrap();
        let (front, short) = id.rsplit_once('-').unwrap();
        let (_, day) = front.rsplit_once('-').unwrap();
        let (y, m, d) = (&day[..4], &day[4..6], &day[6..]);
        text = text
            .replace(short, "abc123")
            .replace(day, "20240801")
            .replace(&format!("{y}_{m}_{d}"), "2024_08_01");
    }
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_start_answers_with_all_names_and_wakes_the_conductor() {
    let rig = Rig::start().await;
    let woken = rig.nudge.notified();
    let answer = rig.post("/queues/start", &candles()).await;
    assert_eq!(answer.code, 202, "{}", answer.body);
    insta::assert_json_snapshot!("start", settled(&answer));
    woken.await;
    let id = answer.body["data"]["queues"][0]["queue_id"]
        .as_str()
        .unwrap();
    let stored = rig.store.workflows::<Workflow>();
    let stored = stored.get(&id.parse().unwrap()).await.unwrap().content;
    assert_eq!(
        (stored.status, stored.launcher.as_str()),
        (Status::Pending, "process")
    );
}

#[tokio::test]
async fn a_pipeline_and_a_flow_answer_alike() {
    let rig = Rig::start().await;
    let pipeline = json!({"symbol": "ETHUSDT", "time_range": "2024-08-01:2024-08-02", "microservices": [
        {"target": "loader-api-candles", "type": "api_candles_1h"},
        {"target": "arango-candles", "type": "api_candles_1h", "image": "ours/writer:2", "env": {"BATCH_MAX_RECORDS": 500}}]});
    let answer = rig.post("/queues/start-pipeline", &pipeline).await;
    assert_eq!(answer.code, 202, "{}", answer.body);
    insta::assert_json_snapshot!("pipeline", settled(&answer));
    let flow = json!({"flow_name": "dummy_flow"});
    let answer = rig.post("/queues/start-test-flow", &flow).await;
    assert_eq!(answer.code, 202, "{}", answer.body);
    insta::assert_json_snapshot!("flow", settled(&answer));
}

#[tokio::test]
async fn a_list_of_symbols_starts_one_each_or_none() {
    let rig = Rig::start().await;
    let mut body = candles();
    body["symbol"] = json!(["BTCUSDT", "NONESUCH", "ETHUSDT"]);
    let refused = rig.post("/queues/start", &body).await;
    assert_eq!(refused.code, 422);
    assert_eq!(fields(&refused), ["symbol[1]"]);
    assert_eq!(count(&rig).await, 0);
    body["symbol"] = json!(["BTCUSDT", "ETHUSDT"]);
    let taken = rig.post("/queues/start", &body).await;
    assert_eq!(taken.code, 202);
    let queues = taken.body["data"]["queues"].as_array().unwrap();
    let symbols: Vec<_> = queues.iter().map(|it| it["symbol"].clone()).collect();
    assert_eq!(symbols, ["BTCUSDT", "ETHUSDT"]);
    assert_eq!(count(&rig).await, 2);
}

#[tokio::test]
async fn an_exchange_that_does_not_answer_is_neither_yes_nor_no() {
    let answers = [
        (500, "{}"),
        (429, r#"{"code":-1003,"msg":"Too many requests."}"#),
        (400, r#"{"code":-1100,"msg":"Illegal characters."}"#),
        (200, "<html>sign in</html>"),
        (200, r#"{"symbols":[]}"#),
    ];
    let rig = with_exchange(&answers).await;
    for answer in answers {
        let refused = rig.post("/queues/start", &candles()).await;
        assert_eq!(refused.code, 503, "{answer:?}");
        assert_eq!(
            refused.body["message"],
            "the exchange can't be reached at the moment"
        );
    }
    assert_eq!(count(&rig).await, 0);
    assert_eq!(rig.post("/queues/start", &candles()).await.code, 202);
}

#[tokio::test]
async fn what_the_exchange_said_is_remembered() {
    let known = r#"{"symbols":[{"symbol":"BTCUSDT"}]}"#;
    let unknown = r#"{"code":-1121,"msg":"Invalid symbol."}"#;
    let rig = with_exchange(&[(200, known), (400, unknown), (500, "{}")]).await;
    let mut other = candles();
    other["symbol"] = json!("ETHUSDT");
    for _ in 0..3 {
        assert_eq!(rig.post("/queues/start", &candles()).await.code, 202);
        let refused = rig.post("/queues/start", &other).await;
        assert_eq!(fields(&refused), ["symbol"]);
    }
}

#[tokio::test]
async fn a_key_starts_once_and_repeats_the_answer() {
    let rig = Rig::start().await;
    let first = answered(keyed(&rig, "/queues/start", "key 1", &candles())).await;
    assert_eq!(first.code, 202);
    assert!(!first.headers.contains_key("idempotency-replayed"));
    // The same, said otherwise.
    let same =
        r#"{"type":"api_candles_1m" ,"time_range":"2024-08-01:2024-08-01","symbol":"BTCUSDT"}"#;
    let again = rig.request(Method::POST, "/queues/start");
    let again = again.header("Idempotency-Key", "key 1");
    let again = again.header("content-type", "application/json");
    let again = answered(again.body(same)).await;
    assert_eq!((again.code, &again.body), (202, &first.body));
    assert_eq!(again.headers["idempotency-replayed"], "true");
    let mut other = candles();
    other["symbol"] = json!("ETHUSDT");
    let reused = answered(keyed(&rig, "/queues/start", "key 1", &other)).await;
    assert_eq!(reused.code, 422);
    let elsewhere = json!({"flow_name": "dummy_flow"});
    let reused = answered(keyed(&rig, "/queues/start-test-flow", "key 1", &elsewhere)).await;
    assert_eq!(reused.code, 422);
    assert_eq!(count(&rig).await, 1);
    for wrong in ["", &"k".repeat(256), "\u{e9}t\u{e9}"] {
        let refused = answered(keyed(&rig, "/queues/start", wrong, &candles())).await;
        assert_eq!(refused.code, 422, "{wrong:?}");
        assert_eq!(fields(&refused), ["Idempotency-Key"]);
    }
}

#[tokio::test]
async fn of_many_with_one_key_at_once_one_starts() {
    let rig = Rig::start().await;
    let body = candles();
    let all = join_all((0..12).map(|_| answered(keyed(&rig, "/queues/start", "k", &body)))).await;
    let mut ids = BTreeSet::new();
    for answer in all {
        match answer.code {
            202 => {
                let id = answer.body["data"]["queues"][0]["queue_id"].as_str();
                ids.insert(id.unwrap().to_owned());
            }
            code => assert_eq!(code, 409, "{}", answer.body),
        }
    }
    assert_eq!(ids.len(), 1);
    assert_eq!(count(&rig).await, 1);
}

#[tokio::test]
async fn a_start_that_made_nothing_can_be_tried_again_with_its_key() {
    let rig = with_exchange(&[(500, "{}")]).await;
    let failed = answered(keyed(&rig, "/queues/start", "k", &candles())).await;
    assert_eq!(failed.code, 503);
    let taken = answered(keyed(&rig, "/queues/start", "k", &candles())).await;
    assert_eq!(taken.code, 202);
    assert!(!taken.headers.contains_key("idempotency-replayed"));
}

/// As after a crash between the document and the answer: the document is found by its name.
#[tokio::test]
async fn what_a_key_has_made_is_found_again_without_its_answer() {
    let rig = Rig::start().await;
    let flow = json!({"flow_name": "dummy_flow"});
    let first = answered(keyed(&rig, "/queues/start-test-flow", "k", &flow)).await;
    rig.forget_answers().await;
    let again = answered(keyed(&rig, "/queues/start-test-flow", "k", &flow)).await;
    assert_eq!((again.code, &again.body), (202, &first.body));
    assert!(!again.headers.contains_key("idempotency-replayed"));
    assert_eq!(count(&rig).await, 1);
}

#[tokio::test]
async fn a_start_that_fails_half_way_leaves_nothing_behind() {
    let rig = Rig::start().await;
    let mut body = candles();
    body["symbol"] = json!(["BTCUSDT", "ETHUSDT"]);
    let faults = rig.arango.faults();
    faults.reject_keys(1620, |key| key.starts_with("wf-ethusdt"));
    let failed = answered(keyed(&rig, "/queues/start", "k", &body)).await;
    assert_eq!(failed.code, 500, "{}", failed.body);
    assert_eq!(count(&rig).await, 0);
    faults.clear();
    let taken = answered(keyed(&rig, "/queues/start", "k", &body)).await;
    assert_eq!(taken.code, 202);
    assert_eq!(count(&rig).await, 2);
}
