//! What ends or changes the work: a stop, a ping, a time that is up, a command. Which of several causes counts is
//! decided here and only here, so there is one ending, whatever comes together.

use std::future::pending;

use streamforge_utils::{
    config::Seconds,
    protocol::{Command, CommandKind},
    shutdown::StopSignal,
    worker::{Failure, Outcome},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

/// What to do now.
#[derive(Debug)]
pub enum Cue {
    /// Pretend to load.
    Simulate,
    /// End.
    End(Ending),
}

/// Why to end.
#[derive(Debug)]
pub enum Ending {
    /// Told to, by a command or a signal.
    Stop,
    /// As was asked for at the start: the time is up, or the first ping was answered.
    Exit,
    /// To fail was asked for; why, in words.
    Fail(String),
}

impl Ending {
    /// As the worker ends, where there is nothing to bring to an end before.
    ///
    /// # Errors
    /// The failure that was asked for.
    pub fn outcome(self) -> Result<Outcome, Failure> {
        match self {
            Self::Stop => Ok(Outcome::Stopped),
            Self::Exit => Ok(Outcome::Done),
            Self::Fail(why) => Err(Failure::retryable(anyhow::Error::msg(why))),
        }
    }
}

/// A failure that was asked for.
#[derive(Debug, Clone)]
pub struct FailAt {
    at: Instant,
    why: String,
}

impl FailAt {
    /// Fails `after` this time from `start`, because `who` asked for it.
    pub fn new(start: Instant, after: Seconds, who: &str) -> Self {
        let after = after.duration();
        Self {
            at: start + after,
            why: format!("failed after {after:?}, as {who} asked for"),
        }
    }
}

/// What is known at the start of when to end.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Ends well at this time.
    pub exit_at: Option<Instant>,
    /// Fails at a time.
    pub fail: Option<FailAt>,
    /// Ends well when this is cancelled: the first ping was answered.
    pub pinged: CancellationToken,
    /// Whether the command `simulate-loading` is obeyed.
    pub may_simulate: bool,
}

/// Says what ends or changes the work.
#[derive(Debug)]
pub struct Cues {
    stop: StopSignal,
    commands: mpsc::Receiver<Command>,
    plan: Plan,
}

impl Cues {
    /// Listens to `stop`, to `commands`, and to the clock.
    pub fn new(stop: StopSignal, commands: mpsc::Receiver<Command>, plan: Plan) -> Self {
        Self {
            stop,
            commands,
            plan,
        }
    }

    /// What tells to end from outside.
    pub fn stop(&self) -> &StopSignal {
        &self.stop
    }

    /// Waits for the next cue. Of causes that are there together a stop counts first, then a failure, then a good end.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Cue {
        loop {
            let fail_at = self.plan.fail.as_ref().map(|fail| fail.at);
            let command = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Cue::End(Ending::Stop),
                () = at(fail_at) => {
                    let why = self.plan.fail.as_ref().map(|fail| fail.why.clone());
                    return Cue::End(Ending::Fail(why.unwrap_or_default()));
                }
                () = self.plan.pinged.cancelled() => return Cue::End(Ending::Exit),
                () = at(self.plan.exit_at) => return Cue::End(Ending::Exit),
                Some(command) = self.commands.recv() => command,
            };
            if self.obey(&command) {
                return Cue::Simulate;
            }
        }
    }

    /// Whether to simulate now.
    fn obey(&mut self, command: &Command) -> bool {
        match command.command {
            CommandKind::SimulateLoading if self.plan.may_simulate => return true,
            CommandKind::SimulateLoading => {
                tracing::warn!("Ignored simulate-loading: this worker moves records already");
            }
            CommandKind::FailAfter => self.fail_after(command),
            // The others never come here.
            CommandKind::Start | CommandKind::Stop | CommandKind::Ping => {}
        }
        false
    }

    fn fail_after(&mut self, command: &Command) {
        let seconds = command.payload.and_then(|payload| payload.seconds);
        let Some(Ok(seconds)) = seconds.map(Seconds::try_from) else {
            tracing::warn!(
                ?seconds,
                "Ignored fail-after: expected payload.seconds, more than 0"
            );
            return;
        };
        let asked = FailAt::new(Instant::now(), seconds, "the command fail-after");
        let earlier = self
            .plan
            .fail
            .as_ref()
            .is_some_and(|fail| fail.at <= asked.at);
        if !earlier {
            self.plan.fail = Some(asked);
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use streamforge_utils::{protocol::CommandPayload, shutdown::StopCause};

    use super::*;

    const QUEUE: &str = "wf-btcusdt-dummy-20240801-abc123";

    fn seconds(seconds: f64) -> Seconds {
        seconds.try_into().unwrap()
    }

    fn fail_after(seconds: Option<f64>) -> Command {
        let mut command = Command::new(CommandKind::FailAfter, QUEUE);
        command.payload = Some(CommandPayload {
            seconds,
            drain: false,
        });
        command
    }

    #[tokio::test(start_paused = true)]
    async fn of_causes_that_come_together_a_stop_counts_then_a_failure() {
        let now = Instant::now();
        let plan = Plan {
            exit_at: Some(now),
            fail: Some(FailAt::new(now, seconds(0.001), "--fail-after")),
            ..Plan::default()
        };
        plan.pinged.cancel();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let stop = StopSignal::new();
        let (_commands, received) = mpsc::channel(1);
        let mut cues = Cues::new(stop.clone(), received, plan);
        let Cue::End(Ending::Fail(why)) = cues.next().await else {
            panic!("it fails")
        };
        assert_eq!(why, "failed after 1ms, as --fail-after asked for");
        stop.stop(StopCause::Command);
        assert!(matches!(cues.next().await, Cue::End(Ending::Stop)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_failures_counts_and_a_malformed_one_does_not() {
        let (commands, received) = mpsc::channel(4);
        let mut cues = Cues::new(StopSignal::new(), received, Plan::default());
        let begun = Instant::now();
        for asked in [None, Some(-1.0), Some(f64::NAN), Some(9.0), Some(2.0)] {
            let sent = commands.try_send(fail_after(asked));
            if sent.is_err() {
                break;
            }
        }
        let next = async { cues.next().await };
        tokio::pin!(next);
        let early = tokio::time::timeout(Duration::from_secs(1), &mut next).await;
        assert!(early.is_err(), "{early:?}");
        commands.send(fail_after(Some(3.0))).await.unwrap();
        assert!(matches!(next.await, Cue::End(Ending::Fail(_))));
        assert_eq!(begun.elapsed().as_secs(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn simulates_only_where_it_may() {
        for may_simulate in [true, false] {
            let plan = Plan {
                may_simulate,
                exit_at: Some(Instant::now() + Duration::from_secs(1)),
                ..Plan::default()
            };
            let (commands, received) = mpsc::channel(1);
            let mut cues = Cues::new(StopSignal::new(), received, plan);
            let command = Command::new(CommandKind::SimulateLoading, QUEUE);
            commands.send(command).await.unwrap();
            let cue = cues.next().await;
            assert_eq!(matches!(cue, Cue::Simulate), may_simulate, "{cue:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn goes_on_when_no_command_can_come() {
        let plan = Plan {
            exit_at: Some(Instant::now() + Duration::from_secs(1)),
            ..Plan::default()
        };
        let mut cues = Cues::new(StopSignal::new(), mpsc::channel(1).1, plan);
        assert!(matches!(cues.next().await, Cue::End(Ending::Exit)));
    }
}
