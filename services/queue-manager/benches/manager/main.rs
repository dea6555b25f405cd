//! How fast queue-manager is, and how much memory it takes: a process of its own, over a broker, a database and an exchange
//! of the dev stack, with as many ended workflows in the store as asked for and as many running ones as it takes.
//!
//! `ci/bench.sh queue-manager` builds and runs it. Each figure stands beside the raw limit in the same run: an answer beside
//! what the same server takes for one that asks nobody and what the database takes for the same rows, events beside a
//! consumer that only reads them. Workers are processes that sleep; what they would say is said for them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that can't go on should say where, and figures are this program's output"
)]

mod ask;
mod events;
mod fill;
mod report;
mod stage;

use clap::Parser;

use crate::{events::Traffic, report::Report, stage::Stage};

/// Requests a second while events come.
const ASKED: u32 = 50;

/// Measure queue-manager.
#[derive(Debug, Parser)]
#[command(name = "manager")]
pub(crate) struct Args {
    /// Ended workflows in the store
    #[arg(long, default_value_t = 10_000)]
    workflows: u32,
    /// Running workflows, of two workers each
    #[arg(long, default_value_t = 50)]
    running: u32,
    /// Events of their workers a second
    #[arg(long, default_value_t = 5_000)]
    rate: u32,
    /// For how long
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Events that are there at once, for the highest rate
    #[arg(long, default_value_t = 200_000)]
    backlog: u32,
    /// Requests of each kind
    #[arg(long, default_value_t = 2_000)]
    requests: u32,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// What cargo tells every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let mut report = Report::new(args.json);
    let mut stage = Stage::set(&args).await;
    report.figure("memory, nothing in the store", stage.memory_mib(), "MiB");

    let running = stage.start_running(args.running).await;
    fill::fill(&stage, &running[0], args.workflows).await;
    report.note(format!(
        "{} ended workflows in the store, {} running",
        args.workflows, args.running
    ));
    stage.kill().await;
    let ready = stage.start().await;
    report.figure("ready again after kill -9", ready.as_secs_f64() * 1e3, "ms");

    report.figure("memory then", stage.memory_mib(), "MiB");

    report.extend(ask::reads(&stage, args.requests, None).await);
    report.extend(ask::starts(&stage).await);
    report.figure("highest memory until then", stage.peak_memory_mib(), "MiB");

    let mut traffic = Traffic::new(&stage, running).await;
    let (steady, reads) = tokio::join!(
        traffic.steady(args.rate, args.seconds),
        ask::reads(&stage, args.seconds * ASKED / 4, Some(ASKED))
    );
    report.extend(steady);
    report.extend(reads);
    report.figure("highest memory until then", stage.peak_memory_mib(), "MiB");
    report.extend(traffic.backlog(args.backlog).await);
    report.figure("highest memory of all that", stage.peak_memory_mib(), "MiB");
    stage.end().await;
    report.print();
}
