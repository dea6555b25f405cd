//! Values that serde reads and that must be more than well-formed. A fault of this kind is found beside all others,
//! where [`Section::check`](super::Section::check) only sees sections that could be read.

use serde::{Deserialize, Deserializer, de::Error};
use tracing_subscriber::filter::{LevelFilter, Targets};

/// A whole number from 1.
pub(super) fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    if number == 0 {
        Err(D::Error::custom("too small"))
    } else {
        Ok(number)
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
