//! `arango-candles`: reads the candles of one workflow from its Kafka topic, writes them into an ArangoDB
//! collection, and ends when the stream ends.
//!
//! It is configured by its environment (`--help` lists the variables). Exit codes: 0 done or stopped, 1 failed and
//! may be tried again, 70 failed for good, 78 bad configuration, 130 and 143 ended by a signal.

use std::process::ExitCode;

use streamforge_utils::{config::process_vars, worker::block_on};

fn main() -> ExitCode {
    block_on(arango_candles::run(std::env::args_os(), process_vars()))
}
