//! Trying again what may pass, until a deadline.
//!
//! The deadline counts time spent on requests and on the pauses between them. Silence that the exchange asked for, and
//! waiting for the next minute's weight, are not in it.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable};
use tokio::time::Instant;

use super::{BinanceClient, BinanceError, Request, weight::Pause};
use crate::kline::BadPage;

impl BinanceClient {
    /// Asks until there is an answer that `read` accepts, an error that stays, or the deadline.
    pub(super) async fn get<T>(
        &self,
        request: &Request<'_>,
        read: impl Fn(&[u8]) -> Result<T, BadPage>,
    ) -> Result<T, BinanceError> {
        let spent = Mutex::new(Duration::ZERO);
        let spend = |more: Duration| {
            let mut spent = spent.lock().unwrap_or_else(PoisonError::into_inner);
            *spent += more;
            *spent
        };
        let wait = self.message.wait();
        let attempt = || async {
            let mut has_paused = false;
            let on_pause = |pause: Pause| {
                has_paused = true;
                wait.says(pause.to_string());
            };
            let admission = self.budget.admit(request.weight, on_pause).await?;
            if has_paused {
                wait.over();
            }
            self.metrics.weight_used(self.budget.used());
            let begun = Instant::now();
            let answer = self.ask(request, admission).await;
            let spent = spend(begun.elapsed());
            answer
                .and_then(|body| {
                    read(&body).map_err(|source| BinanceError::Malformed {
                        request: request.name,
                        source,
                    })
                })
                .map_err(|error| {
                    if error.may_pass() && spent >= self.settings.retry_deadline {
                        return gave_up(spent, error);
                    }
                    error
                })
        };
        let backoff = ExponentialBuilder::default()
            .with_min_delay(self.settings.first_backoff)
            .with_max_delay(self.settings.longest_backoff)
            .with_jitter()
            .without_max_times();
        attempt
            .retry(backoff)
            .when(|error| error.may_pass() && !matches!(error, BinanceError::GaveUp { .. }))
            // The gate keeps the silence, for every request.
            .adjust(|error, pause| match error {
                BinanceError::RateLimited { retry_after }
                | BinanceError::Banned { retry_after }
                    if retry_after.is_some() =>
                {
                    Some(Duration::ZERO)
                }
                _ => pause,
            })
            .notify(|error, pause| {
                spend(pause);
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
}

fn gave_up(spent: Duration, error: BinanceError) -> BinanceError {
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
