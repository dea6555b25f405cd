//! What a demo does, settled before anything starts: where candles come from, and a workflow for each symbol.
//!
//! Whatever is wrong with what was typed is found here, so that it ends with 2 and leaves nothing behind.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use loader_api_candles::config::ApiUrl;
use serde_json::Value;
use streamforge_devstack::exchange::{Recording, RecordingError};
use streamforge_utils::protocol::{
    Grid, Interval, QueueId, Symbol, TimeRange, TimestampMs, WorkflowKind, collection_name,
    data_topic, new_queue_id,
};
use url::Url;

use crate::cli::DemoArgs;

/// A week of minutes: long enough to watch, and inside one partition of the broker.
const DEFAULT_TIME_RANGE: &str = "2024-08-01:2024-08-07";

/// A partition of the mock broker keeps about 63,000 compressed candles. Half of that leaves room for batches that
/// compress worse: 67 partitions were filled with 29,700 each before anything was read, and nothing was dropped.
const CANDLES_PER_PARTITION: u64 = 30_000;

/// Broker and database hold all of a demo in this process's memory, up to 1.1 KiB a candle.
const MAX_CANDLES: u64 = 2_000_000;

/// What was typed can't be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    #[error("--symbol {0} was given twice")]
    DuplicateSymbol(Symbol),
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
    #[error("--time-range {range} has nothing of the recording, which is of {from} to {to}")]
    NotRecorded {
        range: TimeRange,
        from: TimestampMs,
        to: TimestampMs,
    },
    #[error(
        "--api-url has to be an http or https URL with a host, without user, query and fragment"
    )]
    ApiUrl,
    #[error("--time-range {0} starts in the future")]
    Future(TimeRange),
    #[error(
        "a demo of {0} candles is too much, at most {MAX_CANDLES} are possible: choose a shorter --time-range, a longer --interval or fewer symbols"
    )]
    TooMuch(u64),
}

/// Where candles come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
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
    pub(super) fn new(args: &DemoArgs) -> Result<Self, PlanError> {
        if args.live {
            let url = args.api_url.clone();
            // The loader's own rule. What is refused is not shown: it may hold a password.
            let plain = ApiUrl::try_from(url.clone()).map_err(|_| PlanError::ApiUrl);
            return plain.map(|_| Self::Live(url));
        }
        if args.replay.is_empty() {
            return Ok(Self::Generated(args.seed));
        }
        let [symbol] = args.symbols.as_slice() else {
            return Err(PlanError::ReplayOfMany(args.symbols.len()));
        };
        let recording = Recording::from_files(symbol.as_str(), args.interval, &args.replay)?;
        for file in &args.replay {
            let candles = candles_of(file);
            let is_of = |interval| are_of(interval, recording.first_open(), &candles);
            if !is_of(args.interval) {
                return Err(PlanError::OtherInterval {
                    file: file.clone(),
                    interval: args.interval,
                    found: Interval::ALL.into_iter().find(|interval| is_of(*interval)),
                });
            }
        }
        Ok(Self::Replay(recording))
    }

    /// What is loaded if nobody says otherwise.
    fn default_range(&self) -> TimeRange {
        let range = match self {
            Self::Replay(recording) => {
                let (start, end) = span_of(recording);
                format!("{}/{}", start.to_jiff(), end.to_jiff()).parse()
            }
            Self::Live(_) | Self::Generated(_) => DEFAULT_TIME_RANGE.parse(),
        };
        range.expect("a range of our own is well-formed")
    }

    /// # Errors
    /// A recording has nothing of `range`. What is outside it would look as if the exchange did not have it.
    fn check_range(&self, range: &TimeRange) -> Result<(), PlanError> {
        let Self::Replay(recording) = self else {
            return Ok(());
        };
        let (from, to) = span_of(recording);
        if range.start() < to && from < range.end() {
            return Ok(());
        }
        Err(PlanError::NotRecorded {
            range: range.clone(),
            from,
            to,
        })
    }
}

/// From the first open time of a recording to the end of its last candle.
fn span_of(recording: &Recording) -> (TimestampMs, TimestampMs) {
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

/// One symbol's way from the exchange into its collection.
#[derive(Debug, Clone)]
pub(super) struct Workflow {
    pub(super) queue_id: QueueId,
    pub(super) symbol: Symbol,
    pub(super) interval: Interval,
    pub(super) range: TimeRange,
    pub(super) data_topic: String,
    pub(super) collection: String,
    /// Of the data topic.
    pub(super) partitions: i32,
}

impl Workflow {
    fn new(
        symbol: Symbol,
        interval: Interval,
        range: TimeRange,
        partitions: i32,
        launched: TimestampMs,
    ) -> Self {
        let kind = WorkflowKind::ApiCandles(interval);
        let queue_id = new_queue_id(&symbol, kind, launched);
        Self {
            data_topic: data_topic(&queue_id),
            collection: collection_name(&symbol, kind, range.start()),
            queue_id,
            symbol,
            interval,
            range,
            partitions,
        }
    }

    pub(super) fn kind(&self) -> WorkflowKind {
        WorkflowKind::ApiCandles(self.interval)
    }

    /// `BTCUSDT 1m`, as people call it.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.symbol, self.interval)
    }
}

/// A workflow for each symbol, launched at `launched`.
///
/// # Errors
/// Symbols, range and source do not go together, or are more than a demo can hold.
pub(super) fn workflows(
    args: &DemoArgs,
    source: &Source,
    launched: TimestampMs,
) -> Result<Vec<Workflow>, PlanError> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = args.symbols.iter().find(|symbol| !seen.insert(*symbol)) {
        return Err(PlanError::DuplicateSymbol(twice.clone()));
    }
    let range = args
        .time_range
        .clone()
        .unwrap_or_else(|| source.default_range());
    if range.start() >= launched {
        return Err(PlanError::Future(range));
    }
    source.check_range(&range)?;
    let candles =
        Grid::new(args.interval, range.start()).count(range.start(), range.end().min(launched));
    let all = candles.saturating_mul(args.symbols.len() as u64);
    if all > MAX_CANDLES {
        return Err(PlanError::TooMuch(all));
    }
    let partitions = partitions_for(candles);
    Ok(args
        .symbols
        .iter()
        .map(|symbol| {
            Workflow::new(
                symbol.clone(),
                args.interval,
                range.clone(),
                partitions,
                launched,
            )
        })
        .collect())
}

/// As many partitions as the broker needs to keep so many candles.
fn partitions_for(candles: u64) -> i32 {
    let partitions = candles.div_ceil(CANDLES_PER_PARTITION).max(1);
    i32::try_from(partitions).expect("MAX_CANDLES bounds it")
}

#[cfg(test)]
mod tests;
