//! What can be typed, and what is refused before anything starts: exit code 2, as people expect of a command.

pub(crate) mod queue;
mod up;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};
use clap_complete::Shell;
use debug_producer::cli::{VARIABLES_HELP, debug::DebugCommand};
use streamforge_utils::protocol::{Interval, Symbol, TimeRange};
use url::Url;

pub(crate) use queue::QueueArgs;
pub(crate) use up::UpArgs;

/// Binance's own market data, without an account.
pub(crate) const LIVE_API_URL: &str = "https://data-api.binance.vision";

/// Moves market data from an exchange through Kafka into ArangoDB.
#[derive(Debug, Parser)]
#[command(name = "streamforge", version, after_help = HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const HELP: &str = "\
Examples:
  streamforge demo                       a week of candles into a database
  streamforge demo --help                all that a demo can do
  streamforge up                         a dev stack, queue-manager included
  streamforge queue --help               start, watch and stop whole workflows
  streamforge worker --list              the workers that this binary holds
  streamforge worker loader-api-candles --help
  streamforge debug ping --queue-id all  which workers are alive, and how fast
  streamforge completions bash           what the shell needs to complete it

Exit codes: 0 all was done; 2 wrong usage; others are those of the subcommand, in its --help.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(Box<DemoArgs>),
    Up(Box<UpArgs>),
    Queue(Box<QueueArgs>),
    Worker(WorkerArgs),
    Debug(DebugArgs),
    Completions(CompletionsArgs),
}

/// Print what a shell needs to complete this command
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_HELP)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

const COMPLETIONS_HELP: &str = "\
Examples:
  streamforge completions bash \\
      > ~/.local/share/bash-completion/completions/streamforge
  source <(streamforge completions bash)         in this shell only
  streamforge completions zsh > \"${fpath[1]}/_streamforge\"
  streamforge completions fish > ~/.config/fish/completions/streamforge.fish

Exit codes: 0 printed; 1 nobody reads it; 2 wrong usage.";

/// Send commands to workers, judge their answers, print what they say
///
/// The same as debug-producer, which has some more of it. It is on the events topic before it sends, so no answer is
/// missed.
#[derive(Debug, Args)]
#[command(after_help = format!("{DEBUG_HELP}\n\n--help lists the environment variables."))]
#[command(after_long_help = format!("{DEBUG_HELP}\n\n{VARIABLES_HELP}"))]
pub(crate) struct DebugArgs {
    #[command(subcommand)]
    pub(crate) command: DebugCommand,
}

const DEBUG_HELP: &str = "\
Examples:
  streamforge debug ping --queue-id wf-try
  streamforge debug stop --queue-id wf-try
  streamforge debug events --queue-id all

Exit codes: 0 what was expected came; 1 it did not; 2 wrong usage; 78 bad configuration; 130 Ctrl-C, 143 \
SIGTERM.";

/// Load candles on this machine, with all that it takes
///
/// Starts a Kafka broker, an ArangoDB server and an exchange inside this process, on free ports of 127.0.0.1; runs a
/// loader and a writer for each symbol as processes of their own; shows how far they are; and says at the end what
/// was fetched, published, written and missing. Nothing has to be installed, the network is used with --live only,
/// and nothing is left behind. The three stand-ins are for development: their data is gone when they end.
#[derive(Debug, Args)]
#[command(after_help = DEMO_HELP)]
pub(crate) struct DemoArgs {
    /// Trading pair; may be given several times. Any name will do if the candles are generated
    #[arg(long = "symbol", value_name = "SYMBOL", default_value = "BTCUSDT")]
    pub(crate) symbols: Vec<Symbol>,

    /// Length of a candle: 1s 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w 1M
    #[arg(long, value_name = "INTERVAL", default_value = "1m")]
    pub(crate) interval: Interval,

    /// Days, both inclusive, UTC, or two instants with a / between them, the second exclusive [default: 2024-08-01:2024-08-07, with --replay what was recorded]
    #[arg(long, value_name = "FROM:TO")]
    pub(crate) time_range: Option<TimeRange>,

    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,

    /// Stay up after the load, until Ctrl-C, and say how to look at what is there
    #[arg(long)]
    pub(crate) keep: bool,

    /// Keep ArangoDB's data in this folder; the next demo finds it there
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Keep the workers' logs in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) logs: Option<PathBuf>,

    /// Print one JSON object at the end
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which exchange it is.
#[derive(Debug, Args)]
pub(crate) struct ExchangeArgs {
    /// Load from Binance itself; needs the network
    #[arg(long, conflicts_with_all = ["replay", "seed"])]
    pub(crate) live: bool,

