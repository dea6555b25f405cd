//! `debug-producer`: sends commands to workers, judges their answers, and prints what workers say.
//!
//! Exit codes: 0 what was expected came, 1 it did not, 2 wrong usage, 78 bad configuration, 130 and 143 ended by a
//! signal.

use std::process::ExitCode;

use streamforge_utils::{config::process_vars, worker::block_on};

fn main() -> ExitCode {
    block_on(debug_producer::run(std::env::args_os(), process_vars()))
}
