//! What can be typed after `streamforge up`.

use std::path::PathBuf;

use clap::Args;
use streamforge_utils::protocol::{Interval, Symbol};

use super::ExchangeArgs;

/// Keep a dev stack running on this machine, for workers in other terminals
///
/// Starts a Kafka broker, an ArangoDB server and an exchange inside this process, on free ports of 127.0.0.1, and keeps
/// them up until Ctrl-C, SIGTERM, or until its terminal is closed. What a worker needs to reach them is printed as KEY=value lines, and written to a
/// file that other terminals read. The three stand-ins are for development: their data is gone when they end. With
/// --kafka the broker is an Apache Kafka with TLS, users and rights, and people get a file of their own.
///
/// Beside them it starts queue-manager, if that program is where this one is: it runs the workflows that `streamforge
/// queue` asks for, as processes of this machine, on port 8080 or, if that is taken, on any other; QUEUE_MANAGER_URL
/// says where. It is started again if it ends; its workflows end with the stack.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct UpArgs {
    /// File for the KEY=value lines, for your eyes only; removed at the end
    #[arg(long, value_name = "PATH", default_value = "streamforge.env")]
    pub(crate) env_file: PathBuf,

    /// Partitions of each data topic, at least: a workflow of queue-manager gets as many as it asks for. No fewer than the TOPIC_PARTITIONS of a loader that is started by hand; one keeps 5 MiB, then it drops the oldest
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    pub(crate) partitions: i32,

    /// Trading pair that the exchange has; may be given several times. Any name will do if the candles are generated [default: BTCUSDT ETHUSDT BNBUSDT SOLUSDT]
    #[arg(long = "symbol", value_name = "SYMBOL", conflicts_with = "live")]
    pub(crate) symbols: Vec<Symbol>,

    /// Length of a candle in what is replayed
    #[arg(
        long,
        value_name = "INTERVAL",
        requires = "replay",
        default_value = "1m"
    )]
    pub(crate) interval: Interval,

    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,

    /// Use the Apache Kafka that `ci/kafka.sh start --dir DIR` runs, in place of the built-in broker; workers make their topics there
    #[arg(long, value_name = "DIR", conflicts_with = "partitions")]
    pub(crate) kafka: Option<PathBuf>,

    /// Do without queue-manager: only workers that are started by hand
    #[arg(long)]
    pub(crate) no_queue_manager: bool,

    /// Keep ArangoDB's data in this folder; the next stack finds it there
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Print the variables as one JSON object instead of lines
    #[arg(long)]
    pub(crate) json: bool,
}

const HELP: &str = "\
Examples:
  streamforge up
  set -a; . ./streamforge.env; set +a            in the other terminals, then
  streamforge queue --help                       whole workflows
  streamforge up --partitions 4 --data ./arango
  streamforge up --replay klines.json --symbol BTCUSDT --interval 1h
  streamforge up --live
  streamforge up --kafka target/kafka            after ci/kafka.sh start

A workflow's topics are made when its first worker says that it has started: the built-in broker can't make them \
when asked. What the stack itself logs goes to stderr, errors only unless LOG_LEVEL asks for more.

Exit codes: 0 ended by Ctrl-C, SIGTERM or SIGHUP once it was up; 1 something could not start; 2 wrong usage; 130 Ctrl-C, \
143 SIGTERM before it was up, or a second one that did not let it end in order.";
