//! Whether workers do what they were told: stop, pretend to load, fail. Pure: it is told the time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use streamforge_utils::protocol::{Event, EventKind, InterruptReason};

use crate::request::{Action, Address, Count, Order};

/// How long others may take to follow, once one has done it.
const SETTLE: Duration = Duration::from_secs(2);
/// A worker that empties its topic is silent for 10 s at most: its heartbeat.
const DRAIN_SETTLE: Duration = Duration::from_secs(11);

/// What an event says about the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A worker did what was expected.
    Expected,
    /// A worker ended in another way.
    Unexpected,
    /// Nothing yet.
    Open,
}

/// Follows the workers that an order was for.
#[derive(Debug)]
pub(crate) struct Judge {
    to: Address,
    action: Action,
    count: Count,
    workers: BTreeMap<String, Worker>,
    expected: u32,
    unexpected: u32,
    /// A `stop` was obeyed, not only its consequences felt.
    obeyed: bool,
    last_end: Option<Instant>,
}

/// What is known of a process.
#[derive(Debug)]
struct Worker {
    producer: String,
    /// The least that it was heard to have written.
    written: u64,
    /// Started after the order, which need not be for it.
    young: bool,
    judged: bool,
}

impl Judge {
    pub(crate) fn new(order: &Order) -> Self {
        Self {
            to: order.to.clone(),
            action: order.action,
            count: order.expect.unwrap_or(Count::Some),
            workers: BTreeMap::new(),
            expected: 0,
            unexpected: 0,
            obeyed: false,
            last_end: None,
        }
    }

    /// What an event that was received at `now`, after the order went out, says.
    pub(crate) fn see(&mut self, event: &Event, now: Instant) -> Verdict {
        if !self.to.covers(event) {
            return Verdict::Open;
        }
        let worker = self
            .workers
            .entry(event.instance.clone())
            .or_insert_with(|| Worker {
                producer: event.producer.clone(),
                written: event.records.written,
                young: event.event == EventKind::Started,
                judged: false,
            });
        if worker.judged {
            return Verdict::Open;
        }
        worker.written = worker.written.min(event.records.written);
        let verdict = match (self.action, event.event) {
            (Action::Stop { .. }, EventKind::Interrupted) => match event.reason {
                Some(InterruptReason::Stop | InterruptReason::Upstream) => Verdict::Expected,
                _ => Verdict::Unexpected,
            },
            (Action::FailAfter { .. }, EventKind::Error) => Verdict::Expected,
            (Action::SimulateLoading, EventKind::Loading)
                if event.records.written > worker.written =>
            {
                Verdict::Expected
            }
            (_, kind) if kind.is_terminal() => Verdict::Unexpected,
            _ => Verdict::Open,
        };
        match verdict {
            Verdict::Open => return verdict,
            Verdict::Expected => self.expected += 1,
            Verdict::Unexpected => self.unexpected += 1,
        }
        worker.judged = true;
        self.obeyed |= event.reason == Some(InterruptReason::Stop);
        self.last_end = Some(now);
        verdict
    }

    /// Whether there is nothing more to wait for.
    pub(crate) fn is_done(&self, now: Instant) -> bool {
        match self.action {
            _ if self.has_enough() && matches!(self.count, Count::AtLeast(_)) => true,
            Action::Stop { .. } => self.settles_at().is_some_and(|at| at <= now),
            // Another worker of the queue does not do these, so none is waited for.
            Action::SimulateLoading | Action::FailAfter { .. } => {
                self.has_enough() || self.unexpected > 0
            }
        }
    }

