//! The flags. Each sets a variable and wins over the environment.

use streamforge_utils::worker::{Flag, FlagValue};

/// The flags.
pub const FLAGS: &[Flag] = &[
    sets("debug", "LOG_LEVEL", "debug", "log more"),
    sets(
        "noop",
        "DUMMY_NOOP",
        "true",
        "say started, then wait; commands are not read",
    ),
    sets(
        "exit-on-ping",
        "DUMMY_EXIT_ON_PING",
        "true",
        "answer the first ping, then finish",
    ),
    takes(
        "exit-after",
        "DUMMY_EXIT_AFTER_SECS",
        "SECONDS",
        "finish after this time",
    ),
    sets(
        "simulate-loading",
        "DUMMY_SIMULATE_LOADING",
        "true",
        "count up records, 100 a second",
    ),
    takes(
        "loading-interval",
        "DUMMY_LOADING_INTERVAL_SECS",
        "SECONDS",
        "time between loading events of a simulated load",
    ),
    takes(
        "records-total",
        "DUMMY_RECORDS_TOTAL",
        "RECORDS",
        "finish after so many records",
    ),
    takes(
        "fail-after",
        "DUMMY_FAIL_AFTER_SECS",
        "SECONDS",
        "fail after this time, with exit code 1",
    ),
    takes(
        "publish-rate",
        "DUMMY_PUBLISH_RATE",
        "RATE",
        "publish so many candles a second to KAFKA_TOPIC",
    ),
    takes(
        "message-bytes",
        "DUMMY_MESSAGE_BYTES",
        "BYTES",
        "pad each of them to this size",
    ),
    sets(
        "consume",
        "DUMMY_CONSUME",
        "true",
        "read KAFKA_TOPIC and look for holes",
    ),
];

const fn sets(
    name: &'static str,
    variable: &'static str,
    to: &'static str,
    meaning: &'static str,
) -> Flag {
    Flag {
        name,
        variable,
        value: FlagValue::Sets(to),
        meaning,
    }
}

const fn takes(
    name: &'static str,
    variable: &'static str,
    value: &'static str,
    meaning: &'static str,
) -> Flag {
    Flag {
        name,
        variable,
        value: FlagValue::Takes(value),
        meaning,
    }
}
