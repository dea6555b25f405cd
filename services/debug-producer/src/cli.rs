//! What can be typed, and what is refused before anything is connected.
//!
//! Two commands lead here: `debug-producer`, with its flags as [`Cli`], and `streamforge debug`, with its subcommands as
//! [`debug::DebugCommand`]. Both come to the same [`Asked`].

pub mod debug;
mod help;

use std::time::Duration;

use clap::{ArgGroup, Args, Parser, ValueEnum, value_parser};
use streamforge_utils::config::Seconds;

pub use help::VARIABLES_HELP;
use help::{HELP, LONG_HELP};

use crate::request::{Action, Address, Count, Follow, Order, Ping, Queue, Request};

/// How long a pong may take, and the broker to be there.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A worker has 25 s to end by default, and 5 s for its last event.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// The writers have to empty their topic first.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(300);
/// Two of the dummy service's `loading` events, which come every 10 s by default, and some time.
const LOADING_TIMEOUT: Duration = Duration::from_secs(30);
/// Beyond the seconds that the worker was given.
const FAIL_TIMEOUT: Duration = Duration::from_secs(10);

/// What was asked for, and how to go about it.
#[derive(Debug)]
pub struct Asked {
    /// What for.
    pub request: Request,
    /// Wins over `KAFKA_BOOTSTRAP_SERVERS`.
    pub bootstrap_servers: Option<String>,
    /// One JSON object a line.
    pub json: bool,
}

/// Send commands to workers, judge their answers, print what they say
///
/// It is on the events topic before it sends, so no answer is missed. A pong counts only for the ping that it answers,
/// and round trips are measured on this machine's clock alone.
#[derive(Debug, Parser)]
#[command(name = "debug-producer", version, after_help = HELP, after_long_help = format!("{LONG_HELP}\n\n{VARIABLES_HELP}"))]
#[command(group(ArgGroup::new("what").required(true).args(["command", "follow"])))]
pub struct Cli {
    #[command(flatten)]
    address: AddressArgs,

    /// What to send
    #[arg(long, value_name = "COMMAND")]
    command: Option<CommandName>,

    /// Print events as they come, until Ctrl-C or --timeout
    #[arg(long)]
    follow: bool,

    /// ping: wait for a pong to each ping
    #[arg(long)]
    expect_pong: bool,

    /// ping: how many pings [default: 1]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000))]
    repeat: Option<u32>,

    /// ping: seconds from one ping to the next, answered or not [default: 1]
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true, requires = "repeat")]
    interval: Option<Duration>,

    /// stop: the loader ends, the writers empty the topic first
    #[arg(long)]
    drain: bool,

    /// stop: wait until the workers say that they were interrupted
    #[arg(long)]
    expect_interrupted: bool,

    /// simulate-loading: wait until records_written of a worker has grown
    #[arg(long)]
    expect_loading: bool,

    /// fail-after: seconds until the worker fails
    #[arg(long, value_name = "N", value_parser = seconds, allow_negative_numbers = true)]
    seconds: Option<Duration>,

    /// fail-after: wait until a worker says that it failed
    #[arg(long)]
    expect_error: bool,

    /// How many workers have to do what is expected; the last of them ends the wait [default: one, and some time for others]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    expect_count: Option<u32>,

    /// Seconds that the broker, and then an answer, may take [default: 10; 30 for stop and simulate-loading; 300 with --drain; --seconds + 10 for fail-after; none with --follow]
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    timeout: Option<Duration>,

    #[command(flatten)]
    common: CommonArgs,
}

/// Who is meant.
#[derive(Debug, Args)]
pub struct AddressArgs {
    /// Workflow; "*" or all for every worker of every one
    #[arg(long, value_name = "ID")]
    queue_id: Queue,

    /// Only this service, such as arango-candles, or this worker, such as arango-candles__abc123
    #[arg(long, value_name = "NAME", value_parser = name)]
    target: Option<String>,

    /// Only this run of the workflow
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    run: Option<u32>,
}

impl AddressArgs {
    fn address(self) -> Address {
        let Self {
            queue_id: queue,
            target,
            run,
        } = self;
        Address { queue, target, run }
    }
}