    /// Another address of Binance's API
    #[arg(long, value_name = "URL", requires = "live", default_value = LIVE_API_URL, hide_default_value = true)]
    pub(crate) api_url: Url,

    /// Load what Binance once answered: a file with the body of /api/v3/klines; may be given several times, of one symbol and interval
    #[arg(long, value_name = "FILE", conflicts_with = "seed")]
    pub(crate) replay: Vec<PathBuf>,

    /// What the generated candles are made of; the same number makes the same candles
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub(crate) seed: u64,
}

const DEMO_HELP: &str = "\
Examples:
  streamforge demo
  streamforge demo --symbol ETHUSDT --symbol SOLUSDT --interval 1h
  streamforge demo --live --time-range 2024-08-01T00:00:00Z/2024-08-01T06:00:00Z
  streamforge demo --replay klines.json --interval 1h --json
  streamforge demo --keep

Exit codes: 0 everything arrived, also if --keep is ended by Ctrl-C or SIGTERM after that; 1 a worker failed, \
something could not start, or the numbers do not agree; 2 wrong usage; 130 Ctrl-C, 143 SIGTERM before all was \
done.";

/// Run one worker, configured by its environment as its own binary is
///
/// `streamforge worker NAME --help` lists the worker's variables.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, after_help = WORKER_HELP)]
pub(crate) struct WorkerArgs {
    /// Print the names of all workers, one a line
    #[arg(long)]
    pub(crate) list: bool,

    #[command(subcommand)]
    pub(crate) worker: Option<WorkerName>,
}

const WORKER_HELP: &str = "\
Examples:
  streamforge worker --list
  streamforge worker arango-candles --help
  QUEUE_ID=wf-try SYMBOL=BTCUSDT TYPE=dummy streamforge worker dummy-service

Exit codes: 0 finished, or stopped by a command; 1 a failure that trying again can mend; 2 no such worker; 70 \
one that it can't; 78 wrong configuration or flags of the worker; 130 Ctrl-C, 143 SIGTERM.";

/// The workers that this binary holds.
#[derive(Debug, Subcommand)]
#[command(
    subcommand_value_name = "NAME",
    subcommand_help_heading = "Workers",
    disable_help_subcommand = true
)]
pub(crate) enum WorkerName {
    /// Loads candles of the past from the exchange's REST API into Kafka
    #[command(disable_help_flag = true)]
    LoaderApiCandles(OwnFlags),
    /// Writes candles from Kafka into ArangoDB
    #[command(disable_help_flag = true)]
    ArangoCandles(OwnFlags),
    /// Simulates any worker, makes load, finds holes
    #[command(disable_help_flag = true)]
    DummyService(OwnFlags),
    /// A name that none of them has, and what followed it.
    #[command(external_subcommand)]
    Unknown(Vec<OsString>),
}

#[derive(Debug, Args)]
pub(crate) struct OwnFlags {
    /// The worker's own flags
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) flags: Vec<OsString>,
}

