//! An exchange and a broker that misbehave: the topic ends up the same, or the load fails and says why.

use std::time::Duration;

use streamforge_devstack::exchange::{Clock, Fault, Latency};
use streamforge_utils::protocol::{Interval, MarkerOutcome};

use crate::rig::{LIMIT, Rig, at, until};

async fn assert_whole(rig: &Rig) {
    let expected = rig.expected(
        Interval::Minute1,
        "2024-08-01T00:00:00Z",
        "2024-08-04T00:00:00Z",
    );
    let contents = rig.contents().await;
    assert_eq!(contents.records, expected);
    assert_eq!(contents.markers[&0][0].outcome, MarkerOutcome::Finished);
}

#[tokio::test]
async fn what_may_pass_leaves_no_trace() {
    let rig = Rig::new(|exchange| exchange, &[]).await.topic(1).await;
    let handle = rig.exchange.handle();
    // The first klines request looks for the listing; each fault hits another page.
    for (nth, fault) in (2..).zip([
        Fault::Status(503),
        Fault::Status(504),
        Fault::HtmlOk,
        Fault::CutShort,
        Fault::ShortKline,
        Fault::BadPrice,
        Fault::Drop,
        Fault::Status(500),
    ]) {
        handle.fail_nth(nth, fault);
    }
    let counts = rig.run().await.done().counts();
    assert_eq!((counts.written, counts.missing), (4_320, 0));
    assert_eq!(handle.counters().klines, 6 + 8);
    assert_whole(&rig).await;
}

#[tokio::test]
async fn silence_is_kept() {
    // One at a time: others may be on their way when the exchange asks for silence.
    let rig = Rig::new(|exchange| exchange, &[("FETCH_IN_FLIGHT", "1")])
        .await
        .topic(1)
        .await;
    let handle = rig.exchange.handle();
    handle.set_latency(Latency::fixed(Duration::from_millis(20)));
    handle.fail_nth(
        3,
        Fault::TooManyRequests {
            retry_after_secs: 2,
        },
    );
    handle.fail_nth(
        7,
        Fault::Banned {
            retry_after_secs: 1,
        },
    );
    let running = rig.start();
    let message = || running.progress.message();
    until(|| message().starts_with("waiting for the exchange: 429, until ")).await;
    until(|| message().ends_with("of 4320 records")).await;
    until(|| message().starts_with("waiting for the exchange: 418, until ")).await;
    let progress = running.ended().await.done();
    assert_eq!(progress.message(), "4320 candles, none missing");
    let counters = handle.counters();
    assert_eq!((counters.answered_429, counters.answered_418), (1, 1));
    assert_eq!(counters.too_early, 0, "{counters:?}");
    assert_whole(&rig).await;
}

#[tokio::test]
async fn a_ban_of_more_than_ten_minutes_ends_the_load_and_names_the_time() {
    let rig = Rig::new(|exchange| exchange, &[]).await.topic(1).await;
    rig.exchange.handle().fail_nth(
        3,
        Fault::Banned {
            retry_after_secs: 3_600,
        },
    );
    let failure = rig.run().await.failure();
    assert!(!failure.is_retryable());
    assert!(
        failure
            .message()
            .starts_with("the exchange answers this address again at "),
        "{}",
        failure.message()
    );
    assert!(
        rig.contents().await.markers.is_empty(),
        "an error is no end of stream"
    );
}

#[tokio::test]
async fn the_weight_limit_is_not_touched() {
    // exchangeInfo, clock and listing weigh 23, a page 2: 11 pages need two minutes of 36.
    let rig = Rig::new(
        |exchange| exchange.weight_limit(40),
        &[("TIME_RANGE", "2024-08-01:2024-08-07")],
    )
    .await
    .topic(1)
    .await;
    // The second minute begins soon, unless this machine is so busy that the first is over before it is used.
    let handle = rig.exchange.handle();
    handle.set_clock(Clock::starting_at(at("2024-10-01T12:00:56Z")));
    let ended = rig.start().ended_within(2 * LIMIT).await;
    assert_eq!(ended.done().counts().written, 10_080);
    let counters = rig.exchange.handle().counters();
    assert!(counters.highest_used_weight <= 36, "{counters:?}");
    assert_eq!(counters.answered_429, 0);
}

#[tokio::test]
async fn what_does_not_pass_is_an_error_that_a_restart_may_mend() {
    for (fault, cause) in [
        (
            Fault::Status(503),
            "the exchange is unavailable: HTTP 503 to klines",
        ),
        (Fault::HtmlOk, "expected a JSON array of klines, found <"),
        (Fault::CutShort, "the answer broke off to klines"),
    ] {
        let rig = Rig::new(|exchange| exchange, &[("RETRY_DEADLINE_SECS", "0.3")])
            .await
            .topic(1)
            .await;
        rig.exchange.handle().fail_next(1_000, fault);
        let failure = rig.run().await.failure();
        assert!(failure.is_retryable());
        assert!(
            failure.message().contains("gave up on the exchange after")
                && failure.message().contains(cause),
            "{}",
            failure.message()
        );
        assert!(rig.contents().await.messages.is_empty());
    }
}

