//! Lines for people. Colour stands in them as escapes, which the stream takes out where they do not belong.

use std::fmt;

use anstyle::{AnsiColor, Style};
use streamforge_utils::protocol::{Event, EventKind, TimestampMs};

use super::{Line, OrderSummary, Outcome, PingSummary};
use crate::pings::ResponderSummary;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ping { n, .. } => write!(f, "ping {n}"),
            Self::Pong {
                n,
                round_trip_ms,
                producer,
                queue_id,
                run,
                ..
            } => {
                let who = plain(producer);
                write!(
                    f,
                    "{GOOD}pong{GOOD:#} {n} from {who} of {}, run {run}: {round_trip_ms:.2} ms",
                    plain(queue_id)
                )
            }
            Self::Lost {
                n,
                answers,
                expected,
                timeout_secs,
                ..
            } => {
                write!(
                    f,
                    "{BAD}lost{BAD:#} {n}: {answers} of {expected} pongs within {timeout_secs} s"
                )
            }
            Self::Command { command, to, .. } => write!(f, "sent {command} to {to}"),
            Self::Event {
                event, expected, ..
            } => {
                let style = match expected {
                    Some(true) => GOOD,
                    Some(false) => BAD,
                    None => Style::new(),
                };
                event_line(f, event, style)
            }
            Self::Pings(summary) => ping_summary(f, summary),
            Self::Order(summary) => order_summary(f, summary),
        }
    }
}

/// An event of any worker, as `--follow` has it.
pub(crate) struct Followed<'a>(pub(crate) &'a Event);

impl fmt::Display for Followed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = match self.0.event {
            EventKind::Error => BAD,
            EventKind::Finished | EventKind::Pong => GOOD,
            _ => Style::new(),
        };
        event_line(f, self.0, style)
    }
}

fn event_line(f: &mut fmt::Formatter<'_>, event: &Event, style: Style) -> fmt::Result {
    let at = TimestampMs((event.timestamp * 1_000.0) as i64).to_jiff();
    let (queue, who, kind) = (
        plain(&event.queue_id),
        plain(&event.producer),
        event.event.as_str(),
    );
    write!(
        f,
        "{} {queue} {who} {style}{kind}{style:#}",
        at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ")
    )?;
    if let Some(reason) = event.reason {
        write!(f, " ({})", format!("{reason:?}").to_lowercase())?;
    }
    if let Some(retryable) = event.retryable {
        f.write_str(if retryable {
            " (retryable)"
        } else {
            " (not retryable)"
        })?;
    }
    if event.message != kind {
        write!(f, ": {}", plain(&event.message))?;
    }
    for (count, what) in [
        (event.records.rejected, "rejected"),
        (event.records.missing, "missing"),
    ] {
        if count > 0 {
            write!(f, ", {count} {what}")?;
        }
    }
    Ok(())
}

fn ping_summary(f: &mut fmt::Formatter<'_>, summary: &PingSummary) -> fmt::Result {
    let PingSummary {
        sent,
        answered,
        lost,
        to,
        ..
    } = summary;
    let pings = if *sent == 1 { "ping" } else { "pings" };
    write!(f, "{sent} {pings} to {to}")?;
    if summary.outcome == Outcome::Sent {
        return Ok(());
    }
    let style = if *lost == 0 { GOOD } else { BAD };
    write!(f, ": {answered} answered, {style}{lost} lost{style:#}")?;
    let open = sent.saturating_sub(answered + lost);
    if open > 0 {
        write!(f, ", {open} still open")?;
    }
    if let Some(round_trip) = summary.round_trip.filter(|round_trip| round_trip.count > 1) {
        write!(f, "\nround trip: {round_trip}")?;
    }
    // A single ping's pongs say it all.
    for who in summary.responders.iter().filter(|_| *sent > 1) {
        responder(f, who)?;
    }
    let ignored = summary.ignored;
    for (count, what) in [
        (
            u64::from(summary.undelivered),
            "pings that did not reach the broker",
        ),
        (ignored.foreign, "pongs to other pings"),
        (ignored.duplicate, "duplicate pongs"),
        (ignored.late, "pongs too late"),
        (summary.malformed, "messages that are no events"),
    ] {
        if count > 0 {
            write!(f, "\n{what}: {count}")?;
        }
    }
    Ok(())
}

fn responder(f: &mut fmt::Formatter<'_>, who: &ResponderSummary) -> fmt::Result {
    let ResponderSummary {
        producer,
        queue_id,
        run,
        answered,
        lost,
        round_trip,
        ..
    } = who;
    let median = round_trip.map_or(0.0, |round_trip| round_trip.median_ms);
    let (producer, queue_id) = (plain(producer), plain(queue_id));
    write!(
        f,
        "\n  {producer} of {queue_id}, run {run}: {answered} answered, {lost} lost, median {median:.2} ms"
    )
}

fn order_summary(f: &mut fmt::Formatter<'_>, summary: &OrderSummary) -> fmt::Result {
    let OrderSummary {
        command,
        outcome,
        expected,
        unexpected,
        missing,
        malformed,
        to,
    } = summary;
    if *outcome == Outcome::Sent {
        return write!(f, "the broker has the {command}");
    }
    let style = if *outcome == Outcome::Met { GOOD } else { BAD };
    write!(
        f,
        "{command} to {to}: {style}{expected} as expected, {unexpected} ended in another way{style:#}"
    )?;
    if !missing.is_empty() {
        let missing: Vec<_> = missing.iter().map(|who| plain(who)).collect();
        write!(f, "\nstill there: {}", missing.join(", "))?;
    }
    if *malformed > 0 {
        write!(f, "\nmessages that are no events: {malformed}")?;
    }
    Ok(())
}

/// Text of others without anything that a terminal would obey.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            plain.extend(char.escape_default());
        } else {
            plain.push(char);
        }
    }
    plain
}
