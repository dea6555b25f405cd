//! The numbers of a partition's records: which come next, which came before, and which are lost.
//!
//! Pure. The loader numbers the distinct records of a partition from 1 and without a gap, so a jump is lost data
//! and a step back is a duplicate.

/// The last number of one partition; 0 before its first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    last: Option<u64>,
}

/// What a number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The record is the next one.
    Next,
    /// A record that was read before, sent twice.
    Duplicate,
}

/// Records are missing between two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} records are lost: expected number {expected}, found {found}", found.saturating_sub(*expected))]
pub struct Lost {
    /// The number that had to come.
    pub expected: u64,
    /// The number that came.
    pub found: u64,
}

impl Sequence {
    /// Goes on after this number; 0 before the first record.
    pub fn after(last: u64) -> Self {
        Self { last: Some(last) }
    }

    /// Goes on after a number that nobody knows any more: the next one is taken as it is.
    pub fn unknown() -> Self {
        Self { last: None }
    }

    /// The last number seen, 0 before the first, `None` if it is not known.
    pub fn last(&self) -> Option<u64> {
        self.last
    }

    /// Takes the number of a record.
    ///
    /// # Errors
    /// If numbers were left out; the sequence stays where it was.
    pub fn take(&mut self, seq: u64) -> Result<Step, Lost> {
        let expected = self.last.map_or(seq, |last| last + 1);
        if seq > expected {
            return Err(Lost {
                expected,
                found: seq,
            });
        }
        if seq < expected {
            return Ok(Step::Duplicate);
        }
        self.last = Some(seq);
        Ok(Step::Next)
    }

    /// Takes the last number that a marker names.
    ///
    /// # Errors
    /// If the loader wrote records that did not come.
    pub fn end(&self, last_seq: u64) -> Result<(), Lost> {
        match self.last {
            Some(last) if last_seq > last => Err(Lost {
                expected: last + 1,
                found: last_seq + 1,
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_each_other() {
        let mut sequence = Sequence::after(0);
        assert_eq!(sequence.take(1), Ok(Step::Next));
        assert_eq!(sequence.take(2), Ok(Step::Next));
        assert_eq!(sequence.take(2), Ok(Step::Duplicate));
        assert_eq!(sequence.take(1), Ok(Step::Duplicate));
        assert_eq!(sequence.take(3), Ok(Step::Next));
        assert_eq!(sequence.last(), Some(3));
    }

    #[test]
    fn a_jump_is_lost_data_and_stays_lost() {
        let mut sequence = Sequence::after(10);
        let lost = sequence.take(14).unwrap_err();
        assert_eq!(
            lost.to_string(),
            "3 records are lost: expected number 11, found 14"
        );
        assert_eq!(sequence.take(14), Err(lost));
        assert_eq!(Sequence::after(0).take(2).unwrap_err().expected, 1);
    }

    #[test]
    fn a_marker_that_names_more_than_came_is_lost_data() {
        let sequence = Sequence::after(10);
        assert_eq!(sequence.end(10), Ok(()));
        assert_eq!(sequence.end(0), Ok(()), "an older marker that was passed");
        let lost = sequence.end(12).unwrap_err();
        assert_eq!(
            lost.to_string(),
            "2 records are lost: expected number 11, found 13"
        );
    }

    #[test]
    fn after_an_unknown_number_any_is_the_next() {
        let mut sequence = Sequence::unknown();
        assert_eq!(sequence.end(7), Ok(()));
        assert_eq!(sequence.take(500), Ok(Step::Next));
        assert_eq!(sequence.take(502).unwrap_err().expected, 501);
    }
}
