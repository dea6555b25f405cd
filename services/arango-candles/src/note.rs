//! What a commit says besides its offset: the counts of the run and whether the partition has ended.
//!
//! Kafka keeps a short text with each committed offset. Through it a restarted writer counts the whole run, and
//! the other writers of the group see that a partition is done without reading it.

use serde::{Deserialize, Serialize};
use streamforge_utils::protocol::{Marker, MarkerOutcome};

/// The state of a partition below its committed offset, as compact JSON in the commit's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommitNote {
    /// Records that the database acknowledged.
    pub written: u64,
    /// Records in the dead-letter topic.
    pub rejected: u64,
    /// How many of both were replayed: dead letters that were put back. Not among the numbered records of the partition.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replayed: u64,
    /// Number of the last record.
    pub last_seq: u64,
    /// Set if no numbered record stands between an end-of-stream marker and the offset: how its loader ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos: Option<MarkerOutcome>,
    /// How many partitions that marker names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// Run of that marker; without one, of the writer that committed.
    pub run: u32,
}

impl CommitNote {
    /// Reads the metadata of a commit; `None` if somebody else wrote it, such as a tool that resets offsets.
    pub fn parse(metadata: &str) -> Option<Self> {
        serde_json::from_str(metadata).ok()
    }

    /// The metadata of a commit, far below the 4 KiB that brokers allow.
    pub fn to_metadata(self) -> String {
        serde_json::to_string(&self).expect("numbers and words always serialise")
    }

    /// Notes that a marker was passed.
    pub fn pass_marker(&mut self, marker: &Marker) {
        self.eos = Some(marker.outcome);
        self.partitions = Some(marker.partitions);
        self.run = marker.run;
    }

    /// Notes that a numbered record was passed, which undoes an end before it.
    pub fn pass_record(&mut self, run: u32) {
        self.eos = None;
        self.partitions = None;
        self.run = run;
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_a_compact_shape() {
        let mut note = CommitNote {
            written: 1468,
            rejected: 2,
            last_seq: 1470,
            run: 1,
            ..CommitNote::default()
        };
        assert_eq!(
            note.to_metadata(),
            r#"{"written":1468,"rejected":2,"last_seq":1470,"run":1}"#
        );
        note.eos = Some(MarkerOutcome::Finished);
        note.partitions = Some(3);
        let text = note.to_metadata();
        assert_eq!(
            text,
            r#"{"written":1468,"rejected":2,"last_seq":1470,"eos":"finished","partitions":3,"run":1}"#
        );
        assert_eq!(CommitNote::parse(&text), Some(note));
        note.replayed = 3;
        assert!(note.to_metadata().contains(r#""replayed":3,"#));
        assert_eq!(CommitNote::parse(&note.to_metadata()), Some(note));
    }

    #[test]
    fn what_others_wrote_is_no_note() {
        for text in ["", "reset by hand", "{}", "null", "17"] {
            assert_eq!(CommitNote::parse(text), None, "{text:?}");
        }
    }
}
