//! What a demo does, settled before anything starts: a workflow for each symbol.
//!
//! Whatever is wrong with what was typed is found here, so that it ends with 2 and leaves nothing behind.

use std::collections::BTreeSet;

use streamforge_utils::protocol::{
    Grid, Interval, QueueId, Symbol, TimeRange, TimestampMs, WorkflowKind, collection_name,
    data_topic, new_queue_id,
};

use crate::{
    cli::DemoArgs,
    source::{Source, SourceError, span_of},
    stack::CANDLES_PER_PARTITION,
};

/// A week of minutes: long enough to watch, and inside one partition of the broker.
const DEFAULT_TIME_RANGE: &str = "2024-08-01:2024-08-07";

/// Broker and database hold all of a demo in this process's memory, up to 1.1 KiB a candle.
const MAX_CANDLES: u64 = 2_000_000;

/// What was typed can't be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    #[error("--symbol {0} was given twice")]
    DuplicateSymbol(Symbol),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("--time-range {range} has nothing of the recording, which is of {from} to {to}")]
    NotRecorded {
        range: TimeRange,
        from: TimestampMs,
        to: TimestampMs,
    },
    #[error("--time-range {0} starts in the future")]
    Future(TimeRange),
    #[error(
        "a demo of {0} candles is too much, at most {MAX_CANDLES} are possible: choose a shorter --time-range, a longer --interval or fewer symbols"
    )]
    TooMuch(u64),
}

/// What is loaded if nobody says otherwise.
fn default_range(source: &Source) -> TimeRange {
    let range = match source {
        Source::Replay(recording) => {
            let (start, end) = span_of(recording);
            format!("{}/{}", start.to_jiff(), end.to_jiff()).parse()
        }
        Source::Live(_) | Source::Generated(_) => DEFAULT_TIME_RANGE.parse(),
    };
    range.expect("a range of our own is well-formed")
}

/// # Errors
/// A recording has nothing of `range`. What is outside it would look as if the exchange did not have it.
fn check_range(source: &Source, range: &TimeRange) -> Result<(), PlanError> {
    let Source::Replay(recording) = source else {
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
        .unwrap_or_else(|| default_range(source));
    if range.start() >= launched {
        return Err(PlanError::Future(range));
    }
    check_range(source, &range)?;
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
    let partitions = candles.div_ceil(CANDLES_PER_PARTITION.into()).max(1);
    i32::try_from(partitions).expect("MAX_CANDLES bounds it")
}

#[cfg(test)]
mod tests;
