//! What was set and does not go together.

use streamforge_utils::config::{Faults, QueueConfig, Reader, Seconds, Within};

use super::{DEFAULT_INTERVAL, DummyConfig};
use crate::synthetic::Synthetic;

/// What was given of all that goes with nothing, as text.
fn given(dummy: &DummyConfig) -> Vec<(&'static str, String)> {
    let set = |name, is_set: bool| is_set.then(|| (name, "true".to_owned()));
    let number = |name, number: Option<u32>| number.map(|number| (name, number.to_string()));
    let seconds = |name, seconds: Option<Seconds>| {
        seconds.map(|seconds| (name, seconds.duration().as_secs_f64().to_string()))
    };
    let loading_interval = dummy.loading_interval.map(|interval| interval.0);
    [
        set("DUMMY_EXIT_ON_PING", dummy.exit_on_ping),
        set("DUMMY_SIMULATE_LOADING", dummy.simulate_loading),
        seconds("DUMMY_LOADING_INTERVAL_SECS", loading_interval),
        number("DUMMY_RECORDS_TOTAL", dummy.records_total.map(Within::get)),
        seconds("DUMMY_FAIL_AFTER_SECS", dummy.fail_after),
        number("DUMMY_PUBLISH_RATE", dummy.publish_rate.map(Within::get)),
        number("DUMMY_MESSAGE_BYTES", dummy.message_bytes.map(Within::get)),
        set("DUMMY_CONSUME", dummy.consume),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What contradicts something else.
pub(super) fn check(dummy: &DummyConfig, faults: &mut Faults) {
    let given = given(dummy);
    let mut refuse = |name: &str, expected: &str| {
        if let Some((_, value)) = given.iter().find(|given| given.0 == name) {
            faults.wrong(name, value, expected);
        }
    };
    if dummy.noop {
        for (name, _) in &given {
            refuse(
                name,
                "nothing, as DUMMY_NOOP goes with DUMMY_EXIT_AFTER_SECS only",
            );
        }
        return;
    }
    let moves_records = dummy.publish_rate.is_some() || dummy.consume;
    if moves_records {
        refuse(
            "DUMMY_SIMULATE_LOADING",
            "nothing, as DUMMY_PUBLISH_RATE and DUMMY_CONSUME move real records",
        );
        refuse(
            "DUMMY_LOADING_INTERVAL_SECS",
            "nothing unless a load is simulated; PROGRESS_INTERVAL_SECS is for records that move",
        );
    }
    if dummy.consume {
        refuse(
            "DUMMY_PUBLISH_RATE",
            "nothing with DUMMY_CONSUME: start another process, so that neither slows the other",
        );
        refuse(
            "DUMMY_RECORDS_TOTAL",
            "nothing with DUMMY_CONSUME, which ends with the stream",
        );
    }
    if dummy.publish_rate.is_none() {
        refuse("DUMMY_MESSAGE_BYTES", "nothing without DUMMY_PUBLISH_RATE");
    }
    if moves_records && dummy.kafka_topic.is_none() {
        faults.missing("KAFKA_TOPIC", "the topic to publish to or to consume");
    }
}

/// A record can't be smaller than its candle.
pub(super) fn check_bytes(dummy: &DummyConfig, queue: &QueueConfig, reader: &mut Reader<'_>) {
    let (Some(bytes), Some(_)) = (dummy.message_bytes, dummy.publish_rate) else {
        return;
    };
    let interval = queue.kind.interval().unwrap_or(DEFAULT_INTERVAL);
    let least = Synthetic::least_bytes(&queue.symbol, interval);
    if (bytes.get() as usize) < least {
        let expected = format!(
            "at least {least}, as a candle of {} and {interval} is that long",
            queue.symbol
        );
        reader.fault("DUMMY_MESSAGE_BYTES", &bytes.get().to_string(), &expected);
    }
}
