//! One worker of a workflow: what was planned, what it said last, and what was done about its Job.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use streamforge_utils::protocol::{Gap, TimestampMs};
use utoipa::ToSchema;

use super::{Progress, Sample, Status, Workflow};
use crate::{
    launcher::{JobSpec, LaunchError},
    plan::{PlannedWorker, Role},
};

/// Why a part counts as stalled, which decides what ends that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stall {
    /// No event came. Any event ends it.
    Silent,
    /// Events come, and records do not move although there are some. Progress ends it.
    Idle,
    /// Its Job can't start. An event ends it, or a Job that is well.
    Job,
}

/// Something was asked for, and may have to be asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// When first, Unix ms.
    pub first_at: TimestampMs,
    /// When last, Unix ms.
    pub at: TimestampMs,
}

/// A `stop` was sent to this part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopSent {
    /// First and last time.
    #[serde(flatten)]
    pub asked: Asked,
    /// Whether it may empty the topic first.
    pub drain: bool,
}

/// What was done about a part's Job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobRecord {
    /// When its making was last tried, Unix ms.
    pub launched_at: Option<TimestampMs>,
    /// When the making of this attempt was first tried, Unix ms.
    pub tried_since: Option<TimestampMs>,
    /// How often the making of this attempt failed.
    pub failures: u32,
    /// Whether this attempt's Job, or its worker, was ever seen. If not, it is made again rather than missed.
    pub seen: bool,
    /// Since when it is known to have ended or to be gone, Unix ms.
    pub over_since: Option<TimestampMs>,
    /// Since when it can't start, Unix ms.
    pub trouble_since: Option<TimestampMs>,
    /// Its deletion.
    pub delete: Option<Asked>,
    /// When Jobs of earlier runs were last deleted, Unix ms.
    pub swept_at: Option<TimestampMs>,
}

/// One worker of a workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Part {
    /// The service.
    pub target: String,
    /// What it does: `loader`, `writer`, `dummy`.
    #[schema(value_type = String)]
    pub role: Role,
    /// `producer` in its events.
    pub telemetry_id: String,
    /// Its Job, in this run.
    pub job_name: String,
    /// Where it writes.
    pub collection: Option<String>,
    /// Container image.
    pub image: String,
    /// Its environment, without connections and without what each launch sets.
    pub env: BTreeMap<String, String>,
    /// Whether it works through a range and ends.
    pub is_historical: bool,
    /// The run that it last took part in; a part that finished keeps the run in which it did.
    pub run: u32,

    /// Where it is.
    pub status: Status,
    /// For people: why it is there.
    pub reason: Option<String>,
    /// Why it is stalled, if it is.
    pub stall: Option<Stall>,
    /// What its last event says.
    pub message: Option<String>,
    /// The process that counts.
    pub instance: Option<String>,
    /// When that process was first heard of, Unix ms.
    #[schema(value_type = Option<i64>)]
    pub instance_at: Option<TimestampMs>,
    /// Number of its last event.
    pub seq: u64,
    /// Whether that process has said its last event.
    pub instance_ended: bool,
    /// Whether, by the Job, that process is no more, so that any other one is newer.
    pub instance_lost: bool,
    /// Processes that no longer count.
    pub past_instances: Vec<String>,

    /// How far it is.
    pub progress: Progress,
    /// The last point of its rate.
    pub sample: Option<Sample>,
    /// When its first event of this run came, Unix ms.
    #[schema(value_type = Option<i64>)]
    pub started_at: Option<TimestampMs>,
    /// When it became final, Unix ms.
    #[schema(value_type = Option<i64>)]
    pub ended_at: Option<TimestampMs>,
    /// When its last event came, Unix ms.
    #[schema(value_type = Option<i64>)]
    pub last_event_at: Option<TimestampMs>,
    /// When its records last moved, Unix ms.
    #[schema(value_type = Option<i64>)]
    pub last_progress_at: Option<TimestampMs>,
    /// The same by that process's own clock, Unix ms.
    pub moved_clock: Option<i64>,
    /// Since when there is something to write that it has not written, Unix ms.
    #[schema(value_type = Option<i64>)]
    pub behind_since: Option<TimestampMs>,

    /// Jobs made for it in this run.
    pub attempts: u32,
    /// Processes or pods that its Job has started.
    pub starts: u32,
    /// The last exit code that is known.
    pub exit_code: Option<i32>,
    /// What its last `error` event says.
    pub error_message: Option<String>,
    /// Whether, by that event, trying again can help.
    pub retryable: Option<bool>,
    /// What the exchange does not have; the first 100.
    #[schema(value_type = Vec<Object>)]
    pub gaps: Vec<Gap>,
    /// `QUEUE_STARTED_AT` of all its Jobs of this run, Unix ms.
    #[schema(value_type = Option<i64>)]
    pub queue_started_at: Option<TimestampMs>,
    /// What was done about its Job.
    #[schema(value_type = Object)]
    pub job: JobRecord,
    /// The `stop` that was sent to it.
    #[schema(value_type = Option<Object>)]
    pub stop_sent: Option<StopSent>,
}

