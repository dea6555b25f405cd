//! The loader of candles as a process: reads klines from the exchange's REST API, writes candles to a Kafka topic, and
//! ends when the time range is published.
//!
//! Exit codes: 0 done or stopped by command, 1 failed and may be tried again, 70 failed for good, 78 bad
//! configuration, 130 and 143 ended by a signal.

use std::process::ExitCode;

use streamforge_utils::{config::process_vars, worker::block_on};

fn main() -> ExitCode {
    block_on(loader_api_candles::run(std::env::args_os(), process_vars()))
}
