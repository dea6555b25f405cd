//! Values that serde reads and that must be more than well-formed. A fault of this kind is found beside all others,
//! where [`Section::check`](super::Section::check) only sees sections that could be read.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::{Seconds, TopicName};

/// A whole number from 1.
pub(super) fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    if number == 0 {
        Err(D::Error::custom("too small"))
    } else {
        Ok(number)
    }
}

/// The longest `session.timeout.ms` that goes with librdkafka's `max.poll.interval.ms`, which must not be less.
const MAX_SESSION_TIMEOUT_MS: u32 = 300_000;
/// librdkafka's own limit of `fetch.wait.max.ms`.
const MAX_FETCH_WAIT_MS: u32 = 300_000;
/// What librdkafka counts in milliseconds ends here.
const MAX_MILLIS: i32 = i32::MAX;
/// A name in events and of Kafka clients. Four bytes a character still fit into a termination message.
const MAX_NAME_CHARS: usize = 200;

/// `KAFKA_SESSION_TIMEOUT_MS`.
pub(super) fn session_timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, 1, MAX_SESSION_TIMEOUT_MS)
}

/// `KAFKA_FETCH_WAIT_MAX_MS`.
pub(super) fn fetch_wait<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, 0, MAX_FETCH_WAIT_MS)
}

fn within<'de, D: Deserializer<'de>>(
    deserializer: D,
    least: u32,
    most: u32,
) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        let error = format_args!("{number} is not from {least} to {most}");
        Err(D::Error::custom(error))
    }
}

/// A duration that librdkafka takes, too.
pub(super) fn retry_deadline<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Seconds, D::Error> {
    let seconds = Seconds::deserialize(deserializer)?;
    let most = Duration::from_millis(MAX_MILLIS.unsigned_abs().into());
    if seconds.duration() <= most {
        Ok(seconds)
    } else {
        let (found, most) = (seconds.duration().as_secs(), most.as_secs());
        let error =
            format_args!("{found} is more than {most}, which is as far as Kafka clients count");
        Err(D::Error::custom(error))
    }
}

/// The name of a topic.
pub(super) fn topic<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = TopicName::deserialize(deserializer)?;
    Ok(name.as_str().to_owned())
}

/// A name of printable characters.
pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    match &name {
        Some(text)
            if text.chars().count() > MAX_NAME_CHARS || text.chars().any(char::is_control) =>
        {
            let error =
                format_args!("it is longer than {MAX_NAME_CHARS} characters or not printable");
            Err(D::Error::custom(error))
        }
        _ => Ok(name),
    }
}

/// Unix seconds, fractions allowed.
pub(super) fn unix_seconds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<f64>, D::Error> {
    /// Some year after 5000; more is likely to be milliseconds.
    const LATEST: f64 = 1e11;
    let seconds = Option::<f64>::deserialize(deserializer)?;
    match seconds {
        Some(at) if !(0.0..=LATEST).contains(&at) => Err(D::Error::custom("out of range")),
        seconds => Ok(seconds),
    }
}

/// `host:port`, several with commas.
pub(super) fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    for server in text.split(',').map(str::trim) {
        let well_formed = server.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !well_formed {
            return Err(D::Error::custom(format_args!(
                "{server:?} has no host or no port"
            )));
        }
    }
    Ok(text)
}

/// Directives of the `tracing` crates. A bare word that is no level would be taken for a target and silence all else.
pub(super) fn log_directives<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let no_level = |word: &&str| !word.contains('=') && word.parse::<LevelFilter>().is_err();
    if let Some(word) = text.split(',').map(str::trim).find(no_level) {
        return Err(D::Error::custom(format_args!("{word:?} is no level")));
    }
    match text.parse::<Targets>() {
        Ok(_) => Ok(text),
        Err(error) => Err(D::Error::custom(error)),
    }
}
