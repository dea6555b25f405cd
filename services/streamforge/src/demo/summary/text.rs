//! A report for people: a table, what is missing, and what went wrong.

use std::fmt::Write;

use indicatif::HumanCount;
use streamforge_utils::protocol::Gap;

use super::{Counts, Outcome, Report, WorkflowReport};

/// Gaps that people are shown for each workflow; the JSON has all that the loader lists.
const GAPS_SHOWN: usize = 10;

const HEADINGS: [&str; 8] = [
    "workflow",
    "fetched",
    "published",
    "written",
    "missing",
    "rejected",
    "candles/s",
    "seconds",
];

impl Report {
    /// For people: a table, what is missing, and what went wrong.
    pub(in crate::demo) fn text(&self) -> String {
        let mut rows = vec![HEADINGS.map(str::to_owned)];
        rows.extend(
            self.workflows
                .iter()
                .map(|workflow| row(workflow.name(), &workflow.counts, workflow.seconds)),
        );
        if self.workflows.len() > 1 {
            rows.push(row("together".to_owned(), &self.counts, self.seconds));
        }
        let mut text = String::from("\n");
        for row in &rows {
            for (column, cell) in row.iter().enumerate() {
                let widths = rows.iter().map(|row| row[column].len());
                let width = widths.max().unwrap_or_default();
                // Names to the left, numbers to the right.
                let _ = match column {
                    0 => write!(text, "  {cell:<width$}"),
                    _ => write!(text, "  {cell:>width$}"),
                };
            }
            text.push('\n');
        }
        text.push('\n');
        for workflow in &self.workflows {
            write_details(&mut text, workflow);
        }
        text.push_str(match self.outcome {
            // The loader has said why, above.
            Outcome::Finished if self.counts.fetched == 0 => "",
            Outcome::Finished => "Everything that the exchange has of it is in the database.\n",
            Outcome::Failed => "Not everything arrived.\n",
            Outcome::Interrupted => "Interrupted before all was done.\n",
        });
        text
    }
}

fn row(name: String, counts: &Counts, seconds: f64) -> [String; 8] {
    let human = |count: u64| HumanCount(count).to_string();
    let rate = counts.written as f64 / seconds.max(0.001);
    [
        name,
        human(counts.fetched),
        human(counts.published),
        human(counts.written),
        human(counts.missing),
        human(counts.rejected),
        human(rate.round() as u64),
        format!("{seconds:.1}"),
    ]
}

fn write_details(text: &mut String, workflow: &WorkflowReport) {
    let name = workflow.name();
    let _ = writeln!(
        text,
        "{name}: {} -> {}",
        workflow.time_range, workflow.collection
    );
    let missing = workflow.counts.missing;
    if missing > 0 {
        let gaps = &workflow.gaps;
        let plural = if gaps.len() == 1 { "" } else { "s" };
        let spans: Vec<_> = gaps.iter().take(GAPS_SHOWN).map(Gap::to_string).collect();
        let more = if gaps.len() > GAPS_SHOWN { ", ..." } else { "" };
        let _ = writeln!(
            text,
            "{name}: {missing} missing in {} gap{plural}: {}{more}",
            gaps.len(),
            spans.join(", ")
        );
    }
    if workflow.counts.fetched == 0 && workflow.outcome == Outcome::Finished {
        let _ = writeln!(text, "{name}: {}", workflow.closing_message);
    }
    for failure in &workflow.failures {
        let _ = writeln!(text, "{name}: FAILED: {failure}");
    }
}
