//! What the exchange does not have: gaps between the candles that it has. Pure.
//!
//! Candles are identified by their open time and seen in order. Each occupies the slot of the grid that its open time
//! falls into; a slot that no candle occupied is missing. Neighbouring missing slots are one gap. All are counted,
//! the first [`LISTED`] are kept.

use std::fmt::Write;

use streamforge_utils::protocol::{Gap, Grid, TimestampMs};

use crate::plan::Plan;

/// How many gaps the last event lists.
pub const LISTED: usize = 100;

/// How many gaps the closing message names. The event lists more, and the log all.
const NAMED: usize = 3;

/// Follows the candles of a load from its first expected slot on.
#[derive(Debug, Clone)]
pub struct GapTracker {
    grid: Grid,
    next_slot: i64,
    gaps: Vec<Gap>,
    gap_count: u64,
    missing: u64,
    unlisted: u64,
    extra: u64,
}

impl GapTracker {
    /// Expects the candles of `plan`, none of which was seen.
    pub fn new(plan: &Plan) -> Self {
        Self {
            grid: plan.grid,
            next_slot: plan.first_slot,
            gaps: Vec::new(),
            gap_count: 0,
            missing: 0,
            unlisted: 0,
            extra: 0,
        }
    }

    /// Notes the next candle that is there. Returns the gap that it ends, if any.
    pub fn seen(&mut self, open_time: TimestampMs) -> Option<Gap> {
        let slot = self.grid.index(open_time);
        if slot < self.next_slot {
            // A second candle in one slot, or one before the first slot: there, and not expected.
            self.extra += 1;
            return None;
        }
        let gap = self.gap_before(slot, open_time);
        self.next_slot = slot + 1;
        gap
    }

    /// Notes that no further candle comes before `plan`'s end. Returns the gap that this leaves, if any.
    pub fn end(&mut self, plan: &Plan) -> Option<Gap> {
        let gap = self.gap_before(plan.end_slot, plan.end);
        self.next_slot = self.next_slot.max(plan.end_slot);
        gap
    }

    /// Passes over slots up to `slot`, exclusive, of which `missing` are missing and nobody knows which.
    pub fn pass_to(&mut self, slot: i64, missing: u64) {
        self.next_slot = self.next_slot.max(slot);
        self.missing += missing;
        self.unlisted += missing;
    }

    /// Notes candles that are there beyond those expected.
    pub fn count_extra(&mut self, extra: u64) {
        self.extra += extra;
    }

    fn gap_before(&mut self, slot: i64, end: TimestampMs) -> Option<Gap> {
        let missing = u64::try_from(slot - self.next_slot)
            .ok()
            .filter(|count| *count > 0)?;
        let gap = Gap {
            start: self.grid.open(self.next_slot),
            end,
            missing,
        };
        self.missing += missing;
        self.gap_count += 1;
        if self.gaps.len() < LISTED {
            self.gaps.push(gap);
        }
        Some(gap)
    }

    /// Expected candles that are not there, so far.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Candles that are there beyond those expected, so far: two in one slot.
    pub fn extra(&self) -> u64 {
        self.extra
    }

    /// The first [`LISTED`] gaps.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// `1468 candles, 3 missing in 1 gap: 2020-06-28T02:00Z to 05:00Z`.
    pub fn summary(&self, candles: u64) -> String {
        let text = self.summary_so_far(candles);
        if self.missing == 0 {
            return format!("{text}, none missing");
        }
        text
    }

    /// The same without a word on what was not seen missing: `1468 candles`.
    pub fn summary_so_far(&self, candles: u64) -> String {
        let mut text = format!("{candles} {}", plural(candles, "candle"));
        if self.missing == 0 {
            return text;
        }
        let gaps = plural(self.gap_count, "gap");
        // Writing to a String can't fail.
        let _ = write!(
            text,
            ", {} missing in {} {gaps}",
            self.missing, self.gap_count
        );
        for (nth, gap) in self.gaps.iter().take(NAMED).enumerate() {
            let _ = write!(text, "{} {}", if nth == 0 { ":" } else { "," }, span(gap));
        }
        if self.gap_count > NAMED as u64 {
            let _ = write!(text, " and {} more", self.gap_count - NAMED as u64);
        }
        if self.unlisted > 0 {
            let _ = write!(
                text,
                "; {} of them among records that the topic no longer holds",
                self.unlisted
            );
        }
        text
    }
}

fn plural(count: u64, noun: &str) -> String {
    if count == 1 {
        noun.to_owned()
    } else {
        format!("{noun}s")
    }
}

/// `2020-06-28T02:00Z to 05:00Z`, the day once if both ends share it.
fn span(gap: &Gap) -> String {
    let (start, end) = (gap.start.to_string(), gap.end.to_string());
    match (start.split_once('T'), end.split_once('T')) {
        (Some((day, _)), Some((same, time))) if day == same => format!("{start} to {time}"),
        _ => format!("{start} to {end}"),
    }
}

#[cfg(test)]
mod tests;
