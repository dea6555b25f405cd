//! Simulates any other worker: says `started`, answers pings, obeys stops, fails when asked to, makes load, reads it back.
//!
//! - [`run`]: the worker, from its arguments and its environment to its exit code.
//! - [`config`], [`metrics`]: what it is told and what it counts.
//! - [`cue`]: what ends or changes its work. [`simulate`]: waiting and pretending.
//! - [`load`] publishes: [`synthetic`] makes records, [`pace`] says when, [`topic`] where to go on, [`producer`] how.
//! - [`consume`] reads: [`tally`] looks for holes. [`rate`]: how fast records go.

pub mod config;
pub mod consume;
pub mod cue;
pub mod load;
pub mod metrics;
pub mod pace;
pub mod producer;
pub mod rate;
pub mod simulate;
pub mod synthetic;
pub mod tally;
pub mod topic;

use std::{ffi::OsString, process::ExitCode};

use prometheus::Registry;
use streamforge_utils::{
    config::Vars,
    logging,
    protocol::EventKind,
    telemetry::Observer,
    worker::{About, EXIT_CONFIG, Failure, Outcome, WorkerContext, WorkerSettings, run_worker},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    config::{Config, Task},
    cue::{Cues, FailAt, Plan},
    metrics::Metrics,
};

/// Name of the service, in events and commands.
pub const SERVICE: &str = "dummy-service";

/// What it says about itself.
pub const ABOUT: About = About {
    service: SERVICE,
    version: env!("CARGO_PKG_VERSION"),
    summary: "Simulates any worker: tells whether Kafka, topics, commands, events and metrics work, and makes load.",
    variables: config::VARIABLES,
    flags: config::FLAGS,
};

/// Runs the worker from its flags (the first is the program's name) and variables to its exit code.
pub async fn run(args: impl Iterator<Item = OsString>, vars: Vars) -> ExitCode {
    let started = Instant::now();
    let vars = match ABOUT.vars(args, vars) {
        Ok(vars) => vars,
        Err(answered) => return answered,
    };
    let config = match Config::from_vars(&vars) {
        Ok(config) => config,
        Err(error) => return ABOUT.refuse(&error),
    };
    logging::init(&config.ops, vars.contains_key("NO_COLOR"));
    info!(version = ABOUT.version, ?config, "Starting {SERVICE}");
    let registry = Registry::new();
    let metrics = match Metrics::register(&registry) {
        Ok(metrics) => metrics,
        Err(error) => {
            error!(%error, "Could not register metrics");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let pinged = CancellationToken::new();
    let settings = WorkerSettings {
        service: SERVICE,
        version: ABOUT.version,
        drains: false,
        listens: config.listens,
        observer: Some(observer(
            metrics.clone(),
            config.exit_on_ping.then(|| pinged.clone()),
        )),
        kafka: config.kafka.clone(),
        queue: config.queue.clone(),
        ops: config.ops.clone(),
    };
    let plan = Plan {
        exit_at: config.exit_after.map(|after| started + after.duration()),
        fail: config
            .fail_after
            .map(|after| FailAt::new(started, after, "--fail-after")),
        pinged,
        may_simulate: matches!(config.task, Task::Wait(_) | Task::Simulate(_)),
    };
    run_worker(settings, registry, |context| {
        work(config, metrics, plan, context)
    })
    .await
}

/// Counts events, and says when the first pong is on its way.
fn observer(metrics: Metrics, ponged: Option<CancellationToken>) -> Observer {
    Observer::new(move |event| {
        metrics.observe(event);
        if let (EventKind::Pong, Some(ponged)) = (event.event, &ponged) {
            ponged.cancel();
        }
    })
}

async fn work(
    config: Config,
    metrics: Metrics,
    plan: Plan,
    context: WorkerContext,
) -> Result<Outcome, Failure> {
    let WorkerContext {
        stop,
        progress,
        commands,
    } = context;
    let mut cues = Cues::new(stop, commands, plan);
    match config.task.clone() {
        Task::Wait(total) => simulate::wait(&mut cues, &progress, total).await,
        Task::Simulate(total) => simulate::simulate(&mut cues, &progress, total).await,
        Task::Publish(publish) => load::run(&mut cues, &config, publish, progress, metrics).await,
        Task::Consume(topic) => consume::run(&mut cues, &config, &topic, progress, metrics).await,
    }
}