#[tokio::test]
async fn a_row_that_stays_malformed_is_final_at_once() {
    for (fault, cause) in [
        (Fault::ShortKline, "kline 0 has 11 columns, expected 12"),
        (
            Fault::BadPrice,
            "kline 0, column 4 (close): expected a decimal number",
        ),
    ] {
        let rig = Rig::new(|exchange| exchange, &[]).await.topic(1).await;
        rig.exchange.handle().fail_next(1_000, fault);
        let failure = rig.run().await.failure();
        assert!(!failure.is_retryable());
        assert!(failure.message().contains(cause), "{}", failure.message());
        assert_eq!(rig.exchange.handle().counters().klines, 2);
        assert!(rig.contents().await.messages.is_empty());
    }
}

#[tokio::test]
async fn a_firewall_that_refuses_once_leaves_no_trace() {
    let rig = Rig::new(|exchange| exchange, &[]).await.topic(1).await;
    rig.exchange.handle().fail_nth(4, Fault::Firewall);
    rig.run().await.done();
    assert_whole(&rig).await;
}

#[tokio::test]
async fn a_broker_that_goes_and_comes_back_loses_nothing() {
    let rig = Rig::with_broker_alone(|exchange| exchange, &[("FETCH_IN_FLIGHT", "1")])
        .await
        .topic(1)
        .await;
    rig.exchange
        .handle()
        .set_latency(Latency::fixed(Duration::from_millis(200)));
    let running = rig.start();
    running.published(1).await;
    rig.kafka.down().unwrap();
    // More is on its way to it than it has heard of.
    running.queued(1_000).await;
    rig.kafka.up().unwrap();
    running.ended().await.done();
    assert_whole(&rig).await;
}

#[tokio::test]
async fn a_broker_that_stays_away_is_an_error_that_a_restart_may_mend() {
    let mut rig = Rig::with_broker_alone(
        |exchange| exchange,
        &[("FETCH_IN_FLIGHT", "1"), ("RETRY_DEADLINE_SECS", "1.5")],
    )
    .await
    .topic(1)
    .await;
    rig.exchange
        .handle()
        .set_latency(Latency::fixed(Duration::from_millis(200)));
    let running = rig.start();
    running.published(1).await;
    rig.kafka.down().unwrap();
    let failure = running.ended().await.failure();
    assert!(failure.is_retryable());
    assert!(
        failure
            .message()
            .contains("nothing was acknowledged for 1.5s: "),
        "{}",
        failure.message()
    );
    rig.kafka.up().unwrap();
    rig.set("RETRY_DEADLINE_SECS", "20");
    rig.run().await.done();
    assert_whole(&rig).await;
}

#[tokio::test]
async fn no_broker_and_no_exchange_are_errors_that_a_restart_may_mend() {
    let mut rig = Rig::new(|exchange| exchange, &[("RETRY_DEADLINE_SECS", "0.5")]).await;
    rig.set("BINANCE_API_URL", "http://127.0.0.1:1");
    let running = rig.start();
    let told = "trying again: the exchange is unavailable: no connection to time";
    until(|| running.progress.message() == told).await;
    let failure = running.ended().await.failure();
    assert!(failure.is_retryable());
    assert!(
        failure.message().contains("no connection to time"),
        "{}",
        failure.message()
    );
    rig.set("BINANCE_API_URL", rig.exchange.url().clone().as_str());
    rig.set("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1");
    let failure = rig.run().await.failure();
    assert!(failure.is_retryable(), "{}", failure.message());
}

#[tokio::test]
async fn what_was_fetched_before_the_exchange_failed_is_published() {
    let rig = Rig::new(|exchange| exchange, &[("FETCH_IN_FLIGHT", "1")])
        .await
        .topic(1)
        .await;
    let handle = rig.exchange.handle();
    // The listing, two pages, and then a refusal.
    handle.fail_nth(4, Fault::Status(451));
    let ended = rig.run().await;
    assert_eq!(ended.progress.counts().written, 2_000);
    assert!(!ended.failure().is_retryable());
    let contents = rig.contents().await;
    assert_eq!(contents.records.len(), 2_000);
    assert!(contents.markers.is_empty(), "an error is no end of stream");
}

#[tokio::test]
async fn without_a_broker_the_failure_of_the_exchange_is_told_all_the_same() {
    let rig = Rig::with_broker_alone(
        |exchange| exchange,
        &[("FETCH_IN_FLIGHT", "1"), ("SHUTDOWN_GRACE_SECS", "1")],
    )
    .await
    .topic(1)
    .await;
    let handle = rig.exchange.handle();
    handle.set_latency(Latency::fixed(Duration::from_millis(200)));
    handle.fail_nth(6, Fault::Status(451));
    let running = rig.start();
    running.published(1).await;
    rig.kafka.down().unwrap();
    let failure = running
        .ended_within(Duration::from_secs(10))
        .await
        .failure();
    assert!(
        failure.message().contains("HTTP 451"),
        "{}",
        failure.message()
    );
}
