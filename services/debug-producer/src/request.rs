//! What can be asked for, apart from how it is typed, and whom it is for.

use std::{fmt, str::FromStr, time::Duration};

use streamforge_utils::protocol::{
    Command, CommandKind, CommandPayload, Event, InvalidName, QueueId,
};

/// A queue id, or `*` or `all` for the workers of every queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue(String);

impl Queue {
    fn is_every(&self) -> bool {
        matches!(self.0.as_str(), "*" | "all")
    }
}

impl FromStr for Queue {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let queue = Self(text.to_owned());
        if !queue.is_every() {
            text.parse::<QueueId>()?;
        }
        Ok(queue)
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which workers a command is for, and whose events count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Their workflow.
    pub queue: Queue,
    /// A service or a telemetry id; `None` for all of the queue.
    pub target: Option<String>,
    /// Only that run.
    pub run: Option<u32>,
}

impl Address {
    /// Whether an event is from one of these workers.
    pub fn covers(&self, event: &Event) -> bool {
        let target = self.target.as_deref();
        (self.queue.is_every() || self.queue.0 == event.queue_id)
            && self.run.is_none_or(|run| run == event.run)
            && target.is_none_or(|target| target == event.service || target == event.producer)
    }

    /// A command to these workers.
    pub(crate) fn command(&self, kind: CommandKind) -> Command {
        Command {
            run: self.run,
            target: self.target.clone(),
            ..Command::new(kind, &self.queue.0)
        }
    }

    /// Starts like everything of a workflow, so that an ACL by prefix allows it. Nothing is committed under it.
    pub(crate) fn group_id(&self) -> String {
        if self.queue.is_every() {
            "wf-debug".to_owned()
        } else {
            format!("{}-debug", self.queue)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { queue, target, run } = self;
        match target {
            Some(target) if queue.is_every() => write!(f, "{target} of every queue")?,
            Some(target) => write!(f, "{target} of {queue}")?,
            None if queue.is_every() => f.write_str("every worker of every queue")?,
            None => write!(f, "every worker of {queue}")?,
        }
        run.map_or(Ok(()), |run| write!(f, ", run {run}"))
    }
}

/// How many workers have to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// One or more: once one has answered, others are waited for as long as their answers may take to follow.
    Some,
    /// So many or more: the last of them ends the wait.
    AtLeast(u32),
}

impl Count {
    /// The least that is enough.
    pub(crate) fn least(self) -> u32 {
        match self {
            Self::Some => 1,
            Self::AtLeast(count) => count,
        }
    }
}

/// Pings, and the pongs to them.
#[derive(Debug, Clone, PartialEq)]
pub struct Ping {
    /// Who is asked.
    pub to: Address,
    /// How many pings.
    pub repeat: u32,
    /// From one ping to the next, whether it was answered or not.
    pub interval: Duration,
    /// How long a pong may take. The broker has as long to be there.
    pub timeout: Duration,
    /// How many workers have to answer each ping; `None` sends and does not listen.
    pub expect: Option<Count>,
}

/// A command that makes workers do something.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// End.
    Stop {
        /// The writers empty the topic first.
        drain: bool,
    },
    /// The dummy service pretends to load.
    SimulateLoading,
    /// The dummy service fails after so many seconds.
    FailAfter {
        /// Fractions allowed.
        seconds: f64,
    },
}

/// One command, and what workers do about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Who is told.
    pub to: Address,
    /// What they are told.
    pub action: Action,
    /// How long they may take. The broker has as long to be there.
    pub timeout: Duration,
    /// How many have to do it; `None` sends and does not listen.
    pub expect: Option<Count>,
}

impl Order {
    /// The command as it goes out.
    pub(crate) fn command(&self) -> Command {
        let (kind, payload) = match self.action {
            Action::Stop { drain } => {
                let payload = drain.then(|| CommandPayload {
                    drain,
                    ..CommandPayload::default()
                });
                (CommandKind::Stop, payload)
            }
            Action::SimulateLoading => (CommandKind::SimulateLoading, None),
            Action::FailAfter { seconds } => {
                let payload = CommandPayload {
                    seconds: Some(seconds),
                    drain: false,
                };
                (CommandKind::FailAfter, Some(payload))
            }
        };
        Command {
            payload,
            ..self.to.command(kind)
        }
    }
}

