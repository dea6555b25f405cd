//! Where the exchange's candles come from: made up, recorded, or Binance itself.
//!
//! Whatever is wrong with what was typed about it is found here, before anything starts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use loader_api_candles::config::ApiUrl;
use serde_json::Value;
use streamforge_devstack::exchange::{Recording, RecordingError};
use streamforge_utils::protocol::{Grid, Interval, Symbol, TimestampMs};
use url::Url;

use crate::cli::ExchangeArgs;

/// There is no such source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("--replay is about one symbol, and {0} were given")]
    ReplayOfMany(usize),
    #[error(transparent)]
    Recording(#[from] RecordingError),
    #[error("the candles of {} are {}, and --interval is {interval}", .file.display(), length(*.found))]
    OtherInterval {
        file: PathBuf,
        interval: Interval,
        found: Option<Interval>,
    },
    #[error(
        "--api-url has to be an http or https URL with a host, without user, query and fragment"
    )]
    ApiUrl,
}

/// Where candles come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// The exchange itself.
    Live(Url),
    /// What it once answered.
    Replay(Recording),
    /// Made up from this seed.
    Generated(u64),
}

impl Source {
    /// # Errors
    /// The exchange has no such address, or a file that is to be replayed is no recording of the interval.
    pub(crate) fn new(
        exchange: &ExchangeArgs,
        symbols: &[Symbol],
        interval: Interval,
    ) -> Result<Self, SourceError> {
        if exchange.live {
            let url = exchange.api_url.clone();
            // The loader's own rule. What is refused is not shown: it may hold a password.
            let plain = ApiUrl::try_from(url.clone()).map_err(|_| SourceError::ApiUrl);
            return plain.map(|_| Self::Live(url));
        }
        if exchange.replay.is_empty() {
            return Ok(Self::Generated(exchange.seed));
        }
        let [symbol] = symbols else {
            return Err(SourceError::ReplayOfMany(symbols.len()));
        };
        let recording = Recording::from_files(symbol.as_str(), interval, &exchange.replay)?;
        for file in &exchange.replay {
            let candles = candles_of(file);
            let is_of = |interval| are_of(interval, recording.first_open(), &candles);
            if !is_of(interval) {
                return Err(SourceError::OtherInterval {
                    file: file.clone(),
                    interval,
                    found: Interval::ALL.into_iter().find(|interval| is_of(*interval)),
                });
            }
        }
        Ok(Self::Replay(recording))
    }
}

/// From the first open time of a recording to the end of its last candle.
pub(crate) fn span_of(recording: &Recording) -> (TimestampMs, TimestampMs) {
    let grid = Grid::new(recording.interval(), recording.first_open());
    (recording.first_open(), grid.next(recording.last_open()))
}

/// Open and close times in a recorded file, whose shape [`Recording`] has checked.
fn candles_of(file: &Path) -> Vec<(TimestampMs, TimestampMs)> {
    let rows: Option<Vec<Vec<Value>>> = fs::read(file)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    let time = |value: Option<&Value>| value.and_then(Value::as_i64).map(TimestampMs);
    rows.unwrap_or_default()
        .iter()
        .filter_map(|row| Some((time(row.first())?, time(row.get(6))?)))
        .collect()
}

/// Whether candles are of `interval`: at least half open on its grid and close where the next one opens. A recording
/// does not say what it is of, and served as another interval it would look complete. The exchange has candles that
/// close early or open off the grid, but few.
fn are_of(
    interval: Interval,
    first_open: TimestampMs,
    candles: &[(TimestampMs, TimestampMs)],
) -> bool {
    let grid = Grid::new(interval, first_open);
    let fits = |&&(open, close): &&(TimestampMs, TimestampMs)| {
        grid.floor(open) == open && grid.next(open) == close + 1
    };
    candles.iter().filter(fits).count() * 2 >= candles.len()
}

fn length(found: Option<Interval>) -> String {
    found.map_or_else(
        || "of no interval that the exchange has".to_owned(),
        |interval| format!("of {interval}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(texts: &[(&str, &str)]) -> Vec<(TimestampMs, TimestampMs)> {
        let time = |text: &str| text.parse().unwrap();
        let times = texts.iter();
        times
            .map(|(open, close)| (time(open), time(close)))
            .collect()
    }

    /// As many candles of `interval` as told, one after the other from `first` on.
    fn regular(interval: Interval, first: &str, count: usize) -> Vec<(TimestampMs, TimestampMs)> {
        let first: TimestampMs = first.parse().unwrap();
        let grid = Grid::new(interval, first);
        let opens = std::iter::successors(Some(first), |open| Some(grid.next(*open)));
        let candles = opens.map(|open| (open, grid.next(open) - 1));
        candles.take(count).collect()
    }

    #[test]
    fn candles_are_of_one_interval_only() {
        // The last minute of an hour, and the last day of a week and of a month, end where those end.
        let first = "2021-01-25T00:00:00Z";
        for interval in Interval::ALL {
            let first = match interval {
                Interval::Month1 => "2021-01-01T00:00:00Z",
                _ => first,
            };
            let candles = regular(interval, first, 100);
            for other in Interval::ALL {
                let is_of = are_of(other, candles[0].0, &candles);
                assert_eq!(is_of, interval == other, "{interval} as {other}");
                for candle in &candles {
                    let is_of = are_of(other, candle.0, &[*candle]);
                    assert!(!is_of || interval == other, "{candle:?} as {other}");
                }
            }
        }
    }

    #[test]
    fn a_few_irregular_candles_do_no_harm() {
        let mut candles = regular(Interval::Hour1, "2021-04-25T00:00:00Z", 4);
        candles.extend(times(&[
            ("2021-04-25T04:00:00Z", "2021-04-25T04:00:58.145Z"),
            ("2018-02-09T09:28:00Z", "2018-02-09T09:59:59.999Z"),
        ]));
        assert!(are_of(Interval::Hour1, candles[0].0, &candles));
        assert!(!are_of(Interval::Minute1, candles[0].0, &candles));
    }
}
