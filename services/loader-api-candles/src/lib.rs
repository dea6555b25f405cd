//! Loads the final candles of a time range from the exchange's REST API and publishes them to Kafka, in order.
//!
//! - [`run`]: the worker, from its environment to its exit code.
//! - [`config`], [`metrics`], [`message`]: what it is told and what it tells.
//! - [`plan`], [`fetch`], [`binance`]: what to ask the exchange for, in which order, and how.
//! - [`kline`], [`gaps`]: what the exchange has, and what it does not have.
//! - [`stream`], [`partition`], [`publish`]: where a record goes, and how it gets there.
//! - [`resume`], [`replay`]: what earlier attempts have left.
//! - [`load`], [`grace`], [`worker`]: the loop, how long it may take to end, and what it needs.

pub mod binance;
pub mod config;
pub mod fetch;
pub mod gaps;
pub mod grace;
pub mod kline;
pub mod load;
pub mod message;
pub mod metrics;
pub mod partition;
pub mod plan;
pub mod publish;
pub mod replay;
pub mod resume;
pub mod stream;
pub mod worker;

use std::{ffi::OsString, process::ExitCode};

use streamforge_utils::{
    config::Vars,
    logging,
    worker::{About, WorkerSettings, run_worker},
};

use config::Config;

/// Name of the service, in events and commands.
pub const SERVICE: &str = "loader-api-candles";

const ABOUT: About = About {
    service: SERVICE,
    version: env!("CARGO_PKG_VERSION"),
    summary: "Loads the final candles of a time range from the exchange's REST API and publishes them to Kafka.",
    variables: config::VARIABLES,
    flags: &[],
};

/// Runs the loader with these arguments, the program's name first, and this environment.
pub async fn run(args: impl IntoIterator<Item = OsString>, vars: Vars) -> ExitCode {
    let vars = match ABOUT.vars(args, vars) {
        Ok(vars) => vars,
        Err(answered) => return answered,
    };
    let config = match Config::from_vars(&vars) {
        Ok(config) => config,
        Err(error) => return ABOUT.refuse(&error),
    };
    logging::init(&config.ops, vars.contains_key("NO_COLOR"));
    tracing::info!(
        queue.id = %config.queue.queue_id,
        version = ABOUT.version,
        ?config,
        "Starting {SERVICE}"
    );
    let settings = WorkerSettings {
        service: SERVICE,
        version: ABOUT.version,
        drains: false,
        listens: true,
        observer: None,
        kafka: config.kafka.clone(),
        queue: config.queue.clone(),
        ops: config.ops.clone(),
    };
    let registry = prometheus::Registry::new();
    let metrics = registry.clone();
    run_worker(settings, registry, |context| {
        worker::body(config, metrics, context)
    })
    .await
}
