//! How events change a workflow.
//!
//! An event counts at most once: by its offset, which the document remembers for each partition, and within a process
//! by its number. Two documents that have seen the same events in the same order are equal, whatever was repeated.

use streamforge_utils::protocol::{Event, EventKind, InterruptReason, TimestampMs};

use super::{Part, Stall, Status, Workflow};

/// Processes of a part that are remembered as past; a Job has at most three, a part a few Jobs.
const MAX_PAST: usize = 32;

/// Where an event stands on queue-events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// When the broker took it, Unix ms; where that is not known, now.
    pub appended: TimestampMs,
}

/// What an event did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was applied before: the document is as it was.
    Nothing,
    /// It says nothing new; only the position moved. It may be stored with what comes next.
    PositionOnly,
    /// Counts or times moved. It may be stored a little later.
    Heartbeat,
    /// A process came up or ended, or a status changed: to be stored and told at once.
    Lifecycle,
}

impl Workflow {
    /// Applies one event. `now` bounds a broker's clock that is ahead.
    ///
    /// Of another workflow or run, or of a part that is final, or of a process that no longer counts, it moves the
    /// position only. So does one that names no part, which is counted.
    ///
    /// Which process counts: the first one that is heard of, then each later one. Processes are numbered by time
    /// (UUIDv7), and of two the one with the higher text is later. One that has said its last event, or of whose Job
    /// nothing was alive, gives way to any that was not heard of before, also if the clock of that one's machine is
    /// behind. One that gave way, or came too late, never comes back.
    pub fn apply(&mut self, position: Position, event: &Event, now: TimestampMs) -> Applied {
        let last = self.positions.get(&position.partition);
        if last.is_some_and(|last| position.offset <= *last) {
            return Applied::Nothing;
        }
        self.positions.insert(position.partition, position.offset);
        let at = position.appended.min(now);
        self.updated_at = self.updated_at.max(at);
        if event.queue_id != self.queue_id.as_str() || event.run != self.run {
            return Applied::PositionOnly;
        }
        let stop_reason = self.stop_reason_of(&event.producer);
        let before = self.status;
        let Some(part) = self.part_mut(&event.producer) else {
            self.unknown_events += 1;
            return Applied::PositionOnly;
        };
        let part_before = part.status;
        if !part.takes(event) {
            return Applied::PositionOnly;
        }
        part.take(event, at, stop_reason);
        let is_changed = part.status != part_before;
        self.refresh();
        let is_lifecycle = !matches!(event.event, EventKind::Loading | EventKind::Pong);
        if is_lifecycle || is_changed || self.status != before {
            Applied::Lifecycle
        } else {
            Applied::Heartbeat
        }
    }

    /// What an interruption by a stop means, in words: who stopped this part.
    fn stop_reason_of(&self, telemetry_id: &str) -> String {
        let told = self
            .part(telemetry_id)
            .and_then(|part| self.told_to_stop(part));
        told.map_or_else(
            || "stopped by a command that did not come from here".to_owned(),
            |told| told.reason,
        )
    }
}

impl Part {
    /// Whether the event says something new about this part. A process that is refused stays refused.
    fn takes(&mut self, event: &Event) -> bool {
        if self.is_final() {
            return false;
        }
        let Some(instance) = &self.instance else {
            return true;
        };
        if *instance == event.instance {
            return !self.instance_ended && event.seq > self.seq;
        }
        if self.past_instances.contains(&event.instance) {
            return false;
        }
        let gives_way = self.instance_ended || self.instance_lost || event.instance > *instance;
        if !gives_way {
            self.remember_past(event.instance.clone());
        }
        gives_way
    }

    fn remember_past(&mut self, instance: String) {
        self.past_instances.push(instance);
        if self.past_instances.len() > MAX_PAST {
            self.past_instances.remove(0);
        }
    }

    fn take(&mut self, event: &Event, at: TimestampMs, stop_reason: String) {
        if self.instance.as_ref() != Some(&event.instance) {
            self.begin_instance(&event.instance, at);
        }
        self.seq = event.seq;
        self.instance_ended = event.event.is_terminal();
        self.instance_lost = false;
        self.job.seen = true;
        self.started_at.get_or_insert(at);
        self.last_event_at = Some(self.last_event_at.map_or(at, |last| last.max(at)));
        if event.event != EventKind::Pong {
            self.message = Some(event.message.clone());
        }
        let has_moved = self.take_counts(event, at);
        if let Some(gaps) = &event.gaps {
            self.gaps.clone_from(gaps);
        }
        match event.event {
            EventKind::Started | EventKind::Loading | EventKind::Pong => self.is_heard(has_moved),
            EventKind::Finished => {
                self.end(Status::Finished, None, at);
            }
            EventKind::Interrupted => match event.reason {
                Some(InterruptReason::Signal) => {
                    self.starting(Some(
                        "a signal ended its process, and its Job starts it again".to_owned(),
                    ));
                }
                Some(InterruptReason::Upstream) => {
                    let reason = "its loader was stopped".to_owned();
                    self.end(Status::Interrupted, Some(reason), at);
                }
                Some(InterruptReason::Stop) | None => {
                    self.end(Status::Interrupted, Some(stop_reason), at);
                }
            },
            EventKind::Error => self.has_failed(event, at),
        }
    }

    fn begin_instance(&mut self, instance: &str, at: TimestampMs) {
        if let Some(past) = self.instance.replace(instance.to_owned()) {
            self.remember_past(past);
        }
        self.instance_at = Some(at);
        self.sample = None;
        self.moved_clock = None;
    }

    /// Takes counts, rate and the time of progress; whether records moved.
    fn take_counts(&mut self, event: &Event, at: TimestampMs) -> bool {
        // A process that has just come up knows of nothing yet.
        if event.event != EventKind::Started {
            self.progress.count(event.event, &event.records);
        }
        let clock = (event.timestamp * 1_000.0) as i64;
        // What an earlier run has done is no pace either.
        if event.event != EventKind::Started || self.run == 1 {
            self.progress
                .measure(&mut self.sample, clock, &event.records);
        }
        let moved = event.last_progress_at.map(|moved| (moved * 1_000.0) as i64);
        let has_moved = moved.is_some() && moved > self.moved_clock;
        if let (true, Some(moved)) = (has_moved, moved) {
            self.moved_clock = Some(moved);
            // By the age at sending, so that the worker's clock does not matter.
            self.last_progress_at = Some(at - (clock - moved).max(0));
        }
        has_moved
    }

    fn is_heard(&mut self, has_moved: bool) {
        if self.stall == Some(Stall::Idle) && !has_moved {
            return;
        }
        self.status = Status::Running;
        self.reason = None;
        self.stall = None;
        self.job.trouble_since = None;
    }

    fn has_failed(&mut self, event: &Event, at: TimestampMs) {
        let message = event.error_message.as_ref().unwrap_or(&event.message);
        self.error_message = Some(message.clone());
        self.retryable = event.retryable;
        if event.retryable == Some(false) {
            self.end(Status::Error, Some(message.clone()), at);
        } else {
            self.starting(Some(format!(
                "it failed, and its Job starts it again: {message}"
            )));
        }
    }
}
