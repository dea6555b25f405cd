//! What queue-manager needs is away: the database, the brokers, the exchange. Workers go on, nothing is guessed meanwhile,
//! and the workflow ends right once it is back.

use std::{net::SocketAddr, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use streamforge_devstack::arango::{Fault, FaultScope};

use super::{Answer, Managed, Manager};
use crate::{flow::Plan, process::LIMIT, proxy::Proxy};

/// Longer than the lease.
const A_WHILE: Duration = Duration::from_secs(7);

fn address_of(url: &str) -> SocketAddr {
    let rest = url.trim_start_matches("http://").trim_end_matches('/');
    rest.parse().unwrap()
}

/// Waits until it says of itself that just this is away.
async fn until_not_ready(manager: &Manager, need: &str) {
    let names_it = |answer: &Answer| {
        let needs = answer.body["data"]["needs"].as_array();
        let away = needs.into_iter().flatten();
        let away: Vec<&Value> = away.filter(|need| need["ready"] == false).collect();
        answer.status == StatusCode::SERVICE_UNAVAILABLE
            && away.iter().map(|need| &need["name"]).eq([need])
    };
    manager
        .until_answer("it is not ready", "/health/ready", names_it)
        .await;
}

#[tokio::test]
async fn a_database_that_queue_manager_does_not_reach_keeps_no_worker_from_its_work() {
    let mut managed = Managed::set(Plan::crawling_week()).await;
    let way = Proxy::start(address_of(&managed.flow.arango.url())).await;
    let url = format!("http://{}", way.address);
    let manager = managed
        .manager_with("one", &[("ARANGO_URL", &url), ("API_TIMEOUT_SECS", "5")])
        .await;
    managed.start(&manager).await;
    managed.until_written(&manager, 1).await;
    way.cut(true);
    let is_told = |answer: &Answer| {
        answer.status == StatusCode::SERVICE_UNAVAILABLE && answer.retry_after.is_some()
    };
    manager
        .until_answer("it says so", &managed.path(), is_told)
        .await;
    until_not_ready(&manager, "arangodb").await;
    managed.flow.hurry();
    // The writer has a way of its own.
    let source = managed.flow.source().len();
    let written = async {
        while managed.flow.stored().len() < source {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, written).await.unwrap();
    tokio::time::sleep(A_WHILE).await;
    way.cut(false);
    let queue = managed.ends_as(&manager, "finished").await;
    managed.flow.assert_complete().await;
    assert_eq!(queue["totals"]["written"], source, "{queue:#}");
    managed.assert_started_once();
    manager.end().await;
}

#[tokio::test]
async fn a_database_that_is_away_for_all_and_then_slow_loses_nothing() {
    let mut managed = Managed::set(Plan::crawling_week()).await;
    let manager = managed
        .manager_with("one", &[("API_TIMEOUT_SECS", "5")])
        .await;
    managed.start(&manager).await;
    managed.until_written(&manager, 1).await;
    let faults = managed.flow.arango.faults();
    faults.scope(FaultScope::Everything);
    // Whether it was done before the answer was lost, nobody knows.
    faults.next(Fault::DropAfterWrite, 5);
    faults.always(Fault::DropBeforeWrite);
    until_not_ready(&manager, "arangodb").await;
    tokio::time::sleep(A_WHILE).await;
    managed.flow.hurry();
    faults.clear();
    faults.scope(FaultScope::Everything);
    faults.delay(Duration::from_millis(200));
    let queue = managed.ends_as(&manager, "finished").await;
    managed.flow.assert_complete().await;
    assert_eq!(queue["totals"]["percentage"], 100.0, "{queue:#}");
    managed.assert_started_once();
    manager.end().await;
}

#[tokio::test]
async fn brokers_that_are_away_are_waited_for_and_a_start_too() {
    let mut managed = Managed::with_broker_alone(Plan::crawling_week()).await;
    // Nobody is silent as long as nobody can be heard.
    let manager = managed
        .manager_with("one", &[("STALLED_AFTER_SECS", "12")])
        .await;
    let before = managed.start(&manager).await;
    managed.until_written(&manager, 1).await;
    managed.flow.kafka.down().unwrap();
    until_not_ready(&manager, "kafka").await;
    let meanwhile = managed.start_range(&manager, "2024-08-15:2024-08-15").await;
    tokio::time::sleep(Duration::from_secs(14)).await;
    for (named, expected) in [(&before, "running"), (&meanwhile, "pending")] {
        let answer = manager.ask(Method::GET, &named.path(), &[], None).await;
        let queue = &answer.unwrap().body["data"];
        assert_eq!(queue["status"], expected, "{queue:#}");
    }
    managed.flow.hurry();
    managed.flow.kafka.up().unwrap();
    for named in [&before, &meanwhile] {
        managed.turn_to(named);
        managed.ends_as(&manager, "finished").await;
        managed.flow.assert_complete().await;
        // A client that does not reach a real one again ends its worker, whose Job starts it once more.
        if !managed.flow.kafka.is_real() {
            managed.assert_started_once();
        }
    }
    manager.end().await;
}

#[tokio::test]
async fn without_exchange_or_database_nothing_is_taken_on_and_the_same_request_works_later() {
    let mut managed = Managed::set(Plan::three_days()).await;
    let url = managed.flow.exchange.url().to_string();
    let to_exchange = Proxy::start(address_of(&url)).await;
    let to_database = Proxy::start(address_of(&managed.flow.arango.url())).await;
    let urls = [&to_exchange, &to_database].map(|way| format!("http://{}", way.address));
    let manager = managed
        .manager_with(
            "one",
            &[
                ("BINANCE_API_URL", urls[0].as_str()),
                ("ARANGO_URL", urls[1].as_str()),
                ("API_TIMEOUT_SECS", "5"),
            ],
        )
        .await;
    let body = json!({
        "symbol": managed.flow.plan.symbol,
        "type": "api_candles_1m",
        "time_range": managed.flow.plan.range,
    });
    // The names follow from it, and the broker remembers those of others.
    let key = managed.flow.queue_id.to_string();
    let ask = async || {
        let headers = [("Idempotency-Key", key.as_str())];
        let asked = manager.ask(Method::POST, "/queues/start", &headers, Some(&body));
        asked.await.unwrap()
    };
    let is_away = |answer: &Answer| {
        answer.status == StatusCode::SERVICE_UNAVAILABLE && answer.retry_after.is_some()
    };
    to_exchange.cut(true);
    let answer = ask().await;
    assert!(is_away(&answer), "{answer:#?}");
    let is_empty = |list: &Value| list["queues"].as_array().is_some_and(Vec::is_empty);
    manager
        .until("nothing was taken on", "/queues", is_empty)
        .await;
    to_exchange.cut(false);
    to_database.cut(true);
    let answer = ask().await;
    assert!(is_away(&answer), "{answer:#?}");
    to_database.cut(false);
    // It may have been taken on after the answer; then it is not taken on again.
    let taken_on = async {
        loop {
            let answer = ask().await;
            if answer.status == StatusCode::ACCEPTED {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let answer = tokio::time::timeout(LIMIT, taken_on).await.unwrap();
    managed.named(&answer.body["data"]["queues"][0]).await;
    let is_one = |list: &Value| list["queues"].as_array().is_some_and(|all| all.len() == 1);
    manager.until("there is one", "/queues", is_one).await;
    managed.ends_as(&manager, "finished").await;
    managed.flow.assert_complete().await;
    manager.end().await;
}
