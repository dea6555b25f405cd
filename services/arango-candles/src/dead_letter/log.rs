//! How often rejected records are logged: a topic of nothing else would fill the log.

use std::time::{Duration, Instant};

/// Lines in one period.
const LINES: u32 = 10;
const PERIOD: Duration = Duration::from_secs(10);

/// Counts the lines of a period, and what was not logged.
#[derive(Debug, Default)]
pub(super) struct RejectLog {
    period: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl RejectLog {
    /// Whether to log one more, and then how many were not logged since the last line.
    pub(super) fn admit(&mut self, now: Instant) -> Option<u64> {
        let is_over = |start: Instant| now.duration_since(start) >= PERIOD;
        if self.period.is_none_or(is_over) {
            self.period = Some(now);
            self.lines = 0;
        }
        if self.lines == LINES {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }

    /// How many were not logged since the last line.
    pub(super) fn suppressed(&self) -> u64 {
        self.suppressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_and_a_count() {
        let mut log = RejectLog::default();
        let start = Instant::now();
        let admitted: Vec<u64> = (0..200).filter_map(|_| log.admit(start)).collect();
        assert_eq!(admitted, [0; 10]);
        assert_eq!(log.suppressed(), 190);
        assert_eq!(log.admit(start + PERIOD), Some(190));
        assert_eq!(log.suppressed(), 0);
    }
}
