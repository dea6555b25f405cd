//! Words and numbers for people: times, rates, how far something is. Colour stands in them as escapes, which the stream
//! takes out where they do not belong.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use indicatif::HumanCount;
use streamforge_utils::protocol::TimestampMs;

use super::api::{Progress, Status, Turn, WaitsFor, Workflow};

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();

/// The colour of a status.
pub(super) fn style(status: &Status) -> Style {
    match status {
        Status::Pending | Status::Other(_) => DIM,
        Status::Starting | Status::Running => AnsiColor::Cyan.on_default(),
        Status::Stalled | Status::Interrupted => AnsiColor::Yellow.on_default(),
        Status::Finished => AnsiColor::Green.on_default(),
        Status::Error => AnsiColor::Red.on_default(),
    }
}

/// A status in its colour.
pub(super) fn coloured(status: &Status) -> String {
    let style = style(status);
    format!("{style}{}{style:#}", status.as_str())
}

/// `45 s`, `5 min`, `3 h 20 min`, `12 d`: two units at most, nothing below 0.
pub(super) fn span(millis: i64) -> String {
    let seconds = millis.max(0) / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |more: i64, unit: &str, fewer: i64, small: &str| match fewer {
        0 => format!("{more} {unit}"),
        _ => format!("{more} {unit} {fewer} {small}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..600 => two(minutes, "min", seconds % 60, "s"),
        600..3_600 => format!("{minutes} min"),
        3_600..86_400 => two(hours, "h", minutes % 60, "min"),
        86_400..864_000 => two(days, "d", hours % 24, "h"),
        _ => format!("{days} d"),
    }
}

/// `1,440`.
pub(super) fn count(records: u64) -> String {
    HumanCount(records).to_string()
}

/// `1,440/s`; below 10 with a decimal.
pub(super) fn rate(rate: f64) -> String {
    if rate > 0.0 && rate < 9.95 {
        format!("{rate:.1}/s")
    } else {
        format!("{}/s", count(rate.max(0.0).round() as u64))
    }
}

/// `45.1 %`.
pub(super) fn percentage(progress: &Progress) -> Option<String> {
    progress
        .percentage
        .map(|percentage| format!("{percentage:.1} %"))
}

/// `ends in 17 s`, of something that runs.
pub(super) fn end(progress: &Progress, now: TimestampMs) -> Option<String> {
    let left = progress.expected_end?.as_millis() - now.as_millis();
    Some(if left < 1_000 {
        "ends now".to_owned()
    } else {
        format!("ends in {}", span(left))
    })
}

/// `45.1 %, 20,133 of 44,640 records`, with what was rejected or is missing.
pub(super) fn counts(progress: &Progress) -> String {
    let mut text = percentage(progress).map_or_else(String::new, |it| it + ", ");
    text += &count(progress.written);
    if let Some(total) = progress.total {
        let _ = write!(text, " of {}", count(total));
    }
    text += " records";
    for (records, what) in [
        (progress.rejected, "rejected"),
        (progress.missing, "missing"),
    ] {
        if records > 0 {
            let _ = write!(text, ", {} {what}", count(records));
        }
    }
    text
}

/// `1,440/s, ends in 17 s`; empty if neither is known, or if it has ended.
pub(super) fn pace(status: &Status, progress: &Progress, now: TimestampMs) -> String {
    if status.is_final() {
        return String::new();
    }
    let all = [progress.rate.map(rate), end(progress, now)];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `3 before it`, or that it is next.
pub(super) fn place(turn: &Turn) -> String {
    match turn.before {
        0 => "next".to_owned(),
        before => format!("{} before it", count(before)),
    }
}

/// `waits for its turn, 3 before it: 4 loaders ask the exchange at a time (MAX_LOADERS)`.
pub(super) fn waits(turn: &Turn) -> String {
    let limit = count(turn.limit);
    let (one, many, why) = match turn.waits_for {
        WaitsFor::Place => ("workflow runs", "workflows run", "MAX_WORKFLOWS"),
        WaitsFor::Exchange => (
            "loader asks the exchange",
            "loaders ask the exchange",
            "MAX_LOADERS",
        ),
        WaitsFor::Other => return format!("waits for its turn, {}", place(turn)),
    };
    let what = if turn.limit == 1 { one } else { many };
    format!(
        "waits for its turn, {}: {limit} {what} at a time ({why})",
        place(turn)
    )
}

/// Why a workflow is where it is: what queue-manager says, or its place in the row.
pub(super) fn why(workflow: &Workflow) -> Option<String> {
    let turn = workflow.turn.as_ref().map(waits);
    workflow.reason.clone().or(turn)
}

/// How long a workflow has worked, or did.
pub(super) fn took(workflow: &Workflow, now: TimestampMs) -> Option<String> {
    let from = workflow.started_at?.as_millis();
    let to = workflow.ended_at.unwrap_or(now).as_millis();
    Some(span(to - from))
}

/// What came of a workflow, in a line.
pub(super) fn outcome(workflow: &Workflow, now: TimestampMs) -> String {
    let mut text = format!(
        "{} {}: {}",
        workflow.queue_id,
        coloured(&workflow.status),
        counts(&workflow.totals)
    );
    if let Some(took) = took(workflow, now) {
        let _ = write!(text, " in {took}");
    }
    if let Some(reason) = &workflow.reason {
        let _ = write!(text, "; {reason}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_told_where_and_for_what() {
        let turn = |before, waits_for, limit| {
            waits(&Turn {
                before,
                waits_for,
                limit,
            })
        };
        assert_eq!(
            turn(3, WaitsFor::Exchange, 4),
            "waits for its turn, 3 before it: 4 loaders ask the exchange at a time (MAX_LOADERS)"
        );
        assert_eq!(
            turn(0, WaitsFor::Place, 1),
            "waits for its turn, next: 1 workflow runs at a time (MAX_WORKFLOWS)"
        );
        assert_eq!(
            turn(1_000, WaitsFor::Other, 1),
            "waits for its turn, 1,000 before it"
        );
    }

    #[test]
    fn times_have_two_units_at_most() {
        for (seconds, text) in [
            (-5, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (150, "2 min 30 s"),
            (900, "15 min"),
            (3_600, "1 h"),
            (12_000, "3 h 20 min"),
            (86_400, "1 d"),
            (180_000, "2 d 2 h"),
            (8_640_000, "100 d"),
        ] {
            assert_eq!(span(seconds * 1_000), text);
        }
    }

    #[test]
    fn a_slow_rate_keeps_a_decimal() {
        for (per_second, text) in [
            (0.0, "0/s"),
            (0.25, "0.2/s"),
            (9.94, "9.9/s"),
            (9.96, "10/s"),
            (1_440.2, "1,440/s"),
        ] {
            assert_eq!(rate(per_second), text);
        }
    }
}