/// Says what is wrong with the use of a subcommand, in the words and with the exit code of clap.
pub(crate) fn refuse_usage(subcommand: &str, what: &str) -> ExitCode {
    let mut cli = Cli::command();
    cli.build();
    let command = cli.find_subcommand_mut(subcommand);
    let command = command.expect("subcommands of our own are there");
    // Nothing can be said if even the terminal is gone.
    let _ = command.error(ErrorKind::ValueValidation, what).print();
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(typed: &[&str]) -> String {
        let typed = ["streamforge"].iter().chain(typed);
        Cli::try_parse_from(typed).unwrap_err().to_string()
    }

    fn worker(typed: &[&str]) -> WorkerName {
        let typed = ["streamforge", "worker"].iter().chain(typed);
        match Cli::try_parse_from(typed).unwrap().command {
            Command::Worker(args) => args.worker.unwrap(),
            _ => unreachable!("worker was typed"),
        }
    }

    #[test]
    fn the_command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_has_examples_and_exit_codes() {
        for (typed, codes) in [
            (&["--help"][..], &["0", "2"][..]),
            (&["demo", "--help"], &["0", "1", "2", "130", "143"]),
            (&["up", "--help"], &["0", "1", "2", "130", "143"]),
            (&["completions", "--help"], &["0", "1", "2"]),
            (
                &["queue", "--help"],
                &["0", "1", "2", "3", "69", "77", "130", "143"],
            ),
            (
                &["queue", "start", "--help"],
                &["0", "1", "2", "3", "69", "77", "130", "143"],
            ),
            (
                &["queue", "list", "--help"],
                &["0", "1", "2", "69", "77", "130", "143"],
            ),
            (
                &["queue", "show", "--help"],
                &["0", "1", "2", "69", "77", "130", "143"],
            ),
            (
                &["queue", "watch", "--help"],
                &["0", "1", "2", "3", "69", "77", "130", "143"],
            ),
            (
                &["queue", "stop", "--help"],
                &["0", "1", "2", "69", "77", "130", "143"],
            ),
            (
                &["queue", "retry", "--help"],
                &["0", "1", "2", "3", "69", "77", "130", "143"],
            ),
            (
                &["queue", "delete", "--help"],
                &["0", "1", "2", "69", "77", "130", "143"],
            ),
            (
                &["queue", "events", "--help"],
                &["0", "1", "2", "69", "77", "130", "143"],
            ),
            (
                &["queue", "logs", "--help"],
                &["0", "1", "2", "69", "77", "130", "143"],
            ),
            (&["debug", "--help"], &["0", "1", "2", "78", "130", "143"]),
            (&["debug", "ping", "--help"], &["0", "1", "2", "78"]),
            (
                &["worker", "--help"],
                &["0", "1", "2", "70", "78", "130", "143"],
            ),
        ] {
            let help = refusal(typed);
            assert!(help.contains("Examples:\n  streamforge "), "{help}");
            let (_, told) = help.split_once("Exit codes:").unwrap();
            let told: Vec<_> = told.split_whitespace().collect();
            for code in codes {
                assert!(told.contains(code), "{code} is not in {help}");
            }
        }
    }

    /// As wide as a terminal is that nobody has widened.
    const COLUMNS: usize = 80;

    /// All commands below this one, and itself, with what is typed for them.
    fn tree(command: &clap::Command, before: &str) -> Vec<(String, clap::Command)> {
        let typed = format!("{before}{}", command.get_name());
        let below = command.get_subcommands();
        let mut all: Vec<_> = below
            .flat_map(|below| tree(below, &format!("{typed} ")))
            .collect();
        all.push((typed, command.clone()));
        all
    }

    #[test]
    fn no_help_breaks_an_example_on_a_plain_terminal() {
        let mut root = Cli::command();
        root.build();
        let all = tree(&root, "");
        for of in ["streamforge", "streamforge up", "streamforge queue start"] {
            assert!(all.iter().any(|(typed, _)| typed == of), "{of} is missing");
        }
        for (typed, command) in all {
            let long = command.get_after_long_help();
            for help in long.into_iter().chain(command.get_after_help()) {
                let help = help.to_string();
                let lines: Vec<_> = help.lines().filter(|it| it.starts_with("  ")).collect();
                let mut sized = command.clone().term_width(COLUMNS);
                let shown = [sized.render_help(), sized.render_long_help()];
                let shown = shown.map(|shown| shown.to_string());
                for line in lines {
                    let width = line.chars().count();
                    assert!(
                        width <= COLUMNS,
                        "{width} columns in {typed} --help: {line}"
                    );
                    let is_whole = shown.iter().any(|all| all.lines().any(|it| it == line));
                    assert!(is_whole, "broken or missing in {typed} --help: {line}");
                }
            }
        }
    }

    #[test]
    fn a_worker_gets_its_own_flags() {
        for flags in [
            &["--help"][..],
            &["--version"],
            &["--frobnicate", "-x"],
            &[],
        ] {
            let typed: Vec<_> = ["arango-candles"].iter().chain(flags).copied().collect();
            let WorkerName::ArangoCandles(own) = worker(&typed) else {
                panic!("{typed:?} is the writer");
            };
            assert_eq!(own.flags, flags);
        }
        assert!(matches!(worker(&["nosuch"]), WorkerName::Unknown(_)));
    }

    #[test]
    fn flags_that_do_not_go_together_are_refused() {
        for (typed, message) in [
            (
                &["demo", "--live", "--replay", "x.json"][..],
                "cannot be used with",
            ),
            (&["demo", "--live", "--seed", "1"], "cannot be used with"),
            (
                &["demo", "--replay", "x.json", "--seed", "1"],
                "cannot be used with",
            ),
            (&["demo", "--api-url", "http://127.0.0.1:1"], "--live"),
            (&["demo", "--interval", "1H"], "unknown interval"),
            (&["demo", "--symbol", "btcusdt"], "is no symbol"),
            (
                &["demo", "--time-range", "2024-08-02:2024-08-01"],
                "reversed",
            ),
            (
                &["up", "--live", "--symbol", "BTCUSDT"],
                "cannot be used with",
            ),
            (&["up", "--interval", "1h"], "--replay"),
            (&["up", "--partitions", "0"], "0 is not in 1..=1000"),
        ] {
            let refusal = refusal(typed);
            assert!(refusal.contains(message), "{typed:?} gave {refusal}");
        }
    }
}
