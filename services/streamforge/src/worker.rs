//! `streamforge worker NAME`: any worker from this one binary, exactly as its own binary runs it.
//!
//! Not its job: anything of what a worker does. Flags and environment are handed on as they came.

use std::{ffi::OsString, io::Write, iter, process::ExitCode};

use clap::Subcommand;
use streamforge_utils::{config::Vars, worker::block_on};

use crate::cli::{OwnFlags, WorkerArgs, WorkerName, refuse_usage};

/// Runs the worker that was named to its end, or prints the names.
pub(crate) fn run(args: WorkerArgs, vars: Vars) -> ExitCode {
    match args.worker {
        Some(_) if args.list => refuse_usage("worker", "--list stands alone, without a NAME"),
        Some(WorkerName::LoaderApiCandles(own)) => block_on(loader_api_candles::run(
            as_typed(loader_api_candles::SERVICE, own),
            vars,
        )),
        Some(WorkerName::ArangoCandles(own)) => block_on(arango_candles::run(
            as_typed(arango_candles::SERVICE, own),
            vars,
        )),
        Some(WorkerName::DummyService(own)) => block_on(dummy_service::run(
            as_typed(dummy_service::SERVICE, own),
            vars,
        )),
        Some(WorkerName::Unknown(typed)) => {
            let name = typed.first().cloned().unwrap_or_default();
            let (name, names) = (name.display(), names().join(", "));
            refuse_usage(
                "worker",
                &format!("no worker is called {name:?}, expected one of {names}"),
            )
        }
        None => {
            let names = names().join("\n");
            match writeln!(std::io::stdout(), "{names}") {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// The names of all workers.
pub(crate) fn names() -> Vec<String> {
    let command = WorkerName::augment_subcommands(clap::Command::new("worker"));
    command
        .get_subcommands()
        .map(|worker| worker.get_name().to_owned())
        .collect()
}

/// The arguments as the worker's own binary would get them: its name first.
fn as_typed(service: &str, own: OwnFlags) -> impl Iterator<Item = OsString> {
    iter::once(OsString::from(service)).chain(own.flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_typed_as_its_service_is_called() {
        assert_eq!(
            names(),
            [
                loader_api_candles::SERVICE,
                arango_candles::SERVICE,
                dummy_service::SERVICE
            ]
        );
    }
}
