//! Writes the candles of one workflow from its Kafka topic into an ArangoDB collection, and ends with its stream.
//!
//! - [`config`]: everything it can be told.
//! - [`consume`] reads the topic as a member of a consumer group; [`record`] says what a message is.
//! - [`partition`], with [`sequence`], [`offsets`], [`note`] and [`end`]: what is done, lost, committed and over.
//!   [`assignment`]: the partitions that this writer has now.
//! - [`batch`] collects records, [`arango`] writes them, [`dead_letter`] takes those that can't be written.
//! - [`mod@write`]: the loop that puts these together. [`metrics`]: what it counts.

pub mod arango;
pub mod assignment;
pub mod batch;
pub mod config;
pub mod consume;
pub mod dead_letter;
pub mod end;
pub mod metrics;
pub mod note;
pub mod offsets;
pub mod partition;
pub mod record;
pub mod sequence;
pub mod write;

use std::{ffi::OsString, process::ExitCode, sync::Arc, time::Duration};

use prometheus::Registry;
use streamforge_arango::{ArangoError, Database, Retry, Session};
use streamforge_utils::{
    config::Vars,
    kafka::{TopicReader, Topics},
    logging,
    shutdown::StopSignal,
    worker::{About, EXIT_CONFIG, Failure, Outcome, WorkerContext, WorkerSettings, run_worker},
};
use tracing::{error, info};

use crate::{
    arango::{Bulk, WriteOptions},
    batch::Limits,
    config::Config,
    consume::Consumer,
    dead_letter::DeadLetters,
    metrics::Metrics,
    record::Expected,
    write::WriteError,
};

/// The name of this service in groups, events and ids.
pub const SERVICE: &str = "arango-candles";

/// What it says about itself.
pub const ABOUT: About = About {
    service: SERVICE,
    version: env!("CARGO_PKG_VERSION"),
    summary: "Writes candles from a Kafka topic into an ArangoDB collection.",
    variables: config::VARIABLES,
    flags: &[],
};

/// Runs the worker from its flags (the first is the program's name) and variables to its exit code.
pub async fn run(args: impl Iterator<Item = OsString>, vars: Vars) -> ExitCode {
    let vars = match ABOUT.vars(args, vars) {
        Ok(vars) => vars,
        Err(answered) => return answered,
    };
    let config = match Config::from_vars(&vars) {
        Ok(config) => config,
        Err(error) => return ABOUT.refuse(&error),
    };
    run_config(config, vars.contains_key("NO_COLOR")).await
}

