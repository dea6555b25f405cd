//! What is told in plain lines: states as they change, at once; how far workflows are, every few seconds while they move,
//! and now and then while they do not.

use std::collections::BTreeMap;

use streamforge_utils::protocol::TimestampMs;

use crate::queue::{
    api::{Status, Workflow},
    text,
};

/// Between two lines about a workflow that moves, in ms.
const LINE_INTERVAL: i64 = 3_000;
/// After so long there is a line in any case, in ms.
const SIGN_OF_LIFE: i64 = 10_000;

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Lines {
    told: BTreeMap<String, Told>,
    /// Whether another place in the row is no news, since it is shown elsewhere.
    without_places: bool,
}

#[derive(Debug)]
struct Told {
    last: Workflow,
    /// State and reason of the workflow and of each worker.
    states: Vec<(Status, Option<String>)>,
    /// Records, when they were last told of.
    written: u64,
    told_at: i64,
}

impl Lines {
    /// Those beside bars, which show the place in the row.
    pub(super) fn beside_bars() -> Self {
        Self {
            without_places: true,
            ..Self::default()
        }
    }

    /// Notes a state; gives the lines that are due.
    pub(super) fn take(&mut self, workflow: &Workflow, now: TimestampMs) -> Vec<String> {
        let mut lines = self.changes(workflow);
        if lines.is_empty() {
            lines.extend(self.line(&workflow.queue_id, now));
        } else if let Some(told) = self.told.get_mut(&workflow.queue_id) {
            told.told_at = now.as_millis();
        }
        lines
    }

    /// Notes a state; gives lines on what has another state or reason than before.
    pub(super) fn changes(&mut self, workflow: &Workflow) -> Vec<String> {
        let id = &workflow.queue_id;
        let before = self.told.get(id);
        let news = match (&workflow.reason, &workflow.turn) {
            (None, Some(_)) if self.without_places => Some("it waits".to_owned()),
            _ => text::why(workflow),
        };
        let mut states = vec![(workflow.status.clone(), news)];
        let parts = workflow.parts.iter();
        states.extend(parts.map(|part| (part.status.clone(), part.reason.clone())));
        let changed =
            |nth: usize| before.is_none_or(|told| told.states.get(nth) != states.get(nth));
        let mut lines = Vec::new();
        for (part, nth) in workflow.parts.iter().zip(1..) {
            // At first only what stands out.
            if changed(nth) && (before.is_some() || part.reason.is_some()) {
                let mut line = format!(
                    "{id}: {} {}",
                    part.telemetry_id,
                    text::coloured(&part.status)
                );
                let message = part.message.as_ref().filter(|_| part.status.is_final());
                if let Some(why) = part.reason.as_ref().or(message) {
                    line += &format!(": {why}");
                }
                lines.push(line);
            }
        }
        if changed(0) {
            let mut line = format!("{id}: {}", text::coloured(&workflow.status));
            if let Some(why) = text::why(workflow) {
                line += &format!(": {why}");
            }
            lines.push(line);
        }
        let (written, told_at) = before.map_or((0, 0), |told| (told.written, told.told_at));
        let told = Told {
            last: workflow.clone(),
            states,
            written,
            told_at,
        };
        self.told.insert(id.clone(), told);
        lines
    }

    /// Lines on workflows of which none was for long.
    pub(super) fn due(&mut self, now: TimestampMs) -> Vec<String> {
        let ids: Vec<_> = self.told.keys().cloned().collect();
        ids.iter().filter_map(|id| self.line(id, now)).collect()
    }

    /// How far a workflow is, if it is time to say so.
    fn line(&mut self, id: &str, now: TimestampMs) -> Option<String> {
        let told = self.told.get_mut(id)?;
        let workflow = &told.last;
        let since = now.as_millis() - told.told_at;
        let moves = workflow.totals.written != told.written;
        let is_due = since >= SIGN_OF_LIFE || (moves && since >= LINE_INTERVAL);
        if workflow.status.is_final() || !is_due {
            return None;
        }
        told.written = workflow.totals.written;
        told.told_at = now.as_millis();
        let pace = text::pace(&workflow.status, &workflow.totals, now);
        let comma = if pace.is_empty() { "" } else { ", " };
        Some(format!(
            "{id}: {}: {}{comma}{pace}",
            text::coloured(&workflow.status),
            text::counts(&workflow.totals)
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::queue::api::tests::{NOW, workflow};

    #[test]
    fn beside_bars_only_the_first_place_in_the_row_is_told() {
        let row = |mut lines: Lines| -> Vec<usize> {
            [Some(7), Some(6), Some(0), None]
                .map(|before| {
                    let turn = before
                        .map(|before| json!({"before": before, "waits_for": "place", "limit": 4}));
                    lines
                        .changes(&workflow(json!({"status": "pending", "turn": turn})))
                        .len()
                })
                .to_vec()
        };
        assert_eq!(row(Lines::default()), [1, 1, 1, 1]);
        assert_eq!(row(Lines::beside_bars()), [1, 0, 0, 1]);
    }

    #[test]
    fn changes_are_told_at_once_and_counts_now_and_then() {
        let mut lines = Lines::default();
        let mut told = Vec::new();
        let mut at = |seconds: i64, more: Option<serde_json::Value>| {
            let now = TimestampMs(NOW.0 + seconds * 1_000);
            let due = match more {
                Some(more) => lines.take(&workflow(more), now),
                None => lines.due(now),
            };
            let due = due
                .iter()
                .map(|line| anstream::adapter::strip_str(line).to_string());
            told.extend(due.map(|line| format!("{seconds:>2} s  {line}")));
        };
        let written = |written: u64| json!({"written": written, "total": 44_640, "rate": 1440.0, "percentage": 50.0});
        let running = |count: u64| Some(json!({"totals": written(count)}));
        let stalled = || {
            Some(json!({"status": "stalled", "totals": written(24_000),
            "reason": "arango-candles__abc123: nothing was heard of it since 2024-08-01T00:04Z"}))
        };
        at(0, Some(json!({"status": "starting", "totals": {}})));
        at(1, running(1_000));
        at(2, running(2_000));
        at(4, running(4_000));
        at(5, None);
        at(6, running(6_000));
        at(7, running(7_000));
        at(8, stalled());
        at(9, stalled());
        at(17, None);
        at(18, None);
        at(28, None);
        at(
            29,
            Some(json!({"status": "finished", "totals": written(44_640)})),
        );
        at(60, None);
        insta::assert_snapshot!(told.join("\n"));
    }
}