/// What every request can have.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// Brokers, host:port, several with commas [default: KAFKA_BOOTSTRAP_SERVERS]
    #[arg(long, value_name = "SERVERS")]
    bootstrap_servers: Option<String>,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl CommonArgs {
    fn ask(self, request: Request) -> Asked {
        let Self {
            bootstrap_servers,
            json,
        } = self;
        Asked {
            request,
            bootstrap_servers,
            json,
        }
    }
}

/// A command that can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CommandName {
    /// Workers answer with a pong
    Ping,
    /// Workers end
    Stop,
    /// dummy-service pretends to load
    SimulateLoading,
    /// dummy-service fails after --seconds
    FailAfter,
}

impl CommandName {
    fn as_typed(self) -> &'static str {
        match self {
            Self::Ping => "--command ping",
            Self::Stop => "--command stop",
            Self::SimulateLoading => "--command simulate-loading",
            Self::FailAfter => "--command fail-after",
        }
    }
}

impl Cli {
    /// What was asked for.
    ///
    /// # Errors
    /// Flags that do not go together, in words.
    pub fn asked(self) -> Result<Asked, String> {
        self.refuse_strangers()?;
        let Self {
            address,
            command,
            timeout,
            common,
            expect_count,
            ..
        } = self;
        let to = address.address();
        let count =
            |expects: bool| expects.then_some(expect_count.map_or(Count::Some, Count::AtLeast));
        let order = |to, action, expects, default: Duration| {
            let timeout = timeout.unwrap_or(default);
            Request::Order(Order {
                to,
                action,
                timeout,
                expect: count(expects),
            })
        };
        let request = match command {
            None => Request::Follow(Follow { of: to, timeout }),
            Some(CommandName::Ping) => Request::Ping(Ping {
                to,
                repeat: self.repeat.unwrap_or(1),
                interval: self.interval.unwrap_or(Duration::from_secs(1)),
                timeout: timeout.unwrap_or(PING_TIMEOUT),
                expect: count(self.expect_pong),
            }),
            Some(CommandName::Stop) => {
                let action = Action::Stop { drain: self.drain };
                order(
                    to,
                    action,
                    self.expect_interrupted,
                    stop_timeout(self.drain),
                )
            }
            Some(CommandName::SimulateLoading) => order(
                to,
                Action::SimulateLoading,
                self.expect_loading,
                LOADING_TIMEOUT,
            ),
            Some(CommandName::FailAfter) => {
                let wait = self
                    .seconds
                    .ok_or("--command fail-after needs --seconds N")?;
                let action = Action::FailAfter {
                    seconds: wait.as_secs_f64(),
                };
                order(to, action, self.expect_error, wait + FAIL_TIMEOUT)
            }
        };
        Ok(common.ask(request))
    }

    /// Refuses flags that belong to another command.
    fn refuse_strangers(&self) -> Result<(), String> {
        let own = [
            ("--expect-pong", self.expect_pong, CommandName::Ping),
            ("--repeat", self.repeat.is_some(), CommandName::Ping),
            ("--drain", self.drain, CommandName::Stop),
            (
                "--expect-interrupted",
                self.expect_interrupted,
                CommandName::Stop,
            ),
            (
                "--expect-loading",
                self.expect_loading,
                CommandName::SimulateLoading,
            ),
            ("--seconds", self.seconds.is_some(), CommandName::FailAfter),
            ("--expect-error", self.expect_error, CommandName::FailAfter),
        ];
        let typed = self.command.map_or("--follow", CommandName::as_typed);
        if let Some((flag, _, of)) = own
            .iter()
            .find(|(_, given, of)| *given && Some(*of) != self.command)
        {
            return Err(format!(
                "{flag} goes with {}, not with {typed}",
                of.as_typed()
            ));
        }
        let expects =
            self.expect_pong || self.expect_interrupted || self.expect_loading || self.expect_error;
        if self.expect_count.is_some() && !expects {
            return Err(
                "--expect-count needs another --expect flag, which says what is counted".to_owned(),
            );
        }
        Ok(())
    }
}

fn stop_timeout(drain: bool) -> Duration {
    if drain { DRAIN_TIMEOUT } else { STOP_TIMEOUT }
}

/// Seconds, fractions allowed.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "expected seconds, such as 0.5".to_owned())?;
    Seconds::try_from(seconds).map(Seconds::duration)
}

fn name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("expected a service or a telemetry id".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;
