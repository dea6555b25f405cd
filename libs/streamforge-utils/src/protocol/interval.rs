//! The length of a candle.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A candle interval that the exchange has. Its text is case-sensitive: `1m` is a minute, `1M` a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interval {
    /// `1s`
    Second1,
    /// `1m`
    Minute1,
    /// `3m`
    Minute3,
    /// `5m`
    Minute5,
    /// `15m`
    Minute15,
    /// `30m`
    Minute30,
    /// `1h`
    Hour1,
    /// `2h`
    Hour2,
    /// `4h`
    Hour4,
    /// `6h`
    Hour6,
    /// `8h`
    Hour8,
    /// `12h`
    Hour12,
    /// `1d`
    Day1,
    /// `3d`
    Day3,
    /// `1w`
    Week1,
    /// `1M`
    Month1,
}

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

impl Interval {
    /// All of them, shortest first.
    pub const ALL: [Self; 16] = [
        Self::Second1,
        Self::Minute1,
        Self::Minute3,
        Self::Minute5,
        Self::Minute15,
        Self::Minute30,
        Self::Hour1,
        Self::Hour2,
        Self::Hour4,
        Self::Hour6,
        Self::Hour8,
        Self::Hour12,
        Self::Day1,
        Self::Day3,
        Self::Week1,
        Self::Month1,
    ];

    /// The exchange's own text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second1 => "1s",
            Self::Minute1 => "1m",
            Self::Minute3 => "3m",
            Self::Minute5 => "5m",
            Self::Minute15 => "15m",
            Self::Minute30 => "30m",
            Self::Hour1 => "1h",
            Self::Hour2 => "2h",
            Self::Hour4 => "4h",
            Self::Hour6 => "6h",
            Self::Hour8 => "8h",
            Self::Hour12 => "12h",
            Self::Day1 => "1d",
            Self::Day3 => "3d",
            Self::Week1 => "1w",
            Self::Month1 => "1M",
        }
    }

    /// Length in milliseconds; `None` for `1M`, whose length the calendar decides.
    pub fn fixed_ms(self) -> Option<i64> {
        Some(match self {
            Self::Second1 => SECOND_MS,
            Self::Minute1 => MINUTE_MS,
            Self::Minute3 => 3 * MINUTE_MS,
            Self::Minute5 => 5 * MINUTE_MS,
            Self::Minute15 => 15 * MINUTE_MS,
            Self::Minute30 => 30 * MINUTE_MS,
            Self::Hour1 => HOUR_MS,
            Self::Hour2 => 2 * HOUR_MS,
            Self::Hour4 => 4 * HOUR_MS,
            Self::Hour6 => 6 * HOUR_MS,
            Self::Hour8 => 8 * HOUR_MS,
            Self::Hour12 => 12 * HOUR_MS,
            Self::Day1 => DAY_MS,
            Self::Day3 => 3 * DAY_MS,
            Self::Week1 => 7 * DAY_MS,
            Self::Month1 => return None,
        })
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no interval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown interval {0:?}, expected one of 1s 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w 1M"
)]
pub struct UnknownInterval(pub String);

impl FromStr for Interval {
    type Err = UnknownInterval;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|interval| interval.as_str() == text)
            .ok_or_else(|| UnknownInterval(text.to_owned()))
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_case_sensitive_and_round_trips() {
        for interval in Interval::ALL {
            assert_eq!(interval.as_str().parse::<Interval>().unwrap(), interval);
        }
        assert_eq!("1m".parse::<Interval>().unwrap(), Interval::Minute1);
        assert_eq!("1M".parse::<Interval>().unwrap(), Interval::Month1);
        for wrong in ["1H", "1D", "2m", "", "1mo", " 1m"] {
            assert!(wrong.parse::<Interval>().is_err(), "{wrong:?}");
        }
    }
}
