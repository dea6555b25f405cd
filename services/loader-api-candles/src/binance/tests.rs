//! What the client makes of an exchange that misbehaves. The server below sends raw bytes, so that answers can be
//! wrong in every way.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use streamforge_utils::telemetry::Progress;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};

use super::{retry::Chain, *};

const HOUR: i64 = 3_600_000;
const KLINE: &str = r#"[3600000,"1.0","2.0","0.5","1.5","10",7199999,"15",3,"4","6","0"]"#;

/// A server that gives these answers, one a connection, the last one for ever; and how many it has given.
async fn server(answers: Vec<String>) -> (Url, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let given = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&given);
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let nth = counter.fetch_add(1, Ordering::SeqCst);
            let answer = answers.get(nth).or(answers.last()).unwrap();
            let mut request = [0; 4_096];
            let _ = connection.read(&mut request).await;
            if answer == HANG {
                tokio::spawn(async move {
                    let _ = connection.read(&mut request).await;
                });
                continue;
            }
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    (url.parse().unwrap(), given)
}

/// An answer that never comes.
const HANG: &str = "hang";

fn http(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
}

fn ok(body: &str) -> String {
    http("200 OK", "content-type: application/json\r\n", body)
}

fn client(url: &Url) -> BinanceClient {
    let settings = HttpSettings {
        connect_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_millis(150),
        retry_deadline: Duration::from_millis(600),
        first_backoff: Duration::from_millis(1),
        longest_backoff: Duration::from_millis(20),
    };
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    BinanceClient::new(url, settings, metrics, Message::new(Progress::default())).unwrap()
}

/// Asks for the candle of 01:00 on the first day of Unix time.
async fn ask(url: &Url) -> Result<Vec<Kline>, BinanceError> {
    let window = Window {
        start: TimestampMs(HOUR),
        end: TimestampMs(2 * HOUR),
    };
    client(url)
        .klines(&"BTCUSDT".parse().unwrap(), Interval::Hour1, window, 1_000)
        .await
}

async fn answered(answers: Vec<String>) -> (Result<Vec<Kline>, BinanceError>, usize) {
    let (url, given) = server(answers).await;
    let result = ask(&url).await;
    (result, given.load(Ordering::SeqCst))
}

fn text(error: &BinanceError) -> String {
    Chain(error).to_string()
}

#[tokio::test]
async fn what_may_pass_is_asked_for_again() {
    let good = ok(&format!("[{KLINE}]"));
    for bad in [
        http("503 Service Unavailable", "", "<html>busy</html>"),
        http("500 Internal Server Error", "", ""),
        http(
            "504 Gateway Timeout",
            "",
            r#"{"code":-1007,"msg":"Timeout"}"#,
        ),
        http(
            "408 Request Timeout",
            "",
            r#"{"code":-1007,"msg":"Timeout"}"#,
        ),
        http(
            "400 Bad Request",
            "",
            r#"{"code":-1008,"msg":"Server is overloaded"}"#,
        ),
        ok("<html>a proxy's own page</html>"),
        ok(&KLINE[..30]),
        ok("{}"),
        http("200 OK", "", "").replace("content-length: 0", "content-length: 500"),
        HANG.to_owned(),
        String::new(),
    ] {
        let (result, given) = answered(vec![bad.clone(), bad.clone(), good.clone()]).await;
        let klines = result.unwrap_or_else(|error| panic!("{bad:?} gave {}", text(&error)));
        assert_eq!((klines.len(), given), (1, 3), "{bad:?}");
    }
}

#[tokio::test]
async fn what_does_not_pass_in_time_is_an_error_that_names_the_last_cause() {
    for (bad, cause) in [
        (
            http("503 Service Unavailable", "", "busy"),
            "the exchange is unavailable: HTTP 503 to klines: busy",
        ),
        (
            ok("<html>login</html>"),
            "the exchange's answer to klines is malformed: expected a JSON array of klines, found <html>login</html>",
        ),
        (
            ok(&format!("[{}]", KLINE.replace(",\"0\"]", "]"))),
            "the exchange's answer to klines is malformed: kline 0 has 11 columns, expected 12",
        ),
        (
            ok(&format!("[{}]", KLINE.replace("\"1.5\"", "\"abc\""))),
            "malformed: kline 0, column 4 (close): expected a decimal number, found \"abc\"",
        ),
        (
            ok(&format!("[{KLINE}")),
            "malformed: the answer is cut short after",
        ),
        (
            HANG.to_owned(),
            "the exchange is unavailable: no answer in time to klines",
        ),
    ] {
        let (result, given) = answered(vec![bad]).await;
        let error = result.unwrap_err();
        assert!(error.may_pass());
        let text = text(&error);
        assert!(
            text.starts_with("gave up on the exchange after ") && text.contains(cause),
            "{text}"
        );
        assert!(given > 1);
    }
}

