//! Runs Jobs and says what became of them. A Job is one worker in one run, started again after a failure that can pass.
//!
//! What a Job's end means for a workflow, and whether there is a next one, is not a launcher's job.

pub mod kubernetes;
pub mod process;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use streamforge_utils::protocol::{QueueId, TimestampMs};

/// One Job, to be launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// Unique, DNS-1123, at most 63: `job-arango-candles-btcusdt-abc123`, `…-r2` in the second run.
    pub name: String,
    /// The workflow.
    pub queue_id: QueueId,
    /// Its run.
    pub run: u32,
    /// Which Job of this part in this run, from 1: a Job that vanished may be replaced, under the same name.
    pub attempt: u32,
    /// The service.
    pub target: String,
    /// `producer` in its events.
    pub telemetry_id: String,
    /// Container image.
    pub image: String,
    /// The worker's environment, `RUN` and `QUEUE_STARTED_AT` included; no connections, no passwords.
    pub env: BTreeMap<String, String>,
    /// After this it is ended, whatever it does; None for those that run for ever.
    pub deadline: Option<Duration>,
}

/// What [`Launcher::launch`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launched {
    /// The Job was made.
    New,
    /// It was there already, and is this one: same workflow, run and attempt.
    AlreadyThere,
}

/// Where a Job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobPhase {
    /// Made, and nothing of it runs yet.
    Pending,
    /// A process or pod of it runs, or the next one is waited for after a failure.
    Running,
    /// Its worker ended with 0.
    Succeeded,
    /// It will not be tried again.
    Failed,
}

/// Why a Job is not well, by what a person would do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TroubleKind {
    /// Its image can't be pulled.
    Image,
    /// Something that queues Jobs, such as Kueue, has not admitted it yet.
    Suspended,
    /// No pod of it is made: a quota, an admission rule or a missing service account keeps it.
    NoPod,
    /// No node takes it.
    Unschedulable,
    /// Its container can't be made: a Secret or ConfigMap is missing, a volume does not mount.
    Container,
    /// Its program can't be started.
    Program,
    /// Its pod was evicted, or its node drained.
    Evicted,
    /// Its node does not answer or is gone.
    NodeLost,
    /// It used more memory than it may.
    OutOfMemory,
    /// It ended with an exit code.
    ExitCode(i32),
    /// A signal killed it.
    Signal(i32),
    /// Its worker ended, and another container keeps its pod: its Job neither ends nor tries again.
    Alone,
    /// It took longer than its deadline.
    Deadline,
    /// It is not known how it ended: it is gone, and nobody saw it end.
    Unknown,
}

/// Trouble of a Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What kind.
    pub kind: TroubleKind,
    /// For people: what happened, to which pod or process, where.
    pub message: String,
}

/// A Job as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobStatus {
    /// Its name.
    pub name: String,
    /// Its workflow.
    pub queue_id: QueueId,
    /// Its run.
    pub run: u32,
    /// Which Job of this part in this run.
    pub attempt: u32,
    /// `producer` in its events.
    pub telemetry_id: String,
    /// Where it is.
    pub phase: JobPhase,
    /// Whether it is being deleted.
    pub is_deleting: bool,
    /// What is wrong with it, or was at last: also of one that runs again after a failure.
    pub trouble: Option<Trouble>,
    /// Processes or pods of it that were started.
    pub starts: u32,
    /// Processes or pods of it that have not ended yet: while there is one, no other Job may take its place.
    pub alive: u32,
    /// When it was made, Unix ms.
    pub created: TimestampMs,
    /// When it ended, Unix ms.
    pub ended: Option<TimestampMs>,
}

/// Why a launcher could not do what it was asked, by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// It can pass: ask again later.
    #[error("{0}")]
    Unavailable(String),
    /// No retry can mend it: missing rights, a Job that is refused, a program that is not there.
    #[error("{0}")]
    Refused(String),
    /// A Job of this name is there and is another one.
    #[error("{0}")]
    Taken(String),
}

/// Runs Jobs: as Kubernetes Jobs, or as processes on this machine.
#[async_trait]
pub trait Launcher: Send + Sync {
    /// One word, for people and documents of state: `kubernetes`, `process`.
    fn name(&self) -> &'static str;

    /// Whether it could launch something now.
    async fn ready(&self) -> Result<(), LaunchError>;

    /// Makes a Job. Asked again for the same one, it says so.
    async fn launch(&self, job: &JobSpec) -> Result<Launched, LaunchError>;

    /// All Jobs that there are, of all workflows, running or ended.
    async fn jobs(&self) -> Result<Vec<JobStatus>, LaunchError>;

    /// Ends a Job and forgets it: its worker gets SIGTERM and its grace. Comes back once that is under way; the Job is
    /// in [`Launcher::jobs`] until nothing of it runs any more. One that is not there is no error.
    async fn delete(&self, name: &str) -> Result<(), LaunchError>;

    /// The last `lines` of the log of a Job's last process or pod; None if there is no log any more.
    async fn logs(&self, name: &str, lines: u32) -> Result<Option<String>, LaunchError>;

    /// Comes back as soon as a Job may have changed. It may come back for nothing, and changes that it missed show in
    /// the next [`Launcher::jobs`]; whoever waits looks now and then all the same.
    async fn changed(&self);
}
