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
        /// By telemetry id, which has the end of the queue id in it.
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
                lines: Lines::default(),
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
                    let bar = bars
                        .entry(key)
                        .or_insert_with(|| multi.add(bar(workflow, part)));
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

fn bar(workflow: &Workflow, part: &Part) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:<36} [{wide_bar:.cyan/blue}] {human_pos:>11} of {human_len:<11} {msg:<26}",
    );
    ProgressBar::new(0)
        .with_style(
            style
                .expect("our own template is well-formed")
                .progress_chars("=> "),
        )
        .with_finish(ProgressFinish::Abandon)
        .with_prefix(format!("{} {}", workflow.symbol, part.telemetry_id))
}

fn draw(bar: &ProgressBar, workflow: &Workflow, part: &Part, now: TimestampMs) {
    bar.set_length(workflow.expected_of(part).unwrap_or(part.progress.written));
    bar.set_position(part.progress.written);
    let pace = text::pace(&part.status, &part.progress, now);
    bar.set_message(match &part.status {
        Status::Running if !pace.is_empty() => pace,
        status => status.as_str().to_owned(),
    });
}
