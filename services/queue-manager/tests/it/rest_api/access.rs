//! Who may ask what.

use std::time::Duration;

use queue_manager::limits::Limits;
use reqwest::{Method, header};
use serde_json::json;

use super::rig::{FULL, READ, Rig, Settings, answered};

async fn with_tokens() -> Rig {
    let settings = Settings {
        with_tokens: true,
        ..Settings::default()
    };
    Rig::start_with(settings).await
}

#[tokio::test]
async fn each_token_may_do_what_its_role_says() {
    let rig = with_tokens().await;
    let id = rig.started().await;
    let show = format!("/queues/{id}");
    let open = ["/health/live", "/openapi.json"];
    // Method, path, without a token, with a wrong one, with one that may read.
    let get = Method::GET;
    for (method, path, read) in [
        (get.clone(), "/queues", 200),
        (get.clone(), "/queues/list", 200),
        (get.clone(), &show, 200),
        (get.clone(), &format!("{show}/events"), 200),
        (get.clone(), &format!("{show}/logs"), 200),
        (get.clone(), "/queues/stream?queue_id=wf-none", 404),
        (get.clone(), "/ws/queues", 426),
        (Method::POST, "/queues/start", 403),
        (Method::POST, "/queues/start-pipeline", 403),
        (Method::POST, "/queues/start-test-flow", 403),
        (Method::POST, "/queues/stop", 403),
        (Method::POST, &format!("{show}/retry"), 403),
        (Method::DELETE, &show, 403),
    ] {
        let what = format!("{method} {path}");
        let bare = answered(rig.bare(method.clone(), path)).await;
        assert_eq!(bare.code, 401, "{what}");
        assert!(
            bare.headers.contains_key(header::WWW_AUTHENTICATE),
            "{what}"
        );
        let wrong = rig.bare(method.clone(), path).bearer_auth("guessed");
        assert_eq!(answered(wrong).await.code, 401, "{what}");
        let reading = rig.bare(method, path).bearer_auth(READ);
        assert_eq!(answered(reading).await.code, read, "{what}");
    }
    for path in open {
        assert_eq!(answered(rig.bare(get.clone(), path)).await.code, 200);
    }
    let stop = rig.bare(Method::POST, &format!("/queues/stop?queue_id={id}"));
    let stopped = answered(stop.bearer_auth(FULL)).await;
    assert_eq!(stopped.code, 202);
    assert_eq!(stopped.body["data"]["stop"]["by"], "ops");
}

#[tokio::test]
async fn pages_of_other_sites_can_do_nothing() {
    let rig = Rig::start().await;
    let id = rig.started().await;
    let path = format!("/queues/stop?queue_id={id}");
    let foreign = rig.request(Method::POST, &path);
    let answer = answered(foreign.header(header::ORIGIN, "https://evil.example")).await;
    assert_eq!(answer.code, 403);
    let rebound = rig.request(Method::GET, "/queues");
    let answer = answered(rebound.header(header::HOST, "evil.example")).await;
    assert_eq!(answer.code, 403);
    let own = rig.request(Method::POST, &path);
    let answer = answered(own.header(header::ORIGIN, &rig.url)).await;
    assert_eq!(answer.code, 202);
}

#[tokio::test]
async fn more_requests_than_there_may_be_are_told_to_come_back() {
    let limits = Limits::new(64 * 1024, Duration::from_secs(20), 0);
    let rig = Rig::start_with(Settings {
        limits,
        ..Settings::default()
    })
    .await;
    let answer = rig.get("/queues").await;
    assert_eq!(answer.code, 503);
    assert_eq!(answer.headers[header::RETRY_AFTER], "1");
    // A busy replica is not a dead one.
    assert_eq!(rig.get("/health/live").await.code, 200);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_all_the_same() {
    let limits = Limits::new(64 * 1024, Duration::from_millis(300), 4);
    let rig = Rig::start_with(Settings {
        limits,
        ..Settings::default()
    })
    .await;
    let slow = streamforge_devstack::exchange::Latency::fixed(Duration::from_secs(5));
    rig.exchange.handle().set_latency(slow);
    let body = json!({"symbol": "BTCUSDT", "type": "api_candles_1m", "time_range": "2024-08-01:2024-08-01"});
    let answer = rig.post("/queues/start", &body).await;
    assert_eq!(answer.code, 503);
    assert_eq!(answer.headers[header::RETRY_AFTER], "5");
    assert_eq!(answer.body["message"], "the request took longer than 0.3 s");
}
