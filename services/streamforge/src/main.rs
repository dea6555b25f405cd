//! `streamforge`, the command that people type: it hands over to what was asked for, and its exit code is that of it.

mod cli;
mod completions;
mod demo;
mod events;
mod queue;
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
        Command::Queue(args) => block_on(queue::run(*args, process_vars())),
        Command::Completions(args) => completions::print(args.shell),
        Command::Up(args) => block_on(up::run(*args, process_vars())),
        Command::Worker(args) => worker::run(args, process_vars()),
    }
}
