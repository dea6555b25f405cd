//! What is known of a workflow: one document in the store, a part for each of its workers.
//!
//! Pure: no I/O and no clock. Events change it in the order of their offsets ([`Workflow::apply`]); Jobs change it
//! through [`crate::heal`]. A part that is final never changes again in its run, and a workflow is final when all its
//! parts are. What to do about a state is not decided here.

mod apply;
mod part;
mod progress;
mod retry;
mod status;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use streamforge_utils::protocol::{QueueId, Symbol, TimeRange, TimestampMs, WorkflowKind};
use utoipa::ToSchema;

pub use apply::{Applied, Position};
pub use part::{Asked, JobRecord, Part, Stall, StopSent};
pub use progress::{Progress, Sample};
pub use retry::NoRetry;
pub(crate) use status::{Told, UPSTREAM};

use crate::{plan::Plan, store::Excerpt};

/// Version of the document. One with a higher number is refused: it was written by a newer queue-manager.
pub const SCHEMA: u32 = 1;

/// Where a workflow or one of its parts is. The last three are final.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing was launched: it waits for its turn.
    Pending,
    /// Launched, or launched again, and not heard of since.
    Starting,
    /// It works, or waits and lives.
    Running,
    /// It should go on and does not; the reason says what is known. It may recover.
    Stalled,
    /// All done.
    Finished,
    /// Ended before all was done, because it was told to.
    Interrupted,
    /// Failed for good.
    Error,
}

impl Status {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Starting,
        Self::Running,
        Self::Stalled,
        Self::Finished,
        Self::Interrupted,
        Self::Error,
    ];

    /// Whether it stays.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Finished | Self::Interrupted | Self::Error)
    }

    /// Its word in documents and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stalled => "stalled",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Error => "error",
        }
    }
}

/// Somebody wants the workflow to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StopRequest {
    /// When it was asked for, Unix ms.
    #[schema(value_type = i64)]
    pub at: TimestampMs,
    /// Whether the writers empty the topic first.
    pub drain: bool,
    /// Who asked.
    pub by: String,
}

/// Somebody wants the workflow to be forgotten, with its Jobs and topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovalRequest {
    /// When it was asked for, Unix ms.
    #[schema(value_type = i64)]
    pub at: TimestampMs,
    /// Who asked.
    pub by: String,
}

/// What became of the topics of a workflow that finished.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Retention {
    /// When their deletion was last tried, Unix ms.
    #[schema(value_type = Option<i64>)]
    pub tried_at: Option<TimestampMs>,
    /// When they were deleted, Unix ms.
    #[schema(value_type = Option<i64>)]
    pub deleted_at: Option<TimestampMs>,
    /// Why they are kept for good, such as a broker that can't delete topics.
    pub kept_because: Option<String>,
}

/// One workflow: the document in `queue_state`, under its queue id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Workflow {
    /// Version of this document: [`SCHEMA`].
    #[serde(deserialize_with = "known_schema")]
    pub schema: u32,
    /// Names it everywhere.
    #[schema(value_type = String)]
    pub queue_id: QueueId,
    /// From 1; raised by each retry.
    pub run: u32,
    /// The trading pair.
    #[schema(value_type = String)]
    pub symbol: Symbol,
    /// What is moved, and how.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: WorkflowKind,
    /// What is loaded.
    #[schema(value_type = Option<String>)]
    pub time_range: Option<TimeRange>,
    /// The data topic; None where no worker uses one.
    pub kafka_topic: Option<String>,
    /// Its partitions.
    pub partitions: u32,
    /// Its replicas; None is the broker's default.
    pub replication: Option<u32>,
    /// Hours until its records are deleted.
    pub retention_hours: u32,
    /// Where it is; derived from its parts.
    pub status: Status,
    /// For people: why it is there.
    pub reason: Option<String>,
    /// What runs its Jobs: `kubernetes`, `process`.
    pub launcher: String,
    /// When it was asked for, Unix ms.
    #[schema(value_type = i64)]
    pub created_at: TimestampMs,
    /// When this run was asked for, Unix ms: its place in the row of those that wait.
    #[schema(value_type = i64)]
    pub queued_at: TimestampMs,
    /// When this run had its turn, Unix ms. Before, nothing is launched.
    #[schema(value_type = Option<i64>)]
    pub admitted_at: Option<TimestampMs>,
    /// When its topic was there and `start` was sent, Unix ms. Before, no Job is made.
    #[schema(value_type = Option<i64>)]
    pub prepared_at: Option<TimestampMs>,
    /// When its preparation was first and last tried.
    #[schema(value_type = Option<Object>)]
    pub prepare_tried: Option<Asked>,
    /// Why its preparation failed when it was last tried.
    pub prepare_problem: Option<String>,
    /// When the first worker of this run was heard of, Unix ms.
    #[schema(value_type = Option<i64>)]
    pub started_at: Option<TimestampMs>,
    /// When its last part became final, Unix ms.
    #[schema(value_type = Option<i64>)]
    pub ended_at: Option<TimestampMs>,
    /// When this document last changed, Unix ms.
    #[schema(value_type = i64)]
    pub updated_at: TimestampMs,
    /// Partition of queue-events → last offset that was applied.
    #[schema(value_type = BTreeMap<String, i64>)]
    pub positions: BTreeMap<i32, i64>,
    /// Events that named no part of it.
    pub unknown_events: u64,
    /// Its workers, loaders first.
    pub parts: Vec<Part>,
    /// How far it is as a whole.
    pub totals: Progress,
    /// Set once somebody wants it to end.
    pub stop: Option<StopRequest>,
    /// What became of its topics.
    pub retention: Retention,
    /// Whether it has topics that are to be deleted some time after it ended; derived.
    #[serde(default)]
    pub has_topics_to_delete: bool,
    /// Set once somebody wants it to be forgotten: as soon as it is final, its Jobs, topics, events and this document go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub removal: Option<RemovalRequest>,
}

