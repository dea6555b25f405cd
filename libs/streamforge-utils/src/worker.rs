//! The life of a worker: the one way to start, to be watched, to be told to end, and to end.
//!
//! [`run_worker`] is assembled from the public pieces of this crate; a server that is no worker composes those
//! itself. What a worker does is the closure it is given.

mod cli;
mod failure;
pub mod job;
mod last_event;
mod life;
mod obey;
mod termination;

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
///   an overrun of the grace become `error`. Exactly one of them is published, and nothing after it.
/// - This last event is written to `TERMINATION_MESSAGE_PATH` first, if there is one. Then it is tried until
///   `RETRY_DEADLINE_SECS`; a signal or a `stop` leaves what remains of `SHUTDOWN_GRACE_SECS`, but 5 s at the least; a
///   refusal by Kafka that is permanent, a second signal, or a body that failed because Kafka was away, leaves 5 s.
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
        let telemetry =
            Telemetry::new(&kafka, &queue, service, version, metrics.clone(), observer)?;
        anyhow::Ok((metrics, telemetry))
    };
    let (metrics, telemetry) = match prepared.await {
        Ok(prepared) => prepared,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "Could not start");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let witness = queue.termination_message_path.clone();
    if let Some(path) = &witness {
        termination::clear(path).await;
    }
    telemetry.started();

    let (to_body, commands) = mpsc::channel(16);
    let beat = tokio::spawn({
        let (telemetry, interval) = (telemetry.clone(), ops.progress_interval());
        async move { telemetry.beat(interval).await }
    });
    let mut listening = Vec::new();
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
        listening.push(tokio::spawn(obey.all(received, caught_up)));
        listening.push(tokio::spawn(control::listen(
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
    let task = life::spawn(body, context, health.clone(), until_caught_up);
    let result = life::watch(task, &stop, &health, ops.shutdown_grace()).await;

    let (ending, code) = failure::ending(result, stop.cause());
    log_ending(&ending, telemetry.progress());
    beat.abort();
    // Commands are heard until the last event has arrived: a stop leaves less time for it.
    last_event::publish(&telemetry, &ending, &stop, &ops, witness.as_deref()).await;
    listening.iter().for_each(JoinHandle::abort);
    ExitCode::from(code)
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
