//! A worker's process: started, started again as a Kubernetes Job would, told to end, and never left behind.

use std::{
    fmt,
    fs::File,
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use streamforge_utils::{
    config::Vars,
    shutdown::StopSignal,
    worker::job::{BACKOFF_LIMIT, backoff, can_pass},
};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// Before the first new start; it doubles. A Job waits for 10 s, which is too long to look at.
const BACKOFF: Duration = Duration::from_secs(1);
/// From SIGTERM to SIGKILL: the grace of a worker, and its last event.
const END_LIMIT: Duration = Duration::from_secs(30);

/// How a worker's last process ended, and how many there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Ended {
    /// None if a signal killed it.
    pub(super) exit_code: Option<i32>,
    pub(super) attempts: u32,
}

impl Ended {
    fn new(status: ExitStatus, attempts: u32) -> Self {
        Self {
            exit_code: status.code(),
            attempts,
        }
    }

    pub(super) fn is_success(self) -> bool {
        self.exit_code == Some(0)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exit_code {
            Some(code) => write!(f, "exit code {code}")?,
            None => f.write_str("killed by a signal")?,
        }
        if self.attempts > 1 {
            write!(f, ", {} attempts", self.attempts)?;
        }
        Ok(())
    }
}

/// A worker to be run: `streamforge worker {service}`, with this environment and no other.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) service: &'static str,
    pub(super) vars: Vars,
    /// Where its stdout and stderr go, those of all attempts.
    pub(super) log: PathBuf,
}

impl Worker {
    /// Runs it to its end. A failure that can pass is followed by a new start, up to [`BACKOFF_LIMIT`], of which
    /// `say` is told. Once `end` is cancelled it gets SIGTERM, and SIGKILL if that takes too long or `stop` is at
    /// its second signal.
    ///
    /// # Errors
    /// The process can't be started or watched.
    pub(super) async fn run(
        &self,
        end: &CancellationToken,
        stop: &StopSignal,
        say: impl Fn(String),
    ) -> anyhow::Result<Ended> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut child = self
                .start()
                .with_context(|| format!("start {}", self.service))?;
            let status = tokio::select! {
                status = child.wait() => status,
                () = end.cancelled() => finish(&mut child, stop).await,
            };
            let status = status.with_context(|| format!("wait for {}", self.service))?;
            let ended = Ended::new(status, attempts);
            if end.is_cancelled() || !can_pass(status.code()) || attempts > BACKOFF_LIMIT {
                return Ok(ended);
            }
            let backoff = backoff(BACKOFF, attempts);
            say(format!(
                "{} ended with {}; starting it again in {backoff:?}, attempt {} of {}",
                self.service,
                describe(status),
                attempts + 1,
                BACKOFF_LIMIT + 1
            ));
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = end.cancelled() => return Ok(ended),
            }
        }
    }

    fn start(&self) -> io::Result<Child> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        Command::new(std::env::current_exe()?)
            .args(["worker", self.service])
            .env_clear()
            .envs(&self.vars)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C of a terminal goes to the whole group; a worker must hear of it once, from us.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// Asks the process to end, and makes it if it does not.
async fn finish(child: &mut Child, stop: &StopSignal) -> io::Result<ExitStatus> {
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(pid) = pid {
        // It may have ended by itself just now, which is as good.
        let _ = kill_process(pid, Signal::TERM);
    }
    tokio::select! {
        status = child.wait() => return status,
        () = stop.at_once() => {}
        () = tokio::time::sleep(END_LIMIT) => {}
    }
    child.kill().await?;
    child.wait().await
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit code".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_a_worker_ended() {
        let ended = |exit_code, attempts| {
            Ended {
                exit_code,
                attempts,
            }
            .to_string()
        };
        assert_eq!(ended(Some(70), 1), "exit code 70");
        assert_eq!(ended(Some(1), 3), "exit code 1, 3 attempts");
        assert_eq!(ended(None, 1), "killed by a signal");
    }
}
