//! What earlier attempts have left in the topic, and where to go on.
//!
//! Each partition's last message of a loader tells how far it is: a record by its number and open time, a marker by what
//! it says. Offsets may have no message, and others may have left theirs: both are passed over. What contradicts this load (another workflow, range, symbol, interval or number of partitions, lost records) is an
//! error that names both sides, never a guess. Nothing is written here.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use backon::{ExponentialBuilder, Retryable};
use rdkafka::message::{BorrowedMessage, Message};
use serde::Deserialize;
use serde_json::value::RawValue;
use streamforge_utils::{
    kafka::{ReadError, TopicReader, headers},
    protocol::{
        Candle, EOS, EOS_VALUE, Interval, Marker, MarkerOutcome, Numbers, SEQ, TimestampMs,
    },
};

use crate::{
    partition::partition_of,
    stream::{PartitionState, StreamSpec},
};

/// The topic can't be gone on with, or not be read.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// What the topic holds is not of this load. No retry can mend it.
    #[error("topic {topic:?}, partition {partition}: {problem}")]
    Contradiction {
        /// The data topic.
        topic: String,
        /// Which partition.
        partition: i32,
        /// What was found and what this load expects.
        problem: String,
    },
    /// The broker.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl ResumeError {
    /// Whether no retry can mend it.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Contradiction { .. } => true,
            Self::Read(error) => error.is_permanent(),
        }
    }
}

/// One message of the data topic, as the loader wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A candle.
    Record {
        /// Its number in its partition.
        seq: u64,
        /// Its open time.
        open_time: TimestampMs,
    },
    /// The end of an attempt.
    Marker(Box<Marker>),
    /// Neither a number nor a marker's header, or a dead letter that was put back: no loader wrote it here.
    Foreign,
}

/// What is read of a record. Whether it is a possible candle is for writers to say: a loader has to resume after it in any
/// case.
#[derive(Deserialize)]
struct Published<'a> {
    open_time: TimestampMs,
    #[serde(borrow)]
    symbol: Option<Cow<'a, str>>,
    interval: Option<Interval>,
    #[serde(borrow)]
    open: Option<&'a RawValue>,
}

/// Looks at every partition of `spec`, for as long as `deadline` where the broker is away.
///
/// # Errors
/// The topic contradicts `spec`, or can't be read.
pub async fn read(
    reader: &TopicReader,
    topic: &str,
    spec: &StreamSpec,
    deadline: Duration,
) -> Result<Vec<PartitionState>, ResumeError> {
    let until = Instant::now() + deadline;
    let mut states = Vec::new();
    for partition in 0..spec.partitions {
        let look = || look_at(reader, topic, partition, spec);
        let state = look
            .retry(
                ExponentialBuilder::default()
                    .with_max_delay(Duration::from_secs(5))
                    .with_jitter()
                    .without_max_times(),
            )
            // By the clock: what the attempts themselves take counts too.
            .when(|error: &ResumeError| !error.is_permanent() && Instant::now() < until)
            .notify(|error, _| tracing::warn!(%error, "Could not read the topic, trying again"))
            .await?;
        states.push(state);
    }
    let reachable = spec.reachable();
    for (partition, state) in (0..).zip(&states) {
        if state.last_seq > 0 && !reachable.contains(&partition) {
            let problem = format!(
                "it holds records, and PARTITION_KEY=symbol puts all of {} into partition {}",
                spec.symbol, reachable[0]
            );
            return Err(contradiction(topic, partition, problem));
        }
    }
    Ok(states)
}

/// Where to go on: after the last candle that every partition that should have it has. `None`: at the beginning.
pub fn last_in_all(states: &[PartitionState], spec: &StreamSpec) -> Option<TimestampMs> {
    // `None` is below all, so one empty partition means the beginning.
    in_reach(states, spec)
        .map(|state| state.last_open)
        .min()
        .flatten()
}

/// The last candle that any partition has.
pub fn last_in_any(states: &[PartitionState], spec: &StreamSpec) -> Option<TimestampMs> {
    in_reach(states, spec)
        .filter_map(|state| state.last_open)
        .max()
}