/// Events as they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follow {
    /// Whose.
    pub of: Address,
    /// How long; `None` until a signal.
    pub timeout: Option<Duration>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Send pings.
    Ping(Ping),
    /// Send another command.
    Order(Order),
    /// Print events.
    Follow(Follow),
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;
    use streamforge_utils::protocol::EventKind;

    use super::*;

    pub(crate) const QUEUE: &str = "wf-try";

    pub(crate) fn to(queue: &str) -> Address {
        Address {
            queue: queue.parse().unwrap(),
            target: None,
            run: None,
        }
    }

    /// An event of instance `who` of `dummy-service` in [`QUEUE`].
    pub(crate) fn event(who: &str, seq: u64, kind: EventKind) -> Event {
        let mut event = json!({
            "queue_id": QUEUE, "run": 1, "producer": format!("dummy-service__{who}"), "instance": who, "seq": seq,
            "service": "dummy-service", "service_version": "0.1.0", "symbol": "BTCUSDT", "type": "dummy",
            "event": kind, "message": "3 of 10 records", "records_written": 3,
            "finished": kind.is_terminal(), "timestamp": 1_722_500_125.456_f64,
        });
        if kind == EventKind::Interrupted {
            event["reason"] = json!("stop");
        }
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn a_queue_is_an_id_or_everyone() {
        for (text, group) in [
            ("*", "wf-debug"),
            ("all", "wf-debug"),
            (QUEUE, "wf-try-debug"),
        ] {
            assert_eq!(to(text).group_id(), group);
            assert_eq!(to(text).queue.to_string(), text);
        }
        for wrong in ["", "try", "wf-", "wf-a b", "**"] {
            assert!(wrong.parse::<Queue>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn covers_by_queue_run_and_target() {
        let ours = event("a", 1, EventKind::Started);
        let with = |target: &str| Address {
            target: Some(target.to_owned()),
            ..to("*")
        };
        for address in [
            to("*"),
            to("all"),
            to(QUEUE),
            with("dummy-service"),
            with("dummy-service__a"),
        ] {
            assert!(address.covers(&ours), "{address}");
        }
        assert!(
            Address {
                run: Some(1),
                ..to(QUEUE)
            }
            .covers(&ours)
        );
        for address in [
            to("wf-other"),
            with("dummy"),
            with("dummy-service__b"),
            Address {
                run: Some(2),
                ..to("*")
            },
        ] {
            assert!(!address.covers(&ours), "{address}");
        }
    }

    #[test]
    fn commands_carry_what_was_asked_for() {
        let of = |action| {
            let to = Address {
                target: Some("dummy-service".to_owned()),
                run: Some(2),
                ..to(QUEUE)
            };
            let order = Order {
                to,
                action,
                timeout: Duration::from_secs(1),
                expect: None,
            };
            let mut command = serde_json::to_value(order.command()).unwrap();
            assert!(command["sent_at"].as_f64().unwrap() > 1.7e9);
            command["sent_at"] = json!(0);
            command
        };
        let base = |command: &str| json!({"command": command, "queue_id": QUEUE, "run": 2, "target": "dummy-service", "sent_at": 0});
        let with = |command: &str, payload| {
            let mut base = base(command);
            base["payload"] = payload;
            base
        };
        assert_eq!(of(Action::Stop { drain: false }), base("stop"));
        assert_eq!(
            of(Action::Stop { drain: true }),
            with("stop", json!({"drain": true}))
        );
        assert_eq!(of(Action::SimulateLoading), base("simulate-loading"));
        assert_eq!(
            of(Action::FailAfter { seconds: 2.5 }),
            with("fail-after", json!({"seconds": 2.5}))
        );
    }
}
