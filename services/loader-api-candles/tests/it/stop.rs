//! Told to end: by command the stream ends as interrupted, by a signal it does not end.

use std::time::Duration;

use streamforge_devstack::exchange::{Fault, Latency};
use streamforge_utils::{
    protocol::{Interval, MarkerOutcome},
    shutdown::StopCause,
    worker::Outcome,
};

use crate::rig::{Contents, Rig, Running, at, until};

async fn slow_rig() -> Rig {
    slow(Rig::new(|exchange| exchange, &[("FETCH_IN_FLIGHT", "1")]).await).await
}

/// The same on a broker that may be taken down.
async fn slow_rig_alone() -> Rig {
    let rig = Rig::with_broker_alone(|exchange| exchange, &[("FETCH_IN_FLIGHT", "1")]).await;
    let rig = slow(rig).await;
    // So that it is not over before the broker is away.
    rig.exchange
        .handle()
        .set_latency(Latency::fixed(Duration::from_millis(300)));
    rig
}

async fn slow(rig: Rig) -> Rig {
    let rig = rig.topic(2).await;
    rig.exchange
        .handle()
        .set_latency(Latency::fixed(Duration::from_millis(100)));
    rig
}

/// Stops it and returns how many records it says are in the topic.
async fn stop(running: Running, cause: StopCause) -> u64 {
    running.stop.stop(cause);
    let ended = running.ended().await;
    assert_eq!(ended.result.unwrap(), Outcome::Stopped);
    ended.progress.counts().written
}

fn assert_prefix(rig: &Rig, contents: &Contents, published: u64) {
    let all = rig.expected(
        Interval::Minute1,
        "2024-08-01T00:00:00Z",
        "2024-08-04T00:00:00Z",
    );
    let count = contents.records.len();
    assert_eq!(count as u64, published);
    assert!(0 < count && count < all.len(), "{count}");
    assert_eq!(contents.records, all[..count]);
}

#[tokio::test]
async fn a_stop_in_mid_load_marks_the_end_as_interrupted() {
    let rig = slow_rig().await;
    let running = rig.start();
    running.published(1).await;
    let published = stop(running, StopCause::Command).await;
    let contents = rig.contents().await;
    assert_prefix(&rig, &contents, published);
    let mut last_seqs = Vec::new();
    for partition in 0..2 {
        let [marker] = &contents.markers[&partition][..] else {
            panic!("{:?}", contents.markers);
        };
        assert_eq!(marker.outcome, MarkerOutcome::Interrupted);
        last_seqs.push(marker.last_seq);
    }
    last_seqs.sort_unstable();
    assert_eq!(last_seqs, [0, published]);
}

#[tokio::test]
async fn a_run_after_a_stop_goes_on_after_the_markers() {
    let mut rig = slow_rig().await;
    let running = rig.start();
    running.published(1).await;
    stop(running, StopCause::Command).await;
    rig.set("RUN", "2");
    let counts = rig.run().await.done().counts();
    assert_eq!((counts.written, counts.total), (4_320, Some(4_320)));
    let contents = rig.contents().await;
    assert_eq!(contents.records.len(), 4_320);
    for markers in contents.markers.values() {
        let outcomes: Vec<_> = markers
            .iter()
            .map(|marker| (marker.run, marker.outcome))
            .collect();
        assert_eq!(
            outcomes,
            [
                (1, MarkerOutcome::Interrupted),
                (2, MarkerOutcome::Finished)
            ]
        );
    }
}

#[tokio::test]
async fn a_stop_before_the_first_record_still_reaches_the_writers() {
    let rig = slow_rig().await;
    let running = rig.start();
    running.stop.stop(StopCause::Command);
    let ended = running.ended().await;
    assert_eq!(ended.result.unwrap(), Outcome::Stopped);
    let contents = rig.contents().await;
    assert_eq!(contents.records.len(), 0);
    assert_eq!(contents.markers.len(), 2);
    assert_eq!(contents.markers[&0][0].outcome, MarkerOutcome::Interrupted);
}

#[tokio::test]
async fn markers_that_know_of_no_record_do_not_hide_the_first_one() {
    let rig = slow_rig().await;
    let running = rig.start();
    running.stop.stop(StopCause::Command);
    running.ended().await.result.unwrap();
    let running = rig.start();
    running.published(1).await;
    running.kill().await;
    rig.run().await.done();
    let contents = rig.contents().await;
    assert_eq!(contents.records.len(), 4_320);
    let first: Vec<_> = contents
        .markers
        .values()
        .filter_map(|markers| markers.last()?.first_open_time)
        .collect();
    assert_eq!(first, [at("2024-08-01T00:00:00Z")]);
}

#[tokio::test]
async fn after_a_signal_there_is_no_marker_and_a_restart_goes_on() {
    let rig = slow_rig().await;
    let running = rig.start();
    running.published(1).await;
    let published = stop(running, StopCause::Terminate).await;
    let contents = rig.contents().await;
    assert_prefix(&rig, &contents, published);
    assert!(contents.markers.is_empty());
    rig.run().await.done();
    assert_eq!(rig.contents().await.records.len(), 4_320);
}

