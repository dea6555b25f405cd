//! Every fault, as a client sees it.

use std::time::Duration;

use serde_json::Value;
use streamforge_devstack::exchange::{Clock, Exchange, Fault};

use super::{at, client, get, klines};

async fn exchange() -> Exchange {
    Exchange::builder()
        .clock(Clock::Fixed(at("2024-08-01T12:00:00Z")))
        .start()
        .await
        .unwrap()
}

async fn ask(exchange: &Exchange) -> reqwest::Result<reqwest::Response> {
    client()
        .get(exchange.url().join(&klines("1m", "&limit=100")).unwrap())
        .send()
        .await
}

#[tokio::test]
async fn statuses_come_with_what_the_exchange_says() {
    let exchange = exchange().await;
    let handle = exchange.handle();
    for (fault, status, wait, body) in [
        (Fault::Status(500), 500, None, "\"code\":-1000"),
        (Fault::Status(502), 502, None, "<html>"),
        (Fault::Status(503), 503, None, "\"code\":-1008"),
        (Fault::Status(504), 504, None, "\"code\":-1007"),
        (
            Fault::TooManyRequests {
                retry_after_secs: 3,
            },
            429,
            Some("3"),
            "\"code\":-1003",
        ),
        (
            Fault::Banned {
                retry_after_secs: 130,
            },
            418,
            Some("130"),
            "IP banned until 1722513730000",
        ),
        (Fault::Firewall, 403, None, "403 Forbidden"),
        (Fault::HtmlOk, 200, None, "<!DOCTYPE html>"),
    ] {
        handle.fail_next(1, fault);
        let response = ask(&exchange).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{fault:?}");
        assert_eq!(
            response
                .headers()
                .get("retry-after")
                .map(|value| value.to_str().unwrap()),
            wait,
            "{fault:?}"
        );
        let text = response.text().await.unwrap();
        assert!(text.contains(body), "{fault:?}: {text}");
    }
    assert!(
        ask(&exchange).await.unwrap().status().is_success(),
        "faults are used up"
    );
    exchange.stop().await;
}

#[tokio::test]
async fn bodies_can_be_cut_or_wrong() {
    let exchange = exchange().await;
    let handle = exchange.handle();
    let (_, right) = get(&exchange, &klines("1m", "&limit=100")).await;

    handle.fail_next(1, Fault::CutShort);
    let response = ask(&exchange).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.content_length(),
        Some(right.to_string().len() as u64)
    );
    response
        .text()
        .await
        .expect_err("half of the body is missing");

    handle.fail_next(1, Fault::ShortKline);
    handle.fail_next(1, Fault::BadPrice);
    let short: Value = ask(&exchange).await.unwrap().json().await.unwrap();
    let bad: Value = ask(&exchange).await.unwrap().json().await.unwrap();
    assert_eq!(
        short[99].as_array().unwrap()[..],
        right[99].as_array().unwrap()[..11]
    );
    assert_eq!(bad[99][4], "not-a-number");
    for page in [&short, &bad] {
        assert_eq!(
            page.as_array().unwrap()[..99],
            right.as_array().unwrap()[..99],
            "the rest is right"
        );
    }
    exchange.stop().await;
}

#[tokio::test]
async fn connections_can_close_or_stay_silent() {
    let exchange = exchange().await;
    let handle = exchange.handle();
    handle.fail_next(1, Fault::Drop);
    let error = ask(&exchange).await.expect_err("there is no answer");
    assert!(!error.is_timeout() && !error.is_connect(), "{error:?}");

    handle.fail_next(1, Fault::Hang);
    let url = exchange.url().join(&klines("1m", "")).unwrap();
    let error = client()
        .get(url)
        .timeout(Duration::from_millis(200))
        .send()
        .await
        .expect_err("there is no answer");
    assert!(error.is_timeout(), "{error:?}");
    assert!(ask(&exchange).await.unwrap().status().is_success());

    handle.fail_next(1, Fault::Hang);
    let url = exchange.url().join(&klines("1m", "")).unwrap();
    let waiting = tokio::spawn(client().get(url).send());
    let in_flight = async {
        while handle.counters().in_flight == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), in_flight)
        .await
        .expect("the request arrives");
    exchange.stop().await;
    let error = waiting.await.unwrap().expect_err("a stop ends even this");
    assert!(!error.is_timeout(), "{error:?}");
}

#[tokio::test]
async fn faults_hit_the_request_they_are_meant_for() {
    let exchange = exchange().await;
    let handle = exchange.handle();
    handle.fail_nth(2, Fault::Status(500));
    handle.fail_nth(4, Fault::Status(503));
    get(&exchange, "api/v3/time").await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(ask(&exchange).await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [200, 500, 200, 503, 200]);
    assert_eq!((handle.counters().klines, handle.counters().time), (5, 1));
    handle.fail_next(3, Fault::Drop);
    handle.clear_faults();
    assert!(ask(&exchange).await.unwrap().status().is_success());
    exchange.stop().await;
}

#[tokio::test]
async fn who_does_not_wait_is_counted() {
    let exchange = exchange().await;
    let handle = exchange.handle();
    handle.fail_next(
        1,
        Fault::TooManyRequests {
            retry_after_secs: 60,
        },
    );
    ask(&exchange).await.unwrap();
    assert_eq!(handle.counters().too_early, 0);
    ask(&exchange).await.unwrap();
    assert_eq!(
        (handle.counters().too_early, handle.counters().answered_429),
        (1, 1)
    );
    exchange.stop().await;
}
