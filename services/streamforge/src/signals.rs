//! The exit code of a command that a signal ended too early, and the signal of a terminal that is closed.

use std::{fs, io, process::ExitCode};

use streamforge_utils::shutdown::{StopCause, StopSignal};
use tokio::signal::unix::{SignalKind, signal};

/// 143 after SIGTERM, 130 after Ctrl-C, as a shell has it.
pub(crate) fn exit_code(stop: &StopSignal) -> ExitCode {
    ExitCode::from(match stop.cause() {
        Some(StopCause::Terminate) => 143,
        _ => 130,
    })
}

/// Takes SIGHUP, of a terminal that is closed, for SIGTERM from now on; unless `nohup` sees to it that nobody minds it.
///
/// # Errors
/// The handler can't be installed.
pub(crate) fn end_with_terminal(stop: &StopSignal) -> io::Result<()> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if is_ignored(&status, SignalKind::hangup().as_raw_value()) {
        return Ok(());
    }
    let mut hangup = signal(SignalKind::hangup())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            stop.stop(StopCause::Terminate);
        }
    });
    Ok(())
}

/// Whether a process with this status in /proc ignores the signal.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| (mask >> (signal - 1)) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_asks_for_is_seen() {
        let hangup = SignalKind::hangup().as_raw_value();
        for (status, ignored) in [
            (
                "SigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n",
                true,
            ),
            (
                "SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n",
                false,
            ),
            ("", false),
        ] {
            assert_eq!(is_ignored(status, hangup), ignored, "{status:?}");
        }
    }
}
