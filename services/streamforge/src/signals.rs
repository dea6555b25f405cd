//! The exit code of a command that a signal ended too early.

use std::process::ExitCode;

use streamforge_utils::shutdown::{StopCause, StopSignal};

/// 143 after SIGTERM, 130 after Ctrl-C, as a shell has it.
pub(crate) fn exit_code(stop: &StopSignal) -> ExitCode {
    ExitCode::from(match stop.cause() {
        Some(StopCause::Terminate) => 143,
        _ => 130,
    })
}
