//! `queue-manager`: starts, watches, stops and heals whole workflows. As `queue-manager shim …`, which only it calls, it
//! keeps one Job that runs as a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    queue_manager::run(std::env::args_os())
}
