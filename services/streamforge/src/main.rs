//! `streamforge`, the command that people type: it hands over to what was asked for, and its exit code is that of it.

mod cli;
mod demo;
mod events;
mod signals;
mod source;
mod stack;
mod talk;
mod up;
mod worker;

use std::process::ExitCode;

use clap::Parser;
use streamforge_utils::{config::process_vars, worker::block_on};

use cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Debug(args) => block_on(debug_producer::perform(
            "streamforge debug",
            args.command.asked(),
            process_vars(),
        )),
        Command::Demo(args) => block_on(demo::run(*args, process_vars())),
        Command::Up(args) => block_on(up::run(*args, process_vars())),
        Command::Worker(args) => worker::run(args, process_vars()),
    }
}
