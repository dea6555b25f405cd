//! The body of a worker: when it begins, and how long it is waited for.

use std::{panic::AssertUnwindSafe, time::Duration};

use tokio::{sync::oneshot, task::JoinHandle};

use super::{Failure, Outcome, WorkerContext};
use crate::{ops_server::Health, shutdown::StopSignal};

/// How long the body waits for the commands of before its start, should the broker or the topic not answer.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(5);

/// Spawns the body, which begins once the commands from before the start were read, or a stop was requested. From then on
/// the worker counts as started, whatever becomes of its events. A panic while the future is created is returned as that
/// of a task.
pub(super) fn spawn<F, Fut>(
    body: F,
    context: WorkerContext,
    health: Health,
    until_caught_up: oneshot::Receiver<()>,
) -> JoinHandle<Result<Outcome, Failure>>
where
    F: FnOnce(WorkerContext) -> Fut,
    Fut: Future<Output = Result<Outcome, Failure>> + Send + 'static,
{
    let stop = context.stop.clone();
    match std::panic::catch_unwind(AssertUnwindSafe(|| body(context))) {
        Ok(future) => tokio::spawn(async move {
            tokio::select! {
                _ = until_caught_up => {}
                // Its grace runs already.
                () = stop.cancelled() => {}
                () = tokio::time::sleep(CATCH_UP_LIMIT) => {
                    tracing::warn!("The control topic does not answer, beginning without it");
                }
            }
            health.set_started();
            future.await
        }),
        Err(panic) => tokio::spawn(async move { std::panic::resume_unwind(panic) }),
    }
}

/// Waits for the body; once told to end, for as long as the grace lasts.
pub(super) async fn watch(
    mut task: JoinHandle<Result<Outcome, Failure>>,
    stop: &StopSignal,
    health: &Health,
    grace: Duration,
) -> Result<Outcome, Failure> {
    let joined = tokio::select! {
        joined = &mut task => joined,
        () = stop.cancelled() => {
            health.set_stopping();
            tokio::select! {
                joined = &mut task => joined,
                () = tokio::time::sleep(grace) => {
                    task.abort();
                    return Err(Failure::retryable(anyhow::anyhow!("did not end within {grace:?} after it was told to")));
                }
                () = stop.at_once() => {
                    task.abort();
                    tracing::warn!("Ended at once by a second signal, what was held comes again");
                    return Ok(Outcome::Stopped);
                }
            }
        }
    };
    // What is left is the last event.
    health.set_stopping();
    joined.unwrap_or_else(|error| Err(Failure::panicked(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{shutdown::StopCause, telemetry::Progress};

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_told_to_end_does_not_wait_for_the_control_topic() {
        let stop = StopSignal::new();
        let (_silent, until_caught_up) = oneshot::channel();
        let context = WorkerContext {
            stop: stop.clone(),
            progress: Progress::default(),
            commands: tokio::sync::mpsc::channel(1).1,
        };
        let body = |ctx: WorkerContext| async move {
            ctx.stop.cancelled().await;
            Ok(Outcome::Stopped)
        };
        let health = Health::default();
        let task = spawn(body, context, health.clone(), until_caught_up);
        stop.stop(StopCause::Terminate);
        let grace = CATCH_UP_LIMIT / 2;
        let ended = watch(task, &stop, &health, grace).await;
        assert!(matches!(ended, Ok(Outcome::Stopped)), "{ended:?}");
    }
}