fn in_reach<'a>(
    states: &'a [PartitionState],
    spec: &'a StreamSpec,
) -> impl Iterator<Item = &'a PartitionState> {
    let indices = spec.reachable().into_iter();
    indices.filter_map(|partition| states.get(usize::try_from(partition).ok()?))
}

/// Whether an earlier attempt has finished: markers are written only once every record was acknowledged, so one is
/// enough.
pub fn is_complete(states: &[PartitionState]) -> bool {
    let finished = |state: &PartitionState| state.outcome == Some(MarkerOutcome::Finished);
    states.iter().any(finished)
}

/// Makes sure that the topic begins with `first`, the first candle of the range. It would not if it had been loaded
/// with a range that began later, which its last message does not tell.
///
/// # Errors
/// It begins with another candle.
pub fn check_beginning(
    topic: &str,
    states: &[PartitionState],
    spec: &StreamSpec,
    first: TimestampMs,
) -> Result<(), ResumeError> {
    let document_key = Candle::key_of(&spec.symbol, spec.interval, first);
    let partition = partition_of(spec.kafka_key(&document_key), spec.partitions);
    let state = &states[usize::try_from(partition).expect("counted from 0")];
    match state.first_open {
        Some(found) if found != first && state.is_first_known => {
            let problem = format!(
                "its records begin at {found}, and TIME_RANGE {} begins with the candle of {first}: it was loaded \
                 with another range",
                spec.time_range
            );
            Err(contradiction(topic, partition, problem))
        }
        _ => Ok(()),
    }
}

async fn look_at(
    reader: &TopicReader,
    topic: &str,
    partition: i32,
    spec: &StreamSpec,
) -> Result<PartitionState, ResumeError> {
    let ends = reader.watermarks(topic, partition).await?;
    let mut state = PartitionState {
        low: ends.low,
        high: ends.high,
        ..PartitionState::default()
    };
    if ends.high == 0 {
        return Ok(state);
    }
    let wrong = |problem| contradiction(topic, partition, problem);
    if ends.low >= ends.high {
        return Err(wrong(format!(
            "its {} messages were deleted before the load was complete; start a new workflow, with a longer \
             TOPIC_RETENTION_HOURS",
            ends.high
        )));
    }
    let entry_at = |pick: fn(&Entry) -> bool| {
        let spec = spec.clone();
        move |message: &BorrowedMessage<'_>| match entry(message, &spec) {
            Ok(entry) => pick(&entry).then_some(Ok(entry)),
            Err(problem) => Some(Err(format!(
                "the message at offset {} {problem}",
                message.offset()
            ))),
        }
    };
    let offsets = (ends.low, ends.high);
    // A load that was stopped before its first record leaves a marker that knows of none.
    let knows_first = entry_at(|entry| match entry {
        Entry::Record { .. } => true,
        Entry::Marker(marker) => marker.first_open_time.is_some(),
        Entry::Foreign => false,
    });
    let first = reader.find_first(topic, partition, offsets, knows_first);
    match first.await?.transpose().map_err(wrong)? {
        Some(Entry::Record { seq, open_time }) => {
            state.first_open = Some(open_time);
            state.is_first_known = seq == 1;
        }
        Some(Entry::Marker(marker)) => state.first_open = marker.first_open_time,
        Some(Entry::Foreign) | None => {}
    }
    let is_ours = entry_at(|entry| *entry != Entry::Foreign);
    let last = reader.find_last(topic, partition, offsets, is_ours);
    match last.await?.transpose().map_err(wrong)? {
        Some(Entry::Record { seq, open_time }) => {
            state.last_seq = seq;
            state.last_open = Some(open_time);
        }
        Some(Entry::Marker(marker)) => {
            state.last_seq = marker.last_seq;
            state.first_open = marker.first_open_time;
            state.last_open = marker.last_open_time;
            state.outcome = Some(marker.outcome);
        }
        Some(Entry::Foreign) | None if ends.low > 0 => {
            return Err(wrong(format!(
                "its first {} messages were deleted, and what is left tells nothing of a load: nobody knows the numbers \
                 of its records; start a new workflow",
                ends.low
            )));
        }
        Some(Entry::Foreign) | None => {}
    }
    Ok(state)
}

