//! Trying again what may pass, until a deadline.
//!
//! The deadline counts time spent on requests and on the pauses between them. Silence that the exchange asked for, and
//! waiting for the next minute's weight, are not in it.

use std::{
    fmt,
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable};
use tokio::time::Instant;

use super::{BinanceClient, BinanceError, Request, weight::Pause};
use crate::kline::BadPage;

/// What is known of a request that is tried again.
#[derive(Default)]
struct Tries {
    spent: Duration,
    /// The last row that was malformed.
    bad_row: Option<BadPage>,
}

impl BinanceClient {
    /// Asks until there is an answer that `read` accepts, an error that stays, or the deadline. Also says how long
    /// that took, without what the exchange's limits did.
    pub(super) async fn get<T>(
        &self,
        request: &Request<'_>,
        read: impl Fn(&[u8]) -> Result<T, BadPage>,
    ) -> Result<(T, Duration), BinanceError> {
        let tries = Mutex::new(Tries::default());
        let tries = || tries.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.message.wait();
        let attempt = || async {
            let mut has_paused = false;
            let on_pause = |pause: Pause| {
                has_paused = true;
                wait.says(pause.to_string());
            };
            let admitted = self.budget.admit(request.weight, request.aim, on_pause);
            let admission = admitted.await?;
            if has_paused {
                wait.over();
            }
            self.metrics.weight_used(self.budget.used());
            let begun = Instant::now();
            let answer = self.ask(request, admission).await;
            let mut tries = tries();
            tries.spent += begun.elapsed();
            let read = answer.and_then(|body| {
                read(&body).map_err(|source| malformed(request, source, &mut tries.bad_row))
            });
            read.map(|answer| (answer, tries.spent))
                .map_err(|error| self.out_of_time(error, tries.spent))
        };
        let backoff = ExponentialBuilder::default()
            .with_min_delay(self.settings.first_backoff)
            .with_max_delay(self.settings.longest_backoff)
            .with_jitter()
            .without_max_times();
        attempt
            .retry(backoff)
            .when(|error| error.may_pass() && !matches!(error, BinanceError::GaveUp { .. }))
            .adjust(|error, pause| match error {
                // The gate keeps the silence, for every request.
                BinanceError::RateLimited {
                    retry_after: Some(_),
                }
                | BinanceError::Banned {
                    retry_after: Some(_),
                } => Some(Duration::ZERO),
                BinanceError::Firewall { .. } => Some(self.settings.firewall_pause),
                _ => pause,
            })
            .notify(|error, pause| {
                tries().spent += pause;
                // A pause of the budget follows, which says itself until when.
                if !error.is_a_limit() {
                    wait.says(format!("trying again: {error}"));
                }
                self.metrics.retried(error.kind());
                tracing::warn!(
                    request = request.name,
                    error = format!("{:#}", Chain(error)),
                    pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                    "The exchange did not deliver, trying again"
                );
            })
            .await
    }

    /// What `error` is once there is no time left for another try.
    fn out_of_time(&self, error: BinanceError, spent: Duration) -> BinanceError {
        if !error.may_pass() || spent < self.settings.retry_deadline {
            return error;
        }
        match error {
            BinanceError::Firewall { request } if !self.is_answered.load(Ordering::Relaxed) => {
                BinanceError::Blocked {
                    request,
                    status: 403,
                    message: format!(
                        "its firewall has refused every request for {} s",
                        spent.as_secs()
                    ),
                }
            }
            error => gave_up(spent, error),
        }
    }
}

/// An answer that is not what was asked for. It may come from a proxy on the way; a row that is wrong in the same way
/// twice does not.
fn malformed(
    request: &Request<'_>,
    source: BadPage,
    bad_row: &mut Option<BadPage>,
) -> BinanceError {
    let request = request.name;
    if source.is_about_rows() && bad_row.replace(source.clone()).as_ref() == Some(&source) {
        return BinanceError::MalformedAgain { request, source };
    }
    BinanceError::Malformed { request, source }
}

pub(crate) fn gave_up(spent: Duration, error: BinanceError) -> BinanceError {
    BinanceError::GaveUp {
        spent,
        source: Box::new(error),
    }
}

/// An error and its causes, on one line.
pub(super) struct Chain<'a>(pub(super) &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
