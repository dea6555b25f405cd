//! What each command does, and what is no command.

use std::time::Duration;

use streamforge_utils::{
    metrics::COMMANDS_MALFORMED,
    protocol::{CommandKind, EventKind, TimestampMs},
};

use crate::rig::{Dummy, Rig, is_signal, is_stop};

#[tokio::test]
async fn two_workers_of_one_queue_both_get_the_stop() {
    let rig = Rig::new();
    let (mut one, mut other) = (rig.start(""), rig.start(""));
    rig.until_it_listens(&one).await;
    rig.until_it_listens(&other).await;
    rig.send(CommandKind::Stop).await;
    for dummy in [&mut one, &mut other] {
        dummy.ends_with(0).await;
        assert!(is_stop(&rig.ending(dummy).await));
    }
}

#[tokio::test]
async fn a_control_topic_that_is_not_there_is_warned_of_and_waited_for() {
    const WARNING: &str = "not even for a stop";
    let mut rig = Rig::new();
    rig.control = format!("{}-control", rig.queue_id);
    let mut dummy = rig.start("");
    dummy.until_logged(WARNING).await;
    assert!(dummy.log().contains(&rig.control), "{}", dummy.log());
    rig.kafka.create_topic(&rig.control, 1).await.unwrap();
    rig.send(CommandKind::Stop).await;
    dummy.ends_with(0).await;
    assert!(is_stop(&rig.ending(&dummy).await));
    assert_eq!(dummy.log().matches(WARNING).count(), 1, "{}", dummy.log());
}

#[tokio::test]
async fn a_stop_from_before_its_start_is_obeyed_and_an_old_ping_is_not_answered() {
    let rig = Rig::new();
    rig.send(CommandKind::Ping).await;
    let mut dummy = rig.start("");
    rig.until(&dummy, EventKind::Started).await;
    let mut ping = rig.order(CommandKind::Ping);
    ping.sent_at = Some(4_242.5);
    rig.command(&ping).await;
    let events = rig.until(&dummy, EventKind::Pong).await;
    let pongs: Vec<_> = events.iter().filter_map(|event| event.ping_ts).collect();
    assert_eq!(pongs, [4_242.5]);
    let launched = TimestampMs::now().as_millis() / 1_000;
    rig.send(CommandKind::Stop).await;
    dummy.ends_with(0).await;

    let launched = [("QUEUE_STARTED_AT", launched.to_string())];
    let launched: Vec<(&str, &str)> = launched
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut late = rig.start_with("", &launched);
    late.ends_with(0).await;
    assert!(is_stop(&rig.ending(&late).await));
}

#[tokio::test]
async fn simulate_loading_starts_a_load() {
    let rig = Rig::new();
    let mut dummy = rig.start("--loading-interval 0.1 --records-total 60");
    rig.until_it_listens(&dummy).await;
    let before = rig.events(&dummy, |_| true).await;
    assert!(before.iter().all(|event| event.records.written == 0));
    rig.send(CommandKind::SimulateLoading).await;
    // A second one changes nothing.
    rig.send(CommandKind::SimulateLoading).await;
    dummy.ends_with(0).await;
    let last = rig.ending(&dummy).await;
    assert_eq!(
        (last.event, last.records.written),
        (EventKind::Finished, 60)
    );
}

#[tokio::test]
async fn fail_after_ends_with_1() {
    let rig = Rig::new();
    let mut dummy = rig.start("");
    rig.until_it_listens(&dummy).await;
    // Without seconds it says nothing that could be done.
    rig.send(CommandKind::FailAfter).await;
    rig.send_fail_after(0.3).await;
    dummy.ends_with(1).await;
    let last = rig.ending(&dummy).await;
    let said = last.error_message.unwrap();
    assert_eq!(
        said,
        "failed after 300ms, as the command fail-after asked for"
    );
    assert!(
        dummy.log().contains("Ignored fail-after"),
        "{}",
        dummy.log()
    );
}

#[tokio::test]
async fn what_is_no_command_is_counted_and_survived() {
    let rig = Rig::apart().await;
    let mut dummy = rig.start("");
    rig.until_it_listens(&dummy).await;
    // About all that a broker takes by default.
    let garbage = "x".repeat(1_048_300);
    let deep = "[".repeat(100_000);
    for malformed in [
        "",
        "not JSON",
        "[1,2,3]",
        "null",
        r#"{"command":"explode","queue_id":"all"}"#,
        r#"{"command":7,"queue_id":"all"}"#,
        r#"{"command":"stop"}"#,
        r#"{"command":"stop","queue_id":["all"]}"#,
        r#"{"command":"stop","queue_id":"all","run":-1}"#,
        r#"{"command":"fail-after","queue_id":"all","payload":{"seconds":"soon"}}"#,
        "\u{0}\u{1}\u{2}",
        &garbage,
        &deep,
    ] {
        rig.publish_command(malformed).await;
    }
    let scraped = dummy
        .until_scraped(|scraped| scraped[COMMANDS_MALFORMED] >= 13.0)
        .await;
    assert_eq!(scraped[COMMANDS_MALFORMED], 13.0);
    rig.send(CommandKind::Stop).await;
    dummy.ends_with(0).await;
    assert!(is_stop(&rig.ending(&dummy).await));
}

#[tokio::test]
async fn causes_that_come_together_give_one_ending() {
    let rig = Rig::new();
    // A stop, a failure, a good end, a ping to exit on and a signal, all at once and in every task; what counts is that one
    // of them does.
    let tasks = ["", "--simulate-loading", "--publish-rate 500", "--consume"];
    let changes = [rig.here()];
    for task in tasks {
        if task == "--publish-rate 500" {
            rig.create_topic(1).await;
        }
        let flags = format!("{task} --exit-on-ping --exit-after 3 --fail-after 3");
        let mut dummy = rig.start_with(&flags, &changes);
        rig.until(&dummy, EventKind::Started).await;
        let (one, other) = (race(&rig), signal_soon(&dummy));
        tokio::join!(one, other);
        let ended = tokio::time::timeout(crate::rig::LIMIT, dummy.wait()).await;
        let code = ended.unwrap_or_else(|_| panic!("{}", dummy.log()));
        let last = rig.ending(&dummy).await;
        let expected = match last.event {
            EventKind::Finished => 0,
            EventKind::Error => 1,
            _ if is_signal(&last) => 143,
            // By a stop, or by the marker that a stopped publisher has left.
            _ => 0,
        };
        assert_eq!(code, expected, "{last:?}\n{}", dummy.log());
    }
}

async fn race(rig: &Rig) {
    tokio::time::sleep(Duration::from_millis(2_900)).await;
    tokio::join!(
        rig.send(CommandKind::Stop),
        rig.send(CommandKind::Ping),
        rig.send_fail_after(0.001)
    );
}

async fn signal_soon(dummy: &Dummy) {
    tokio::time::sleep(Duration::from_millis(2_950)).await;
    dummy.signal_if_alive(rustix::process::Signal::TERM);
}
