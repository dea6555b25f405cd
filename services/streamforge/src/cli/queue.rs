//! What can be typed after `streamforge queue`.

mod help;

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Subcommand, ValueEnum, value_parser};
use streamforge_utils::{
    config::Seconds,
    protocol::{Symbol, TimeRange, TimestampMs, WorkflowKind},
};

/// Start, watch, stop and heal whole workflows, by way of queue-manager
///
/// A queue is one workflow: a loader, its writers, and the topic between them. IDs may be cut to their last part:
/// abc123 for wf-btcusdt-api_candles_1m-20240801-abc123.
#[derive(Debug, Args)]
#[command(after_help = help::QUEUE)]
pub(crate) struct QueueArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,

    #[command(subcommand)]
    pub(crate) command: QueueCommand,
}

/// Where queue-manager is. A token is no flag: command lines can be read by everybody on the machine.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct PlaceArgs {
    /// Root of queue-manager's API [default: QUEUE_MANAGER_URL, else http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// File with the bearer token [default: the token in QUEUE_MANAGER_TOKEN, else none]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// PEM file of the CAs that sign the server [default: QUEUE_MANAGER_CA_PATH, else the system's]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// Seconds that an answer may take, tries together
    #[arg(long, global = true, value_name = "S", value_parser = seconds, default_value = "60")]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    Start(Box<StartArgs>),
    List(ListArgs),
    Show(ShowArgs),
    Watch(WatchArgs),
    Stop(StopArgs),
    Retry(RetryArgs),
    Delete(DeleteArgs),
    Events(EventsArgs),
    Logs(LogsArgs),
}

/// Start workflows, and print their ids, one a line
#[derive(Debug, Args)]
#[command(after_help = help::START)]
#[command(group(ArgGroup::new("what").required(true).args(["kind", "flow", "file"])))]
pub(crate) struct StartArgs {
    /// Trading pair; with --type it may be given several times, each is a workflow
    #[arg(long = "symbol", value_name = "SYMBOL", conflicts_with = "file")]
    pub(crate) symbols: Vec<Symbol>,

    /// What is loaded, and how: api_candles_1m
    #[arg(long = "type", value_name = "TYPE", requires = "symbols")]
    pub(crate) kind: Option<WorkflowKind>,

    /// Days, both inclusive, UTC, or two instants with a / between them, the second exclusive
    #[arg(long, value_name = "FROM:TO", conflicts_with = "file")]
    pub(crate) time_range: Option<TimeRange>,

    /// A flow that queue-manager's operator has written down, such as default_candles_flow, dummy_flow
    #[arg(long, value_name = "NAME")]
    pub(crate) flow: Option<String>,

    /// Variable for the workers of the flow; may be given several times
    #[arg(long = "param", value_name = "KEY=VALUE", requires = "flow", conflicts_with_all = ["kind", "file"], value_parser = key_value)]
    pub(crate) params: Vec<(String, String)>,

    /// Body of a start-pipeline request as JSON: symbol, time_range, microservices; - is stdin
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,

    /// Follow them until they have ended
    #[arg(long)]
    pub(crate) watch: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Show workflows as a table, newest first
#[derive(Debug, Args)]
#[command(after_help = help::LIST)]
pub(crate) struct ListArgs {
    /// Only in this state; may be given several times, or with commas
    #[arg(long = "status", value_name = "STATUS", value_delimiter = ',')]
    pub(crate) statuses: Vec<StatusName>,

    /// Only of this trading pair
    #[arg(long, value_name = "SYMBOL")]
    pub(crate) symbol: Option<Symbol>,

    /// Only of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<WorkflowKind>,

    /// Only those made then or later: a day, UTC, or an instant such as 2024-08-01T06:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = day_or_instant)]
    pub(crate) created_from: Option<TimestampMs>,

    /// Only those made before: a day, UTC, or an instant
    #[arg(long, value_name = "WHEN", value_parser = day_or_instant)]
    pub(crate) created_before: Option<TimestampMs>,

    /// Most workflows of an answer
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = value_parser!(u32).range(1..=500))]
    pub(crate) limit: u32,

    /// Go on where an earlier answer ended
    #[arg(long, value_name = "CURSOR", conflicts_with = "all")]
    pub(crate) cursor: Option<String>,

    /// All of them, however many
    #[arg(long)]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Show a workflow and each of its workers, and say what to do next
#[derive(Debug, Args)]
#[command(after_help = help::SHOW)]
pub(crate) struct ShowArgs {
    /// Workflow, or the last part of its id
    #[arg(value_name = "ID")]
    pub(crate) id: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Follow workflows until they have ended
///
/// On a terminal a bar for each worker; elsewhere a line on each change, and one every ten seconds. Ctrl-C ends the
/// watching, not the workflow.
#[derive(Debug, Args)]
#[command(after_help = help::WATCH)]
pub(crate) struct WatchArgs {
    /// Workflows, or the last parts of their ids [default: all that have not ended]
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,

    #[command(flatten)]
    pub(crate) patience: PatienceArgs,

    /// Print a workflow as one JSON object on each change
    #[arg(long)]
    pub(crate) json: bool,
}

/// Ask a workflow to end
#[derive(Debug, Args)]
#[command(after_help = help::STOP)]
pub(crate) struct StopArgs {
    /// Workflow, or the last part of its id
    #[arg(value_name = "ID")]
    pub(crate) id: String,

