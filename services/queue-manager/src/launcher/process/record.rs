//! What a Job's folder says: `job.json`, which never changes, and `status.json`, which only the holder of the Job's
//! shim lock writes. Neither holds anything of the worker's environment.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use streamforge_utils::protocol::{QueueId, TimestampMs};

use crate::launcher::{JobPhase, Trouble, TroubleKind};

/// A Job as it was asked for, and how it is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Job {
    /// Of this folder and no other, ever: by it the worker's processes are known.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) queue_id: QueueId,
    pub(super) run: u32,
    pub(super) attempt: u32,
    pub(super) telemetry_id: String,
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) created: TimestampMs,
    /// After `created`.
    pub(super) deadline_ms: Option<u64>,
    /// Before the second start; it doubles.
    pub(super) backoff_ms: u64,
    /// From SIGTERM to SIGKILL.
    pub(super) grace_ms: u64,
    pub(super) log_limit_bytes: u64,
}

impl Job {
    pub(super) fn backoff(&self) -> Duration {
        Duration::from_millis(self.backoff_ms)
    }

    pub(super) fn is_overdue(&self, now: TimestampMs) -> bool {
        let age = u64::try_from(now.as_millis() - self.created.as_millis()).unwrap_or(0);
        self.deadline_ms.is_some_and(|deadline| age >= deadline)
    }
}

/// A process, told from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessId {
    pub(super) pid: u32,
    /// Unix seconds, as the system has it.
    pub(super) since: u64,
}

/// One start of the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) started: TimestampMs,
    /// None until it is known, which is a moment after the start.
    pub(super) process: Option<ProcessId>,
    pub(super) ended: Option<TimestampMs>,
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
}

/// Why a Job is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Why {
    Done,
    ExitCode {
        code: i32,
    },
    Signal {
        signal: i32,
    },
    /// It took longer than it may.
    Deadline,
    /// The worker's program can't be started.
    Program {
        message: String,
    },
    /// Its shim was told to end by a signal, as all processes are when the machine goes down.
    Evicted,
    Deleted,
    /// Nobody saw how it ended.
    Lost {
        message: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) at: TimestampMs,
    pub(super) why: Why,
}

/// What became of a Job so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Status {
    pub(super) shim: Option<ProcessId>,
    pub(super) starts: Vec<Start>,
    /// When the worker that runs was told to end.
    pub(super) told_to_end: Option<TimestampMs>,
    pub(super) ended: Option<Ended>,
}

impl Status {
    pub(super) fn phase(&self) -> JobPhase {
        match &self.ended {
            None if self.starts.is_empty() => JobPhase::Pending,
            None => JobPhase::Running,
            Some(Ended { why: Why::Done, .. }) => JobPhase::Succeeded,
            Some(_) => JobPhase::Failed,
        }
    }

    /// The worker's process, if it may run.
    pub(super) fn worker(&self) -> Option<ProcessId> {
        let last = self.starts.last()?;
        last.process.filter(|_| last.ended.is_none())
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        let starts = self.starts.len();
        if let Some(ended) = &self.ended {
            return trouble(&ended.why, starts);
        }
        let failed = self
            .starts
            .iter()
            .rposition(|start| start.ended.is_some())?;
        let why = self.starts[failed].why();
        trouble(&why, failed + 1)
    }
}

impl Start {
    /// How it ended, for one that has.
    pub(super) fn why(&self) -> Why {
        match (self.exit_code, self.signal) {
            (Some(0), _) => Why::Done,
            (Some(code), _) => Why::ExitCode { code },
            (None, Some(signal)) => Why::Signal { signal },
            (None, None) => Why::Lost {
                message: "it ended, and nobody saw how".to_owned(),
            },
        }
    }
}

fn trouble(why: &Why, starts: usize) -> Option<Trouble> {
    let (kind, message) = match why {
        Why::Done => return None,
        Why::ExitCode { code } => (TroubleKind::ExitCode(*code), format!("its start {starts}")),
        Why::Signal { signal } => (TroubleKind::Signal(*signal), format!("its start {starts}")),
        Why::Deadline => (TroubleKind::Deadline, "it was ended".to_owned()),
        Why::Program { message } => (TroubleKind::Program, message.clone()),
        Why::Evicted => (
            TroubleKind::Evicted,
            "its shim was told to end by a signal, as when the machine goes down".to_owned(),
        ),
        Why::Deleted => (TroubleKind::Unknown, "it was deleted".to_owned()),
        Why::Lost { message } => (TroubleKind::Unknown, message.clone()),
    };
    Some(Trouble { kind, message })
}

/// Reads one of the two.
///
/// # Errors
/// It is not there, can't be read, or is not what it should be (`InvalidData`).
pub(super) fn load<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Writes one of the two: whoever reads sees the old one or the new one, after a loss of power too.
///
/// # Errors
/// It can't be written; the old one is still there.
pub(super) fn save<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let unpublished = path.with_extension("tmp");
    let mut file = File::create(&unpublished)?;
    file.write_all(&serde_json::to_vec_pretty(value)?)?;
    file.sync_all()?;
    fs::rename(&unpublished, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(exit_code: Option<i32>, signal: Option<i32>) -> Start {
        Start {
            started: TimestampMs(1_722_500_000_000),
            process: Some(ProcessId {
                pid: 4711,
                since: 1_722_500_000,
            }),
            ended: Some(TimestampMs(1_722_500_001_000)),
            exit_code,
            signal,
        }
    }

    fn ended(why: Why) -> Status {
        Status {
            starts: vec![start(None, None)],
            ended: Some(Ended {
                at: TimestampMs(1_722_500_001_000),
                why,
            }),
            ..Status::default()
        }
    }

    #[test]
    fn the_phase_follows_from_what_happened() {
        let lost = Why::Lost {
            message: "x".to_owned(),
        };
        for (status, phase) in [
            (Status::default(), JobPhase::Pending),
            (
                Status {
                    starts: vec![start(Some(1), None)],
                    ..Status::default()
                },
                JobPhase::Running,
            ),
            (ended(Why::Done), JobPhase::Succeeded),
            (ended(Why::Deadline), JobPhase::Failed),
            (ended(lost), JobPhase::Failed),
        ] {
            assert_eq!(status.phase(), phase, "{status:?}");
        }
    }

    #[test]
    fn one_that_runs_again_says_what_was_wrong() {
        let mut again = start(None, None);
        again.ended = None;
        let status = Status {
            starts: vec![start(None, Some(9)), again],
            ..Status::default()
        };
        let trouble = status.trouble().unwrap();
        assert_eq!(trouble.kind, TroubleKind::Signal(9));
        assert_eq!(trouble.message, "its start 1");
        assert_eq!(ended(Why::Done).trouble(), None);
    }

    #[test]
    fn a_status_has_this_shape() {
        let mut status = ended(Why::ExitCode { code: 70 });
        status.starts = vec![start(Some(1), None), start(Some(70), None)];
        insta::assert_json_snapshot!(status);
        insta::assert_json_snapshot!([
            Why::Done,
            Why::Signal { signal: 9 },
            Why::Deadline,
            Why::Evicted,
            Why::Deleted
        ]);
    }
}
