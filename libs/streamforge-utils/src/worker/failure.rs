//! How a worker ends: its last event and its exit code.

use tokio::task::JoinError;

use super::interrupt_reason;
use crate::{protocol::InterruptReason, shutdown::StopCause, telemetry::Ending, text};

/// Bad configuration; nothing was connected (`EX_CONFIG`).
pub const EXIT_CONFIG: u8 = 78;
/// What no retry can mend (`EX_SOFTWARE`).
pub const EXIT_PERMANENT: u8 = 70;
const EXIT_RETRYABLE: u8 = 1;
const EXIT_TERMINATED: u8 = 143;
const EXIT_INTERRUPTED: u8 = 130;

/// How the body of a worker ended without a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All done.
    Done,
    /// It was told to end, and what it held is safe.
    Stopped,
    /// Its loader was stopped.
    UpstreamStopped,
}

/// Why the body of a worker failed.
#[derive(Debug)]
pub struct Failure {
    error: anyhow::Error,
    retryable: bool,
}

impl Failure {
    /// What could have passed did not pass: trying again can help.
    pub fn retryable(error: impl Into<anyhow::Error>) -> Self {
        Self {
            error: error.into(),
            retryable: true,
        }
    }

    /// What no retry can mend: an unknown symbol, a wrong password, lost data.
    pub fn permanent(error: impl Into<anyhow::Error>) -> Self {
        Self {
            error: error.into(),
            retryable: false,
        }
    }

    /// Either, as `retryable` says.
    pub fn new(error: impl Into<anyhow::Error>, retryable: bool) -> Self {
        Self {
            error: error.into(),
            retryable,
        }
    }

    /// Whether trying again can help.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The error with its causes, in one line of at most 1,000 characters.
    pub fn message(&self) -> String {
        text::formatted(format_args!("{:#}", self.error))
    }

    pub(super) fn panicked(error: JoinError) -> Self {
        let text = match error.try_into_panic() {
            Ok(panic) => {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                text.or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_else(|| "no message".to_owned())
            }
            Err(error) => error.to_string(),
        };
        Self::retryable(anyhow::anyhow!("panicked: {text}"))
    }
}

/// The exit code of a worker that ended so, for `cause`.
///
/// | ending | code |
/// |---|---|
/// | finished; interrupted by a command or by its loader | 0 |
/// | interrupted by SIGTERM, by SIGINT | 143, 130 |
/// | failed, and trying again can help | 1 |
/// | failed, and no retry can mend it | 70 |
pub fn exit_code(ending: &Ending, cause: Option<StopCause>) -> u8 {
    match ending {
        Ending::Finished => 0,
        Ending::Interrupted(InterruptReason::Signal) if cause == Some(StopCause::Interrupt) => {
            EXIT_INTERRUPTED
        }
        Ending::Interrupted(InterruptReason::Signal) => EXIT_TERMINATED,
        Ending::Interrupted(_) => 0,
        Ending::Error {
            retryable: true, ..
        } => EXIT_RETRYABLE,
        Ending::Error {
            retryable: false, ..
        } => EXIT_PERMANENT,
    }
}

pub(super) fn ending(result: Result<Outcome, Failure>, cause: Option<StopCause>) -> (Ending, u8) {
    let ending = match result {
        Ok(Outcome::Done) => Ending::Finished,
        Ok(Outcome::Stopped) => Ending::Interrupted(interrupt_reason(cause)),
        Ok(Outcome::UpstreamStopped) => Ending::Interrupted(InterruptReason::Upstream),
        Err(failure) => Ending::Error {
            message: failure.message(),
            retryable: failure.retryable,
        },
    };
    let code = exit_code(&ending, cause);
    (ending, code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_as_the_contract_says() {
        let (done, stopped, upstream) = (Outcome::Done, Outcome::Stopped, Outcome::UpstreamStopped);
        for (outcome, cause, reason, code) in [
            (done, None, None, 0),
            (done, Some(StopCause::Terminate), None, 0),
            (
                stopped,
                Some(StopCause::Command),
                Some(InterruptReason::Stop),
                0,
            ),
            (stopped, None, Some(InterruptReason::Stop), 0),
            (
                stopped,
                Some(StopCause::Terminate),
                Some(InterruptReason::Signal),
                143,
            ),
            (
                stopped,
                Some(StopCause::Interrupt),
                Some(InterruptReason::Signal),
                130,
            ),
            (upstream, None, Some(InterruptReason::Upstream), 0),
        ] {
            let expected = reason.map_or(Ending::Finished, Ending::Interrupted);
            assert_eq!(
                ending(Ok(outcome), cause),
                (expected, code),
                "{outcome:?} {cause:?}"
            );
        }
        for (failure, code) in [
            (Failure::retryable(anyhow::anyhow!("x")), 1),
            (Failure::permanent(anyhow::anyhow!("x")), 70),
        ] {
            let retryable = failure.is_retryable();
            let expected = Ending::Error {
                message: "x".to_owned(),
                retryable,
            };
            assert_eq!(
                ending(Err(failure), Some(StopCause::Command)),
                (expected, code)
            );
        }
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let error = anyhow::anyhow!("connection refused").context("read klines page for BTCUSDT");
        assert_eq!(
            Failure::retryable(error).message(),
            "read klines page for BTCUSDT: connection refused"
        );
    }
}
