//! The life of a worker: the one way to start, to be watched, to be told to end, and to end.
//!
//! [`run_worker`] is assembled from the public pieces of this crate; a server that is no worker composes those
//! itself. What a worker does is the closure it is given.

mod cli;
mod failure;
pub mod job;
mod obey;

use std::{panic::AssertUnwindSafe, process::ExitCode, time::Duration};

use futures::FutureExt;
use prometheus::Registry;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

pub use cli::{About, Flag, FlagValue};
use obey::Obey;

pub use failure::{EXIT_CONFIG, EXIT_PERMANENT, Failure, Outcome, exit_code};

use crate::{
    config::{KafkaConfig, OpsConfig, QueueConfig},
    control::{self, CommandFilter},
    metrics::WorkerMetrics,
    ops_server::{self, Health},
    protocol::{Command, InterruptReason, TimestampMs},
    shutdown::{StopCause, StopSignal},
    telemetry::{Ending, Observer, Progress, Telemetry},
};

/// How long the last event is tried before the process exits.
const LAST_EVENT_LIMIT: Duration = Duration::from_secs(5);
/// How long the body waits for the commands of before its start, should the broker or the topic not answer.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(5);
/// How long blocking calls into librdkafka may hold up the end of the process.
const RUNTIME_LIMIT: Duration = Duration::from_millis(500);

/// Who the worker is and what it was configured with.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// Name of the service, `service` in events and `target` in commands.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Whether a `stop` that drains lets it go on until its topic is empty, as it should for a writer.
    pub drains: bool,
    /// Whether it reads commands at all. One that does not is ended by a signal or by itself.
    pub listens: bool,
    /// Who is told of each event, beside Kafka.
    pub observer: Option<Observer>,
    /// The brokers.
    pub kafka: KafkaConfig,
    /// The workflow.
    pub queue: QueueConfig,
    /// How it is watched and how long it tries.
    pub ops: OpsConfig,
}

/// What the body of a worker is given.
#[derive(Debug)]
pub struct WorkerContext {
    /// Tells it to end.
    pub stop: StopSignal,
    /// Where it reports its counts.
    pub progress: Progress,
    /// Commands for it other than `start`, `stop` and `ping`. Closed from the beginning if it does not listen.
    pub commands: mpsc::Receiver<Command>,
}

/// Runs `body` as a worker, from `started` to the exit code.
///
/// - Signals are heard, `/metrics` and `/health/*` are served, and `started` is on its way before `body` begins.
///   A port that was asked for and is taken, or a client that librdkafka refuses to make, ends with 78.
/// - SIGTERM, SIGINT and a `stop` for this worker cancel `ctx.stop`; the first cause counts. Pings are answered.
/// - `body` begins once the commands of before the start were heard, so a `stop` among them always comes first; if the
///   control topic does not answer within 5 s, or the worker is told to end, without them.
/// - `loading` is published by itself, from `ctx.progress`.
/// - After the cancellation `body` has `SHUTDOWN_GRACE_SECS`, then it is aborted. A second signal aborts it at once, which is
///   `interrupted` too.
/// - `Ok(Done)` becomes `finished`, `Ok(Stopped)` and `Ok(UpstreamStopped)` become `interrupted`; `Err`, a panic and
///   an overrun of the grace become `error`. Exactly one of them is published, nothing after it, and it is tried for
///   5 s.
/// - The exit code is [`exit_code`]'s.
///
/// `body` flushes and awaits its own data before it returns, so `finished` never precedes the data.
pub async fn run_worker<F, Fut>(settings: WorkerSettings, registry: Registry, body: F) -> ExitCode
where
    F: FnOnce(WorkerContext) -> Fut,
    Fut: Future<Output = Result<Outcome, Failure>> + Send + 'static,
{
    let process_started_at = TimestampMs::now();
    let WorkerSettings {
        service,
        version,
        drains,
        listens,
        observer,
        kafka,
        queue,
        ops,
    } = settings;
    let stop = StopSignal::new();
    let health = Health::default();
    let prepared = async {
        stop.listen_for_signals()?;
        let metrics = WorkerMetrics::register(&registry)?;
        ops_server::serve(ops.metrics_port, registry, health.clone()).await?;
        let telemetry = Telemetry::new(
            &kafka,
            &queue,
            service,
            version,
            metrics.clone(),
            health.clone(),
            observer,
        )?;
        anyhow::Ok((metrics, telemetry))
    };
    let (metrics, telemetry) = match prepared.await {
        Ok(prepared) => prepared,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "Could not start");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    telemetry.started();

    let (to_body, commands) = mpsc::channel(16);
    let mut background = vec![tokio::spawn({
        let (telemetry, interval) = (telemetry.clone(), ops.progress_interval());
        async move { telemetry.beat(interval).await }
    })];
    let (caught_up, until_caught_up) = oneshot::channel();
    if listens {
        let filter = CommandFilter::new(&queue, service, process_started_at);
        let obey = Obey {
            telemetry: telemetry.clone(),
            stop: stop.clone(),
            drains,
            to_body,
        };
        let (heard, received) = mpsc::channel(16);
        background.push(tokio::spawn(obey.all(received, caught_up)));
        background.push(tokio::spawn(control::listen(
            kafka, queue, filter, metrics, heard,
        )));
    } else {
        // Nothing comes, and nothing is waited for.
        drop(to_body);
        let _ = caught_up.send(());
    }

    let context = WorkerContext {
        stop: stop.clone(),
        progress: telemetry.progress().clone(),
        commands,
    };
    let task = spawn_caught(body, context, until_caught_up);
    let result = watch(task, &stop, &health, ops.shutdown_grace()).await;

    let (ending, code) = failure::ending(result, stop.cause());
    log_ending(&ending, telemetry.progress());
    telemetry.ended(&ending);
    background.iter().for_each(JoinHandle::abort);
    if !telemetry.flush(LAST_EVENT_LIMIT).await {
        tracing::warn!("The last event did not reach Kafka within {LAST_EVENT_LIMIT:?}");
    }
    ExitCode::from(code)
}

