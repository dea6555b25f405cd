//! What is allowed together, what is not, and in which words.

use std::ffi::OsString;

use super::*;
use crate::ABOUT;

fn vars(changes: &[(&str, &str)]) -> Vars {
    [
        ("QUEUE_ID", "wf-btcusdt-dummy-20240801-abc123"),
        ("SYMBOL", "BTCUSDT"),
        ("TYPE", "dummy"),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
    ]
    .iter()
    .chain(changes)
    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
    .collect()
}

fn flags(flags: &str, changes: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let args = ["dummy-service"]
        .into_iter()
        .chain(flags.split_whitespace());
    let vars = ABOUT.vars(args.map(OsString::from), vars(changes)).unwrap();
    Config::from_vars(&vars)
}

fn faults(given: &str, changes: &[(&str, &str)]) -> Vec<String> {
    flags(given, changes).unwrap_err().faults().collect()
}

const TOPIC: (&str, &str) = ("KAFKA_TOPIC", "wf-x-data");

#[test]
fn without_flags_it_waits_and_beats_every_ten_seconds() {
    let config = flags("", &[]).unwrap();
    assert!(matches!(config.task, Task::Wait(44_640)));
    assert!(config.listens && !config.exit_on_ping);
    assert_eq!(config.ops.progress_interval().as_secs(), 10);
    assert_eq!(config.ops.log_level, "info");
}

#[test]
fn each_flag_sets_its_variable_and_wins() {
    let config = flags(
        "--debug --exit-on-ping --exit-after 1.5 --simulate-loading --loading-interval 0.25 --records-total 70 --fail-after 9",
        &[("DUMMY_EXIT_AFTER_SECS", "100"), ("LOG_LEVEL", "warn")],
    )
    .unwrap();
    assert!(matches!(config.task, Task::Simulate(70)));
    assert!(config.exit_on_ping);
    assert_eq!(config.ops.log_level, "debug");
    assert_eq!(config.ops.progress_interval().as_millis(), 250);
    assert_eq!(config.exit_after.unwrap().duration().as_millis(), 1_500);
    assert_eq!(config.fail_after.unwrap().duration().as_secs(), 9);
    assert!(!flags("--noop --exit-after 1", &[]).unwrap().listens);
}

#[test]
fn publishes_candles_of_the_type_or_of_a_minute() {
    let changes = [TOPIC, ("PROGRESS_INTERVAL_SECS", "2")];
    let config = flags("--publish-rate 1000 --message-bytes 700", &changes).unwrap();
    assert_eq!(config.ops.progress_interval().as_secs(), 2);
    let Task::Publish(publish) = config.task else {
        panic!("it publishes")
    };
    assert_eq!((publish.rate, publish.bytes), (1_000, Some(700)));
    assert_eq!((publish.interval, publish.total), (Interval::Minute1, None));
    let config = flags("--publish-rate 1", &[TOPIC, ("TYPE", "api_candles_1M")]).unwrap();
    assert!(matches!(config.task, Task::Publish(publish) if publish.interval == Interval::Month1));
    let config = flags("--consume", &[TOPIC]).unwrap();
    assert!(matches!(config.task, Task::Consume(topic) if topic == TOPIC.1));
}

#[test]
fn contradictions_are_named_all_at_once() {
    let found = faults(
        "--noop --exit-on-ping --simulate-loading --fail-after 1 --consume --message-bytes 9",
        &[],
    );
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(found.iter().all(|fault| fault.contains("DUMMY_NOOP")));
    let found = faults(
        "--publish-rate 5 --consume --simulate-loading --loading-interval 1 --records-total 5 --message-bytes 20",
        &[],
    );
    let expected = [
        "DUMMY_SIMULATE_LOADING is \"true\"; expected nothing",
        "DUMMY_LOADING_INTERVAL_SECS is \"1\"; expected nothing",
        "DUMMY_PUBLISH_RATE is \"5\"; expected nothing with DUMMY_CONSUME",
        "DUMMY_RECORDS_TOTAL is \"5\"; expected nothing",
        "KAFKA_TOPIC is missing; expected",
        "DUMMY_MESSAGE_BYTES is \"20\"; expected at least ",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (fault, start) in found.iter().zip(expected) {
        assert!(fault.starts_with(start), "{fault}");
    }
    let found = faults("--message-bytes 2000", &[]);
    assert_eq!(
        found,
        ["DUMMY_MESSAGE_BYTES is \"2000\"; expected nothing without DUMMY_PUBLISH_RATE"]
    );
}

#[test]
fn values_out_of_range_say_what_is_in_range() {
    for (given, variable) in [
        ("--exit-after 0", "DUMMY_EXIT_AFTER_SECS"),
        ("--exit-after -1", "DUMMY_EXIT_AFTER_SECS"),
        ("--loading-interval 11", "DUMMY_LOADING_INTERVAL_SECS"),
        ("--publish-rate 0.5", "DUMMY_PUBLISH_RATE"),
        ("--publish-rate 1000001", "DUMMY_PUBLISH_RATE"),
        ("--records-total 0", "DUMMY_RECORDS_TOTAL"),
        ("--fail-after soon", "DUMMY_FAIL_AFTER_SECS"),
    ] {
        let found = faults(given, &[TOPIC]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(variable), "{found:?}");
    }
    let found = faults("", &[("DUMMY_NOOP", "yes"), ("TYPE", "nothing")]);
    assert_eq!(found.len(), 2, "{found:#?}");
}
