//! Whether a feed is alive: each of its partitions moves, or has no more.
//!
//! After a broker stood still, a client has been seen that reached it no more, while others of the same process did. So
//! what counts is what comes, whatever the client itself says.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::feed::Look;

/// How long a partition that has more may stay where it is, and how long the ends may be unknown while nothing comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is known of a feed's progress.
pub(super) struct Pulse {
    /// Partition that has more → where it was, and since when.
    behind: BTreeMap<i32, (i64, Instant)>,
    /// Where all partitions were when that last changed, or when the ends were last known.
    last: BTreeMap<i32, i64>,
    alive_at: Instant,
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            behind: BTreeMap::new(),
            last: BTreeMap::new(),
            alive_at: now,
        }
    }

    /// Takes in what comes next and a look at the ends, or None if they are not known. If the feed stands still, for how
    /// long.
    pub(super) fn stands_still(
        &mut self,
        next: &BTreeMap<i32, i64>,
        look: Option<&Look>,
        now: Instant,
    ) -> Option<Duration> {
        if look.is_some() || self.last != *next {
            self.alive_at = now;
            self.last.clone_from(next);
        }
        if let Some(look) = look {
            let behind = look.behind(next).filter_map(|partition| {
                let at = *next.get(&partition)?;
                let since = match self.behind.get(&partition) {
                    Some((before, since)) if *before == at => *since,
                    _ => now,
                };
                Some((partition, (at, since)))
            });
            self.behind = behind.collect();
        }
        let oldest = self.behind.values().map(|(_, since)| *since).min();
        let since = oldest.map_or(self.alive_at, |oldest| oldest.min(self.alive_at));
        let still = now - since;
        (still > PATIENCE).then_some(still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(offsets: &[i64]) -> BTreeMap<i32, i64> {
        (0..).zip(offsets.iter().copied()).collect()
    }

    /// Looks every second at a feed of two partitions; after how many it counts as standing still.
    fn stands_still_after(look: impl Fn(i64) -> (Vec<i64>, Option<Vec<i64>>)) -> Option<i64> {
        let begin = Instant::now();
        let mut pulse = Pulse::new(begin);
        (0..60).find(|&second| {
            let (next, ends) = look(second);
            let now = begin + Duration::from_secs(second.unsigned_abs());
            let look = ends.map(|ends| Look::of(offsets(&ends)));
            pulse
                .stands_still(&offsets(&next), look.as_ref(), now)
                .is_some()
        })
    }

    #[test]
    fn a_feed_that_moves_or_has_no_more_is_alive() {
        let idle = |_| (vec![5, 5], Some(vec![5, 5]));
        assert_eq!(stands_still_after(idle), None);
        let moving = |second| (vec![second, 5], Some(vec![second + 9, 5]));
        assert_eq!(stands_still_after(moving), None);
        let moving_blind = |second| (vec![second, 5], None);
        assert_eq!(stands_still_after(moving_blind), None);
    }

    #[test]
    fn a_partition_that_has_more_and_stays_is_not_hidden_by_another() {
        let one_stays = |second| (vec![second, 5], Some(vec![second, 6]));
        assert_eq!(stands_still_after(one_stays), Some(21));
        let it_moves_once = |second| (vec![second, 5 + second / 15], Some(vec![second, 60]));
        assert_eq!(stands_still_after(it_moves_once), None);
    }

    #[test]
    fn ends_that_are_not_known_while_nothing_comes_are_a_bad_sign() {
        let deaf = |second| match second {
            0..10 => (vec![second, 5], Some(vec![second, 5])),
            _ => (vec![9, 5], None),
        };
        assert_eq!(stands_still_after(deaf), Some(30));
        let known_now_and_then = |second| (vec![5, 5], (second % 15 == 0).then(|| vec![5, 5]));
        assert_eq!(stands_still_after(known_now_and_then), None);
    }
}
