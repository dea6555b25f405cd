//! How fast a writer reads and a loader publishes, and what they take for it: on an Apache Kafka, beside bare librdkafka.
//!
//! `ci/bench.sh writer` and `ci/bench.sh loader` build and run it. Whatever is measured is a process of its own, over TLS
//! with the rights of a worker; all share the machine with the broker. The topic that a writer reads was written by the
//! real loader from a simulated exchange. The database accepts batches and discards them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that can't go on should say where, and figures are this program's output"
)]

mod bare;
#[path = "../../tests/it/flow.rs"]
#[allow(dead_code, reason = "the end-to-end tests need more of it")]
mod flow;
mod loader;
mod meter;
#[path = "../../tests/it/process.rs"]
#[allow(dead_code, reason = "the end-to-end tests need more of it")]
mod process;
mod report;
mod sink;
mod stage;
mod writer;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, value_parser};
use streamforge_utils::{config::process_vars, kafka::FetchSizes, worker::block_on};

/// Measure workers.
#[derive(Debug, Parser)]
#[command(name = "workers")]
struct Cli {
    #[command(subcommand)]
    what: What,
    /// What cargo tells every benchmark
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A writer into a database that discards, beside a bare consumer
    Writer(WriterArgs),
    /// A loader, beside a bare producer of the same bytes
    Loader(LoaderArgs),
    /// What is measured, as a process of its own
    #[command(hide = true)]
    Alone {
        #[command(subcommand)]
        what: Alone,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// Partitions of the topic, one measurement each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3, 8], value_parser = value_parser!(i32).range(1..=100))]
    partitions: Vec<i32>,
    /// Candles in the topic: those of a year's minutes
    #[arg(long, default_value_t = 525_600, value_parser = value_parser!(u32).range(10_000..=10_000_000))]
    records: u32,
    /// How often each is measured: the table has medians, and the most memory of all
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The worker's program of an earlier release, to be measured in the same run
    #[arg(long)]
    baseline: Option<PathBuf>,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct WriterArgs {
    #[command(flatten)]
    common: Common,
    /// Milliseconds that the database takes for a batch
    #[arg(long, default_value_t = 0)]
    latency: u64,
    /// Instead, the writer with these sizes of a fetch, in KiB a partition
    #[arg(long, value_delimiter = ',', num_args = 0..=1, default_missing_value = "16,32,64,128,256,512,4096")]
    fetch_sizes: Vec<u32>,
}

#[derive(Debug, Args)]
struct LoaderArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Alone {
    Consumer {
        #[arg(long)]
        topic: String,
        #[arg(long)]
        group: String,
        /// As a writer does
        #[arg(long)]
        ours: bool,
    },
    Producer {
        #[arg(long)]
        topic: String,
        #[arg(long)]
        file: PathBuf,
        /// As a loader does
        #[arg(long)]
        ours: bool,
    },
    /// The writer of this build, with other sizes than it has
    Writer {
        #[arg(long)]
        partition_bytes: u32,
        #[arg(long)]
        response_bytes: u32,
        #[arg(long)]
        queue_kib: u32,
    },
}

fn main() -> ExitCode {
    match Cli::parse().what {
        What::Writer(args) => block_on(async move {
            writer::measure(&args).await;
            ExitCode::SUCCESS
        }),
        What::Loader(args) => block_on(async move {
            loader::measure(&args.common).await;
            ExitCode::SUCCESS
        }),
        What::Alone { what } => alone(what),
    }
}

fn alone(what: Alone) -> ExitCode {
    let moved = match what {
        Alone::Consumer { topic, group, ours } => {
            bare::consume(&topic, &group, ours.then_some(FetchSizes::DATA))
        }
        Alone::Producer { topic, file, ours } => bare::produce(&topic, &file, ours),
        Alone::Writer {
            partition_bytes,
            response_bytes,
            queue_kib,
        } => {
            let mut config = arango_candles::config::Config::from_vars(&process_vars()).unwrap();
            config.fetch = FetchSizes {
                partition_bytes,
                response_bytes,
                queue_kib,
            };
            return block_on(arango_candles::run_config(config, true));
        }
    };
    println!("{}", serde_json::to_string(&moved).unwrap());
    ExitCode::SUCCESS
}
