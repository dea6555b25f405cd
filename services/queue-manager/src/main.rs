//! `queue-manager`: starts, watches, stops and heals whole workflows, over REST.
//!
//! As `queue-manager shim …`, which only it calls, it keeps one Job that runs as a process. Exit codes: 0 ended by a
//! signal, 1 something did not answer in time, 70 something is wrong that no retry can mend, 78 bad configuration.

use std::process::ExitCode;

fn main() -> ExitCode {
    queue_manager::run(std::env::args_os().collect())
}
