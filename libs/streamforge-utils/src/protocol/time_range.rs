//! `TIME_RANGE`: which candles a workflow is about.

use std::{fmt, str::FromStr};

use jiff::{civil::Date, tz::TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::TimestampMs;

/// A half-open range `[start, end)` of instants. A candle belongs to it if its open time does.
///
/// Its text is `YYYY-MM-DD:YYYY-MM-DD`, both days inclusive, UTC, or an ISO 8601 interval
/// `2024-08-01T00:00:00Z/2024-08-01T06:00:00Z`, end exclusive.
#[derive(Debug, Clone)]
pub struct TimeRange {
    text: String,
    start: TimestampMs,
    end: TimestampMs,
}

/// The text is no range, or no range that can hold a candle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTimeRange {
    /// Neither form.
    #[error(
        "{0:?} is no time range, expected YYYY-MM-DD:YYYY-MM-DD or two ISO 8601 instants with a / between them"
    )]
    Form(String),
    /// One end is no day or no instant of the calendar.
    #[error("{0:?} is no {1}")]
    End(String, &'static str),
    /// The end comes before the start, or is the start.
    #[error("{0:?} is reversed or empty: it ends at {1}, which is not after its start {2}")]
    Reversed(String, TimestampMs, TimestampMs),
}

impl TimeRange {
    /// Inclusive start.
    pub fn start(&self) -> TimestampMs {
        self.start
    }

    /// Exclusive end.
    pub fn end(&self) -> TimestampMs {
        self.end
    }

    /// Whether a candle that opens at `open_time` belongs to the range.
    pub fn contains(&self, open_time: TimestampMs) -> bool {
        self.start <= open_time && open_time < self.end
    }

    /// The text it was read from.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Two ranges are the same if they hold the same instants, however they are written.
impl PartialEq for TimeRange {
    fn eq(&self, other: &Self) -> bool {
        (self.start, self.end) == (other.start, other.end)
    }
}

impl Eq for TimeRange {}

fn day_start(text: &str) -> Result<(Date, TimestampMs), InvalidTimeRange> {
    let wrong = || InvalidTimeRange::End(text.to_owned(), "day of the form YYYY-MM-DD");
    if text.len() != 10 {
        return Err(wrong());
    }
    let date = Date::strptime("%Y-%m-%d", text).map_err(|_| wrong())?;
    let instant = TimeZone::UTC
        .to_timestamp(date.at(0, 0, 0, 0))
        .map_err(|_| wrong())?;
    Ok((date, instant.into()))
}

fn instant(text: &str) -> Result<TimestampMs, InvalidTimeRange> {
    text.parse().map_err(|_| {
        InvalidTimeRange::End(
            text.to_owned(),
            "ISO 8601 instant, such as 2024-08-01T00:00:00Z",
        )
    })
}

impl FromStr for TimeRange {
    type Err = InvalidTimeRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (start, end) = if let Some((start, end)) = text.split_once('/') {
            (instant(start)?, instant(end)?)
        } else if let Some((first, last)) = text.split_once(':') {
            let (_, start) = day_start(first)?;
            let (last_day, _) = day_start(last)?;
            let after = last_day
                .tomorrow()
                .and_then(|day| TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)))
                .map_err(|_| {
                    InvalidTimeRange::End(last.to_owned(), "day that another day follows")
                })?;
            (start, after.into())
        } else {
            return Err(InvalidTimeRange::Form(text.to_owned()));
        };
        if end <= start {
            return Err(InvalidTimeRange::Reversed(text.to_owned(), end, start));
        }
        Ok(Self {
            text: text.to_owned(),
            start,
            end,
        })
    }
}

impl fmt::Display for TimeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for TimeRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for TimeRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_days_are_inclusive_and_utc() {
        let range: TimeRange = "2024-08-01:2024-08-02".parse().unwrap();
        assert_eq!(range.start(), "2024-08-01T00:00:00Z".parse().unwrap());
        assert_eq!(range.end(), "2024-08-03T00:00:00Z".parse().unwrap());
        assert!(
            range.contains("2024-08-02T23:59:00Z".parse().unwrap()),
            "the last day belongs to it"
        );
        assert!(!range.contains(range.end()));
    }

    #[test]
    fn instants_are_half_open() {
        let range: TimeRange = "2024-08-01T00:00:00Z/2024-08-01T08:00:00+02:00"
            .parse()
            .unwrap();
        assert_eq!(range.end(), "2024-08-01T06:00:00Z".parse().unwrap());
        assert_eq!(
            range,
            "2024-08-01T00:00:00Z/2024-08-01T06:00:00Z".parse().unwrap()
        );
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, message) in [
            ("2024-08-02:2024-08-01", "reversed"),
            (
                "2024-08-01T06:00:00Z/2024-08-01T06:00:00Z",
                "reversed or empty",
            ),
            ("2024-08-01", "expected YYYY-MM-DD:YYYY-MM-DD"),
            ("2024-13-01:2024-12-01", "\"2024-13-01\" is no day"),
            ("2023-02-29:2023-03-01", "\"2023-02-29\" is no day"),
            ("24-08-01:24-08-02", "is no day"),
            (
                "2024-08-01T00:00:00/2024-08-02T00:00:00",
                "is no ISO 8601 instant",
            ),
            ("", "is no time range"),
        ] {
            let error = text.parse::<TimeRange>().unwrap_err().to_string();
            assert!(error.contains(message), "{text:?} gave {error:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = text.parse::<TimeRange>();
        }

        #[test]
        fn days_hold_whole_days(year in 1970_i16..2100, month in 1_i8..=12, day in 1_i8..=28, days in 0_i64..400) {
            let first = Date::new(year, month, day).unwrap();
            let last = first.checked_add(jiff::Span::new().days(days)).unwrap();
            let range: TimeRange = format!("{first}:{last}").parse().unwrap();
            prop_assert_eq!(range.end().as_millis() - range.start().as_millis(), (days + 1) * 86_400_000);
        }
    }
}
