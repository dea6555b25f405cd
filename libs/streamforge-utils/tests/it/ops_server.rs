//! `/metrics` and `/health` over HTTP.

use prometheus::Registry;
use streamforge_utils::{
    metrics::WorkerMetrics,
    ops_server::{Health, serve},
};

async fn get(port: u16, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("http://127.0.0.1:{port}{path}"))
        .await
        .unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn probes_follow_the_health_of_the_process() {
    let health = Health::default();
    let port = serve(Some(0), Registry::new(), health.clone())
        .await
        .unwrap()
        .unwrap()
        .port();
    let probes = |port| async move {
        let mut codes = Vec::new();
        for probe in ["live", "ready", "startup"] {
            codes.push(get(port, &format!("/health/{probe}")).await.0);
        }
        codes
    };
    assert_eq!(probes(port).await, [200, 503, 503]);
    health.set_started();
    assert_eq!(probes(port).await, [200, 200, 200]);
    health.set_stopping();
    assert_eq!(probes(port).await, [200, 503, 200]);
    assert_eq!(get(port, "/health/health/live").await.0, 404);
}

#[tokio::test]
async fn metrics_are_served_as_text() {
    let registry = Registry::new();
    let metrics = WorkerMetrics::register(&registry).unwrap();
    metrics.records_written.set(42);
    metrics.events.with_label_values(&["started"]).inc();
    let port = serve(Some(0), registry, Health::default())
        .await
        .unwrap()
        .unwrap()
        .port();
    let (code, text) = get(port, "/metrics").await;
    assert_eq!(code, 200);
    assert!(text.contains("streamforge_records_written 42\n"), "{text}");
    assert!(
        text.contains("streamforge_events_total{event=\"started\"} 1\n"),
        "{text}"
    );
}

#[tokio::test]
async fn the_default_port_may_be_taken_and_one_that_was_asked_for_may_not() {
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = serve(Some(port), Registry::new(), Health::default())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("METRICS_PORT {port} can't be listened on: ")),
        "{error}"
    );
}
