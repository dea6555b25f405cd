//! Instants as the exchange and our records have them.

use std::{fmt, ops::Add, ops::Sub, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An instant in Unix milliseconds, UTC.
///
/// Prints as ISO 8601 with no more digits than it needs: `2020-06-28T02:00Z`, `2020-06-28T02:00:05.250Z`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TimestampMs(pub i64);

impl TimestampMs {
    /// The wall clock of this machine.
    pub fn now() -> Self {
        Self(Timestamp::now().as_millisecond())
    }

    /// Unix milliseconds.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// As jiff's timestamp; instants that jiff can't hold (year 9999 and beyond) become its largest.
    pub fn to_jiff(self) -> Timestamp {
        Timestamp::from_millisecond(self.0).unwrap_or(if self.0 < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
    }
}

impl From<Timestamp> for TimestampMs {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp.as_millisecond())
    }
}

impl FromStr for TimestampMs {
    type Err = jiff::Error;

    /// Reads an ISO 8601 instant with an offset or `Z`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<Timestamp>().map(Self::from)
    }
}

impl Add<i64> for TimestampMs {
    type Output = Self;

    fn add(self, millis: i64) -> Self {
        Self(self.0 + millis)
    }
}

impl Sub<i64> for TimestampMs {
    type Output = Self;

    fn sub(self, millis: i64) -> Self {
        Self(self.0 - millis)
    }
}

impl fmt::Display for TimestampMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = if self.0 % 60_000 == 0 {
            "%Y-%m-%dT%H:%MZ"
        } else if self.0 % 1_000 == 0 {
            "%Y-%m-%dT%H:%M:%SZ"
        } else {
            "%Y-%m-%dT%H:%M:%S.%3fZ"
        };
        write!(f, "{}", self.to_jiff().strftime(format))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_no_more_digits_than_it_needs() {
        for (millis, text) in [
            (1_593_309_600_000, "2020-06-28T02:00Z"),
            (1_593_309_605_000, "2020-06-28T02:00:05Z"),
            (1_593_309_605_250, "2020-06-28T02:00:05.250Z"),
            (0, "1970-01-01T00:00Z"),
        ] {
            assert_eq!(TimestampMs(millis).to_string(), text);
        }
    }

    #[test]
    fn reads_instants_with_an_offset() {
        assert_eq!(
            "2020-06-28T04:00:00+02:00".parse::<TimestampMs>().unwrap(),
            TimestampMs(1_593_309_600_000)
        );
        assert!(
            "2020-06-28T04:00:00".parse::<TimestampMs>().is_err(),
            "no offset, no instant"
        );
    }

    #[test]
    fn instants_beyond_the_calendar_still_print() {
        assert!(TimestampMs(i64::MAX).to_string().starts_with("9999-"));
    }
}
