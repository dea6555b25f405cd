//! How long something that can pass is tried again.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::ArangoError;

/// The first wait is about this long; each next one twice as long, plus jitter.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// A database that comes back is found out at most this much later, plus jitter.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// A refusal that may pass ([`ArangoError::Refused`]) is permanent after this long, as one of Kafka's.
const BELIEVED_AFTER: Duration = Duration::from_secs(3);
/// Longest wait before a refusal is asked about again.
const REFUSAL_DELAY: Duration = Duration::from_millis(500);
/// How often one request is sent again at once after closed connections: a proxy may have closed all that were kept.
const MAX_AT_ONCE: u32 = 8;

/// Why something is tried again: a closed set, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryKind {
    /// No connection, or it broke.
    Connection,
    /// A connection was closed before an answer began, as happens to those that are kept.
    Closed,
    /// No answer in time.
    Timeout,
    /// The server has too much to do, or is starting or stopping.
    Overload,
    /// It failed in another way, or a proxy before it did.
    ServerError,
    /// Two writes of one document met.
    Conflict,
    /// The answer can't be understood.
    BadAnswer,
    /// The server refuses the user, the database or the collection, which may pass.
    Refused,
}

impl RetryKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Connection,
        Self::Closed,
        Self::Timeout,
        Self::Overload,
        Self::ServerError,
        Self::Conflict,
        Self::BadAnswer,
        Self::Refused,
    ];

    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Overload => "overload",
            Self::ServerError => "server-error",
            Self::Conflict => "conflict",
            Self::BadAnswer => "bad-answer",
            Self::Refused => "refused",
        }
    }
}

/// The deadline that all requests to one database share: it counts from the last success of any of them, unless the
/// trouble is that of single documents.
pub struct Retry {
    deadline: Duration,
    /// The variable that sets the deadline, for messages.
    variable: Option<&'static str>,
    last_success: Mutex<Instant>,
    on_retry: Box<dyn Fn(RetryKind) + Send + Sync>,
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("deadline", &self.deadline)
            .field("last_success", &self.last_success)
            .finish_non_exhaustive()
    }
}

impl Retry {
    /// Tries as long as nothing has succeeded for `deadline`.
    pub fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            variable: None,
            last_success: Mutex::new(Instant::now()),
            on_retry: Box::new(|_| {}),
        }
    }

    /// Names the variable that sets the deadline, for whoever reads that it passed.
    pub fn set_by(mut self, variable: &'static str) -> Self {
        self.variable = Some(variable);
        self
    }

    /// Called each time that something is about to be tried again, to count it.
    pub fn on_retry(mut self, count: impl Fn(RetryKind) + Send + Sync + 'static) -> Self {
        self.on_retry = Box::new(count);
        self
    }

    /// Something succeeded.
    pub fn succeeded(&self) {
        *self
            .last_success
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Starts the tries of one request, whose idle time before does not count.
    pub fn start(&self) -> Tries<'_> {
        Tries {
            retry: self,
            since: Instant::now(),
            is_alone: false,
            sent_at_once: 0,
            refused_since: None,
            delays: delays(),
        }
    }

    fn last_success(&self) -> Instant {
        *self
            .last_success
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn delays() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

/// The tries of one request.
#[derive(Debug)]
pub struct Tries<'a> {
    retry: &'a Retry,
    /// Its start, or its own last progress.
    since: Instant,
    /// Whether the trouble is its own, so that the success of others says nothing.
    is_alone: bool,
    /// How often it was sent again without a wait, since its last progress.
    sent_at_once: u32,
    /// Since when the server refuses it.
    refused_since: Option<Instant>,
    delays: ExponentialBackoff,
}

