//! One token that everything stops by, and why it was cancelled.

use std::sync::{Arc, OnceLock};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::protocol::InterruptReason;

/// Who ended the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// A `stop` command.
    Command,
    /// SIGTERM: Kubernetes or an operator ends the process.
    Terminate,
    /// SIGINT: a person pressed Ctrl-C.
    Interrupt,
}

impl StopCause {
    /// As events have it.
    pub fn reason(self) -> InterruptReason {
        match self {
            Self::Command => InterruptReason::Stop,
            Self::Terminate | Self::Interrupt => InterruptReason::Signal,
        }
    }
}

/// Tells a worker to end. The first cause counts; a second signal asks to end at once.
#[derive(Debug, Clone, Default)]
pub struct StopSignal {
    token: CancellationToken,
    drain: CancellationToken,
    at_once: CancellationToken,
    cause: Arc<OnceLock<(StopCause, Instant)>>,
    drained_at: Arc<OnceLock<Instant>>,
}

impl StopSignal {
    /// A signal that nobody has given yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells to end, for this cause unless there was one before.
    ///
    /// Only a signal after a signal asks to end at once: a person who presses Ctrl-C twice. A signal after a `stop`
    /// is what follows by itself when a Job is deleted, and the grace goes on.
    pub fn stop(&self, cause: StopCause) {
        let (earlier, _) = *self.cause.get_or_init(|| (cause, Instant::now()));
        if self.token.is_cancelled() && cause != StopCause::Command && earlier != StopCause::Command
        {
            self.at_once.cancel();
        }
        self.token.cancel();
    }

    /// Tells to end once the topic is empty.
    pub fn drain(&self) {
        self.drained_at.get_or_init(Instant::now);
        self.drain.cancel();
    }

    /// Waits until told to end.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// Whether told to end.
    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until told to end once the topic is empty.
    pub async fn drain_requested(&self) {
        self.drain.cancelled().await;
    }

    /// Whether told to end once the topic is empty.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Waits until a second signal asks to end without any grace.
    pub async fn at_once(&self) {
        self.at_once.cancelled().await;
    }

    /// Whether a second signal asked to end without any grace.
    pub fn is_at_once(&self) -> bool {
        self.at_once.is_cancelled()
    }

    /// When it was cancelled.
    pub fn stopped_at(&self) -> Option<Instant> {
        self.cause.get().map(|(_, at)| *at)
    }

    /// When it was told to end once the topic is empty.
    pub fn drained_at(&self) -> Option<Instant> {
        self.drained_at.get().copied()
    }

    /// The token itself, for what is spawned.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Why it was cancelled.
    pub fn cause(&self) -> Option<StopCause> {
        self.cause.get().map(|(cause, _)| *cause)
    }

    /// Why it was cancelled, as events have it.
    pub fn reason(&self) -> Option<InterruptReason> {
        self.cause().map(StopCause::reason)
    }

    /// Listens for SIGTERM (Kubernetes, `kill`) and SIGINT (Ctrl-C) from now on.
    ///
    /// # Errors
    /// The handlers can't be installed.
    pub fn listen_for_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = self.clone();
        tokio::spawn(async move {
            loop {
                let cause = tokio::select! {
                    _ = terminate.recv() => StopCause::Terminate,
                    _ = interrupt.recv() => StopCause::Interrupt,
                };
                tracing::info!(?cause, "Told to end by a signal");
                stop.stop(cause);
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_cause_counts() {
        let stop = StopSignal::new();
        assert_eq!(stop.reason(), None);
        stop.stop(StopCause::Command);
        stop.stop(StopCause::Terminate);
        stop.cancelled().await;
        assert_eq!(stop.reason(), Some(InterruptReason::Stop));
        assert!(
            !stop.at_once.is_cancelled(),
            "the grace of a stop goes on when its Job is deleted"
        );
    }

    #[tokio::test]
    async fn a_second_signal_asks_to_end_at_once() {
        let stop = StopSignal::new();
        stop.stop(StopCause::Interrupt);
        assert!(!stop.at_once.is_cancelled());
        stop.stop(StopCause::Interrupt);
        stop.at_once().await;
    }

    #[tokio::test]
    async fn a_second_stop_command_changes_nothing() {
        let stop = StopSignal::new();
        stop.stop(StopCause::Command);
        stop.stop(StopCause::Command);
        assert!(!stop.at_once.is_cancelled());
    }
}
