//! Pings on a schedule, whether they are answered or not, and their pongs.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream::FuturesUnordered};
use streamforge_utils::{
    kafka::is_permanent,
    protocol::{Command, CommandKind, Event, TimestampMs},
    shutdown::StopSignal,
};

use super::{SessionError, understood, until};
use crate::{
    output::Output,
    pings::{Pings, Pong},
    report::{Line, Outcome, PingSummary},
    request::Ping,
    wire::Wire,
};

/// More pings than these are told of by their summary, to people.
const MOST_TOLD: u32 = 10;
/// What takes longer shows its progress.
const SHORT: Duration = Duration::from_secs(1);
/// Failed deliveries that are told of; after that they are only counted.
const MOST_UNDELIVERED_TOLD: u32 = 3;

/// Sends all pings, and waits for what is expected.
pub(super) async fn run(
    ping: &Ping,
    mut wire: Wire,
    output: &mut Output,
    stop: &StopSignal,
) -> Result<Outcome, SessionError> {
    let mut row = Row {
        ping,
        pings: Pings::new(ping),
        undelivered: 0,
        topic: wire.control_topic().to_owned(),
    };
    let listens = ping.expect.is_some();
    if ping.repeat > MOST_TOLD && ping.interval * ping.repeat > SHORT {
        output.start_progress(ping.repeat);
    }
    let start = Instant::now();
    let mut deliveries = FuturesUnordered::new();
    let outcome = loop {
        let now = Instant::now();
        row.expire(now, output)?;
        let pings = &row.pings;
        match listens {
            true if pings.is_done(now) => break row.judged(),
            false if pings.is_all_sent() && deliveries.is_empty() => break row.judged(),
            _ => {}
        }
        let due = (!pings.is_all_sent()).then(|| start + ping.interval * pings.sent());
        let wake = pings.wake_at().filter(|_| listens);
        let shown = output.progress_due();
        tokio::select! {
            () = stop.cancelled() => break Outcome::Interrupted,
            () = until(due), if due.is_some() => {
                let command = row.next(output)?;
                deliveries.push(wire.send(&command));
            }
            Some(delivered) = deliveries.next() => if let Err(error) = delivered {
                row.undelivered(error, output)?;
            },
            arrival = wire.next(), if listens => {
                if let Some((at, _, event)) = understood(arrival?, output) {
                    row.pong(&event, at, output)?;
                }
            }
            () = until(wake), if wake.is_some() => {}
            () = until(shown), if shown.is_some() => {
                let pings = &row.pings;
                output.show_progress(Instant::now(), pings.sent(), pings.met(), pings.round_trip());
            }
        }
    };
    output.end_progress();
    output.line(&Line::Pings(row.summary(outcome, output)))?;
    if outcome == Outcome::Unmet {
        output.say(row.why_unmet());
    }
    Ok(outcome)
}

/// A row of pings.
struct Row<'a> {
    ping: &'a Ping,
    pings: Pings,
    undelivered: u32,
    topic: String,
}

impl Row<'_> {
    /// The next ping, which goes out now.
    fn next(&mut self, output: &Output) -> Result<Command, SessionError> {
        let wall_ms = TimestampMs::now().as_millis();
        let mut command = self.ping.to.command(CommandKind::Ping);
        // Taken last, so that only the way of the ping is measured.
        let (n, sent_at) = self.pings.send(Instant::now(), wall_ms);
        command.sent_at = Some(sent_at);
        if output.is_json() {
            output.line(&Line::Ping { n, sent_at })?;
        }
        Ok(command)
    }

    fn pong(&mut self, event: &Event, at: Instant, output: &Output) -> Result<(), SessionError> {
        if event.ping_ts.is_none() {
            return Ok(());
        }
        if let Pong::Answer { n, took } = self.pings.pong(event, at)
            && (output.is_json() || self.ping.repeat <= MOST_TOLD)
        {
            output.line(&Line::Pong {
                n,
                round_trip_ms: took.as_secs_f64() * 1_000.0,
                producer: &event.producer,
                service: &event.service,
                queue_id: &event.queue_id,
                run: event.run,
                instance: &event.instance,
            })?;
        }
        Ok(())
    }

    fn expire(&mut self, now: Instant, output: &Output) -> Result<(), SessionError> {
        let Some(count) = self.ping.expect else {
            return Ok(());
        };
        for lost in self.pings.expire(now) {
            if output.is_json() || lost.n <= MOST_TOLD {
                output.line(&Line::Lost {
                    n: lost.n,
                    sent_at: lost.sent_at,
                    answers: lost.answers,
                    expected: count.least(),
                    timeout_secs: self.ping.timeout.as_secs_f64(),
                })?;
            }
        }
        Ok(())
    }

    fn undelivered(
        &mut self,
        error: rdkafka::error::KafkaError,
        output: &Output,
    ) -> Result<(), SessionError> {
        if is_permanent(&error) {
            return Err(SessionError::Undelivered {
                command: "ping",
                topic: self.topic.clone(),
                error,
            });
        }
        self.undelivered += 1;
        if self.undelivered <= MOST_UNDELIVERED_TOLD {
            output.say(format_args!("a ping did not reach the broker: {error}"));
        }
        Ok(())
    }

    fn judged(&self) -> Outcome {
        match self.ping.expect {
            None if self.undelivered == 0 => Outcome::Sent,
            Some(_) if self.pings.met() == self.pings.sent() => Outcome::Met,
            _ => Outcome::Unmet,
        }
    }

    fn why_unmet(&self) -> String {
        let (sent, met) = (self.pings.sent(), self.pings.met());
        match self.ping.expect {
            None => format!(
                "{} of {sent} pings did not reach the broker",
                self.undelivered
            ),
            Some(count) => {
                let least = count.least();
                let workers = if least == 1 { "worker" } else { "workers" };
                let timeout = self.ping.timeout;
                let lost = sent - met;
                format!(
                    "expected a pong of {least} {workers} or more to each ping within {timeout:?}: {lost} of {sent} pings lost"
                )
            }
        }
    }

    fn summary(&self, outcome: Outcome, output: &Output) -> PingSummary {
        let pings = &self.pings;
        PingSummary {
            command: "ping",
            outcome,
            sent: pings.sent(),
            answered: pings.met(),
            lost: pings.lost(),
            undelivered: self.undelivered,
            round_trip: pings.round_trip(),
            responders: pings.responders(),
            ignored: pings.ignored(),
            malformed: output.malformed_count(),
            to: self.ping.to.to_string(),
        }
    }
}
