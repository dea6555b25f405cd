//! What a Job's trouble means, in words, and whether it can pass.

use crate::{
    launcher::{Trouble, TroubleKind},
    state::Part,
};

/// What happened, as a sentence about the part.
pub(super) fn of_trouble(trouble: &Trouble) -> String {
    let message = trouble.message.as_str();
    let what = match trouble.kind {
        TroubleKind::Image => "its image can't be pulled".to_owned(),
        TroubleKind::Suspended => "queued".to_owned(),
        TroubleKind::NoPod => "no pod of it is made".to_owned(),
        TroubleKind::Unschedulable => "no node takes it".to_owned(),
        TroubleKind::Container => "its container can't be made".to_owned(),
        TroubleKind::Program => "its program can't be started".to_owned(),
        TroubleKind::Evicted => "its pod was evicted".to_owned(),
        TroubleKind::NodeLost => "its node was lost".to_owned(),
        TroubleKind::OutOfMemory => "it used more memory than it may".to_owned(),
        TroubleKind::ExitCode(78) => "its configuration is wrong (exit code 78)".to_owned(),
        TroubleKind::ExitCode(code) => format!("it ended with exit code {code}"),
        TroubleKind::Signal(signal) => format!("signal {signal} killed it"),
        TroubleKind::Alone => "it ended beside a container that runs on".to_owned(),
        TroubleKind::Deadline => "it took longer than its deadline".to_owned(),
        TroubleKind::Unknown => "it is gone, and nobody saw how it ended".to_owned(),
    };
    if message.is_empty() {
        what
    } else {
        format!("{what}: {message}")
    }
}

/// Why a part failed whose Job did: by what its worker said, if it did, and else by what the Job says.
pub(super) fn of_failure(part: &Part, trouble: Option<&Trouble>) -> String {
    let job = trouble.map_or_else(|| "its Job failed".to_owned(), of_trouble);
    match (&part.error_message, trouble.map(|trouble| trouble.kind)) {
        // Exit code 1 says only that it said why.
        (Some(said), Some(TroubleKind::ExitCode(1)) | None) if part.instance_ended => {
            match part.starts {
                0 | 1 => said.clone(),
                starts => format!("{said} (started {starts} times)"),
            }
        }
        (Some(said), _) if part.instance_ended => format!("{job}; it said before: {said}"),
        _ => job,
    }
}

/// Whether a Job that failed of it may be replaced: it is not the worker's own doing, or its Job could not try again.
pub(super) fn can_pass(trouble: Option<&Trouble>) -> bool {
    trouble.is_some_and(|trouble| {
        matches!(
            trouble.kind,
            TroubleKind::Evicted
                | TroubleKind::NodeLost
                | TroubleKind::Alone
                | TroubleKind::Unknown
        )
    })
}

/// Whether it waits to be admitted, which may take any time and is nobody's fault.
pub(super) fn is_queued(trouble: Option<&Trouble>) -> bool {
    trouble.is_some_and(|trouble| trouble.kind == TroubleKind::Suspended)
}

/// Whether a reason tells of a Job that waits to be admitted.
pub(super) fn says_queued(reason: &str) -> bool {
    reason.starts_with("queued:")
}

/// Whether a process can't come up as long as it lasts.
pub(super) fn keeps_from_starting(trouble: &Trouble) -> bool {
    matches!(
        trouble.kind,
        TroubleKind::Image
            | TroubleKind::NoPod
            | TroubleKind::Unschedulable
            | TroubleKind::Container
            | TroubleKind::Program
    )
}
