//! How fast records go: records and bytes over a time.

use std::{fmt, time::Duration};

use tokio::time::Instant;

/// So many records and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Records.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
}

/// Records and bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rate {
    /// Records a second.
    pub records: f64,
    /// Bytes a second.
    pub bytes: f64,
}

impl Rate {
    /// So many in this time; nothing if there was no time.
    pub fn of(count: Count, time: Duration) -> Self {
        let seconds = time.as_secs_f64();
        if seconds <= 0.0 {
            return Self::default();
        }
        Self {
            records: count.records as f64 / seconds,
            bytes: count.bytes as f64 / seconds,
        }
    }
}

/// Megabytes are millions of bytes.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} records/s, {:.3} MB/s",
            self.records,
            self.bytes / 1e6
        )
    }
}

/// The rate since it was last asked for.
#[derive(Debug)]
pub struct Window {
    since: Instant,
    count: Count,
}

impl Window {
    /// From now on, with nothing counted.
    pub fn open() -> Self {
        Self {
            since: Instant::now(),
            count: Count::default(),
        }
    }

    /// Since the last call, given what was counted in all.
    pub fn next(&mut self, all: Count) -> Rate {
        let now = Instant::now();
        let count = Count {
            records: all.records.saturating_sub(self.count.records),
            bytes: all.bytes.saturating_sub(self.count.bytes),
        };
        let rate = Rate::of(count, now - self.since);
        (self.since, self.count) = (now, all);
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_window_counts_what_came_since_the_last() {
        let mut window = Window::open();
        let all = |records| Count {
            records,
            bytes: records * 400,
        };
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(
            window.next(all(1_000)).to_string(),
            "500.0 records/s, 0.200 MB/s"
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(window.next(all(1_000)), Rate::default());
        assert_eq!(window.next(all(5_000)), Rate::default(), "no time passed");
    }
}