/// Symbol and type as a queue id has them, `wf-{symbol}-{type}-{yyyymmdd}-{short}`; stand-ins where it has others.
fn named_by(queue_id: &QueueId) -> (Symbol, WorkflowKind) {
    let mut parts = queue_id.as_str().split('-').skip(1);
    let symbol = parts.next().map(str::to_ascii_uppercase);
    let symbol = symbol.and_then(|symbol| symbol.parse().ok());
    let kind = parts.next().and_then(|kind| kind.parse().ok());
    (
        symbol.unwrap_or_else(|| "UNKNOWN".parse().expect("seven letters are a symbol")),
        kind.unwrap_or(WorkflowKind::Dummy),
    )
}

fn known_schema<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let schema = u32::deserialize(deserializer)?;
    if schema > SCHEMA {
        return Err(serde::de::Error::custom(format!(
            "a newer queue-manager wrote this document (schema {schema}, and {SCHEMA} is the highest known)"
        )));
    }
    Ok(schema)
}

impl Excerpt for Workflow {}

impl Workflow {
    /// A workflow of which nothing exists yet. It waits until [`Workflow::admit`].
    pub fn new(plan: &Plan, launcher: &str, now: TimestampMs) -> Self {
        let mut workflow = Self {
            schema: SCHEMA,
            queue_id: plan.queue_id.clone(),
            run: plan.run,
            symbol: plan.symbol.clone(),
            kind: plan.kind,
            time_range: plan.time_range.clone(),
            kafka_topic: plan.kafka_topic.clone(),
            partitions: plan.partitions,
            replication: plan.replication,
            retention_hours: plan.retention_hours,
            status: Status::Pending,
            reason: None,
            launcher: launcher.to_owned(),
            created_at: now,
            queued_at: now,
            admitted_at: None,
            prepared_at: None,
            prepare_tried: None,
            prepare_problem: None,
            started_at: None,
            ended_at: None,
            updated_at: now,
            positions: BTreeMap::new(),
            unknown_events: 0,
            parts: plan
                .workers
                .iter()
                .map(|worker| Part::new(worker, plan.run))
                .collect(),
            totals: Progress::default(),
            stop: None,
            retention: Retention::default(),
            has_topics_to_delete: false,
            removal: None,
        };
        workflow.refresh();
        workflow
    }

    /// What is said of a workflow whose document can't be read. It is never stored.
    pub fn unreadable(queue_id: &QueueId, what: &str) -> Self {
        let (symbol, kind) = named_by(queue_id);
        let never = TimestampMs(0);
        Self {
            schema: SCHEMA,
            queue_id: queue_id.clone(),
            run: 0,
            symbol,
            kind,
            time_range: None,
            kafka_topic: None,
            partitions: 0,
            replication: None,
            retention_hours: 0,
            status: Status::Error,
            reason: Some(format!("unreadable: {what}")),
            launcher: String::new(),
            created_at: never,
            queued_at: never,
            admitted_at: None,
            prepared_at: None,
            prepare_tried: None,
            prepare_problem: None,
            started_at: None,
            ended_at: None,
            updated_at: never,
            positions: BTreeMap::new(),
            unknown_events: 0,
            parts: Vec::new(),
            totals: Progress::default(),
            stop: None,
            retention: Retention::default(),
            has_topics_to_delete: false,
            removal: None,
        }
    }

    /// Whether it waits for its turn.
    pub fn waits(&self) -> bool {
        self.admitted_at.is_none() && !self.status.is_final()
    }

