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
        firewall_pause: Duration::from_millis(50),
        confirm_after: Duration::from_millis(1),
    };
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    BinanceClient::new(url, settings, metrics, Message::new(Progress::default())).unwrap()
}

/// Asks for the candle of 01:00 on the first day of Unix time.
async fn ask(url: &Url) -> Result<Vec<Kline>, BinanceError> {
    ask_with(&client(url), 1_000).await
}

async fn ask_with(client: &BinanceClient, limit: u16) -> Result<Vec<Kline>, BinanceError> {
    let window = Question::FirstIn(Window {
        start: TimestampMs(HOUR),
        end: TimestampMs(2 * HOUR),
    });
    let symbol = "BTCUSDT".parse().unwrap();
    let answer = client.klines(&symbol, Interval::Hour1, window, limit);
    answer.await.map(|answer| answer.klines)
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
        http("202 Accepted", "x-amzn-waf-action: challenge\r\n", ""),
        http("204 No Content", "", ""),
        http("206 Partial Content", "", &format!("[{KLINE}]")),
        http("302 Found", "location: http://127.0.0.1:1/login\r\n", ""),
        http("400 Bad Request", "", "<html>a proxy's own page</html>"),
        http("404 Not Found", "", "<html>no such page</html>"),
        http("407 Proxy Authentication Required", "", ""),
        http("403 Forbidden", "", "<html>blocked</html>"),
        http("200 OK", "content-encoding: br\r\n", "gibberish"),
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
            http("202 Accepted", "x-amzn-waf-action: challenge\r\n", ""),
            "not the exchange but something on the way answered klines: HTTP 202 x-amzn-waf-action challenge: nothing",
        ),
        (
            http("204 No Content", "", ""),
            "something on the way answered klines: HTTP 204: nothing",
        ),
        (
            http(
                "302 Found",
                "location: http://portal/login?token=secret\r\n",
                "moved",
            ),
            "something on the way answered klines: HTTP 302 to http://portal/login: moved",
        ),
        (
            http("404 Not Found", "", "<html>no such page</html>"),
            "something on the way answered klines: HTTP 404: <html>no such page</html>",
        ),
        (
            http("200 OK", "content-encoding: br\r\n", "gibberish"),
            "something on the way answered klines: content encoding br, expected gzip or none",
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
            http(
                "451 Unavailable For Legal Reasons",
                "",
                "<html>not here</html>",
            ),
            "the exchange does not serve this address: klines was refused (HTTP 451): <html>not here</html>; \
             BINANCE_API_URL can name another base URL, such as https://data-api.binance.vision",
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
async fn a_firewall_is_asked_again_slowly_and_final_only_if_nothing_else_ever_answered() {
    let wall = || http("403 Forbidden", "", "<html>blocked</html>");
    let (result, given) = answered(vec![wall()]).await;
    let error = result.unwrap_err();
    assert!(!error.may_pass());
    assert!(
        text(&error).starts_with(
            "the exchange does not serve this address: klines was refused (HTTP 403): its firewall has refused every \
             request for 0 s; BINANCE_API_URL can name another base URL, such as https://data-api.binance.vision"
        ),
        "{}",
        text(&error)
    );
    assert!((4..=14).contains(&given), "{given} in 600 ms, 50 ms apart");

    let (url, _) = server(vec![ok(&format!("[{KLINE}]")), wall()]).await;
    let client = client(&url);
    ask_with(&client, 1_000).await.unwrap();
    let error = ask_with(&client, 1_000).await.unwrap_err();
    assert!(error.may_pass());
    let text = text(&error);
    assert!(
        text.starts_with("gave up on the exchange after")
            && text.contains("firewall refused klines (HTTP 403)")
            && text.contains("BINANCE_API_URL can name another base URL"),
        "{text}"
    );
}

#[tokio::test]
async fn a_row_that_is_malformed_twice_in_the_same_way_is_final() {
    let microseconds = KLINE.replace("3600000", "3600000000000000");
    for (row, problem) in [
        (
            KLINE.replace(",\"0\"]", "]"),
            "kline 0 has 11 columns, expected 12",
        ),
        (
            KLINE.replace("\"1.5\"", "\"abc\""),
            "kline 0, column 4 (close): expected a decimal number, found \"abc\"",
        ),
        (
            microseconds,
            "kline 0, column 0 (open time): expected Unix milliseconds, found 3600000000000000",
        ),
        (
            KLINE
                .replace("3600000", "7200000")
                .replace("7199999", "10799999"),
            "kline 0, column 0 (open time): expected a time from 3600000 to 7199999, found 7200000",
        ),
        ("{}".to_owned(), "kline 0: expected an array, found {}"),
    ] {
        let bad = ok(&format!("[{row}]"));
        let broken = http("503 Service Unavailable", "", "");
        let (result, given) = answered(vec![bad.clone(), broken, bad]).await;
        let error = result.unwrap_err();
        assert!(!error.may_pass());
        let expected = format!(
            "the exchange's answer to klines is malformed, twice in the same way: {problem}"
        );
        assert_eq!((text(&error), given), (expected, 3));
    }
    let other = |cell: &str| ok(&format!("[{}]", KLINE.replace("\"1.5\"", cell)));
    let good = ok(&format!("[{KLINE}]"));
    let (result, given) = answered(vec![other("\"a\""), other("\"b\""), good]).await;
    assert_eq!(
        (result.unwrap().len(), given),
        (1, 3),
        "not in the same way"
    );
}

#[tokio::test]
async fn more_rows_than_asked_for_are_refused_unless_they_are_the_same() {
    let later = KLINE.replace("3600000", "3600001");
    let (url, _) = server(vec![ok(&format!("[{KLINE},{later}]"))]).await;
    let error = ask_with(&client(&url), 1).await.unwrap_err();
    assert!(
        text(&error).ends_with("the page has 2 klines, expected at most 1"),
        "{}",
        text(&error)
    );
    let (url, _) = server(vec![ok(&format!("[{KLINE},{KLINE}]"))]).await;
    assert_eq!(ask_with(&client(&url), 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_byte_order_mark_and_a_named_identity_do_not_matter() {
    for answer in [
        ok(&format!("\u{feff}[{KLINE}]")),
        http(
            "200 OK",
            "content-encoding: identity\r\n",
            &format!("[{KLINE}]"),
        ),
    ] {
        let (result, given) = answered(vec![answer]).await;
        assert_eq!((result.unwrap().len(), given), (1, 1));
    }
}

#[tokio::test]
async fn a_clock_in_microseconds_is_refused() {
    let (url, _) = server(vec![ok(r#"{"serverTime":1722470410000000}"#)]).await;
    let error = client(&url).server_time().await.unwrap_err();
    assert!(
        text(&error).contains("expected the server's time in Unix milliseconds, found"),
        "{}",
        text(&error)
    );
}

#[tokio::test]
async fn any_form_of_silence_is_kept() {
    let good = ok(&format!("[{KLINE}]"));
    let in_two_seconds = TimestampMs::now().as_millis() + 2_000;
    let banned = format!(r#"{{"code":-1003,"msg":"IP banned until {in_two_seconds}. Please"}}"#);
    let dated =
        "date: Thu, 01 Aug 2024 06:00:00 GMT\r\nretry-after: Thu, 01 Aug 2024 06:00:01 GMT\r\n";
    for silence in [
        http("429 Too Many Requests", dated, "{}"),
        http("418 I'm a teapot", "", &banned),
        http(
            "400 Bad Request",
            "retry-after: 1\r\n",
            r#"{"code":-1003,"msg":"Too many requests"}"#,
        ),
    ] {
        let begun = Instant::now();
        let (result, given) = answered(vec![silence.clone(), good.clone()]).await;
        assert_eq!((result.unwrap().len(), given), (1, 2), "{silence}");
        assert!(begun.elapsed() >= Duration::from_millis(900), "{silence}");
    }
    for endless in ["18446744073709551615", "999999999999999999999999", "inf"] {
        let headers = format!(
            "retry-after: {endless}\r\nx-mbx-used-weight-1m: {}\r\n",
            u64::MAX
        );
        let (result, given) = answered(vec![http("429 Too Many Requests", &headers, "")]).await;
        let error = result.unwrap_err();
        assert!(
            matches!(error, BinanceError::ComeBackLater { .. }),
            "{error}"
        );
        assert_eq!(given, 1);
    }
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
    assert_eq!(ask_with(&client, 1).await.unwrap(), []);
    let admitted = client.budget.admit(13, Aim::Data, |_| ());
    let refused = tokio::time::timeout(Duration::from_millis(50), admitted).await;
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
