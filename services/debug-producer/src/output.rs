//! Where lines go: results to stdout, diagnostics and progress to stderr.
//!
//! Colour only on a terminal, and never with `NO_COLOR`; anstream sees to it.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use streamforge_utils::latency::LatencySummary;

use crate::report::Line;

/// Between two plain lines of progress.
const LINE_INTERVAL: Duration = Duration::from_secs(3);
/// Between two looks of a person at a bar.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
/// Messages that are no events are told of so often; after that they are only counted.
const MOST_MALFORMED_TOLD: u64 = 3;

/// Where lines go, and in which form.
pub(crate) struct Output {
    program: &'static str,
    json: bool,
    progress: Option<Progress>,
    malformed: u64,
}

/// How far a long row of pings is.
struct Progress {
    total: u32,
    /// None if stderr is no terminal.
    bar: Option<ProgressBar>,
    due: Instant,
}

impl Output {
    pub(crate) fn new(program: &'static str, json: bool) -> Self {
        Self {
            program,
            json,
            progress: None,
            malformed: 0,
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a line in the form that was asked for.
    ///
    /// # Errors
    /// Nobody reads it any more.
    pub(crate) fn line(&self, line: &Line<'_>) -> io::Result<()> {
        if self.json {
            let json = serde_json::to_string(line).expect("a line has no key that is not text");
            self.raw(&json)
        } else {
            self.raw(line)
        }
    }

    /// Prints a text as it is.
    ///
    /// # Errors
    /// Nobody reads it any more.
    pub(crate) fn raw(&self, text: impl fmt::Display) -> io::Result<()> {
        self.beside_the_bar(|| {
            let mut stdout = anstream::stdout().lock();
            writeln!(stdout, "{text}")?;
            stdout.flush()
        })
    }

    /// Says something to whoever watches.
    pub(crate) fn say(&self, text: impl fmt::Display) {
        // If stderr is gone there is nobody to tell.
        let _ = self.beside_the_bar(|| writeln!(anstream::stderr(), "{}: {text}", self.program));
    }

    /// Notes a message that is no event.
    pub(crate) fn malformed(&mut self, partition: i32, offset: i64, error: &serde_json::Error) {
        self.malformed += 1;
        if self.malformed <= MOST_MALFORMED_TOLD {
            self.say(format_args!("skipped a message that is no event, partition {partition}, offset {offset}: {error}"));
        }
        if self.malformed == MOST_MALFORMED_TOLD {
            self.say("further ones are only counted");
        }
    }

    /// How many messages were no events.
    pub(crate) fn malformed_count(&self) -> u64 {
        self.malformed
    }

    /// Shows from now on how far `total` pings are.
    pub(crate) fn start_progress(&mut self, total: u32) {
        let bar = io::stderr().is_terminal().then(|| {
            let bar =
                ProgressBar::with_draw_target(Some(u64::from(total)), ProgressDrawTarget::stderr());
            let style =
                ProgressStyle::with_template("[{wide_bar:.cyan/blue}] {pos} of {len} sent{msg}");
            bar.with_style(
                style
                    .expect("our own template is well-formed")
                    .progress_chars("=> "),
            )
        });
        let due = Instant::now()
            + if bar.is_some() {
                BAR_INTERVAL
            } else {
                LINE_INTERVAL
            };
        self.progress = Some(Progress { total, bar, due });
    }

    /// When progress is to be shown next.
    pub(crate) fn progress_due(&self) -> Option<Instant> {
        self.progress.as_ref().map(|progress| progress.due)
    }

    /// Shows how far it is.
    pub(crate) fn show_progress(
        &mut self,
        now: Instant,
        sent: u32,
        answered: u32,
        round_trip: Option<LatencySummary>,
    ) {
        let Some(progress) = &mut self.progress else {
            return;
        };
        let median =
            round_trip.map(|round_trip| format!(", median {:.2} ms", round_trip.median_ms));
        let rest = format!(", {answered} answered{}", median.unwrap_or_default());
        if let Some(bar) = &progress.bar {
            progress.due = now + BAR_INTERVAL;
            bar.set_position(u64::from(sent));
            bar.set_message(rest);
        } else {
            progress.due = now + LINE_INTERVAL;
            let total = progress.total;
            self.say(format_args!("{sent} of {total} sent{rest}"));
        }
    }

    /// Takes the bar away.
    pub(crate) fn end_progress(&mut self) {
        if let Some(Progress { bar: Some(bar), .. }) = self.progress.take() {
            bar.finish_and_clear();
        }
    }

    fn beside_the_bar<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.progress {
            Some(Progress { bar: Some(bar), .. }) => bar.suspend(write),
            _ => write(),
        }
    }
}