    /// When it may be done although nothing comes.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.settles_at()
    }

    /// Once a worker has ended and none that spoke since the order is left, others may follow for a while.
    fn settles_at(&self) -> Option<Instant> {
        let Action::Stop { drain } = self.action else {
            return None;
        };
        let enough = self.has_enough() || self.count == Count::Some;
        if !enough || self.missing().next().is_some() {
            return None;
        }
        Some(self.last_end? + if drain { DRAIN_SETTLE } else { SETTLE })
    }

    fn has_enough(&self) -> bool {
        self.expected >= self.count.least()
    }

    /// Whether what was expected came, and nothing else.
    pub(crate) fn is_met(&self) -> bool {
        let obeyed = self.obeyed || !matches!(self.action, Action::Stop { .. });
        let none_left = match (self.action, self.count) {
            (Action::Stop { .. }, Count::Some) => self.missing().next().is_none(),
            _ => true,
        };
        self.has_enough() && self.unexpected == 0 && obeyed && none_left
    }

    /// How many did what was expected.
    pub(crate) fn expected(&self) -> u32 {
        self.expected
    }

    /// How many ended in another way.
    pub(crate) fn unexpected(&self) -> u32 {
        self.unexpected
    }

    /// Telemetry ids of workers that were there, spoke since the order, and have not done it.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &str> {
        let left = self
            .workers
            .values()
            .filter(|worker| !worker.judged && !worker.young);
        left.map(|worker| worker.producer.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::{QUEUE, event, to};

    const STOP: Action = Action::Stop { drain: false };
    const SECOND: Duration = Duration::from_secs(1);

    fn judge(action: Action, expect: Count) -> Judge {
        Judge::new(&Order {
            to: to(QUEUE),
            action,
            timeout: SECOND,
            expect: Some(expect),
        })
    }

    fn interrupted(who: &str, reason: InterruptReason) -> Event {
        Event {
            reason: Some(reason),
            ..event(who, 9, EventKind::Interrupted)
        }
    }

    fn loading(who: &str, written: u64) -> Event {
        let mut event = event(who, 2, EventKind::Loading);
        event.records.written = written;
        event
    }

    #[test]
    fn a_stop_is_met_by_interrupted_and_lets_others_follow() {
        let now = Instant::now();
        let mut judge = judge(STOP, Count::Some);
        assert_eq!((judge.wake_at(), judge.is_met()), (None, false));
        assert_eq!(
            judge.see(&interrupted("a", InterruptReason::Stop), now),
            Verdict::Expected
        );
        assert!(judge.is_met() && !judge.is_done(now));
        assert_eq!(judge.see(&loading("b", 3), now), Verdict::Open);
        assert_eq!(judge.missing().collect::<Vec<_>>(), ["dummy-service__b"]);
        assert!(
            !judge.is_met() && judge.wake_at().is_none(),
            "b lives and is waited for"
        );
        let later = now + 4 * SECOND;
        assert_eq!(
            judge.see(&interrupted("b", InterruptReason::Upstream), later),
            Verdict::Expected
        );
        assert_eq!(judge.wake_at(), Some(later + SETTLE));
        assert!(judge.is_done(later + SETTLE) && judge.is_met());
    }

    #[test]
    fn a_count_ends_the_wait() {
        let now = Instant::now();
        let mut judge = judge(STOP, Count::AtLeast(2));
        judge.see(&interrupted("a", InterruptReason::Stop), now);
        assert!(!judge.is_done(now + 60 * SECOND) && !judge.is_met());
        judge.see(&interrupted("b", InterruptReason::Stop), now);
        assert!(judge.is_done(now) && judge.is_met());
    }

    #[test]
    fn any_other_end_is_not_what_a_stop_expects() {
        let now = Instant::now();
        for other in [
            event("b", 9, EventKind::Finished),
            event("b", 9, EventKind::Error),
            interrupted("b", InterruptReason::Signal),
        ] {
            let mut judge = judge(STOP, Count::Some);
            judge.see(&interrupted("a", InterruptReason::Stop), now);
            assert_eq!(judge.see(&other, now), Verdict::Unexpected);
            assert!(judge.is_done(now + SETTLE) && !judge.is_met(), "{other:?}");
        }
        let mut judge = judge(STOP, Count::Some);
        judge.see(&interrupted("a", InterruptReason::Upstream), now);
        assert!(!judge.is_met(), "somebody else stopped its loader");
    }

    #[test]
    fn who_starts_after_the_stop_is_not_waited_for() {
        let now = Instant::now();
        let mut judge = judge(STOP, Count::Some);
        judge.see(&event("new", 1, EventKind::Started), now);
        judge.see(&loading("new", 3), now);
        judge.see(&interrupted("a", InterruptReason::Stop), now);
        assert!(judge.is_done(now + SETTLE) && judge.is_met());
    }

    #[test]
    fn draining_may_be_silent_for_a_heartbeat() {
        let now = Instant::now();
        let mut judge = judge(Action::Stop { drain: true }, Count::Some);
        judge.see(&interrupted("a", InterruptReason::Stop), now);
        assert_eq!(judge.wake_at(), Some(now + DRAIN_SETTLE));
    }

    #[test]
    fn loading_is_met_by_growth() {
        let now = Instant::now();
        let mut judge = judge(Action::SimulateLoading, Count::Some);
        for same in [3, 3] {
            assert_eq!(judge.see(&loading("a", same), now), Verdict::Open);
        }
        assert_eq!(
            judge.see(&loading("b", 7), now),
            Verdict::Open,
            "another worker, nothing to compare with"
        );
        assert_eq!(judge.see(&loading("a", 4), now), Verdict::Expected);
        assert!(judge.is_done(now) && judge.is_met());
    }

    #[test]
    fn a_failure_is_met_by_error_alone() {
        let now = Instant::now();
        let fail = Action::FailAfter { seconds: 1.0 };
        let mut met = judge(fail, Count::Some);
        assert_eq!(
            met.see(&event("a", 9, EventKind::Error), now),
            Verdict::Expected
        );
        assert!(met.is_done(now) && met.is_met());
        let mut unmet = judge(fail, Count::Some);
        assert_eq!(
            unmet.see(&event("a", 9, EventKind::Finished), now),
            Verdict::Unexpected
        );
        assert!(unmet.is_done(now) && !unmet.is_met());
    }

    #[test]
    fn workers_of_other_queues_do_not_count() {
        let mut judge = judge(STOP, Count::Some);
        let elsewhere = Event {
            queue_id: "wf-other".into(),
            ..interrupted("a", InterruptReason::Stop)
        };
        assert_eq!(judge.see(&elsewhere, Instant::now()), Verdict::Open);
        assert!(!judge.is_met());
    }
}
