//! Where a partition is taken up, and whether what is to be read is still there. Pure.

use super::ConsumeError;
use crate::{
    note::CommitNote,
    partition::{LOOK_BACK, Resume},
};

/// What the broker knows of a partition.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) partition: i32,
    pub(super) low: i64,
    pub(super) high: i64,
    pub(super) committed: Option<(i64, Option<CommitNote>)>,
}

impl Found {
    /// Where it is taken up, and the offset to read from.
    pub(super) fn take_up(self, topic: &str) -> Result<(i32, Resume, i64), ConsumeError> {
        let Self {
            partition,
            low,
            high,
            committed,
        } = self;
        let Some((offset, note)) = committed else {
            return Ok((partition, Resume::AtFirst { low }, low));
        };
        check_position(topic, partition, offset, low, high)?;
        let resume = Resume::AfterCommit { offset, note };
        // Without a note the last number and marker have to be found, and foreign messages may stand behind them.
        let back = if note.is_some() { 1 } else { LOOK_BACK };
        Ok((partition, resume, (offset - back).max(low)))
    }
}

/// Whether a partition that has `[low, high)` can be read on at `offset`.
pub(super) fn check_position(
    topic: &str,
    partition: i32,
    offset: i64,
    low: i64,
    high: i64,
) -> Result<(), ConsumeError> {
    if offset < low {
        let last = low - 1;
        return Err(ConsumeError::Lost(format!(
            "offsets {offset} to {last} of topic {topic:?} partition {partition} were deleted before they were read"
        )));
    }
    if offset > high {
        return Err(ConsumeError::Lost(format!(
            "topic {topic:?} partition {partition} ends at offset {high}, before {offset} where this group goes on: \
             the topic was deleted and made again"
        )));
    }
    Ok(())
}
