//! How far a worker is: counts of the whole run, kept by its body, read by events and metrics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::unix_seconds;
use crate::{
    protocol::{Gap, RecordCounts},
    text::cut_owned,
};

/// Gaps that the last event names; more are only counted.
const MAX_GAPS: usize = 100;

/// How far a worker is. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    counts: RecordCounts,
    moved_at: Option<f64>,
    message: Option<String>,
    gaps: Option<Vec<Gap>>,
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut RecordCounts)) {
        let mut state = self.state();
        let before = state.counts;
        change(&mut state.counts);
        if state.counts != before {
            state.moved_at = Some(unix_seconds());
        }
    }

    /// Records of the whole run that their destination acknowledged.
    pub fn set_written(&self, written: u64) {
        self.change(|counts| counts.written = written);
    }

    /// Notes progress that no count shows, such as reading what earlier attempts have left.
    pub fn note(&self) {
        self.state().moved_at = Some(unix_seconds());
    }

    /// Records expected in all, where that is known.
    pub fn set_total(&self, total: Option<u64>) {
        self.state().counts.total = total;
    }

    /// Records of the whole run that went to the dead-letter topic.
    pub fn set_rejected(&self, rejected: u64) {
        self.change(|counts| counts.rejected = rejected);
    }

    /// Records of the whole run that the exchange does not have.
    pub fn set_missing(&self, missing: u64) {
        self.change(|counts| counts.missing = missing);
    }

    /// Records that were published although a value is implausible.
    pub fn set_suspect(&self, suspect: u64) {
        self.change(|counts| counts.suspect = suspect);
    }

    /// What the exchange does not have; the first 100 stand in the last event.
    pub fn set_gaps(&self, mut gaps: Vec<Gap>) {
        gaps.truncate(MAX_GAPS);
        self.state().gaps = Some(gaps);
    }

    /// What events say from now on, instead of the counts.
    pub fn set_message(&self, message: impl Into<String>) {
        self.state().message = Some(cut_owned(message.into()));
    }

    /// Events say the counts again.
    pub fn clear_message(&self) {
        self.state().message = None;
    }

    /// The counts as they are.
    pub fn counts(&self) -> RecordCounts {
        self.state().counts
    }

    /// When a count last moved or progress was [noted](Self::note), Unix seconds.
    pub fn last_progress_at(&self) -> Option<f64> {
        self.state().moved_at
    }

    /// What was set, else "1440 of 44640 records".
    pub fn message(&self) -> String {
        let state = self.state();
        match (&state.message, state.counts.total) {
            (Some(message), _) => message.clone(),
            (None, Some(total)) => format!("{} of {total} records", state.counts.written),
            (None, None) => format!("{} records", state.counts.written),
        }
    }

    pub(super) fn gaps(&self) -> Option<Vec<Gap>> {
        self.state().gaps.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::TimestampMs;

    #[test]
    fn only_a_count_that_moves_is_progress() {
        let progress = Progress::default();
        progress.set_total(Some(10));
        progress.set_written(0);
        assert_eq!(progress.last_progress_at(), None);
        progress.set_written(4);
        assert!(progress.last_progress_at().is_some());
        assert_eq!(progress.message(), "4 of 10 records");
        progress.set_message("done");
        assert_eq!(progress.message(), "done");
        progress.clear_message();
        assert_eq!(progress.message(), "4 of 10 records");
    }

    #[test]
    fn names_the_first_hundred_gaps() {
        let progress = Progress::default();
        let gap = |at| Gap {
            start: TimestampMs(at),
            end: TimestampMs(at + 1),
            missing: 1,
        };
        progress.set_gaps((0..150).map(gap).collect());
        assert_eq!(progress.gaps().unwrap().len(), 100);
    }
}
