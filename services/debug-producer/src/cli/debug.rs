//! The subcommands of `streamforge debug`: the same requests, typed in another way.

use std::time::Duration;

use clap::{Args, Subcommand, value_parser};

use super::{AddressArgs, Asked, CommonArgs, PING_TIMEOUT, seconds, stop_timeout};
use crate::request::{Action, Count, Follow, Order, Ping, Request};

/// What `streamforge debug` can do.
#[derive(Debug, Subcommand)]
pub enum DebugCommand {
    /// Ask workers for a sign of life, and measure the round trip
    #[command(after_help = PING_HELP)]
    Ping(PingArgs),
    /// Tell workers to end, and wait until they have
    #[command(after_help = STOP_HELP)]
    Stop(StopArgs),
    /// Print events as they come
    #[command(after_help = EVENTS_HELP)]
    Events(EventsArgs),
}

/// What can be typed after `streamforge debug ping`.
#[derive(Debug, Args)]
pub struct PingArgs {
    #[command(flatten)]
    address: AddressArgs,

    /// How many pings
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=1_000_000))]
    repeat: u32,

    /// Seconds from one ping to the next, answered or not
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds, allow_negative_numbers = true)]
    interval: Duration,

    /// How many workers have to answer each ping; the last of them ends the wait [default: one, and some time for others]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    expect_count: Option<u32>,

    /// Seconds that the broker, and then each pong, may take [default: 10]
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    timeout: Option<Duration>,

    #[command(flatten)]
    common: CommonArgs,
}

/// What can be typed after `streamforge debug stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    #[command(flatten)]
    address: AddressArgs,

    /// The loader ends, the writers empty the topic first
    #[arg(long)]
    drain: bool,

    /// Do not wait until the workers have ended
    #[arg(long, conflicts_with = "expect_count")]
    no_wait: bool,

    /// How many workers have to end; the last of them ends the wait [default: one, and some time for others]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    expect_count: Option<u32>,

    /// Seconds that the broker, and then the workers, may take [default: 30, with --drain 300]
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    timeout: Option<Duration>,

    #[command(flatten)]
    common: CommonArgs,
}

/// What can be typed after `streamforge debug events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    #[command(flatten)]
    address: AddressArgs,

    /// Seconds after which it ends, with exit code 0 [default: until Ctrl-C]
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    timeout: Option<Duration>,

    #[command(flatten)]
    common: CommonArgs,
}

impl DebugCommand {
    /// What was asked for.
    pub fn asked(self) -> Asked {
        match self {
            Self::Ping(PingArgs {
                address,
                repeat,
                interval,
                expect_count,
                timeout,
                common,
            }) => common.ask(Request::Ping(Ping {
                to: address.address(),
                repeat,
                interval,
                timeout: timeout.unwrap_or(PING_TIMEOUT),
                expect: Some(expect_count.map_or(Count::Some, Count::AtLeast)),
            })),
            Self::Stop(StopArgs {
                address,
                drain,
                no_wait,
                expect_count,
                timeout,
                common,
            }) => common.ask(Request::Order(Order {
                to: address.address(),
                action: Action::Stop { drain },
                timeout: timeout.unwrap_or(stop_timeout(drain)),
                expect: (!no_wait).then_some(expect_count.map_or(Count::Some, Count::AtLeast)),
            })),
            Self::Events(EventsArgs {
                address,
                timeout,
                common,
            }) => common.ask(Request::Follow(Follow {
                of: address.address(),
                timeout,
            })),
        }
    }
}

const PING_HELP: &str = "\
Examples:
  streamforge debug ping --queue-id wf-try
  streamforge debug ping --queue-id wf-try --repeat 1000 --interval 0.01
  streamforge debug ping --queue-id all --expect-count 2 --json

Exit codes: 0 every ping was answered; 1 one was not, or the broker is away or refuses; 2 wrong usage; 78 bad \
configuration; 130 Ctrl-C, 143 SIGTERM.

streamforge debug --help lists the environment variables.";

const STOP_HELP: &str = "\
Examples:
  streamforge debug stop --queue-id wf-try
  streamforge debug stop --queue-id wf-try --drain
  streamforge debug stop --queue-id wf-try --target loader-api-candles --no-wait

Exit codes: 0 the workers were interrupted by it, with --no-wait: the broker took the command; 1 none was, one \
ended in another way, or the broker is away or refuses; 2 wrong usage; 78 bad configuration; 130 Ctrl-C, 143 \
SIGTERM.

streamforge debug --help lists the environment variables.";

const EVENTS_HELP: &str = "\
Examples:
  streamforge debug events --queue-id all
  streamforge debug events --queue-id wf-try --target arango-candles --json

Exit codes: 0 --timeout is over; 1 the broker is away at the start or refuses; 2 wrong usage; 78 bad \
configuration; 130 Ctrl-C, 143 SIGTERM.

streamforge debug --help lists the environment variables.";
