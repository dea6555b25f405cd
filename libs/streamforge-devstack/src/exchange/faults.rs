//! What can go wrong between a client and the exchange, on demand.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// How long an answer takes: `fixed`, plus something below `jitter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// The least.
    pub fixed: Duration,
    /// What chance may add.
    pub jitter: Duration,
}

impl Latency {
    /// The same for every answer.
    pub fn fixed(fixed: Duration) -> Self {
        Self {
            fixed,
            jitter: Duration::ZERO,
        }
    }

    /// One drawn.
    pub(super) fn draw(&self) -> Duration {
        self.fixed + self.jitter.mul_f64(rand::random::<f64>())
    }
}

/// What a klines request gets in place of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This HTTP status, such as 500, 502, 503 or 504, with the body that the exchange has for it.
    Status(u16),
    /// 429, as if too much weight had been used.
    TooManyRequests {
        /// The header `Retry-After`, in seconds.
        retry_after_secs: u64,
    },
    /// 418, as if 429 had been ignored.
    Banned {
        /// The header `Retry-After`, in seconds.
        retry_after_secs: u64,
    },
    /// 403 with the HTML page of the firewall, without the exchange's headers.
    Firewall,
    /// Status 200 with an HTML page, as a captive portal answers.
    HtmlOk,
    /// The right page, but the connection closes after half of the body that `Content-Length` promised.
    CutShort,
    /// The right page, but its last kline has 11 columns. An empty page stays as it is.
    ShortKline,
    /// The right page, but the close price of its last kline is no number. An empty page stays as it is.
    BadPrice,
    /// The connection closes without an answer.
    Drop,
    /// No answer, ever; the connection stays open until the exchange stops.
    Hang,
}

/// Which klines requests get which fault.
#[derive(Debug, Default)]
pub(super) struct FaultPlan {
    next: VecDeque<Fault>,
    numbered: BTreeMap<u64, Fault>,
}

impl FaultPlan {
    /// The next `count` requests that have no fault of their own.
    pub(super) fn fail_next(&mut self, count: usize, fault: Fault) {
        self.next.extend(std::iter::repeat_n(fault, count));
    }

    /// The klines request with this number.
    pub(super) fn fail_nth(&mut self, number: u64, fault: Fault) {
        self.numbered.insert(number, fault);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The fault for the klines request with this number.
    pub(super) fn take(&mut self, number: u64) -> Option<Fault> {
        self.numbered
            .remove(&number)
            .or_else(|| self.next.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_faults_do_not_use_up_the_next_ones() {
        let mut plan = FaultPlan::default();
        plan.fail_next(2, Fault::Drop);
        plan.fail_nth(2, Fault::Firewall);
        let taken: Vec<_> = (1..=4).map(|number| plan.take(number)).collect();
        assert_eq!(
            taken,
            [
                Some(Fault::Drop),
                Some(Fault::Firewall),
                Some(Fault::Drop),
                None
            ]
        );
    }
}
