//! The stand-in of the exchange as an HTTP client sees it.

mod faults;
mod limits;
mod replay;

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use streamforge_devstack::exchange::{Clock, Exchange, ExchangeError, GeneratedSymbol, Latency};
use streamforge_utils::protocol::{Interval, TimestampMs};

/// An instant, ISO 8601.
fn at(text: &str) -> TimestampMs {
    text.parse().unwrap()
}

thread_local! {
    /// One for all requests of a test: making one reads the system's certificates, which takes longer than anything
    /// else here. It keeps no connections, since the next test on this thread has another runtime.
    static CLIENT: reqwest::Client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .pool_max_idle_per_host(0)
        .no_proxy()
        .build()
        .unwrap();
}

/// A client that gives up after seconds, so that a test fails and does not hang.
fn client() -> reqwest::Client {
    CLIENT.with(Clone::clone)
}

/// Asks `exchange` for `path` and gives status and JSON body.
async fn get(exchange: &Exchange, path: &str) -> (StatusCode, Value) {
    let response = client()
        .get(exchange.url().join(path).unwrap())
        .send()
        .await
        .unwrap();
    (response.status(), response.json().await.unwrap())
}

/// The path of a klines query for `BTCUSDT`.
fn klines(interval: &str, rest: &str) -> String {
    format!("api/v3/klines?symbol=BTCUSDT&interval={interval}{rest}")
}

