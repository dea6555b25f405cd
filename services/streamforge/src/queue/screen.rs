//! How far workflows are, on stderr: a bar for each worker on a terminal, a line now and then elsewhere.
//!
//! stdout is left to the result. `NO_COLOR` is obeyed by indicatif and by anstream.

mod lines;

use std::{
    collections::BTreeMap,
    io::{IsTerminal, stderr},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use streamforge_utils::protocol::TimestampMs;

use super::{
    api::{Part, Status, Workflow},
    failure::Failure,
    say, text,
};
use lines::Lines;

/// Where progress is shown.
pub(super) struct Screen {
    mode: Mode,
    is_away: bool,
}

enum Mode {
    /// Programs read stdout; only trouble is told.
    Quiet,
    Lines(Lines),
    Bars {
        multi: MultiProgress,
        /// By queue id and telemetry id, which has the end of the queue id in it.
        bars: BTreeMap<(String, String), ProgressBar>,
        lines: Lines,
    },
}

impl Screen {
    /// Shows nothing yet.
    pub(super) fn new(for_people: bool) -> Self {
        let mode = if !for_people {
            Mode::Quiet
        } else if stderr().is_terminal() {
            Mode::Bars {
                multi: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
                bars: BTreeMap::new(),
                lines: Lines::beside_bars(),
            }
        } else {
            Mode::Lines(Lines::default())
        };
        Self {
            mode,
            is_away: false,
        }
    }

    /// Prints a line, above the bars.
    pub(super) fn say(&self, line: &str) {
        match &self.mode {
            Mode::Bars { multi, .. } => multi.suspend(|| say(line)),
            _ => say(line),
        }
    }

    /// Shows how far a workflow is.
    pub(super) fn take(&mut self, workflow: &Workflow, now: TimestampMs) {
        if std::mem::take(&mut self.is_away) {
            self.say("queue-manager answers again");
        }
        let due = match &mut self.mode {
            Mode::Quiet => Vec::new(),
            Mode::Lines(lines) => lines.take(workflow, now),
            Mode::Bars { multi, bars, lines } => {
                for part in &workflow.parts {
                    let key = (workflow.queue_id.clone(), part.telemetry_id.clone());
                    let bar = bars.entry(key).or_insert_with(|| multi.add(bar(part)));
                    draw(bar, workflow, part, now);
                }
                // Counts are in the bars; states and their reasons are too long for them.
                lines.changes(workflow)
            }
        };
        due.iter().for_each(|line| self.say(line));
    }

    /// Tells what is due although nothing has changed. To be called every second or so.
    pub(super) fn look(&mut self, now: TimestampMs) {
        if let Mode::Lines(lines) = &mut self.mode {
            let due = lines.due(now);
            due.iter().for_each(|line| self.say(line));
        }
    }

    /// queue-manager does not answer. Told once until it does.
    pub(super) fn away(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.is_away, true) {
            self.say(&format!(
                "{failure}; asking on, and the workflows go on by themselves"
            ));
        }
    }

    /// Leaves the bars as they are.
    pub(super) fn close(&self) {
        if let Mode::Bars { bars, .. } = &self.mode {
            bars.values().for_each(ProgressBar::abandon);
        }
    }
}

fn bar(part: &Part) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:<26} [{wide_bar:.cyan/blue}] {msg:<38}");
    ProgressBar::new(u64::MAX)
        .with_style(
            style
                .expect("our own template is well-formed")
                .progress_chars("=> "),
        )
        .with_finish(ProgressFinish::Abandon)
        .with_prefix(part.telemetry_id.clone())
}

fn draw(bar: &ProgressBar, workflow: &Workflow, part: &Part, now: TimestampMs) {
    let written = part.progress.written;
    let expected = workflow.expected_of(part);
    // Of no known length: an empty bar, until it has ended.
    let unknown = if part.status.is_final() {
        written
    } else {
        u64::MAX
    };
    bar.set_length(expected.unwrap_or(unknown));
    bar.set_position(written);
    let of = expected.map_or_else(String::new, |all| format!(" of {}", text::count(all)));
    let pace = text::pace(&part.status, &part.progress, now);
    let how = match &part.status {
        Status::Running if !pace.is_empty() => pace,
        Status::Pending if workflow.turn.is_some() => {
            let place = workflow.turn.as_ref().map(text::place);
            format!("waits, {}", place.unwrap_or_default())
        }
        status => status.as_str().to_owned(),
    };
    bar.set_message(format!("{}{of}, {how}", text::count(written)));
}