impl Part {
    /// A part of which nothing exists yet.
    pub fn new(worker: &PlannedWorker, run: u32) -> Self {
        Self {
            target: worker.target.clone(),
            role: worker.role,
            telemetry_id: worker.telemetry_id.clone(),
            job_name: worker.job_name.clone(),
            collection: worker.collection_name.clone(),
            image: worker.image.clone(),
            env: worker.env.clone(),
            is_historical: worker.is_historical,
            run,
            status: Status::Pending,
            reason: None,
            stall: None,
            message: None,
            instance: None,
            instance_at: None,
            seq: 0,
            instance_ended: false,
            instance_lost: false,
            past_instances: Vec::new(),
            progress: Progress::default(),
            sample: None,
            started_at: None,
            ended_at: None,
            last_event_at: None,
            last_progress_at: None,
            moved_clock: None,
            behind_since: None,
            attempts: 0,
            starts: 0,
            exit_code: None,
            error_message: None,
            retryable: None,
            gaps: Vec::new(),
            queue_started_at: None,
            job: JobRecord::default(),
            stop_sent: None,
        }
    }

    /// What was planned.
    pub fn worker(&self) -> PlannedWorker {
        PlannedWorker {
            target: self.target.clone(),
            role: self.role,
            telemetry_id: self.telemetry_id.clone(),
            job_name: self.job_name.clone(),
            image: self.image.clone(),
            collection_name: self.collection.clone(),
            env: self.env.clone(),
            is_historical: self.is_historical,
        }
    }

    /// Whether it will not change any more in this run.
    pub fn is_final(&self) -> bool {
        self.status.is_final()
    }

    /// Whether nothing was launched for it, nor heard of it.
    pub fn is_untouched(&self) -> bool {
        self.status == Status::Pending && self.attempts == 0
    }

    /// Makes it final. Whoever calls knows that it is not.
    pub(crate) fn end(&mut self, status: Status, reason: Option<String>, at: TimestampMs) {
        self.status = status;
        self.reason = reason;
        self.stall = None;
        self.ended_at = Some(at);
        self.behind_since = None;
        self.job.trouble_since = None;
    }

    /// It is, or will be, started; not heard of yet.
    pub(crate) fn starting(&mut self, reason: Option<String>) {
        self.status = Status::Starting;
        self.reason = reason;
        self.stall = None;
    }

    pub(crate) fn stalled(&mut self, stall: Stall, reason: String) {
        self.status = Status::Stalled;
        self.reason = Some(reason);
        self.stall = Some(stall);
    }

    pub(crate) fn launch_failed(&mut self, error: &LaunchError, now: TimestampMs) {
        let reason = format!("its Job could not be made: {error}");
        match error {
            // A Job that is in the way is deleted by whoever looks at the Jobs.
            LaunchError::Unavailable(_) | LaunchError::Taken(_) => {
                self.job.failures += 1;
                self.starting(Some(reason));
            }
            LaunchError::Refused(_) => self.end(Status::Error, Some(reason), now),
        }
    }
}

impl Workflow {
    /// The Job of a part's `attempt`; None if there is no such part. `deadline` is for those that work through a range.
    pub fn job(&self, telemetry_id: &str, attempt: u32, deadline: Duration) -> Option<JobSpec> {
        let part = self.part(telemetry_id)?;
        let started = part.queue_started_at.unwrap_or(self.queued_at);
        let mut env = part.env.clone();
        env.insert("RUN".to_owned(), self.run.to_string());
        // Whole seconds, rounded down: a stop of the same second is not missed.
        let started = started.as_millis().div_euclid(1_000);
        env.insert("QUEUE_STARTED_AT".to_owned(), started.to_string());
        Some(JobSpec {
            name: part.job_name.clone(),
            queue_id: self.queue_id.clone(),
            run: self.run,
            attempt,
            target: part.target.clone(),
            telemetry_id: part.telemetry_id.clone(),
            image: part.image.clone(),
            env,
            deadline: part.is_historical.then_some(deadline),
        })
    }
}
