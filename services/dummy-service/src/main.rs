//! `dummy-service`: simulates any other worker, so that an operator finds out whether Kafka, credentials, topics,
//! commands, events, metrics and the Job itself work, before any data moves.
//!
//! It is configured by its environment and by flags (`--help` lists both). Exit codes: 0 done or stopped, 1 failed as
//! asked or because the brokers were away, 70 failed for good, 78 bad configuration, 130 and 143 ended by a signal.

use std::process::ExitCode;

use streamforge_utils::{config::process_vars, worker::block_on};

fn main() -> ExitCode {
    block_on(dummy_service::run(std::env::args_os(), process_vars()))
}