async fn fixed() -> Exchange {
    Exchange::builder()
        .seed(7)
        .clock(Clock::Fixed(at("2024-08-01T12:34:56.789Z")))
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn tells_its_time_and_answers_pings() {
    let exchange = fixed().await;
    assert_eq!(
        get(&exchange, "api/v3/time").await,
        (StatusCode::OK, json!({"serverTime": 1_722_515_696_789_i64}))
    );
    assert_eq!(
        get(&exchange, "api/v3/ping").await,
        (StatusCode::OK, json!({}))
    );
    exchange
        .handle()
        .set_clock(Clock::starting_at(at("2030-01-01T00:00:00Z")));
    let (_, time) = get(&exchange, "api/v3/time").await;
    let passed = time["serverTime"].as_i64().unwrap() - at("2030-01-01T00:00:00Z").as_millis();
    assert!((0..60_000).contains(&passed), "{passed} ms");
    exchange.stop().await;
}

#[tokio::test]
async fn klines_over_http_are_the_ones_that_exist() {
    let exchange = fixed().await;
    let start = at("2024-07-31T22:00:00Z");
    let (status, page) = get(
        &exchange,
        &klines(
            "1m",
            &format!("&startTime={}&limit=1000", start.as_millis()),
        ),
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    let truth = exchange
        .klines("BTCUSDT", Interval::Minute1, start, start + 1_000 * 60_000)
        .unwrap();
    assert_eq!(truth.len(), 875, "up to the minute that is open");
    assert_eq!(page, json!(truth));
    let last = truth.last().unwrap();
    assert!(
        last[6].as_i64().unwrap() > at("2024-08-01T12:34:56.789Z").as_millis(),
        "the last one is still open"
    );
    let finals = exchange
        .final_klines("BTCUSDT", Interval::Minute1, start, start + 1_000 * 60_000)
        .unwrap();
    assert_eq!(finals, truth[..874]);
    exchange.stop().await;
}

#[tokio::test]
async fn limits_default_to_500_and_end_at_1000() {
    let exchange = fixed().await;
    for (rest, count, last) in [
        ("", 500, "2024-08-01T12:34:00Z"),
        ("&limit=5000", 1_000, "2024-08-01T12:34:00Z"),
        ("&limit=1", 1, "2024-08-01T12:34:00Z"),
        ("&endTime=1722470400000&limit=3", 3, "2024-08-01T00:00:00Z"),
        (
            "&startTime=1722470340001&endTime=1722470400000",
            1,
            "2024-08-01T00:00:00Z",
        ),
        (
            "&startTime=1722470400000&endTime=1722470400000",
            1,
            "2024-08-01T00:00:00Z",
        ),
    ] {
        let (_, page) = get(&exchange, &klines("1m", rest)).await;
        let page = page.as_array().unwrap();
        assert_eq!(page.len(), count, "{rest}");
        assert_eq!(page.last().unwrap()[0], at(last).as_millis(), "{rest}");
    }
    let (status, empty) = get(
        &exchange,
        &klines("1m", "&startTime=1722470400001&endTime=1722470400000"),
    )
    .await;
    assert_eq!(
        (status, empty),
        (StatusCode::OK, json!([])),
        "a start after the end holds nothing"
    );
    exchange.stop().await;
}

#[tokio::test]
async fn refuses_with_the_codes_of_the_exchange() {
    let exchange = fixed().await;
    for (path, code, message) in [
        (
            "api/v3/klines?symbol=NOPE&interval=1m",
            -1121,
            "Invalid symbol.",
        ),
        (
            "api/v3/klines?symbol=BTCUSDT&interval=2m",
            -1120,
            "Invalid interval.",
        ),
        ("api/v3/exchangeInfo?symbol=NOPE", -1121, "Invalid symbol."),
        (
            "api/v3/ping?x=1",
            -1104,
            "Not all sent parameters were read; read '0' parameter(s) but was sent '1'.",
        ),
    ] {
        assert_eq!(
            get(&exchange, path).await,
            (
                StatusCode::BAD_REQUEST,
                json!({"code": code, "msg": message})
            )
        );
    }
    let unknown = client()
        .get(exchange.url().join("api/v3/avgPrice").unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    exchange.stop().await;
}

#[tokio::test]
async fn exchange_info_tells_the_symbols_and_the_limits() {
    let exchange = Exchange::builder()
        .symbols(["ETHBTC", "BTCUSDT"])
        .weight_limit(1_234)
        .start()
        .await
        .unwrap();
    let (_, all) = get(&exchange, "api/v3/exchangeInfo").await;
    let names = |info: &Value| -> Vec<String> {
        info["symbols"]
            .as_array()
            .unwrap()
            .iter()
            .map(|symbol| symbol["symbol"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&all), ["BTCUSDT", "ETHBTC"]);
    assert_eq!(
        names(&get(&exchange, "api/v3/exchangeInfo?symbol=ETHBTC").await.1),
        ["ETHBTC"]
    );
    assert_eq!(
        names(
            &get(&exchange, r#"api/v3/exchangeInfo?symbols=["ETHBTC"]"#)
                .await
                .1
        ),
        ["ETHBTC"]
    );
    insta::assert_json_snapshot!(all["rateLimits"][0], @r#"
    {
      "interval": "MINUTE",
      "intervalNum": 1,
      "limit": 1234,
      "rateLimitType": "REQUEST_WEIGHT"
    }
    "#);
    let symbol = &all["symbols"][1];
    assert_eq!(
        (
            &symbol["baseAsset"],
            &symbol["quoteAsset"],
            &symbol["status"]
        ),
        (&json!("ETH"), &json!("BTC"), &json!("TRADING"))
    );
    exchange.stop().await;
}

#[tokio::test]
async fn the_same_seed_is_the_same_market_on_another_server() {
    let (one, other) = (fixed().await, fixed().await);
    for interval in ["1s", "1m", "1h", "1M"] {
        assert_eq!(
            get(&one, &klines(interval, "&limit=20")).await,
            get(&other, &klines(interval, "&limit=20")).await
        );
    }
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn symbols_have_listings_and_gaps() {
    let listed = at("2024-07-01T10:30:30Z");
    let gap = at("2024-07-02T00:00:00Z")..at("2024-07-02T02:00:00Z");
    let exchange = Exchange::builder()
        .symbols([GeneratedSymbol::new("NEWUSDT").listed(listed)])
        .gap(gap.clone())
        .start()
        .await
        .unwrap();
    let opens: Vec<_> = exchange
        .klines(
            "NEWUSDT",
            Interval::Hour1,
            TimestampMs(0),
            gap.end + 3_600_000,
        )
        .unwrap()
        .iter()
        .map(|kline| TimestampMs(kline[0].as_i64().unwrap()))
        .collect();
    assert_eq!(opens.len(), 15);
    assert_eq!(
        (opens[0], opens[13], opens[14]),
        (at("2024-07-01T10:00:00Z"), gap.start - 3_600_000, gap.end)
    );
    assert!(matches!(
        exchange.klines("BTCUSDT", Interval::Hour1, TimestampMs(0), gap.end),
        Err(ExchangeError::UnknownSymbol(name)) if name == "BTCUSDT"
    ));
    exchange.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_does_not_start() {
    let start = |symbols: &[&'static str]| Exchange::builder().symbols(symbols.to_vec()).start();
    assert!(
        matches!(start(&["btcusdt"]).await, Err(ExchangeError::InvalidSymbol(name)) if name == "btcusdt")
    );
    assert!(
        matches!(start(&["A", "A"]).await, Err(ExchangeError::DuplicateSymbol(name)) if name == "A")
    );
    let first = fixed().await;
    let port = first.url().port().unwrap();
    assert!(
        matches!(Exchange::builder().port(port).start().await, Err(ExchangeError::Bind { port: taken, .. }) if taken == port)
    );
    first.stop().await;
    Exchange::builder()
        .port(port)
        .start()
        .await
        .expect("the port is free again")
        .stop()
        .await;
}

#[tokio::test]
async fn latency_and_requests_in_flight_can_be_seen() {
    let exchange = fixed().await;
    let handle = exchange.handle();
    let delay = Duration::from_millis(100);
    handle.set_latency(Latency {
        fixed: delay,
        jitter: Duration::from_millis(20),
    });
    let started = Instant::now();
    futures::future::join_all((0..5).map(|_| get(&exchange, "api/v3/time"))).await;
    assert!(started.elapsed() >= delay);
    let counters = handle.counters();
    assert_eq!(
        (counters.time, counters.max_in_flight, counters.in_flight),
        (5, 5, 0)
    );
    exchange.stop().await;
}
