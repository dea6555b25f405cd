//! Why the loop ended early.

use streamforge_arango::ArangoError;
use streamforge_utils::{kafka::ReadError, worker::Failure};

use crate::{
    consume::ConsumeError, dead_letter::DeadLetterError, record::Rejection, sequence::Lost,
};

/// Writing can't go on.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Reading can't.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// The database did not take a batch.
    #[error(transparent)]
    Arango(#[from] ArangoError),
    /// The dead-letter topic did not take a record.
    #[error(transparent)]
    DeadLetter(#[from] Box<DeadLetterError>),
    /// The other writers' partitions can't be looked at.
    #[error(transparent)]
    Read(ReadError),
    /// Records did not come that must have been published.
    #[error("lost data in topic {topic:?} partition {partition} before offset {offset}: {lost}{}", deleted(*.deleted_below))]
    Lost {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Of the message that shows it.
        offset: i64,
        /// First offset that the partition still had when it was read from its start.
        deleted_below: Option<i64>,
        /// Which ones.
        lost: Lost,
    },
    /// More records were rejected than may be.
    #[error(
        "more than {max} records were rejected (MAX_REJECTED) by the writers of topic {topic:?}{}",
        describe_last(.last.as_deref())
    )]
    TooManyRejected {
        /// How many may be.
        max: u64,
        /// The data topic.
        topic: String,
        /// The last one of this writer.
        last: Option<Box<LastRejected>>,
    },
}

/// A record that was rejected.
#[derive(Debug, Clone)]
pub struct LastRejected {
    /// Where it came from.
    pub partition: i32,
    /// Where it came from.
    pub offset: i64,
    /// Why it was rejected.
    pub rejection: Rejection,
}

fn describe_last(rejected: Option<&LastRejected>) -> String {
    match rejected {
        Some(LastRejected {
            partition,
            offset,
            rejection: Rejection { reason, error },
        }) => format!(
            "; the last one, in partition {partition} at offset {offset}: {}: {error}",
            reason.as_str()
        ),
        None => String::new(),
    }
}

fn deleted(below: Option<i64>) -> String {
    match below {
        Some(first) if first > 0 => {
            let last = first - 1;
            format!("; offsets 0 to {last} were deleted before they were read")
        }
        _ => String::new(),
    }
}

impl WriteError {
    /// Whether the database or the dead-letter topic failed, so that there is no use in writing on.
    pub(super) fn is_of_a_sink(&self) -> bool {
        matches!(self, Self::Arango(_) | Self::DeadLetter(_))
    }

    /// Whether trying again later can help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Consume(error) => error.is_retryable(),
            Self::Arango(error) => error.is_retryable(),
            Self::DeadLetter(error) => error.is_retryable(),
            Self::Read(error) => !error.is_permanent(),
            Self::Lost { .. } | Self::TooManyRejected { .. } => false,
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        let is_retryable = error.is_retryable();
        Self::new(error, is_retryable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_data_says_where_and_what_was_deleted() {
        let error = |deleted_below| WriteError::Lost {
            topic: "wf-x-data".to_owned(),
            partition: 0,
            offset: 4212,
            deleted_below,
            lost: Lost {
                expected: 1,
                found: 4213,
            },
        };
        assert_eq!(
            error(Some(4212)).to_string(),
            "lost data in topic \"wf-x-data\" partition 0 before offset 4212: 4212 records are lost: expected number 1, \
             found 4213; offsets 0 to 4211 were deleted before they were read"
        );
        assert!(error(Some(0)).to_string().ends_with("found 4213"));
        assert!(error(None).to_string().ends_with("found 4213"));
        assert!(!error(None).is_retryable());
    }
}
