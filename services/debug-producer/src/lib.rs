//! Sends commands to workers, judges their answers, and prints what they say.
//!
//! - [`cli`]: what can be typed, as `debug-producer` and as `streamforge debug`. [`config`]: how to reach Kafka.
//! - [`request`]: what is asked for, and whom it is for.
//! - `wire`: the two topics. `session`: a request from its first message to its outcome.
//! - `pings`: which pong answers which ping. `judge`: whether workers did as they were told. Both are pure.
//! - `report` and `output`: what is printed, and where.

pub mod cli;
pub mod config;
mod judge;
mod output;
mod pings;
mod report;
pub mod request;
mod session;
mod wire;

use std::{ffi::OsString, io, process::ExitCode};

use clap::{CommandFactory, Parser, error::ErrorKind};
use streamforge_utils::{
    config::Vars,
    logging::TextFields,
    shutdown::{StopCause, StopSignal},
    worker::EXIT_CONFIG,
};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    cli::{Asked, Cli},
    config::Config,
    output::Output,
    report::Outcome,
    session::SessionError,
    wire::WireError,
};

/// The name of this command, also to the broker.
pub const SERVICE: &str = "debug-producer";

const EXIT_USAGE: u8 = 2;
const EXIT_INTERRUPTED: u8 = 130;
const EXIT_TERMINATED: u8 = 143;

/// Runs `debug-producer` from its flags (the first is the program's name) and variables to its exit code.
pub async fn run(args: impl Iterator<Item = OsString>, vars: Vars) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return answer(&error),
    };
    match cli.asked() {
        Ok(asked) => perform(SERVICE, asked, vars).await,
        Err(reason) => answer(&Cli::command().error(ErrorKind::ArgumentConflict, reason)),
    }
}

/// Does what was asked for. `program` is what was typed to get here, for messages; its `--help` lists the variables.
///
/// The exit code is 0 if what was expected came, 1 if not, 78 for a bad configuration, 130 and 143 after a signal.
/// Results go to stdout, diagnostics to stderr.
pub async fn perform(program: &'static str, asked: Asked, vars: Vars) -> ExitCode {
    let Asked {
        request,
        bootstrap_servers,
        json,
    } = asked;
    let mut output = Output::new(program, json);
    let config = match Config::from_vars(&vars, bootstrap_servers.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            output.say(format_args!(
                "{error}\nSee {program} --help for all variables."
            ));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    start_logging(&config);
    let stop = StopSignal::new();
    if let Err(error) = stop.listen_for_signals() {
        output.say(format_args!("can't listen for signals: {error}"));
        return ExitCode::FAILURE;
    }
    let ended = session::run(&request, &config, &mut output, &stop).await;
    output.end_progress();
    match ended {
        Ok(Outcome::Met | Outcome::Sent) => ExitCode::SUCCESS,
        Ok(Outcome::Unmet) => ExitCode::FAILURE,
        Ok(Outcome::Interrupted) => ExitCode::from(match stop.cause() {
            Some(StopCause::Terminate) => EXIT_TERMINATED,
            _ => EXIT_INTERRUPTED,
        }),
        // Whoever read it, such as `head`, has had enough.
        Err(SessionError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::FAILURE
        }
        Err(error) => {
            output.say(&error);
            match error {
                SessionError::Wire(WireError::Client(_)) => ExitCode::from(EXIT_CONFIG),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Prints what clap says: help to stdout, a refusal to stderr.
fn answer(error: &clap::Error) -> ExitCode {
    // Nothing can be said if even the terminal is gone.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_USAGE),
    }
}

fn start_logging(config: &Config) {
    let filter = config.log.log_level.parse::<Targets>().unwrap_or_default();
    let lines = tracing_subscriber::fmt::layer()
        .fmt_fields(TextFields)
        .with_ansi(false)
        .with_writer(io::stderr);
    // Fails only if logging was started before, which is good enough.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
}