#[tokio::test]
async fn what_stays_wrong_is_asked_once() {
    for (bad, message) in [
        (
            http(
                "400 Bad Request",
                "",
                r#"{"code":-1121,"msg":"Invalid symbol."}"#,
            ),
            "the exchange refused klines: -1121 Invalid symbol. (HTTP 400)",
        ),
        (
            http(
                "400 Bad Request",
                "",
                r#"{"code":-1120,"msg":"Invalid interval."}"#,
            ),
            "the exchange refused klines: -1120 Invalid interval. (HTTP 400)",
        ),
        (
            http("404 Not Found", "", "<html>no such page</html>"),
            "the exchange refused klines: <html>no such page</html> (HTTP 404)",
        ),
        (
            http("403 Forbidden", "", "<html>blocked</html>"),
            "the exchange's firewall refused klines (HTTP 403)",
        ),
    ] {
        let (result, given) = answered(vec![bad]).await;
        let error = result.unwrap_err();
        assert!(!error.may_pass());
        assert!(text(&error).starts_with(message), "{}", text(&error));
        assert_eq!(given, 1);
    }
}

#[tokio::test]
async fn klines_that_were_not_asked_for_are_refused() {
    let later = KLINE
        .replace("3600000", "7200000")
        .replace("7199999", "10799999");
    let microseconds = KLINE
        .replace("3600000", "3600000000")
        .replace("7199999", "7199999999");
    for body in [&later, &microseconds] {
        let (result, _) = answered(vec![ok(&format!("[{body}]"))]).await;
        let text = text(&result.unwrap_err());
        assert!(
            text.contains(
                "kline 0, column 0 (open time): expected a time from 3600000 to 7199999, found "
            ),
            "{text}"
        );
    }
    let (url, _) = server(vec![ok(&format!("[{KLINE},{later}]"))]).await;
    let error = client(&url)
        .first_kline(&"BTCUSDT".parse().unwrap(), Interval::Hour1)
        .await
        .unwrap_err();
    assert!(
        text(&error).ends_with("the page has 2 klines, expected at most 1"),
        "{}",
        text(&error)
    );
}

#[tokio::test]
async fn a_429_and_a_418_are_waited_out_beyond_the_deadline() {
    let good = ok(&format!("[{KLINE}]"));
    for status in ["429 Too Many Requests", "418 I'm a teapot"] {
        let begun = Instant::now();
        let silence = http(status, "retry-after: 1\r\n", "{}");
        let (result, given) = answered(vec![silence, good.clone()]).await;
        assert_eq!(result.unwrap().len(), 1);
        assert!(begun.elapsed() >= Duration::from_secs(1), "{status}");
        assert_eq!(given, 2);
    }
}

#[tokio::test]
async fn a_long_ban_ends_at_once_with_the_time_to_come_back() {
    let ban = http("418 I'm a teapot", "retry-after: 7200\r\n", "{}");
    let (result, given) = answered(vec![ban]).await;
    let error = result.unwrap_err();
    assert!(!error.may_pass());
    let text = text(&error);
    assert!(
        text.starts_with("the exchange answers this address again at 2")
            && text.contains("Z: start"),
        "{text}"
    );
    assert_eq!(given, 1);
}

#[tokio::test]
async fn limits_clock_and_listing_are_read() {
    let info = r#"{"rateLimits":[{"rateLimitType":"RAW_REQUESTS","interval":"MINUTE","intervalNum":5,"limit":61000},
        {"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":50}],
        "symbols":[{"symbol":"BTCUSDT"}]}"#;
    let (url, _) = server(vec![
        ok(r#"{"serverTime":1722470410000}"#),
        http("200 OK", "X-MBX-USED-WEIGHT-1M: 31\r\n", info),
        ok("[]"),
    ])
    .await;
    let client = client(&url);
    let symbol: Symbol = "BTCUSDT".parse().unwrap();
    assert_eq!(
        client.server_time().await.unwrap(),
        TimestampMs(1_722_470_410_000)
    );
    client.exchange_info(&symbol).await.unwrap();
    assert_eq!(client.budget.used(), 31, "the exchange's own count");
    assert_eq!(
        client.first_kline(&symbol, Interval::Hour1).await.unwrap(),
        None
    );
    let refused =
        tokio::time::timeout(Duration::from_millis(50), client.budget.admit(13, |_| ())).await;
    assert!(refused.is_err(), "45 is 90 % of 50, and 33 are used");
}

#[tokio::test]
async fn exchange_info_of_another_symbol_is_refused() {
    let (url, _) = server(vec![ok(
        r#"{"rateLimits":[],"symbols":[{"symbol":"ETHBTC"}]}"#,
    )])
    .await;
    let error = client(&url)
        .exchange_info(&"BTCUSDT".parse().unwrap())
        .await
        .unwrap_err();
    assert!(
        text(&error).contains("expected exchangeInfo of the symbol that was asked for"),
        "{}",
        text(&error)
    );
}

#[tokio::test]
async fn no_server_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = ask(&url.parse().unwrap()).await.unwrap_err();
    assert!(error.may_pass());
    assert!(
        text(&error).contains("the exchange is unavailable: no connection to klines"),
        "{}",
        text(&error)
    );
}
