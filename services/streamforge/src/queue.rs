//! `streamforge queue`: a person's way to queue-manager, over its REST API and nothing else.
//!
//! Results go to stdout, all else to stderr; what went wrong is said with what to do next, and is an exit code. What a
//! workflow is and how it is healed is queue-manager's alone: nothing is decided here.

mod api;
mod change;
mod client;
mod failure;
mod feed;
mod history;
mod list;
mod logs;
mod place;
mod resolve;
mod screen;
mod shared;
mod show;
mod start;
mod table;
mod text;
mod watch;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::Value;
use streamforge_utils::{config::Vars, shutdown::StopSignal};

use crate::{
    cli::{
        queue::{QueueArgs, QueueCommand},
        refuse_usage,
    },
    signals,
};
use client::Client;
use failure::Failure;
use place::Place;

/// Does what was typed. `vars` is the environment.
pub(crate) async fn run(args: QueueArgs, vars: Vars) -> ExitCode {
    let stop = StopSignal::new();
    let done = async {
        stop.listen_for_signals()?;
        let place = Place::new(&args.place, &vars)?;
        let client = Client::new(place, args.place.timeout)?;
        perform(&client, &args.command).await
    };
    let done = tokio::select! {
        biased;
        done = done => done,
        () = stop.cancelled() => {
            if let Some(words) = parting_words(&args.command) {
                say(words);
            }
            return signals::exit_code(&stop);
        }
    };
    match done {
        Ok(code) => code,
        Err(Failure::Usage(what)) => refuse_usage("queue", &what),
        Err(failure) if is_closed(&failure) => failure.exit_code(),
        Err(failure) => {
            say(&failure.text());
            failure.exit_code()
        }
    }
}

async fn perform(client: &Client, command: &QueueCommand) -> Result<ExitCode, Failure> {
    let done = match command {
        QueueCommand::Start(args) => return start::start(client, args).await,
        QueueCommand::Watch(args) => return watch::watch(client, args).await,
        QueueCommand::Stop(args) => return change::stop(client, args).await,
        QueueCommand::Retry(args) => return change::retry(client, args).await,
        QueueCommand::List(args) => list::list(client, args).await,
        QueueCommand::Show(args) => show::show(client, args).await,
        QueueCommand::Delete(args) => change::delete(client, args).await,
        QueueCommand::Events(args) => history::events(client, args).await,
        QueueCommand::Logs(args) => logs::logs(client, args).await,
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// What becomes of what was asked for, when a signal ends the asking.
fn parting_words(command: &QueueCommand) -> Option<&'static str> {
    Some(match command {
        QueueCommand::Start(_) => {
            "What was started goes on: `streamforge queue list` shows it, `streamforge queue stop ID` ends it."
        }
        QueueCommand::Watch(_) => {
            "No longer watched; the workflows go on. `streamforge queue stop ID` ends one."
        }
        QueueCommand::Stop(_) | QueueCommand::Retry(_) | QueueCommand::Delete(_) => {
            "What was asked for goes on: `streamforge queue show ID` says how far it is."
        }
        _ => return None,
    })
}

/// Says something to whoever watches.
fn say(text: &str) {
    // If stderr is gone there is nobody to tell.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Where results go, and in which form.
#[derive(Debug, Clone, Copy)]
struct Output {
    json: bool,
}

impl Output {
    fn new(json: bool) -> Self {
        Self { json }
    }

    fn is_json(self) -> bool {
        self.json
    }

    /// Prints an object as it came, on a line.
    fn json(self, value: &Value) -> Result<(), Failure> {
        self.print(&format!("{value}\n"))
    }

    /// Prints a text with its ends of lines.
    fn print(self, text: &str) -> Result<(), Failure> {
        let mut stdout = anstream::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// Prints the object, or the line.
    fn either(self, value: &Value, line: &str) -> Result<(), Failure> {
        if self.json {
            self.json(value)
        } else {
            self.print(&format!("{line}\n"))
        }
    }

    /// Says something to people; programs read stdout.
    fn say(self, text: &str) {
        if !self.json {
            say(text);
        }
    }
}

/// A pipe that is closed early, as by `head`, is no failure worth words.
fn is_closed(failure: &Failure) -> bool {
    matches!(failure, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
}
