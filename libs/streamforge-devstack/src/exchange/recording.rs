//! Klines that the real exchange once sent, read from files and served again digit for digit.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, value::RawValue};
use streamforge_utils::protocol::{Interval, TimestampMs};

use super::row::{Query, Row};

/// Recorded klines of one symbol and interval.
#[derive(Debug, Clone)]
pub struct Recording {
    symbol: String,
    interval: Interval,
    /// By open time, each once.
    rows: Vec<Row>,
}

/// A file does not hold what the exchange sends. It has to be mended, or left out.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file can't be read.
    #[error("can't read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is no JSON array.
    #[error("{}: expected a JSON array of klines", .path.display())]
    NotAnArray {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// One entry of the array is no kline.
    #[error("{}: kline {index}: expected {expected}, found {found}", .path.display())]
    Kline {
        /// The file.
        path: PathBuf,
        /// Position in the array, from 0.
        index: usize,
        /// What belongs there.
        expected: &'static str,
        /// What is there, as JSON.
        found: String,
    },
    /// A kline differs from the one of the same open time that was read before.
    #[error("{}: kline {index}: expected the same digits as read before for the open time {open_time}, found {found}", .path.display())]
    Conflict {
        /// The file.
        path: PathBuf,
        /// Position in the array, from 0.
        index: usize,
        /// The open time of both.
        open_time: TimestampMs,
        /// The later one, as JSON.
        found: String,
    },
    /// The files hold no kline at all.
    #[error(
        "expected at least one kline in the recording of {symbol} {interval}, found none in {files} file(s)"
    )]
    Empty {
        /// The symbol.
        symbol: String,
        /// The interval.
        interval: Interval,
        /// How many files were read.
        files: usize,
    },
}

/// What each column of a kline holds.
const COLUMNS: [Column; 12] = [
    Column::Integer("an integer open time in column 0"),
    Column::Decimal("a decimal in quotes in column 1, the open price"),
    Column::Decimal("a decimal in quotes in column 2, the high price"),
    Column::Decimal("a decimal in quotes in column 3, the low price"),
    Column::Decimal("a decimal in quotes in column 4, the close price"),
    Column::Decimal("a decimal in quotes in column 5, the volume"),
    Column::Integer("an integer close time in column 6"),
    Column::Decimal("a decimal in quotes in column 7, the quote asset volume"),
    Column::Integer("an integer number of trades in column 8"),
    Column::Decimal("a decimal in quotes in column 9, the taker buy base asset volume"),
    Column::Decimal("a decimal in quotes in column 10, the taker buy quote asset volume"),
    Column::Text("a string in column 11"),
];

enum Column {
    Integer(&'static str),
    Decimal(&'static str),
    Text(&'static str),
}

impl Column {
    fn check(&self, value: &Value) -> Result<(), &'static str> {
        let (holds, expected) = match self {
            Self::Integer(expected) => (value.as_i64().is_some_and(|number| number >= 0), expected),
            Self::Decimal(expected) => (value.as_str().is_some_and(is_decimal), expected),
            Self::Text(expected) => (value.is_string(), expected),
        };
        if holds { Ok(()) } else { Err(expected) }
    }
}

fn is_decimal(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('.') {
        Some((whole, places)) => digits(whole) && digits(places),
        None => digits(text),
    }
}

fn row_of(raw: &RawValue) -> Result<Row, &'static str> {
    let columns: Vec<Value> =
        serde_json::from_str(raw.get()).map_err(|_| "an array of 12 columns")?;
    if columns.len() != COLUMNS.len() {
        return Err("an array of 12 columns");
    }
    COLUMNS
        .iter()
        .zip(&columns)
        .try_for_each(|(column, value)| column.check(value))?;
    let time = |index: usize| TimestampMs(columns[index].as_i64().expect("checked above"));
    let (open_time, close_time) = (time(0), time(6));
    if close_time < open_time {
        return Err("a close time that is not before the open time");
    }
    Ok(Row {
        open_time,
        close_time,
        json: raw.get().to_owned(),
    })
}

impl Recording {
    /// Reads files that each hold the body of a klines response: a JSON array of arrays of 12. Pages may overlap
    /// and come in any order; they are merged by open time.
    ///
    /// # Errors
    /// A file can't be read, is no such body, or contradicts another; or there is no kline at all.
    pub fn from_files<P: AsRef<Path>>(
        symbol: &str,
        interval: Interval,
        paths: impl IntoIterator<Item = P>,
    ) -> Result<Self, RecordingError> {
        let mut recording = Self {
            symbol: symbol.to_owned(),
            interval,
            rows: Vec::new(),
        };
        let mut files = 0;
        for path in paths {
            recording.add(path.as_ref())?;
            files += 1;
        }
        if recording.rows.is_empty() {
            return Err(RecordingError::Empty {
                symbol: recording.symbol,
                interval,
                files,
            });
        }
        Ok(recording)
    }

    fn add(&mut self, path: &Path) -> Result<(), RecordingError> {
        let owned = || path.to_owned();
        let text = fs::read_to_string(path).map_err(|source| RecordingError::Read {
            path: owned(),
            source,
        })?;
        let entries: Vec<&RawValue> =
            serde_json::from_str(&text).map_err(|source| RecordingError::NotAnArray {
                path: owned(),
                source,
            })?;
        for (index, raw) in entries.into_iter().enumerate() {
            let found = || raw.get().chars().take(300).collect();
            let row = row_of(raw).map_err(|expected| RecordingError::Kline {
                path: owned(),
                index,
                expected,
                found: found(),
            })?;
            match self
                .rows
                .binary_search_by_key(&row.open_time, |known| known.open_time)
            {
                Err(place) => self.rows.insert(place, row),
                Ok(place) if self.rows[place].json == row.json => {}
                Ok(_) => {
                    let open_time = row.open_time;
                    return Err(RecordingError::Conflict {
                        path: owned(),
                        index,
                        open_time,
                        found: found(),
                    });
                }
            }
        }
        Ok(())
    }

    /// The symbol that the files are of.
    pub fn symbol(&self) -> &str {
        &self.symbol
    }

    /// The interval that the files are of.
    pub fn interval(&self) -> Interval {
        self.interval
    }

    /// How many klines there are.
    #[expect(
        clippy::len_without_is_empty,
        reason = "an empty recording is an error, so the question has no use"
    )]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The open time of the first kline, which stands for the listing.
    pub fn first_open(&self) -> TimestampMs {
        self.rows
            .first()
            .expect("a recording has a kline")
            .open_time
    }

    /// The open time of the last kline.
    pub fn last_open(&self) -> TimestampMs {
        self.rows.last().expect("a recording has a kline").open_time
    }

    /// The klines that the query asks for and that have opened by `now`, oldest first. One that is still open by
    /// then has its final values: a recording does not know others.
    pub(super) fn rows(&self, query: &Query, now: TimestampMs) -> &[Row] {
        let last = query.end.unwrap_or(now).min(now);
        let until = self.rows.partition_point(|row| row.open_time <= last);
        match query.start {
            Some(start) => {
                let from = self
                    .rows
                    .partition_point(|row| row.open_time < start)
                    .min(until);
                &self.rows[from..until.min(from.saturating_add(query.limit))]
            }
            None => &self.rows[until.saturating_sub(query.limit)..until],
        }
    }
}

#[cfg(test)]
mod tests;
