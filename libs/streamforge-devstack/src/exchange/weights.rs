//! How much a client may ask: weight in fixed windows, then 429, then 418.
//!
//! There is one account for all clients, as they all come from one address.

use std::time::Duration;

/// Weight a minute and address that the exchange grants at present.
pub(super) const DEFAULT_LIMIT: u32 = 6_000;

/// The real exchange's window.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// The limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Weight in a window.
    pub(super) weight: u32,
    pub(super) window: Duration,
    /// How many 429 of a window may be ignored before the ban.
    pub(super) tolerated: u32,
    pub(super) ban: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // The real tolerance is not public; the shortest ban is two minutes.
        Self {
            weight: DEFAULT_LIMIT,
            window: MINUTE,
            tolerated: 10,
            ban: Duration::from_secs(120),
        }
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Granted,
    /// 429.
    Limited {
        retry_after_secs: u64,
    },
    /// 418. `until` is in Unix milliseconds.
    Banned {
        retry_after_secs: u64,
        until: i64,
    },
}

/// The account.
#[derive(Debug, Default)]
pub(super) struct Weights {
    pub(super) limits: Limits,
    window: i64,
    used: u32,
    /// Requests of this window that came after the first 429.
    ignored: Option<u32>,
    banned_until: Option<i64>,
    /// The most that any window has seen.
    pub(super) highest: u32,
}

fn seconds_until(end: i64, now: i64) -> u64 {
    u64::try_from(end - now).unwrap_or(0).div_ceil(1_000).max(1)
}

impl Weights {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Weight used in the current window.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// Books a request that arrives at `now`, Unix milliseconds.
    pub(super) fn charge(&mut self, now: i64, weight: u32) -> Verdict {
        let length = i64::try_from(self.limits.window.as_millis())
            .unwrap_or(i64::MAX)
            .max(1);
        let window = now.div_euclid(length);
        if window != self.window {
            (self.window, self.used, self.ignored) = (window, 0, None);
        }
        self.used = self.used.saturating_add(weight);
        self.highest = self.highest.max(self.used);
        if let Some(until) = self.banned_until {
            if now < until {
                return Verdict::Banned {
                    retry_after_secs: seconds_until(until, now),
                    until,
                };
            }
            self.banned_until = None;
        }
        if self.used <= self.limits.weight {
            return Verdict::Granted;
        }
        let ignored = self.ignored.map_or(0, |ignored| ignored + 1);
        self.ignored = Some(ignored);
        if ignored > self.limits.tolerated {
            let until = now + i64::try_from(self.limits.ban.as_millis()).unwrap_or(i64::MAX / 2);
            self.banned_until = Some(until);
            return Verdict::Banned {
                retry_after_secs: seconds_until(until, now),
                until,
            };
        }
        Verdict::Limited {
            retry_after_secs: seconds_until((window + 1).saturating_mul(length), now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_with_the_minute_and_not_a_minute_after_the_first_request() {
        let mut weights = Weights::new(Limits {
            weight: 4,
            ..Limits::default()
        });
        assert_eq!(weights.charge(59_000, 2), Verdict::Granted);
        assert_eq!(weights.charge(59_100, 2), Verdict::Granted);
        assert_eq!(
            weights.charge(59_200, 2),
            Verdict::Limited {
                retry_after_secs: 1
            }
        );
        assert_eq!(weights.charge(60_000, 2), Verdict::Granted);
        assert_eq!((weights.used(), weights.highest), (2, 6));
    }

    #[test]
    fn who_ignores_429_is_banned_and_comes_back_after_the_ban() {
        let limits = Limits {
            weight: 1,
            tolerated: 2,
            ..Limits::default()
        };
        let mut weights = Weights::new(limits);
        assert_eq!(weights.charge(0, 1), Verdict::Granted);
        for _ in 0..3 {
            assert_eq!(
                weights.charge(1, 1),
                Verdict::Limited {
                    retry_after_secs: 60
                }
            );
        }
        assert_eq!(
            weights.charge(2, 1),
            Verdict::Banned {
                retry_after_secs: 120,
                until: 120_002
            }
        );
        assert_eq!(
            weights.charge(60_000, 1),
            Verdict::Banned {
                retry_after_secs: 61,
                until: 120_002
            }
        );
        assert_eq!(weights.charge(120_002, 1), Verdict::Granted);
    }
}
