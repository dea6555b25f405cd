//! Which commands are obeyed.

use super::*;
use crate::config::{Reader, Vars};

const QUEUE: &str = "wf-btcusdt-api_candles_1m-20240801-abc123";
/// The workflow was launched at this Unix second, the process came up 100 s later.
const LAUNCHED: i64 = 1_722_500_000;

fn filter(run: &str) -> CommandFilter {
    launched(run, "1722500000")
}

fn launched(run: &str, at_second: &str) -> CommandFilter {
    let vars: Vars = [
        ("QUEUE_ID", QUEUE),
        ("SYMBOL", "BTCUSDT"),
        ("TYPE", "api_candles_1m"),
        ("RUN", run),
        ("QUEUE_STARTED_AT", at_second),
        ("TELEMETRY_PRODUCER_ID", "arango-candles__abc123"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let queue: QueueConfig = Reader::new(&vars).section().unwrap();
    CommandFilter::new(&queue, "arango-candles", at(100))
}

/// So many seconds after the launch.
fn at(seconds: i64) -> TimestampMs {
    TimestampMs((LAUNCHED + seconds) * 1_000)
}

#[test]
fn a_stop_since_the_launch_is_obeyed_an_old_ping_is_not_answered() {
    let filter = filter("1");
    for (kind, seconds, obeyed) in [
        (CommandKind::Stop, 101, true),
        (CommandKind::Stop, 50, true),
        (CommandKind::Stop, 0, true),
        (CommandKind::Ping, 101, true),
        (CommandKind::Ping, 99, false),
        (CommandKind::FailAfter, 99, false),
        (CommandKind::SimulateLoading, 99, false),
        (CommandKind::Start, 99, false),
    ] {
        assert_eq!(
            filter.obeys(&Command::new(kind, QUEUE), at(seconds), false),
            obeyed,
            "{kind:?} at {seconds}"
        );
    }
}

#[test]
fn a_stop_from_just_before_the_launch_counts_where_it_can_mean_no_other_run() {
    let stop = Command::new(CommandKind::Stop, QUEUE);
    let of_run = |run| Command {
        run: Some(run),
        ..stop.clone()
    };
    let all = Command {
        queue_id: "*".into(),
        ..stop.clone()
    };
    for (run, command, seconds, obeyed) in [
        ("1", &stop, -59, true),
        ("1", &stop, -61, false),
        ("2", &stop, -5, false),
        ("2", &of_run(2), -5, true),
        ("2", &of_run(1), 150, false),
        ("1", &all, -5, false),
        ("1", &all, 5, true),
    ] {
        assert_eq!(
            filter(run).obeys(command, at(seconds), false),
            obeyed,
            "run {run}, {command:?} at {seconds}"
        );
    }
}

#[test]
fn commands_to_others_are_not_obeyed() {
    let stop = Command::new(CommandKind::Stop, "wf-other");
    assert!(!filter("1").obeys(&stop, at(101), true));
    let other = Command {
        target: Some("loader-api-candles".into()),
        ..Command::new(CommandKind::Stop, QUEUE)
    };
    assert!(!filter("1").obeys(&other, at(101), true));
}

#[test]
fn what_comes_after_listening_began_is_obeyed_whatever_the_clocks_say() {
    for kind in [CommandKind::Stop, CommandKind::Ping] {
        assert!(filter("2").obeys(&Command::new(kind, QUEUE), at(-3_600), true));
    }
}

#[test]
fn a_worker_that_nobody_launched_obeys_no_stop_of_before() {
    let by_hand = launched("1", "");
    let stop = Command::new(CommandKind::Stop, QUEUE);
    assert!(!by_hand.obeys(&stop, at(99), false));
    assert!(by_hand.obeys(&stop, at(100), false));
    assert!(by_hand.obeys(&stop, at(99), true));
}
