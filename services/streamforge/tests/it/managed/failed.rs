//! Workers that fail for good, and what becomes of the others.

use serde_json::json;

use super::Managed;
use crate::flow::Plan;

#[tokio::test]
async fn a_worker_that_fails_for_good_ends_its_workflow() {
    let mut managed = Managed::set(Plan::slow_three_days()).await;
    let manager = managed.manager("one").await;
    let kind = format!("api_candles_{}", managed.flow.plan.interval);
    let body = json!({
        "symbol": managed.flow.plan.symbol,
        "time_range": managed.flow.plan.range,
        "microservices": [
            {"target": "loader-api-candles", "type": kind},
            // Not one record may be rejected.
            {"target": "arango-candles", "type": kind, "env": {"MAX_REJECTED": "0"}},
        ],
    });
    let answer = manager.post("/queues/start-pipeline", &body).await;
    managed.named(&answer["data"]).await;
    managed.until_written(&manager, 1).await;
    let topic = managed.flow.topic.clone();
    let kafka = &managed.flow.kafka;
    let put = kafka.publish(&topic, Some(0), "BTCUSDT", "poison", &[]);
    put.await.unwrap();
    let queue = managed.ends_as(&manager, "error").await;
    let reason = queue["reason"].as_str().unwrap();
    assert!(reason.contains("arango-candles"), "{reason}");
    let parts = queue["parts"].as_array().unwrap();
    assert_eq!(
        parts[0]["status"], "interrupted",
        "its loader was stopped: {queue:#}"
    );
    manager.end().await;
}
