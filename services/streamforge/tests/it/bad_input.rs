//! What can't work, said so that a person can act on it.

use streamforge_devstack::exchange::Fault;
use streamforge_utils::protocol::EventKind;

use crate::flow::{Flow, LOADER, Plan, WRITER};

/// Runs one worker with these changes; gives its exit code and its log.
async fn run(flow: &Flow, service: &'static str, changes: &[(&str, &str)]) -> (i32, String) {
    let worker = flow.worker(service, changes);
    let log = worker.log_path();
    let code = worker.ends().await;
    (code, std::fs::read_to_string(log).unwrap())
}

#[tokio::test]
async fn bad_configuration_ends_before_anything_is_connected() {
    let flow = Flow::start(Plan::three_days()).await;
    for (service, changes, said) in [
        (
            LOADER,
            vec![("TIME_RANGE", ""), ("SYMBOL", "btc")],
            vec!["TIME_RANGE is missing", "SYMBOL is \"btc\""],
        ),
        (
            LOADER,
            vec![("TIME_RANGE", "2024-08-02:2024-08-01")],
            vec!["TIME_RANGE", "reversed"],
        ),
        (
            LOADER,
            vec![("INTERVAL", "1h")],
            vec!["INTERVAL is \"1h\"; expected 1m"],
        ),
        (
            LOADER,
            vec![("TYPE", "api_trades")],
            vec!["TYPE is \"api_trades\""],
        ),
        (
            LOADER,
            vec![("BINANCE_API_URL", "ftp://x")],
            vec!["BINANCE_API_URL"],
        ),
        (
            WRITER,
            vec![("TYPE", "ws_orderbook")],
            vec!["TYPE is \"ws_orderbook\""],
        ),
        (
            WRITER,
            vec![("ARANGO_URL", ""), ("COLLECTION_NAME", " ")],
            vec!["ARANGO_URL is missing", "COLLECTION_NAME is missing"],
        ),
        (
            WRITER,
            vec![("ARANGO_URL", "http://db.example:8529")],
            vec!["ARANGO_URL"],
        ),
        (
            WRITER,
            vec![("ARANGO_OVERWRITE_MODE", "conflict")],
            vec!["ARANGO_OVERWRITE_MODE is \"conflict\""],
        ),
    ] {
        let (code, log) = run(&flow, service, &changes).await;
        assert_eq!(code, 78, "{changes:?}: {log}");
        for said in said {
            assert!(log.contains(said), "{changes:?} gave {log:?}, not {said:?}");
        }
        assert!(!log.contains("correct horse"), "no password in {log}");
    }
    assert!(flow.events(|_| true).await.is_empty(), "no event either");
}

/// Runs one worker that has to fail, and gives what its last event says.
async fn fails(plan: Plan, service: &'static str, changes: &[(&str, &str)], code: i32) -> String {
    let flow = Flow::start(plan).await;
    fails_on(&flow, service, changes, code).await
}

async fn fails_on(
    flow: &Flow,
    service: &'static str,
    changes: &[(&str, &str)],
    code: i32,
) -> String {
    let (found, log) = run(flow, service, changes).await;
    assert_eq!(found, code, "{changes:?}: {log}");
    let ending = flow.ending(service).await;
    assert_eq!(
        (ending.event, ending.retryable),
        (EventKind::Error, Some(code == 1))
    );
    assert!(!log.contains("correct horse"), "no password in {log}");
    ending.error_message.unwrap()
}

#[tokio::test]
async fn an_unknown_symbol_ends_at_once_with_the_words_of_the_exchange() {
    let message = fails(Plan::three_days(), LOADER, &[("SYMBOL", "NOSUCHPAIR")], 70).await;
    assert!(
        message.contains("-1121") && message.contains("Invalid symbol."),
        "{message}"
    );
}

#[tokio::test]
async fn a_range_in_the_future_is_refused() {
    let message = fails(
        Plan::three_days(),
        LOADER,
        &[("TIME_RANGE", "2199-01-01:2199-01-02")],
        70,
    )
    .await;
    assert!(message.contains("future"), "{message}");
}

#[tokio::test]
async fn no_exchange_and_no_database_are_retried_and_then_an_error() {
    let short = ("RETRY_DEADLINE_SECS", "1");
    let message = fails(
        Plan::three_days(),
        LOADER,
        &[short, ("BINANCE_API_URL", "http://127.0.0.1:1")],
        1,
    )
    .await;
    assert!(message.contains("127.0.0.1:1"), "{message}");
    let message = fails(
        Plan::three_days(),
        WRITER,
        &[short, ("ARANGO_URL", "http://127.0.0.1:1")],
        1,
    )
    .await;
    assert!(message.contains("127.0.0.1:1"), "{message}");
}

#[tokio::test]
async fn no_broker_is_an_error_after_the_deadline() {
    let flow = Flow::start(Plan::three_days()).await;
    for service in [LOADER, WRITER] {
        let changes = [
            ("RETRY_DEADLINE_SECS", "1"),
            ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ];
        let (code, log) = run(&flow, service, &changes).await;
        assert_eq!(code, 1, "{log}");
        assert!(log.contains("Failed"), "{log}");
    }
}

#[tokio::test]
async fn a_wrong_password_of_the_database_is_final() {
    let message = fails(
        Plan::three_days(),
        WRITER,
        &[("ARANGO_PASSWORD", "wrong")],
        70,
    )
    .await;
    assert!(
        message.contains("401")
            || message.contains("not authorized")
            || message.contains("password"),
        "{message}"
    );
}

#[tokio::test]
async fn pages_that_are_no_pages_are_asked_for_again() {
    let faults = [
        Fault::HtmlOk,
        Fault::CutShort,
        Fault::ShortKline,
        Fault::BadPrice,
        Fault::Status(500),
        Fault::Drop,
        Fault::TooManyRequests {
            retry_after_secs: 1,
        },
    ];
    let flow = Flow::start(Plan::three_days()).await;
    for (fault, number) in faults.into_iter().zip(2..) {
        flow.exchange.handle().fail_nth(number, fault);
    }
    // Seven waits that double, with jitter, can add up to more than tests are patient for.
    let patient = [("RETRY_DEADLINE_SECS", "60")];
    let (loader, writer) = (flow.worker(LOADER, &patient), flow.worker(WRITER, &patient));
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    flow.assert_complete().await;
    flow.assert_finished().await;
}

#[tokio::test]
async fn a_page_that_stays_bad_is_an_error_that_says_where() {
    for (fault, said, code) in [
        (Fault::ShortKline, "12", 70),
        (Fault::BadPrice, "number", 70),
        (Fault::HtmlOk, "JSON", 1),
    ] {
        let flow = Flow::start(Plan::three_days()).await;
        flow.exchange.handle().fail_next(10_000, fault);
        let message = fails_on(&flow, LOADER, &[("RETRY_DEADLINE_SECS", "1")], code).await;
        assert!(message.contains(said), "{fault:?}: {message}");
        assert!(
            flow.markers().await.is_empty(),
            "a failure is never the end of the stream"
        );
    }
}
