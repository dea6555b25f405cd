//! What is wrong with a request is said in one form, with a code that says what to do.

use reqwest::{Method, header};
use serde_json::{Value, json};

use super::rig::{Rig, Settings, answered, fields};

const JSON: &str = "application/json";

#[tokio::test]
async fn a_body_that_is_none_has_its_own_code() {
    let rig = Rig::start().await;
    let large = format!("{{\"symbol\": \"{}\"}}", "A".repeat(70_000));
    for (content_type, body, code) in [
        (Some(JSON), "{\"symbol\": ", 400),
        (Some(JSON), "", 400),
        (Some(JSON), "\u{feff}{}", 400),
        (Some("application/json; charset=utf-8"), "{}", 422),
        (Some("text/plain"), "{}", 415),
        (Some("application/x-www-form-urlencoded"), "symbol=A", 415),
        (None, "{}", 415),
        (Some(JSON), "[]", 422),
        (Some(JSON), "7", 422),
        (Some(JSON), "{}", 422),
        (Some(JSON), large.as_str(), 413),
    ] {
        let mut request = rig.request(Method::POST, "/queues/start");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let answer = answered(request.body(body.to_owned())).await;
        assert_eq!(answer.code, code, "{content_type:?} {:.30}", body);
        assert_eq!(answer.body["status"], "error");
        assert!(answer.body["message"].is_string());
        assert!(answer.body["data"].is_object());
    }
    assert!(
        rig.get("/queues").await.body["data"]["queues"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn every_wrong_field_is_named_and_nothing_is_created() {
    let rig = Rig::start().await;
    let table: &[(&str, Value, &[&str])] = &[
        (
            "/queues/start",
            json!({"symbol": "btcusdt", "type": "candles", "time_range": "yesterday", "extra": 1}),
            &["extra", "type", "symbol", "time_range"],
        ),
        (
            "/queues/start",
            json!({"symbol": ["BTCUSDT", "b", 7], "type": "api_candles_1m", "time_range": "2024-08-01:2024-08-01"}),
            &["symbol[2]", "symbol[1]"],
        ),
        (
            "/queues/start-pipeline",
            json!({"symbol": "BTCUSDT", "microservices": [
                {"target": "nothing", "type": "api_candles_1m"},
                {"target": "arango-candles", "type": "api_candles_5m", "env": {"ARANGO_PASSWORD": "x"}}]}),
            &[
                "microservices[0].target",
                "microservices[1].type",
                "microservices[1].env.ARANGO_PASSWORD",
            ],
        ),
        (
            "/queues/start-test-flow",
            json!({"flow_name": "none"}),
            &["flow_name"],
        ),
        (
            "/queues/stop",
            json!({"queue_id": "*", "drain": "yes"}),
            &["queue_id", "drain"],
        ),
        ("/queues/stop", json!({}), &["queue_id"]),
    ];
    for (path, body, expected) in table {
        let answer = rig.post(path, body).await;
        assert_eq!(answer.code, 422, "{path} {body}");
        let mut found = fields(&answer);
        let mut expected: Vec<String> = expected.iter().map(|it| (*it).to_owned()).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{path} {body}: {}", answer.body);
    }
    let wrong = json!({"symbol": "btcusdt", "type": "candles", "time_range": "yesterday"});
    let answer = rig.post("/queues/start", &wrong).await;
    insta::assert_json_snapshot!(answer.body);
    let list = rig.get("/queues").await;
    assert_eq!(list.body["data"]["queues"], json!([]));
}

#[tokio::test]
async fn wrong_queries_and_paths_are_named_too() {
    let rig = Rig::start().await;
    let id = rig.started().await;
    for (method, path, expected) in [
        (Method::GET, "/queues?limit=0".to_owned(), "limit"),
        (Method::GET, "/queues?limit=many".to_owned(), "limit"),
        (Method::GET, "/queues?status=gone".to_owned(), "status"),
        (Method::GET, "/queues?symbol=x".to_owned(), "symbol"),
        (Method::GET, "/queues?type=x".to_owned(), "type"),
        (
            Method::GET,
            "/queues?created_from=soon".to_owned(),
            "created_from",
        ),
        (Method::GET, "/queues?cursor=abc".to_owned(), "cursor"),
        (Method::GET, "/queues?statsu=error".to_owned(), "statsu"),
        (Method::GET, "/queues/all".to_owned(), "queue_id"),
        (Method::GET, "/queues/wf-%20".to_owned(), "queue_id"),
        (Method::GET, "/queues/wf-a%FF".to_owned(), "queue_id"),
        (
            Method::GET,
            format!("/queues/{id}/logs?lines=1001"),
            "lines",
        ),
        (Method::GET, format!("/queues/{id}/logs?part=none"), "part"),
        (
            Method::GET,
            "/queues/stream?queue_id=all".to_owned(),
            "queue_id",
        ),
        (
            Method::DELETE,
            format!("/queues/{id}?force=perhaps"),
            "force",
        ),
        (
            Method::POST,
            "/queues/stop?queue_id=all".to_owned(),
            "queue_id",
        ),
        (Method::POST, "/queues/stop".to_owned(), "queue_id"),
    ] {
        let answer = answered(rig.request(method, &path)).await;
        assert_eq!(answer.code, 422, "{path}");
        assert_eq!(fields(&answer), [expected], "{path}");
    }
    // A cursor of another list.
    let events = json!("ZSAwIDA");
    let path = format!("/queues?cursor={}", events.as_str().unwrap());
    assert_eq!(fields(&rig.get(&path).await), ["cursor"]);
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_404_everywhere() {
    let rig = Rig::start().await;
    let id = "wf-btcusdt-dummy-20240801-abc123";
    for (method, path) in [
        (Method::GET, format!("/queues/{id}")),
        (Method::GET, format!("/queues/{id}/events")),
        (Method::GET, format!("/queues/{id}/logs")),
        (Method::GET, format!("/queues/stream?queue_id={id}")),
        (Method::POST, format!("/queues/{id}/retry")),
        (Method::POST, format!("/queues/stop?queue_id={id}")),
        (Method::DELETE, format!("/queues/{id}")),
    ] {
        let answer = answered(rig.request(method, &path)).await;
        assert_eq!(answer.code, 404, "{path}");
        assert_eq!(answer.body["message"], format!("there is no queue {id}"));
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_503_and_says_no_more() {
    let settings = Settings {
        store_deadline: std::time::Duration::from_millis(300),
        ..Settings::default()
    };
    let rig = Rig::start_with(settings).await;
    rig.arango.stop().await;
    let http = reqwest::Client::new();
    let answer = answered(http.get(format!("{}/queues", rig.url))).await;
    assert_eq!(answer.code, 503);
    assert_eq!(answer.headers[header::RETRY_AFTER], "5");
    insta::assert_json_snapshot!(answer.body);
}