#[tokio::test]
async fn a_stop_is_heard_while_the_exchange_does_not_answer() {
    let rig = slow_rig().await;
    rig.exchange.handle().fail_next(100, Fault::Hang);
    let running = rig.start();
    // The listing, which gets no answer.
    until(|| rig.exchange.handle().counters().klines > 0).await;
    let begun = tokio::time::Instant::now();
    stop(running, StopCause::Command).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn who_is_stopped_while_it_waits_for_the_exchange_says_how_far_it_is() {
    let rig = slow_rig().await;
    let silence = Fault::TooManyRequests {
        retry_after_secs: 60,
    };
    rig.exchange.handle().fail_nth(4, silence);
    let running = rig.start();
    let message = || running.progress.message();
    until(|| message().starts_with("waiting for the exchange: 429")).await;
    running.published(2_000).await;
    running.stop.stop(StopCause::Terminate);
    let ended = running.ended().await;
    assert_eq!(ended.result.unwrap(), Outcome::Stopped);
    assert_eq!(ended.progress.message(), "2000 of 4320 records");
}

/// A load whose broker went away while records are queued, and that has 4 s to end.
async fn cut_off() -> (Rig, Running) {
    let mut rig = slow_rig_alone().await;
    rig.set("SHUTDOWN_GRACE_SECS", "4");
    let running = rig.start();
    running.published(1).await;
    rig.kafka.down().unwrap();
    running.queued(1).await;
    (rig, running)
}

#[tokio::test]
async fn without_a_broker_what_is_queued_is_given_up_within_the_grace() {
    for cause in [StopCause::Terminate, StopCause::Command] {
        let (mut rig, running) = cut_off().await;
        let begun = tokio::time::Instant::now();
        let published = stop(running, cause).await;
        assert!(begun.elapsed() < Duration::from_secs(4), "{cause:?}");
        rig.kafka.up().unwrap();
        let contents = rig.contents().await;
        assert!(contents.markers.is_empty(), "{cause:?}");
        // Some may have been written without the loader hearing of it.
        assert!(published <= contents.records.len() as u64, "{cause:?}");
        rig.set("RUN", "2");
        rig.run().await.done();
        assert_eq!(rig.contents().await.records.len(), 4_320, "{cause:?}");
    }
}

#[tokio::test]
async fn a_broker_that_comes_back_within_the_grace_gets_what_is_queued() {
    let rig = slow_rig_alone().await;
    let running = rig.start();
    running.published(1).await;
    rig.kafka.down().unwrap();
    running.queued(1).await;
    running.stop.stop(StopCause::Command);
    rig.kafka.up().unwrap();
    let ended = running.ended().await;
    assert_eq!(ended.result.unwrap(), Outcome::Stopped);
    let contents = rig.contents().await;
    assert_prefix(&rig, &contents, ended.progress.counts().written);
    assert_eq!(contents.markers[&0][0].outcome, MarkerOutcome::Interrupted);
}

#[tokio::test]
async fn a_stop_while_the_load_finishes_lets_it_finish_if_it_can() {
    let rig = slow_rig_alone().await;
    let running = rig.start();
    running.published(1).await;
    rig.kafka.down().unwrap();
    running.all_queued(4_320).await;
    running.stop.stop(StopCause::Terminate);
    rig.kafka.up().unwrap();
    let progress = running.ended().await.done();
    assert_eq!(progress.message(), "4320 candles, none missing");
    let contents = rig.contents().await;
    assert_eq!(contents.records.len(), 4_320);
    assert_eq!(contents.markers[&1][0].outcome, MarkerOutcome::Finished);
}

#[tokio::test]
async fn a_stop_while_the_load_can_not_finish_ends_it_within_the_grace() {
    let mut rig = slow_rig_alone().await;
    rig.set("SHUTDOWN_GRACE_SECS", "4");
    let running = rig.start();
    running.published(1).await;
    rig.kafka.down().unwrap();
    running.all_queued(4_320).await;
    let begun = tokio::time::Instant::now();
    stop(running, StopCause::Terminate).await;
    assert!(begun.elapsed() < Duration::from_secs(4));
    rig.kafka.up().unwrap();
    rig.run().await.done();
    assert_eq!(rig.contents().await.records.len(), 4_320);
}

#[tokio::test]
async fn a_stop_command_without_any_broker_ends_within_the_grace() {
    let mut rig = slow_rig_alone().await;
    rig.set("SHUTDOWN_GRACE_SECS", "1");
    rig.kafka.down().unwrap();
    let running = rig.start();
    until(|| rig.exchange.handle().counters().klines > 0).await;
    running.stop.stop(StopCause::Command);
    let ended = running.ended_within(Duration::from_secs(5)).await;
    assert_eq!(ended.result.unwrap(), Outcome::Stopped);
}