/// Runs the worker to its exit code, once it is known what it is to do.
pub async fn run_config(config: Config, no_color: bool) -> ExitCode {
    logging::init(&config.ops, no_color);
    info!(version = ABOUT.version, ?config, "Starting {SERVICE}");
    let registry = Registry::new();
    let metrics = match Metrics::register(&registry) {
        Ok(metrics) => metrics,
        Err(error) => {
            error!(%error, "Could not register metrics");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let settings = WorkerSettings {
        service: SERVICE,
        version: ABOUT.version,
        drains: true,
        listens: true,
        observer: None,
        kafka: config.kafka.clone(),
        queue: config.queue.clone(),
        ops: config.ops.clone(),
    };
    run_worker(settings, registry, |context| work(config, metrics, context)).await
}

/// What the worker does once it is up: makes the collection ready, waits for the topic, writes.
async fn work(
    config: Config,
    metrics: Metrics,
    context: WorkerContext,
) -> Result<Outcome, Failure> {
    let deadline = config.ops.retry_deadline();
    let session = Arc::new(Session::new(&config.arango, deadline).map_err(failure)?);
    let retry = Arc::new(retry(deadline, &metrics));
    let (database, collection) = (&config.arango.database, &config.writer.collection_name);
    let shared = Database::new(Arc::clone(&session), Arc::clone(&retry), database);
    context.progress.set_message("preparing the collection");
    let prepared = tokio::select! {
        prepared = arango::prepare(&shared, collection) => prepared,
        () = context.stop.cancelled() => return Ok(Outcome::Stopped),
    };
    prepared.map_err(failure)?;

    let topic = &config.writer.topic;
    context
        .progress
        .set_message(format!("waiting for topic {topic}"));
    let Some(partitions) = wait_for_topic(&config, &context.stop, deadline).await? else {
        return Ok(Outcome::Stopped);
    };
    context.progress.set_message("joining the consumer group");
    let options = WriteOptions {
        database: database.clone(),
        collection: collection.clone(),
        overwrite_mode: config.writer.overwrite_mode,
        wait_for_sync: config.writer.wait_for_sync,
    };
    let reader = TopicReader::new(&config.kafka, &config.producer_id(), &config.group_id())
        .map_err(Failure::permanent)?;
    let parts = write::Parts {
        consumer: join(&config, reader.clone(), &metrics).map_err(WriteError::Consume)?,
        bulk: Arc::new(Bulk::new(session, retry, &options)),
        dead_letters: DeadLetters::new(
            &config.kafka,
            topic,
            &config.producer_id(),
            deadline,
            metrics.clone(),
        ),
        reader,
        progress: context.progress,
        metrics,
    };
    let outcome = write::run(&context.stop, settings(&config, partitions), parts).await?;
    Ok(outcome)
}

fn retry(deadline: Duration, metrics: &Metrics) -> Retry {
    let metrics = metrics.clone();
    Retry::new(deadline)
        .set_by("RETRY_DEADLINE_SECS")
        .on_retry(move |kind| metrics.retried(kind))
}

/// How many partitions the topic has, once it is there; `None` if told to end before.
async fn wait_for_topic(
    config: &Config,
    stop: &StopSignal,
    deadline: Duration,
) -> Result<Option<i32>, Failure> {
    let topics = Topics::new(&config.kafka, &config.producer_id()).map_err(Failure::permanent)?;
    let topic = &config.writer.topic;
    let found = tokio::select! {
        found = topics.wait_for(topic, deadline) => found.map(Some),
        () = stop.cancelled() => Ok(None),
        // A topic that is not there is empty.
        () = stop.drain_requested() => topics.partitions(topic).await,
    };
    found.map_err(|error| {
        let is_permanent = error.is_permanent();
        Failure::new(error, !is_permanent)
    })
}

fn join(
    config: &Config,
    reader: TopicReader,
    metrics: &Metrics,
) -> Result<Consumer, consume::ConsumeError> {
    let writer = &config.writer;
    let settings = consume::Settings {
        topic: writer.topic.clone(),
        group_id: config.group_id(),
        // What is on its way, and as much again as one batch to fill the next.
        max_bytes_on_the_way: (writer.batch_max_bytes * (writer.in_flight + 2))
            .min(config::MAX_HELD_BYTES),
        retry_deadline: config.ops.retry_deadline(),
        fetch: config.fetch,
    };
    Consumer::join(
        &config.kafka,
        &config.producer_id(),
        settings,
        reader,
        metrics.clone(),
    )
}

fn settings(config: &Config, partitions: i32) -> write::Settings {
    let writer = &config.writer;
    write::Settings {
        topic: writer.topic.clone(),
        partitions,
        expected: Expected {
            queue_id: config.queue.queue_id.clone(),
            symbol: config.queue.symbol.clone(),
            interval: config.interval,
        },
        run: config.queue.run,
        limits: Limits {
            max_records: writer.batch_max_records,
            max_bytes: writer.batch_max_bytes,
            linger: Duration::from_millis(writer.batch_linger_ms),
        },
        in_flight: writer.in_flight,
        max_rejected: writer.max_rejected,
        retry_deadline: config.ops.retry_deadline(),
        grace: config.ops.shutdown_grace(),
    }
}

fn failure(error: ArangoError) -> Failure {
    WriteError::Arango(error).into()
}