/// Spawns the body, which begins when the commands of before were heard, or when it is told to end. Also a panic while
/// its future is made comes back as that of a task.
fn spawn_caught<F, Fut>(
    body: F,
    context: WorkerContext,
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
            future.await
        }),
        Err(panic) => tokio::spawn(async move { std::panic::resume_unwind(panic) }),
    }
}

fn log_ending(ending: &Ending, progress: &Progress) {
    match ending {
        Ending::Error { message, retryable } => {
            tracing::error!(error = message, retryable, "Failed")
        }
        Ending::Finished => tracing::info!("Finished: {}", progress.message()),
        Ending::Interrupted(reason) => {
            tracing::info!(?reason, "Interrupted: {}", progress.message())
        }
    }
}

/// Waits for the body; once told to end, for as long as the grace lasts.
async fn watch(
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
    joined.unwrap_or_else(|error| Err(Failure::panicked(error)))
}

/// Runs a worker's future on a runtime of its own, and does not wait for threads that hang in a client library.
pub fn block_on(worker: impl Future<Output = ExitCode>) -> ExitCode {
    // Two threads: a worker moves bytes between sockets, and memory is bounded.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(AssertUnwindSafe(worker).catch_unwind());
            runtime.shutdown_timeout(RUNTIME_LIMIT);
            code.unwrap_or(ExitCode::FAILURE)
        }
        Err(error) => {
            tracing::error!(%error, "Could not start the runtime");
            ExitCode::FAILURE
        }
    }
}

/// The reason of a worker that ended because of `stop`, or of a drain that needs no other cause.
pub(crate) fn interrupt_reason(cause: Option<StopCause>) -> InterruptReason {
    cause.map_or(InterruptReason::Stop, StopCause::reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_told_to_end_does_not_wait_for_the_control_topic() {
        let stop = StopSignal::new();
        let (_silent, until_caught_up) = oneshot::channel();
        let context = WorkerContext {
            stop: stop.clone(),
            progress: Progress::default(),
            commands: mpsc::channel(1).1,
        };
        let body = |ctx: WorkerContext| async move {
            ctx.stop.cancelled().await;
            Ok(Outcome::Stopped)
        };
        let task = spawn_caught(body, context, until_caught_up);
        stop.stop(StopCause::Terminate);
        let grace = CATCH_UP_LIMIT / 2;
        let ended = watch(task, &stop, &Health::default(), grace).await;
        assert!(matches!(ended, Ok(Outcome::Stopped)), "{ended:?}");
    }
}