    /// It is its turn: from now on [`crate::heal::observe`] launches it. A second call changes nothing.
    pub fn admit(&mut self, now: TimestampMs) {
        if self.waits() {
            self.admitted_at = Some(now);
            self.changed(now);
        }
    }

    /// Its topic is there, and `start` was sent.
    pub fn prepared(&mut self, now: TimestampMs) {
        if self.prepared_at.is_none() {
            self.prepared_at = Some(now);
            self.prepare_problem = None;
            self.changed(now);
        }
    }

    /// Its topic could not be made, or `start` not be sent, which can pass: it is tried again, for a while.
    pub fn prepare_delayed(&mut self, problem: &str, now: TimestampMs) {
        self.prepare_problem = Some(problem.to_owned());
        self.changed(now);
    }

    /// Its topic can't be made, whatever is tried: every part that is not final fails with this reason.
    pub fn prepare_failed(&mut self, reason: &str, now: TimestampMs) {
        for part in self.parts.iter_mut().filter(|part| !part.is_final()) {
            part.end(Status::Error, Some(reason.to_owned()), now);
        }
        self.changed(now);
    }

    /// Asks it to end; whether that changed anything. A part that was never launched ends at once. Of two requests the
    /// one without `drain` counts, and the first that asked is remembered.
    pub fn request_stop(&mut self, drain: bool, by: &str, now: TimestampMs) -> bool {
        if self.status.is_final() {
            return false;
        }
        match &mut self.stop {
            Some(stop) if !stop.drain || drain => return false,
            Some(stop) => stop.drain = false,
            None => {
                self.stop = Some(StopRequest {
                    at: now,
                    drain,
                    by: by.to_owned(),
                });
            }
        }
        let reason = format!("stopped by {by} before it was started");
        for part in self.parts.iter_mut().filter(|part| part.is_untouched()) {
            part.end(Status::Interrupted, Some(reason.clone()), now);
        }
        self.changed(now);
        true
    }

    /// Asks for it to be forgotten; whether that changed anything. If it has not ended, it is stopped first.
    pub fn request_removal(&mut self, by: &str, now: TimestampMs) -> bool {
        let stops = self.request_stop(false, by, now);
        if self.removal.is_some() {
            return stops;
        }
        self.removal = Some(RemovalRequest {
            at: now,
            by: by.to_owned(),
        });
        self.changed(now);
        true
    }

    /// A Job could not be made. What can pass is tried again, after growing pauses; what can't is the part's end.
    pub fn launch_failed(
        &mut self,
        telemetry_id: &str,
        error: &crate::launcher::LaunchError,
        now: TimestampMs,
    ) {
        if let Some(part) = self.part_mut(telemetry_id).filter(|part| !part.is_final()) {
            part.launch_failed(error, now);
            self.changed(now);
        }
    }

    /// Its topics are gone.
    pub fn topics_deleted(&mut self, now: TimestampMs) {
        self.retention.deleted_at = Some(now);
        self.changed(now);
    }

    /// Its topics stay, and this is why.
    pub fn topics_kept(&mut self, because: &str, now: TimestampMs) {
        self.retention.kept_because = Some(because.to_owned());
        self.changed(now);
    }

    /// When its topics are to be deleted, if ever: some time after it finished.
    pub fn topics_due(&self, kept: std::time::Duration) -> Option<TimestampMs> {
        let is_settled =
            self.retention.deleted_at.is_some() || self.retention.kept_because.is_some();
        let has_topics = self.status == Status::Finished && self.kafka_topic.is_some();
        let kept = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX / 4);
        let ended_at = self.ended_at.filter(|_| has_topics && !is_settled)?;
        Some(ended_at + kept)
    }

    /// Forgets positions at or beyond `ends` (partition → its end offset): queue-events was made anew, and its offsets
    /// begin again. Instances and their numbers still tell what was seen.
    pub fn forget_positions_beyond(&mut self, ends: &BTreeMap<i32, i64>) {
        self.positions
            .retain(|partition, position| ends.get(partition).is_some_and(|end| *position < *end));
    }

    /// The part that says this in its events.
    pub fn part(&self, telemetry_id: &str) -> Option<&Part> {
        self.parts
            .iter()
            .find(|part| part.telemetry_id == telemetry_id)
    }

    pub(crate) fn part_mut(&mut self, telemetry_id: &str) -> Option<&mut Part> {
        self.parts
            .iter_mut()
            .find(|part| part.telemetry_id == telemetry_id)
    }

    pub(crate) fn changed(&mut self, now: TimestampMs) {
        self.updated_at = self.updated_at.max(now);
        self.refresh();
    }
}

#[cfg(test)]
pub(crate) mod tests;