impl Tries<'_> {
    /// Waits before the next try, after an error of single documents: others may be stored all the while, so from now
    /// on only what this request itself gets done counts.
    ///
    /// # Errors
    /// As [`Tries::wait`].
    pub async fn wait_alone(&mut self, error: ArangoError) -> Result<(), ArangoError> {
        self.is_alone = true;
        self.wait(error).await
    }

    /// Waits before the next try; not at all if a kept connection was closed before an answer.
    ///
    /// # Errors
    /// Gives the error back if no retry can mend it, if the deadline would pass, or, as permanent, if the server has
    /// refused for some seconds.
    pub async fn wait(&mut self, error: ArangoError) -> Result<(), ArangoError> {
        let (kind, what) = match error {
            ArangoError::Permanent(_) => return Err(error),
            ArangoError::Refused(what) => return self.wait_refused(what).await,
            ArangoError::Unavailable { kind, what } => (kind, what),
        };
        self.refused_since = None;
        if kind == RetryKind::Closed && self.sent_at_once < MAX_AT_ONCE {
            self.sent_at_once += 1;
            (self.retry.on_retry)(kind);
            debug!(error = %what, "Sending the request again on another connection");
            return Ok(());
        }
        let delay = self.delays.next().unwrap_or(LONGEST_DELAY);
        let trouble = if self.is_alone {
            self.since.elapsed()
        } else {
            self.retry.last_success().max(self.since).elapsed()
        };
        if trouble + delay > self.retry.deadline {
            let seconds = self.retry.deadline.as_secs_f64();
            let variable = self.retry.variable.map(|name| format!(" ({name})"));
            let variable = variable.unwrap_or_default();
            return Err(ArangoError::Unavailable {
                kind,
                what: format!("gave up after trying for {seconds} s{variable}: {what}"),
            });
        }
        (self.retry.on_retry)(kind);
        warn!(error = %what, delay_ms = delay.as_millis() as u64, "The database did not do it, trying again");
        tokio::time::sleep(delay).await;
        Ok(())
    }

    async fn wait_refused(&mut self, what: String) -> Result<(), ArangoError> {
        let believed_after = BELIEVED_AFTER.min(self.retry.deadline);
        let since = *self.refused_since.get_or_insert_with(Instant::now);
        let left = believed_after.saturating_sub(since.elapsed());
        if left.is_zero() {
            return Err(ArangoError::Permanent(what));
        }
        let delay = self.delays.next().unwrap_or(REFUSAL_DELAY);
        let delay = delay.min(REFUSAL_DELAY).min(left);
        (self.retry.on_retry)(RetryKind::Refused);
        warn!(error = %what, delay_ms = delay.as_millis() as u64, "The database refuses the request; retrying");
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// The request succeeded, or got at least somewhere: the next trouble starts anew.
    pub fn progress(&mut self) {
        self.retry.succeeded();
        self.since = Instant::now();
        self.is_alone = false;
        self.sent_at_once = 0;
        self.refused_since = None;
        self.delays = delays();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble() -> ArangoError {
        ArangoError::unavailable(RetryKind::Overload, "503")
    }

    fn retry(deadline: u64) -> Retry {
        Retry::new(Duration::from_secs(deadline)).set_by("RETRY_DEADLINE_SECS")
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_when_nothing_succeeded_until_the_deadline() {
        let retry = retry(30);
        let start = Instant::now();
        let mut tries = retry.start();
        let error = loop {
            if let Err(error) = tries.wait(trouble()).await {
                break error;
            }
        };
        assert!(start.elapsed() <= Duration::from_secs(30));
        assert!(start.elapsed() >= Duration::from_secs(9));
        assert_eq!(
            error.to_string(),
            "gave up after trying for 30 s (RETRY_DEADLINE_SECS): 503"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_counts_from_the_last_success_of_any_request() {
        let retry = retry(30);
        let start = Instant::now();
        let mut tries = retry.start();
        while start.elapsed() < Duration::from_secs(300) {
            retry.succeeded();
            tries.wait(trouble()).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_before_the_first_try_does_not_count() {
        let retry = retry(30);
        tokio::time::advance(Duration::from_secs(3600)).await;
        retry.start().wait(trouble()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_permanent_once_it_has_stood_for_some_seconds() {
        let refused = || ArangoError::Refused("404 1203".to_owned());
        let retry = retry(30);
        let start = Instant::now();
        let mut tries = retry.start();
        let error = loop {
            if let Err(error) = tries.wait(refused()).await {
                break error;
            }
        };
        assert!(matches!(error, ArangoError::Permanent(_)), "{error}");
        assert_eq!(start.elapsed(), BELIEVED_AFTER);

        let mut tries = retry.start();
        for _ in 0..20 {
            tries.wait(refused()).await.unwrap();
            tries.progress();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_shorter_than_that_ends_a_refusal_too() {
        let retry = retry(1);
        let start = Instant::now();
        let mut tries = retry.start();
        let refused = || ArangoError::Refused("401 11".to_owned());
        while tries.wait(refused()).await.is_ok() {}
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_connection_is_not_waited_for_until_it_happens_again_and_again() {
        let retry = retry(30);
        let start = Instant::now();
        let mut tries = retry.start();
        let closed = || ArangoError::unavailable(RetryKind::Closed, "closed");
        for _ in 0..MAX_AT_ONCE {
            tries.wait(closed()).await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        tries.wait(closed()).await.unwrap();
        assert!(start.elapsed() >= FIRST_DELAY);
    }

    #[tokio::test]
    async fn what_no_retry_can_mend_comes_back_at_once() {
        let error = ArangoError::Permanent("no such collection".to_owned());
        retry(30).start().wait(error).await.unwrap_err();
    }
}
