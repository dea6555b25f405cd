//! How long a load may go on once it was told to end.
//!
//! The worker's body is aborted at the end of the grace period, which is reported as an error. So whatever is waited
//! for after a stop ends a little before that. What is given up then is whoever waits' affair.

use std::{sync::OnceLock, time::Duration};

use streamforge_utils::shutdown::StopSignal;
use tokio::time::Instant;

/// What the end of the grace period is kept for: dropping what is queued and closing the clients.
const CLOSING: Duration = Duration::from_secs(3);

/// Told to end or not, and the time that is left then.
#[derive(Debug)]
pub struct Grace {
    stop: StopSignal,
    limit: Duration,
    until: OnceLock<Instant>,
}

impl Grace {
    /// Uses up to `grace` from the time that `stop` is given, less what closing takes.
    pub fn new(stop: StopSignal, grace: Duration) -> Self {
        Self {
            stop,
            limit: grace.saturating_sub(CLOSING).max(grace / 2),
            until: OnceLock::new(),
        }
    }

    /// What tells to end.
    pub fn stop(&self) -> &StopSignal {
        &self.stop
    }

    /// Waits until told to end and until there is no time left for waiting.
    pub async fn spent(&self) {
        self.stop.cancelled().await;
        let until = *self.until.get_or_init(|| Instant::now() + self.limit);
        tokio::time::sleep_until(until).await;
    }

    /// Does `work`; `None` if it did not end before there was no time left. Before a stop it may take any time.
    pub async fn within<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.spent() => None,
        }
    }

    /// As [`Grace::within`], and not longer than a stop would leave, also if there is none.
    pub async fn briefly<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let done = self.within(tokio::time::timeout(self.limit, work)).await;
        done.and_then(Result::ok)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use streamforge_utils::shutdown::StopCause;

    use super::*;

    fn grace() -> Grace {
        Grace::new(StopSignal::new(), Duration::from_secs(25))
    }

    #[tokio::test(start_paused = true)]
    async fn before_a_stop_there_is_time() {
        let grace = grace();
        let hour = Duration::from_secs(3_600);
        assert_eq!(grace.within(tokio::time::sleep(hour)).await, Some(()));
        assert_eq!(grace.briefly(tokio::time::sleep(hour)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_is_waited_for_after_a_stop_shares_one_grace() {
        let grace = grace();
        grace.stop().stop(StopCause::Terminate);
        let begun = Instant::now();
        let first = grace.within(tokio::time::sleep(Duration::from_secs(20)));
        assert_eq!(first.await, Some(()));
        assert_eq!(grace.within(pending::<()>()).await, None);
        assert_eq!(begun.elapsed().as_secs(), 22);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_grace_is_halved() {
        let grace = Grace::new(StopSignal::new(), Duration::from_secs(2));
        grace.stop().stop(StopCause::Command);
        let begun = Instant::now();
        assert_eq!(grace.briefly(pending::<()>()).await, None);
        assert_eq!(begun.elapsed().as_secs(), 1);
    }
}
