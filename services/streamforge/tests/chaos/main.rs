//! A workflow whose parts are killed, frozen and cut off at random while it runs, and what is true of it in the end.
//!
//! `ci/chaos.sh` builds and runs it. The loader, the writers, an Apache Kafka and an ArangoDB server are processes of their
//! own; workers are started again as a Job would. The seed decides what is done to whom, when, and for how long, counted
//! from the step before. In the end the collection is the source, key by key; the topic's numbers have no hole; each
//! instance of a worker said at most once how it ended; and the dead-letter topic holds the poison, and nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a check that can't go on should say where, and what is done is this program's output"
)]

#[path = "../it/flow.rs"]
#[allow(dead_code, reason = "the end-to-end tests need more of it")]
mod flow;
mod plan;
#[path = "../it/process.rs"]
#[allow(dead_code, reason = "the end-to-end tests need more of it")]
mod process;
mod proxy;
mod stage;
mod verdict;

use std::{path::PathBuf, time::Instant};

use clap::{Parser, value_parser};

use crate::{plan::Act, stage::Stage};

/// Kill, freeze and cut off the parts of a workflow at random, and check that nothing was lost.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
pub(crate) struct Args {
    /// Decides what is done; the same number does the same
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many candles are moved
    #[arg(long, default_value_t = 200_000, value_parser = value_parser!(u32).range(1_000..=10_000_000))]
    records: u32,
    /// How much is done to them
    #[arg(long, default_value_t = 16)]
    steps: u32,
    /// How many writers share them
    #[arg(long, default_value_t = 2, value_parser = value_parser!(u32).range(1..=3))]
    writers: u32,
    /// How many brokers there are: 1, or 3 with replication
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=9))]
    brokers: u32,
    /// The development ArangoDB, as a program
    #[arg(long)]
    arango: PathBuf,
    /// `ci/kafka.sh`
    #[arg(long)]
    kafka: PathBuf,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let begun = Instant::now();
    println!(
        "seed {}: {} candles, {} writers, {} brokers, {} steps",
        args.seed, args.records, args.writers, args.brokers, args.steps
    );
    let steps = plan::steps(args.seed, args.steps, args.writers, args.brokers);
    let mut stage = Stage::set(&args, &steps).await;
    for (number, step) in (1..).zip(&steps) {
        stage.pass(step.after).await;
        println!(
            "{:7.2} s  step {number}: {step}{}",
            begun.elapsed().as_secs_f64(),
            stage.state()
        );
        match &step.act {
            Act::Poison(count) => stage.poison(*count).await,
            Act::Fault(fault) => stage.strike(fault),
        }
    }
    stage.until_done().await;
    println!(
        "{:7.2} s  all workers are done",
        begun.elapsed().as_secs_f64()
    );
    verdict::check(stage, &args).await;
    println!(
        "seed {}: nothing was lost and nothing was made up",
        args.seed
    );
}