    /// The loader ends, the writers empty the topic first
    #[arg(long)]
    pub(crate) drain: bool,

    /// Wait until it has ended
    #[arg(long)]
    pub(crate) wait: bool,

    #[command(flatten)]
    pub(crate) patience: PatienceArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Run again what did not finish
#[derive(Debug, Args)]
#[command(after_help = help::RETRY)]
pub(crate) struct RetryArgs {
    /// Workflow, or the last part of its id
    #[arg(value_name = "ID")]
    pub(crate) id: String,

    /// Follow it until it has ended
    #[arg(long)]
    pub(crate) watch: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Forget a workflow: its Jobs, its topics and its state; what was written into the database stays
#[derive(Debug, Args)]
#[command(after_help = help::DELETE)]
pub(crate) struct DeleteArgs {
    /// Workflow, or the last part of its id
    #[arg(value_name = "ID")]
    pub(crate) id: String,

    /// Stop it first if it has not ended
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Show what the workers of a workflow have said, oldest first
#[derive(Debug, Args)]
#[command(after_help = help::EVENTS)]
pub(crate) struct EventsArgs {
    /// Workflow, or the last part of its id
    #[arg(value_name = "ID")]
    pub(crate) id: String,

    /// Go on until the workflow has ended
    #[arg(long)]
    pub(crate) follow: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Show the last lines of the workers' logs
#[derive(Debug, Args)]
#[command(after_help = help::LOGS)]
pub(crate) struct LogsArgs {
    /// Workflow, or the last part of its id
    #[arg(value_name = "ID")]
    pub(crate) id: String,

    /// Only of this worker, as `queue show` names it, or of this service: arango-candles
    #[arg(long, value_name = "WORKER")]
    pub(crate) part: Option<String>,

    /// Most lines of each worker
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=1000))]
    pub(crate) lines: u32,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print JSON, one object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PatienceArgs {
    /// Seconds that queue-manager may be away while it is waited for
    #[arg(long = "give-up-after", value_name = "S", value_parser = seconds, default_value = "300")]
    pub(crate) patience: Duration,
}

/// States that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusName {
    Pending,
    Starting,
    Running,
    Stalled,
    Finished,
    Interrupted,
    Error,
}

impl StatusName {
    /// Those of workflows that have not ended.
    pub(crate) const UNFINISHED: [Self; 4] =
        [Self::Pending, Self::Starting, Self::Running, Self::Stalled];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stalled => "stalled",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Error => "error",
        }
    }
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse::<f64>().ok();
    seconds
        .and_then(|seconds| Seconds::try_from(seconds).ok())
        .map(Seconds::duration)
        .ok_or("expected seconds, more than 0")
}

fn key_value(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE"),
    }
}

fn day_or_instant(text: &str) -> Result<TimestampMs, &'static str> {
    let instant = text.parse();
    instant
        .or_else(|_| format!("{text}T00:00:00Z").parse())
        .map_err(
            |_| "expected a day such as 2024-08-01, or an instant such as 2024-08-01T06:00:00Z",
        )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    use super::*;

    fn typed(line: &str) -> Result<QueueCommand, String> {
        let words = line.split_whitespace();
        let typed = ["streamforge", "queue"].into_iter().chain(words);
        match Cli::try_parse_from(typed) {
            Ok(Cli {
                command: Command::Queue(args),
            }) => Ok(args.command),
            Ok(_) => unreachable!("queue was typed"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn flags_that_do_not_go_together_are_refused() {
        for (line, said) in [
            ("start", "required"),
            ("start --symbol BTCUSDT", "required"),
            ("start --type api_candles_1m", "--symbol"),
            ("start --symbol btc --type api_candles_1m", "is no symbol"),
            ("start --symbol BTCUSDT --type candles", "candles"),
            (
                "start --flow a --type api_candles_1m --symbol BTCUSDT",
                "cannot be used with",
            ),
            (
                "start --file a.json --symbol BTCUSDT",
                "cannot be used with",
            ),
            ("start --flow a --param b", "KEY=VALUE"),
            (
                "start --symbol BTCUSDT --type api_candles_1m --param a=b",
                "cannot be used with",
            ),
            ("list --status done", "done"),
            ("list --limit 0", "0 is not in 1..=500"),
            ("list --all --cursor x", "cannot be used with"),
            ("list --created-from yesterday", "2024-08-01"),
            ("logs abc123 --lines 1001", "1001 is not in 1..=1000"),
            ("show", "<ID>"),
            ("watch --give-up-after 0", "more than 0"),
        ] {
            let refusal = typed(line).unwrap_err();
            assert!(refusal.contains(said), "{line} gave {refusal}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_utc() {
        let QueueCommand::List(args) =
            typed("list --created-from 2024-08-01 --created-before 2024-08-01T00:05:00Z --status error,stalled")
                .unwrap()
        else {
            panic!("list was typed");
        };
        assert_eq!(args.created_from, Some(TimestampMs(1_722_470_400_000)));
        assert_eq!(args.created_before, Some(TimestampMs(1_722_470_700_000)));
        assert_eq!(args.statuses, [StatusName::Error, StatusName::Stalled]);
    }
}