/// Reads a message, and compares it with what this load would write.
///
/// # Errors
/// What it is instead, as the end of a sentence about the message.
pub(crate) fn entry<M: Message>(message: &M, spec: &StreamSpec) -> Result<Entry, String> {
    if headers::is_replayed(message) {
        return Ok(Entry::Foreign);
    }
    let value = message.payload().unwrap_or_default();
    if headers::get(message, EOS) == Some(EOS_VALUE) {
        let marker: Marker = serde_json::from_slice(value)
            .map_err(|error| format!("is no end-of-stream marker: {error}"))?;
        agree("is a marker of QUEUE_ID", &marker.queue_id, &spec.queue_id)?;
        agree(
            "is a marker of TIME_RANGE",
            &marker.time_range,
            &spec.time_range,
        )?;
        agree(
            "is a marker of a load over so many partitions (TOPIC_PARTITIONS):",
            &marker.partitions,
            &spec.partitions,
        )?;
        return Ok(Entry::Marker(Box::new(marker)));
    }
    let Some(seq) = headers::get(message, SEQ) else {
        return Ok(Entry::Foreign);
    };
    let seq = seq.parse().ok().filter(|seq| *seq > 0).ok_or_else(|| {
        format!("has {seq:?} in the header {SEQ}, which is no number of a loader's")
    })?;
    let candle = published(value)?;
    if let Some(symbol) = &candle.symbol {
        agree("is a candle of", &symbol.as_ref(), &spec.symbol.as_str())?;
    }
    if let Some(interval) = &candle.interval {
        agree("is a candle of interval", interval, &spec.interval)?;
    }
    if let Some(open) = candle.open {
        let written = if open.get().starts_with('"') {
            Numbers::String
        } else {
            Numbers::Json
        };
        agree(
            "has its numbers written with NUMBERS",
            &name_of(written),
            &name_of(spec.numbers),
        )?;
    }
    if !spec.time_range.contains(candle.open_time) {
        return Err(format!(
            "is the candle of {}, which is not in TIME_RANGE {}",
            candle.open_time, spec.time_range
        ));
    }
    let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
    let document_key = Candle::key_of(&spec.symbol, spec.interval, candle.open_time);
    agree("has the key", &key.as_str(), &spec.kafka_key(&document_key))
        .map_err(|problem| format!("{problem} (PARTITION_KEY)"))?;
    let partition = partition_of(&key, spec.partitions);
    if partition != message.partition() {
        return Err(format!(
            "has the key {key:?}, which belongs to partition {partition} of {}: it was loaded over another number of \
             partitions (TOPIC_PARTITIONS)",
            spec.partitions
        ));
    }
    Ok(Entry::Record {
        seq,
        open_time: candle.open_time,
    })
}

fn published(value: &[u8]) -> Result<Published<'_>, String> {
    // serde takes an array of its fields for a struct.
    if value.trim_ascii_start().first() != Some(&b'{') {
        return Err("is not a candle: expected a JSON object".to_owned());
    }
    serde_json::from_slice(value).map_err(|error| format!("is not a candle: {error}"))
}

fn name_of(numbers: Numbers) -> &'static str {
    match numbers {
        Numbers::Json => "json",
        Numbers::String => "string",
    }
}

fn agree<T: PartialEq + std::fmt::Display>(what: &str, found: &T, ours: &T) -> Result<(), String> {
    if found == ours {
        return Ok(());
    }
    Err(format!("{what} {found}, and this load's is {ours}"))
}

pub(crate) fn contradiction(topic: &str, partition: i32, problem: String) -> ResumeError {
    ResumeError::Contradiction {
        topic: topic.to_owned(),
        partition,
        problem,
    }
}

#[cfg(test)]
mod tests;
