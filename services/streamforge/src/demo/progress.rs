//! How far the workers are, on stderr: a bar for each on a terminal, a line now and then elsewhere.
//!
//! stdout is left to the result. `NO_COLOR` is obeyed by indicatif itself.

mod lines;

use std::{
    io::{IsTerminal, Write, stderr},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use streamforge_utils::protocol::EventKind;
use tokio::{sync::watch, time::Instant};

use super::plan::Workflow;
use crate::events::Board;
use lines::Lines;

/// Between two lines about a workflow that moves.
const LINE_INTERVAL: Duration = Duration::from_secs(3);
/// Between two looks at whether one stands still.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How far one worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Reading {
    done: u64,
    /// Unknown until the loader has asked the exchange.
    total: Option<u64>,
    state: &'static str,
}

impl Reading {
    /// A loader publishes all that is expected but what is missing; a writer writes what its loader publishes.
    fn of(board: &Board, workflow: &Workflow, service: &str) -> Self {
        let loader = board.last(&workflow.queue_id, loader_api_candles::SERVICE);
        let Some(event) = board.last(&workflow.queue_id, service) else {
            return Self {
                state: "starting",
                ..Self::default()
            };
        };
        Self {
            done: event.records.written,
            total: loader.and_then(|loader| {
                let total = loader.records.total?;
                Some(total.saturating_sub(loader.records.missing))
            }),
            state: match event.event {
                EventKind::Started | EventKind::Loading | EventKind::Pong => "",
                EventKind::Finished => "done",
                EventKind::Interrupted => "stopped",
                EventKind::Error => "failed",
            },
        }
    }
}

/// Where progress is shown.
pub(super) struct Screen<'a> {
    workflows: &'a [Workflow],
    /// By workflow and service; none if stderr is no terminal.
    bars: Option<(MultiProgress, Vec<[ProgressBar; 2]>)>,
}

const SERVICES: [&str; 2] = [loader_api_candles::SERVICE, arango_candles::SERVICE];

impl<'a> Screen<'a> {
    /// Shows nothing yet.
    pub(super) fn new(workflows: &'a [Workflow]) -> Self {
        let bars = stderr().is_terminal().then(|| {
            let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            let bars = workflows.iter().map(|workflow| {
                SERVICES.map(|service| {
                    let verb = if service == arango_candles::SERVICE {
                        "written"
                    } else {
                        "published"
                    };
                    multi
                        .add(ProgressBar::new(0))
                        .with_style(style())
                        .with_prefix(format!("{} {verb}", workflow.name()))
                })
            });
            let bars = bars.collect();
            (multi, bars)
        });
        Self { workflows, bars }
    }

    /// Prints a line, above the bars.
    pub(super) fn say(&self, text: &str) {
        // If stderr is gone there is nobody to tell.
        let _ = match &self.bars {
            Some((multi, _)) => multi.println(text),
            None => writeln!(stderr(), "{text}"),
        };
    }

    /// Shows how far the workers are, for as long as the board is written to.
    pub(super) async fn follow(&self, mut board: watch::Receiver<Board>) {
        let mut line_ticks = tokio::time::interval(LINE_INTERVAL);
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        let mut lines = Lines::default();
        loop {
            let (mut line_due, mut look_due) = (false, false);
            tokio::select! {
                changed = board.changed() => if changed.is_err() {
                    return;
                },
                _ = line_ticks.tick() => line_due = true,
                _ = looks.tick() => look_due = true,
            }
            let board = board.borrow_and_update().clone();
            let mut due = Vec::new();
            if self.bars.is_none() {
                due = lines.due(self.workflows, &board, line_due);
            }
            if look_due {
                due.extend(lines.waits(self.workflows, &board, Instant::now()));
            }
            due.iter().for_each(|line| self.say(line));
            self.draw(&board, &lines);
        }
    }

    fn draw(&self, board: &Board, lines: &Lines) {
        let Some((_, bars)) = &self.bars else {
            return;
        };
        for (workflow, bars) in self.workflows.iter().zip(bars) {
            for (service, bar) in SERVICES.iter().zip(bars) {
                let reading = Reading::of(board, workflow, service);
                bar.set_length(reading.total.unwrap_or(0));
                bar.set_position(reading.done);
                // What for stands in a line above: it is too long for a bar.
                let waits = lines.is_waited_for(workflow, service);
                bar.set_message(if waits { "waiting" } else { reading.state });
            }
        }
    }

    /// Leaves the bars as they are, with the board's last word.
    pub(super) fn close(&self, board: &Board) {
        self.draw(board, &Lines::default());
        if let Some((_, bars)) = &self.bars {
            bars.iter().flatten().for_each(ProgressBar::abandon);
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{prefix:<20} [{wide_bar:.cyan/blue}] {human_pos:>9} of {human_len:<9} {rate:>8} {msg:8}",
    )
    .expect("our own template is well-formed")
    .with_key(
        "rate",
        |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            let _ = write!(text, "{:.0}/s", state.per_sec());
        },
    )
    .progress_chars("=> ")
}

#[cfg(test)]
mod tests;
