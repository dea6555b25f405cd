//! Weights, 429 and 418.

use std::time::Duration;

use reqwest::Response;
use serde_json::json;
use streamforge_devstack::exchange::Exchange;

use super::{client, klines};

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().unwrap())
}

async fn ask(exchange: &Exchange, path: &str) -> Response {
    client()
        .get(exchange.url().join(path).unwrap())
        .send()
        .await
        .unwrap()
}

/// A window that no test outlasts, so that a turn of the minute does not disturb.
const LONG: Duration = Duration::from_secs(1_000_000_000);

#[tokio::test]
async fn every_answer_tells_the_weight_that_is_used() {
    let exchange = Exchange::builder()
        .weight_window(LONG)
        .start()
        .await
        .unwrap();
    for (path, used) in [
        (klines("1m", "&limit=1"), "2"),
        (klines("2m", ""), "4"),
        ("api/v3/exchangeInfo".to_owned(), "24"),
        ("api/v3/time".to_owned(), "25"),
        ("api/v3/ping".to_owned(), "26"),
    ] {
        let response = ask(&exchange, &path).await;
        assert_eq!(header(&response, "x-mbx-used-weight"), Some(used), "{path}");
        assert_eq!(
            header(&response, "x-mbx-used-weight-1m"),
            Some(used),
            "{path}"
        );
        assert_eq!(
            header(&response, "content-type"),
            Some("application/json;charset=UTF-8")
        );
    }
    assert_eq!(exchange.handle().counters().highest_used_weight, 26);
    exchange.stop().await;
}

#[tokio::test]
async fn too_much_is_429_and_ignoring_that_is_418() {
    let exchange = Exchange::builder()
        .weight_window(LONG)
        .weight_limit(4)
        .ban(2, Duration::from_secs(120))
        .start()
        .await
        .unwrap();
    let mut statuses = Vec::new();
    for _ in 0..7 {
        let response = ask(&exchange, &klines("1m", "&limit=1")).await;
        let wait: Option<u64> = header(&response, "retry-after").map(|text| text.parse().unwrap());
        let status = response.status().as_u16();
        statuses.push(status);
        let body: serde_json::Value = response.json().await.unwrap();
        match status {
            429 => {
                assert!(wait.unwrap() > 120);
                assert_eq!(
                    body,
                    json!({"code": -1003, "msg": "Too much request weight used; current limit is 4 request weight per 1 MINUTE. \
                        Please use WebSocket Streams for live updates to avoid polling the API."})
                );
            }
            418 => {
                assert!((119..=120).contains(&wait.unwrap()));
                assert_eq!(body["code"], -1003);
                assert!(
                    body["msg"]
                        .as_str()
                        .unwrap()
                        .starts_with("Way too much request weight used; IP banned until ")
                );
            }
            _ => assert_eq!(wait, None),
        }
    }
    assert_eq!(statuses, [200, 200, 429, 429, 429, 418, 418]);
    let counters = exchange.handle().counters();
    assert_eq!(
        (
            counters.klines,
            counters.answered_429,
            counters.answered_418
        ),
        (7, 3, 2)
    );
    assert_eq!((counters.too_early, counters.highest_used_weight), (4, 14));
    exchange.stop().await;
}

#[tokio::test]
async fn the_next_window_grants_again() {
    let exchange = Exchange::builder()
        .weight_window(Duration::from_millis(500))
        .weight_limit(2)
        .start()
        .await
        .unwrap();
    let status = async || {
        ask(&exchange, &klines("1m", "&limit=1"))
            .await
            .status()
            .as_u16()
    };
    let all_seen = async {
        let mut refused = false;
        loop {
            match status().await {
                429 => refused = true,
                200 if refused => break,
                200 => {}
                other => panic!("unexpected status {other}"),
            }
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all_seen)
        .await
        .expect("a 429, and later a 200");
    exchange.handle().set_weight_limit(1_000);
    assert_eq!((status().await, status().await), (200, 200));
    exchange.stop().await;
}
