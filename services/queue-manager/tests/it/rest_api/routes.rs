//! Which routes there are, what each method gives, and what every answer has.

use reqwest::Method;

use super::rig::{Rig, answered};

/// A path that is mounted twice, or under another prefix, is what probes once found.
#[tokio::test]
async fn every_route_answers_at_its_path_and_nowhere_else() {
    let rig = Rig::start().await;
    let id = rig.started().await;
    let there = [
        "/health/live".to_owned(),
        "/queues".to_owned(),
        "/queues/list".to_owned(),
        format!("/queues/{id}"),
        format!("/queues/{id}/events"),
        format!("/queues/{id}/logs"),
        "/openapi.json".to_owned(),
    ];
    for path in &there {
        assert_eq!(rig.get(path).await.code, 200, "{path}");
    }
    let docs = rig.bare(Method::GET, "/docs/").send().await.unwrap();
    assert_eq!(docs.status(), 200);
    let metrics = rig.bare(Method::GET, "/metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let counted = "streamforge_manager_requests_total{code=\"2xx\",method=\"GET\",route=\"/queues/{queue_id}\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    for path in [
        "/",
        "/queues/queues/list",
        "/health",
        "/health/health/live",
        "/queues/",
        "/api/queues",
        "/openapi.json/",
        &format!("/queues/{id}/retry/"),
    ] {
        let answer = rig.get(path).await;
        assert_eq!(answer.code, 404, "{path}");
        assert_eq!(answer.body["message"], "there is no such route", "{path}");
    }
}

#[tokio::test]
async fn a_method_that_a_route_does_not_take_is_said_so() {
    let rig = Rig::start().await;
    for (method, path, allowed) in [
        (Method::DELETE, "/queues", "GET,HEAD"),
        (Method::GET, "/queues/start", "POST"),
        (Method::PUT, "/queues/wf-a", "GET,HEAD,DELETE"),
        (Method::POST, "/health/live", "GET,HEAD"),
    ] {
        let answer = answered(rig.request(method, path)).await;
        assert_eq!(answer.code, 405, "{path}");
        assert_eq!(answer.body["status"], "error");
        assert_eq!(answer.headers["allow"], allowed, "{path}");
    }
}

#[tokio::test]
async fn every_answer_has_an_id_and_careful_headers() {
    let rig = Rig::start().await;
    for path in ["/queues", "/nowhere", "/health/live"] {
        let request = rig.request(Method::GET, path);
        let answer = answered(request.header("x-request-id", "abc-1")).await;
        assert_eq!(answer.headers["x-request-id"], "abc-1");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    let answer = rig.get("/queues").await;
    assert!(answer.headers["x-request-id"].len() >= 32);
}

#[tokio::test]
async fn a_replica_is_ready_once_started_and_while_its_needs_answer() {
    let rig = Rig::start().await;
    assert_eq!(rig.get("/health/startup").await.code, 503);
    assert_eq!(rig.get("/health/ready").await.code, 503);
    rig.readiness.set_started();
    assert_eq!(rig.get("/health/startup").await.code, 200);
    let ready = rig.get("/health/ready").await;
    assert_eq!(ready.code, 200);
    insta::assert_json_snapshot!(ready.body);
    rig.readiness.set_stopping();
    assert_eq!(rig.get("/health/ready").await.code, 503);
    assert_eq!(rig.get("/health/live").await.code, 200);
}

#[tokio::test]
async fn a_replica_whose_database_is_away_is_alive_and_not_ready() {
    let rig = Rig::start().await;
    rig.readiness.set_started();
    rig.arango.stop().await;
    let http = reqwest::Client::new();
    let ready = answered(http.get(format!("{}/health/ready", rig.url))).await;
    assert_eq!(ready.code, 503);
    insta::assert_json_snapshot!(ready.body);
    let live = answered(http.get(format!("{}/health/live", rig.url))).await;
    assert_eq!(live.code, 200);
}
