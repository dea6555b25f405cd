//! What every worker does about a command.

use tokio::sync::{mpsc, oneshot};

use crate::{
    control::Heard,
    protocol::{Command, CommandKind},
    shutdown::{StopCause, StopSignal},
    telemetry::Telemetry,
};

/// Obeys what every worker obeys, and hands on the rest.
pub(super) struct Obey {
    pub(super) telemetry: Telemetry,
    pub(super) stop: StopSignal,
    /// Whether a `stop` that drains lets the worker go on.
    pub(super) drains: bool,
    pub(super) to_body: mpsc::Sender<Command>,
}

impl Obey {
    /// Obeys what is heard, and says once that all from before the start was.
    pub(super) async fn all(
        self,
        mut received: mpsc::Receiver<Heard>,
        caught_up: oneshot::Sender<()>,
    ) {
        let mut caught_up = Some(caught_up);
        while let Some(heard) = received.recv().await {
            match heard {
                Heard::Command(command) => self.one(*command),
                Heard::CaughtUp => {
                    if let Some(caught_up) = caught_up.take() {
                        // A body that went on without waiting is not told.
                        let _ = caught_up.send(());
                    }
                }
            }
        }
    }

    fn one(&self, command: Command) {
        match command.command {
            CommandKind::Start => {}
            CommandKind::Ping => self.telemetry.pong(command.sent_at),
            CommandKind::Stop if command.drains() && self.drains => self.stop.drain(),
            CommandKind::Stop => self.stop.stop(StopCause::Command),
            CommandKind::SimulateLoading | CommandKind::FailAfter => {
                if self.to_body.try_send(command).is_err() {
                    tracing::warn!("Ignored a command that this worker does not take");
                }
            }
        }
    }
}
