//! What each flag does. Those that move records have files of their own.

use std::time::{Duration, Instant};

use streamforge_utils::protocol::{CommandKind, EventKind};

use crate::rig::{Rig, is_stop};

#[tokio::test]
async fn without_flags_it_says_started_and_waits_for_a_stop() {
    let rig = Rig::new();
    let mut dummy = rig.start("");
    rig.until(&dummy, EventKind::Started).await;
    rig.send(CommandKind::Stop).await;
    dummy.ends_with(0).await;
    let last = rig.ending(&dummy).await;
    assert!(is_stop(&last), "{last:?}");
    assert_eq!(
        (last.service.as_str(), last.kind.as_str()),
        ("dummy-service", "dummy")
    );
    assert!(!dummy.log().contains("\"DEBUG\""));
}

#[tokio::test]
async fn it_lives_and_says_so_every_ten_seconds() {
    let rig = Rig::new();
    let mut dummy = rig.start("--exit-after 12");
    dummy.ends_with(0).await;
    let last = rig.ending(&dummy).await;
    assert_eq!(last.event, EventKind::Finished);
    let events = rig.events(&dummy, |_| true).await;
    let kinds: Vec<EventKind> = events.iter().map(|event| event.event).collect();
    assert_eq!(
        kinds,
        [EventKind::Started, EventKind::Loading, EventKind::Finished]
    );
    assert_eq!(events[1].message, "waiting");
}

#[tokio::test]
async fn exit_after_finishes_after_a_fraction_of_a_second() {
    let rig = Rig::new();
    let begun = Instant::now();
    let mut dummy = rig.start("--exit-after 0.7 --debug");
    dummy.ends_with(0).await;
    assert!(begun.elapsed() >= Duration::from_millis(700));
    assert_eq!(rig.ending(&dummy).await.event, EventKind::Finished);
    assert!(dummy.log().contains("\"DEBUG\""), "{}", dummy.log());
}

#[tokio::test]
async fn a_stop_ends_it_before_its_time() {
    let rig = Rig::new();
    let mut dummy = rig.start("--exit-after 3600");
    rig.until(&dummy, EventKind::Started).await;
    rig.send(CommandKind::Stop).await;
    dummy.ends_with(0).await;
    assert!(is_stop(&rig.ending(&dummy).await));
}

#[tokio::test]
async fn noop_reads_no_commands_and_still_finishes_in_time() {
    let rig = Rig::new();
    rig.send(CommandKind::Stop).await;
    let mut dummy = rig.start_with("--noop --exit-after 3", &[("QUEUE_STARTED_AT", "1")]);
    rig.until(&dummy, EventKind::Started).await;
    rig.send(CommandKind::Ping).await;
    rig.send(CommandKind::Stop).await;
    dummy.ends_with(0).await;
    assert_eq!(rig.ending(&dummy).await.event, EventKind::Finished);
    let events = rig.events(&dummy, |_| true).await;
    assert_eq!(events.len(), 2, "{events:#?}");
}

#[tokio::test]
async fn exit_on_ping_answers_first_and_then_finishes() {
    let rig = Rig::new();
    let mut dummy = rig.start("--exit-on-ping");
    rig.until_it_listens(&dummy).await;
    dummy.ends_with(0).await;
    assert_eq!(rig.ending(&dummy).await.event, EventKind::Finished);
    let events = rig.events(&dummy, |_| true).await;
    let pongs: Vec<_> = events
        .iter()
        .filter(|event| event.event == EventKind::Pong)
        .collect();
    assert!(!pongs.is_empty() && pongs[0].ping_ts.is_some() && pongs[0].status.is_none());
}

#[tokio::test]
async fn simulate_loading_counts_up_to_the_total_and_finishes() {
    let rig = Rig::new();
    let mut dummy = rig.start("--simulate-loading --loading-interval 0.1 --records-total 150");
    dummy.ends_with(0).await;
    let last = rig.ending(&dummy).await;
    assert_eq!(last.event, EventKind::Finished);
    assert_eq!((last.records.written, last.records.total), (150, Some(150)));
    assert_eq!(last.message, "150 of 150 records");
    let events = rig.events(&dummy, |_| true).await;
    let counts: Vec<u64> = events
        .iter()
        .filter(|event| event.event == EventKind::Loading)
        .map(|event| event.records.written)
        .collect();
    assert!(counts.len() >= 3, "{counts:?}");
    assert!(
        counts.windows(2).all(|pair| pair[0] < pair[1]),
        "{counts:?}"
    );
    assert!(events.iter().any(|event| event.last_progress_at.is_some()));
}

#[tokio::test]
async fn fail_after_ends_with_1_and_says_who_asked() {
    let rig = Rig::new();
    let mut dummy = rig.start("--fail-after 0.5 --simulate-loading");
    dummy.ends_with(1).await;
    let last = rig.ending(&dummy).await;
    assert_eq!((last.event, last.retryable), (EventKind::Error, Some(true)));
    let said = last.error_message.unwrap();
    assert_eq!(said, "failed after 500ms, as --fail-after asked for");
}

#[tokio::test]
async fn wrong_flags_and_contradictions_end_with_78_before_anything_is_said() {
    let rig = Rig::apart().await;
    for (flags, said) in [
        ("--fast", "--fast"),
        ("--exit-after", "--exit-after"),
        ("--noop --exit-on-ping --consume", "2 faults"),
        ("--publish-rate 5", "KAFKA_TOPIC"),
    ] {
        let mut dummy = rig.start(flags);
        dummy.ends_with(78).await;
        assert!(dummy.log().contains(said), "{}", dummy.log());
    }
    let said = rig.kafka.read_topic(&rig.events).await;
    assert!(said.unwrap().is_empty());
}
