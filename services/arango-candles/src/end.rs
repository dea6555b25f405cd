//! When a stream has ended, for a writer: the rule is the protocol's, and a commit's note tells of a marker too.

pub use streamforge_utils::protocol::{End, Verdict, judge_ends as judge, total_of_ends as total};

use crate::note::CommitNote;

/// What the commit that passed the marker says of it; `None` if it passed none.
pub fn of_note(note: &CommitNote) -> Option<End> {
    Some(End {
        outcome: note.eos?,
        run: note.run,
        partitions: note.partitions?,
        last_seq: note.last_seq,
    })
}

#[cfg(test)]
mod tests {
    use streamforge_utils::protocol::MarkerOutcome;

    use super::*;

    #[test]
    fn a_note_without_a_marker_is_no_end() {
        let mut note = CommitNote {
            last_seq: 5,
            run: 1,
            ..CommitNote::default()
        };
        assert_eq!(of_note(&note), None);
        note.eos = Some(MarkerOutcome::Finished);
        note.partitions = Some(2);
        assert_eq!(of_note(&note).unwrap().partitions, 2);
    }
}
