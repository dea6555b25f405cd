//! A request from its first message to its outcome. Time-outs are kept by timers, whether messages come or not.

mod ping;

use std::{
    io,
    time::{Duration, Instant},
};

use streamforge_utils::{protocol::Event, shutdown::StopSignal};
use tokio::time::sleep_until;

use crate::{
    config::Config,
    judge::{Judge, Verdict},
    output::Output,
    report::{Followed, Line, OrderSummary, Outcome, one_line},
    request::{Action, Follow, Order, Request},
    wire::{Arrival, Wire, WireError},
};

/// Why a request could not be followed to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the {command} was not taken by topic {topic:?}: {error}")]
    Undelivered {
        command: &'static str,
        topic: String,
        error: rdkafka::error::KafkaError,
    },
    #[error("could not print: {0}")]
    Output(#[from] io::Error),
}

/// Does what was asked for, until it is done or `stop` ends it.
pub(crate) async fn run(
    request: &Request,
    config: &Config,
    output: &mut Output,
    stop: &StopSignal,
) -> Result<Outcome, SessionError> {
    let (to, listen, timeout) = match request {
        Request::Ping(ping) => (&ping.to, ping.expect.is_some(), ping.timeout),
        Request::Order(order) => (&order.to, order.expect.is_some(), order.timeout),
        Request::Follow(follow) => (
            &follow.of,
            true,
            follow.timeout.unwrap_or(FOLLOW_OPEN_TIMEOUT),
        ),
    };
    let wire = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(Outcome::Interrupted),
        wire = Wire::open(config, to, listen, timeout) => wire?,
    };
    match request {
        Request::Ping(ping) => ping::run(ping, wire, output, stop).await,
        Request::Order(order) => run_order(order, wire, output, stop).await,
        Request::Follow(follow) => run_follow(follow, wire, output, stop).await,
    }
}

/// How long the broker may take before it is said that it is away, if no time was given.
const FOLLOW_OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// The event that arrived, if it is one; what else it may be is told here.
fn understood(arrival: Arrival, output: &mut Output) -> Option<(Instant, String, Box<Event>)> {
    match arrival {
        Arrival::Event { at, raw, event } => return Some((at, raw, event)),
        Arrival::Malformed {
            partition,
            offset,
            error,
        } => output.malformed(partition, offset, &error),
        Arrival::Away(error) => output.say(format_args!(
            "the brokers are away, waiting for them: {error}"
        )),
    }
    None
}

async fn run_order(
    order: &Order,
    mut wire: Wire,
    output: &mut Output,
    stop: &StopSignal,
) -> Result<Outcome, SessionError> {
    let command = order.command();
    let name = command.command.as_str();
    let topic = wire.control_topic().to_owned();
    let mut delivery = wire.send(&command);
    let deadline = Instant::now() + order.timeout;
    output.line(&Line::Command {
        command: name,
        queue_id: command.queue_id.clone(),
        target: command.target.as_deref(),
        run: command.run,
        sent_at: command.sent_at,
        to: order.to.to_string(),
    })?;
    let mut judge = Judge::new(order);
    let listens = order.expect.is_some();
    let mut delivered = false;
    let outcome = loop {
        let now = Instant::now();
        match listens {
            true if judge.is_done(now) || now >= deadline => {
                break if judge.is_met() {
                    Outcome::Met
                } else {
                    Outcome::Unmet
                };
            }
            false if delivered => break Outcome::Sent,
            _ => {}
        }
        let wake = judge.wake_at().map_or(deadline, |at| at.min(deadline));
        tokio::select! {
            biased;
            () = stop.cancelled() => break Outcome::Interrupted,
            result = &mut delivery, if !delivered => {
                let undelivered = |error| SessionError::Undelivered {
                    command: name,
                    topic: topic.clone(),
                    error,
                };
                result.map_err(undelivered)?;
                delivered = true;
            }
            arrival = wire.next(), if listens => {
                let Some((at, raw, event)) = understood(arrival?, output) else {
                    continue;
                };
                let verdict = judge.see(&event, at);
                if order.to.covers(&event) {
                    let expected = match verdict {
                        Verdict::Expected => Some(true),
                        Verdict::Unexpected => Some(false),
                        Verdict::Open => None,
                    };
                    output.line(&Line::Event { expected, raw: &one_line(&raw), event: &event })?;
                }
            }
            // The client's own time-out tells why a command was not delivered.
            () = sleep_until(wake.into()), if listens => {}
        }
    };
    let missing = judge.missing().map(str::to_owned).collect();
    let unmet = outcome == Outcome::Unmet;
    output.line(&Line::Order(OrderSummary {
        command: name,
        outcome,
        expected: judge.expected(),
        unexpected: judge.unexpected(),
        missing: if listens && matches!(order.action, Action::Stop { .. }) {
            missing
        } else {
            Vec::new()
        },
        malformed: output.malformed_count(),
        to: order.to.to_string(),
    }))?;
    if unmet {
        output.say(why_unmet(order, &judge));
    }
    Ok(outcome)
}

fn why_unmet(order: &Order, judge: &Judge) -> String {
    let what = match order.action {
        Action::Stop { .. } => "\"interrupted\" because of this stop",
        Action::SimulateLoading => "\"loading\" with more records_written than before",
        Action::FailAfter { .. } => "\"error\"",
    };
    let least = order.expect.map_or(1, |count| count.least());
    let workers = if least == 1 { "worker" } else { "workers" };
    let found = match (judge.expected(), judge.unexpected()) {
        (0, 0) => "none did".to_owned(),
        (expected, 0) => format!("{expected} did"),
        (expected, unexpected) => format!("{expected} did, {unexpected} ended in another way"),
    };
    format!(
        "expected {least} {workers} or more to say {what} within {:?}: {found}",
        order.timeout
    )
}

async fn run_follow(
    follow: &Follow,
    mut wire: Wire,
    output: &mut Output,
    stop: &StopSignal,
) -> Result<Outcome, SessionError> {
    output.say(format_args!("listening to {}", follow.of));
    let deadline = follow.timeout.map(|timeout| Instant::now() + timeout);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Outcome::Interrupted),
            () = until(deadline) => return Ok(Outcome::Met),
            arrival = wire.next() => {
                let Some((_, raw, event)) = understood(arrival?, output) else {
                    continue;
                };
                if !follow.of.covers(&event) {
                    continue;
                }
                if output.is_json() {
                    output.raw(one_line(&raw))?;
                } else {
                    output.raw(Followed(&event))?;
                }
            }
        }
    }
}

/// Waits until then; without a time, for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
