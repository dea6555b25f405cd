//! Finds a partition of which nothing comes although there is more: after a broker stood still, a client has been seen that
//! read no more of one partition, and said nothing of it.
//!
//! Pure: the clock and the high watermarks are arguments. Each partition is watched by itself, since the others hide it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long what there is has to come after all: it may have been published just now.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// When each partition last moved.
#[derive(Debug)]
pub(super) struct Pulse {
    deadline: Duration,
    beats: BTreeMap<i32, Beat>,
}

#[derive(Debug)]
struct Beat {
    /// When something last came, or it was known that there is no more, or nothing was to come.
    at: Instant,
    /// Where it was when there was more.
    suspect: Option<i64>,
}

/// What the high watermark of a partition means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// There is no more, or it may come soon.
    Fine,
    /// There are offsets that did not come. Whether they have messages is to be found out.
    Silent,
}

impl Pulse {
    /// A partition may be silent for `deadline` while there is more.
    pub(super) fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            beats: BTreeMap::new(),
        }
    }

    /// Watches these partitions from `now` on, and no others.
    pub(super) fn follow(&mut self, partitions: impl Iterator<Item = i32>, now: Instant) {
        let beat = |partition| {
            let beat = Beat {
                at: now,
                suspect: None,
            };
            (partition, beat)
        };
        self.beats = partitions.map(beat).collect();
    }

    /// A message or the end of a partition came.
    pub(super) fn beat(&mut self, partition: i32, now: Instant) {
        if let Some(beat) = self.beats.get_mut(&partition) {
            beat.at = now;
            beat.suspect = None;
        }
    }

    /// Nothing was to come of any partition until now.
    pub(super) fn hold(&mut self, now: Instant) {
        self.beats.values_mut().for_each(|beat| beat.at = now);
    }

    /// A partition of which nothing came for too long.
    pub(super) fn overdue(&self, now: Instant) -> Option<i32> {
        let is_overdue = |beat: &Beat| now.duration_since(beat.at) >= self.deadline;
        let mut overdue = self.beats.iter().filter(|(_, beat)| is_overdue(beat));
        overdue.next().map(|(partition, _)| *partition)
    }

    /// Judges an overdue partition that is read up to `position`. Without a high watermark it is asked for again soon.
    pub(super) fn judge(
        &mut self,
        partition: i32,
        position: i64,
        high: Option<i64>,
        now: Instant,
    ) -> Finding {
        let deadline = self.deadline;
        let Some(beat) = self.beats.get_mut(&partition) else {
            return Finding::Fine;
        };
        let soon = now
            .checked_sub(deadline.saturating_sub(ASK_AGAIN))
            .unwrap_or(now);
        match high {
            None => beat.at = soon,
            Some(high) if position >= high => {
                beat.at = now;
                beat.suspect = None;
            }
            Some(_) if beat.suspect == Some(position) => {
                beat.at = soon;
                return Finding::Silent;
            }
            Some(_) => {
                beat.suspect = Some(position);
                beat.at = soon;
            }
        }
        Finding::Fine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    fn pulse(now: Instant) -> Pulse {
        let mut pulse = Pulse::new(DEADLINE);
        pulse.follow([0, 1].into_iter(), now);
        pulse
    }

    #[test]
    fn a_silent_partition_is_not_hidden_by_one_that_moves() {
        let start = Instant::now();
        let mut pulse = pulse(start);
        let mut found = Vec::new();
        for second in 0..200 {
            let now = start + Duration::from_secs(second);
            // Partition 0 always has more, and always comes; partition 1 has more, and nothing comes.
            let position = i64::try_from(second).unwrap();
            pulse.beat(0, now);
            while let Some(partition) = pulse.overdue(now) {
                assert_eq!(partition, 1, "partition 0 moves");
                if pulse.judge(1, 7, Some(9), now) == Finding::Silent {
                    found.push(position);
                }
            }
        }
        assert_eq!(found[0], 65, "the deadline, and 5 s more: {found:?}");
    }

    #[test]
    fn a_partition_without_more_is_never_suspected() {
        let start = Instant::now();
        let mut pulse = pulse(start);
        for minute in 1..100 {
            let now = start + minute * DEADLINE;
            while let Some(partition) = pulse.overdue(now) {
                let finding = pulse.judge(partition, 9, Some(9), now);
                assert_eq!(finding, Finding::Fine);
            }
        }
    }

    #[test]
    fn what_was_published_just_now_may_still_come() {
        let start = Instant::now();
        let mut pulse = pulse(start);
        let late = start + DEADLINE;
        pulse.beat(0, late);
        assert_eq!(pulse.overdue(late), Some(1));
        assert_eq!(pulse.judge(1, 7, Some(8), late), Finding::Fine);
        assert_eq!(pulse.overdue(late), None);
        // It came, and then there is one more.
        pulse.beat(1, late);
        let later = late + DEADLINE;
        assert_eq!(pulse.judge(1, 8, Some(9), later), Finding::Fine);
        assert_eq!(pulse.judge(1, 8, Some(9), later), Finding::Silent);
    }

    #[test]
    fn while_nothing_is_to_come_nothing_is_overdue_and_an_unknown_watermark_accuses_nobody() {
        let start = Instant::now();
        let mut pulse = pulse(start);
        let late = start + DEADLINE;
        pulse.hold(late);
        assert_eq!(pulse.overdue(late + DEADLINE / 2), None);
        let later = late + DEADLINE;
        for _ in 0..3 {
            assert_eq!(pulse.judge(1, 7, None, later), Finding::Fine);
        }
        assert_eq!(
            pulse.overdue(later),
            Some(0),
            "and the others are looked at"
        );
    }
}
