//! Workers that fail for good, and what becomes of the others.

use serde_json::json;
use streamforge_devstack::exchange::Fault;

use super::Managed;
use crate::flow::Plan;

/// The request for it: the first one looks for the first candle that the exchange has.
const THIRD_PAGE: u64 = 4;

#[tokio::test]
async fn a_worker_that_fails_for_good_ends_its_workflow() {
    let mut managed = Managed::set(Plan::stalled_three_days()).await;
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

#[tokio::test]
async fn a_loader_that_fails_for_good_ends_its_writers_and_gives_its_place_to_the_next() {
    let mut managed = Managed::set(Plan::three_days()).await;
    // The exchange refuses the third page for legal reasons: no retry can mend that.
    let exchange = managed.flow.exchange.handle();
    exchange.fail_nth(THIRD_PAGE, Fault::Status(451));
    let manager = managed.manager_with("one", &[("MAX_WORKFLOWS", "1")]).await;
    let failing = managed.start(&manager).await;
    let next = managed.start_range(&manager, "2024-08-05:2024-08-05").await;
    managed.turn_to(&failing);
    let queue = managed.ends_as(&manager, "error").await;
    let reason = queue["reason"].as_str().unwrap();
    assert!(
        reason.contains("loader-api-candles") && reason.contains("HTTP 451"),
        "{reason}"
    );
    let (loader, writer) = (&queue["parts"][0], &queue["parts"][1]);
    assert_eq!(loader["exit_code"].as_i64().unwrap_or(70), 70, "{queue:#}");
    assert_eq!(loader["retryable"], false, "{queue:#}");
    assert_eq!(writer["status"], "interrupted", "{queue:#}");
    assert_eq!(
        writer["reason"], "stopped, since its loader failed",
        "{queue:#}"
    );
    // What was published is there, and is what the state says.
    managed.flow.assert_stored_is_published().await;
    let stored = managed.flow.stored().len();
    assert!(stored > 0, "two pages were published");
    assert_eq!(queue["totals"]["written"], stored, "{queue:#}");
    managed.assert_started_once();
    managed.turn_to(&next);
    let queue = managed.ends_as(&manager, "finished").await;
    managed.flow.assert_complete().await;
    assert!(
        queue["admitted_at"].as_i64() >= loader["ended_at"].as_i64(),
        "one at a time: {queue:#}"
    );
    manager.end().await;
}
