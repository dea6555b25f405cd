//! What is done to whom, and when: all of it from the seed.

use std::{fmt, time::Duration};

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

/// What something is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Loader,
    /// Counted from 1.
    Writer(u32),
    /// Counted from 1.
    Broker(u32),
    Arango,
    /// The way from the writers to ArangoDB.
    ArangoNetwork,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loader => f.write_str("the loader"),
            Self::Writer(number) => write!(f, "writer {number}"),
            Self::Broker(number) => write!(f, "broker {number}"),
            Self::Arango => f.write_str("ArangoDB"),
            Self::ArangoNetwork => f.write_str("the way to ArangoDB"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Kill,
    Freeze,
    Cut,
    /// Stopped in order and started again.
    Restart,
}

/// One thing that is done.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) target: Target,
    pub(crate) kind: Kind,
    /// Until it is there again.
    pub(crate) lasts: Duration,
}

#[derive(Debug, Clone)]
pub(crate) enum Act {
    Fault(Fault),
    /// So many records that no loader wrote.
    Poison(u32),
}

#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Counted from the step before.
    pub(crate) after: Duration,
    pub(crate) act: Act,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.act {
            Act::Poison(count) => write!(f, "put {count} poisoned records in"),
            Act::Fault(Fault {
                target,
                kind,
                lasts,
            }) => {
                let kind = match kind {
                    Kind::Restart => return write!(f, "restart {target}"),
                    Kind::Kill => "kill",
                    Kind::Freeze => "freeze",
                    Kind::Cut => "cut off",
                };
                write!(f, "{kind} {target} for {:.1} s", lasts.as_secs_f64())
            }
        }
    }
}

/// So many steps. With several brokers there is more time between them: a fail-over takes ten seconds.
pub(crate) fn steps(seed: u64, count: u32, writers: u32, brokers: u32) -> Vec<Step> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut steps = Vec::new();
    for _ in 0..count {
        let longest = if brokers > 1 { 8_000 } else { 2_000 };
        let after = Duration::from_millis(random.random_range(300..longest));
        let act = match random.random_range(0..12) {
            0 | 1 => Act::Poison(random.random_range(1..6)),
            roll => Act::Fault(fault(&mut random, roll, writers, brokers)),
        };
        steps.push(Step { after, act });
    }
    steps
}

fn fault(random: &mut ChaCha8Rng, roll: u32, writers: u32, brokers: u32) -> Fault {
    // Several brokers are struck more often than the rest, which is tried on one.
    let is_broker = brokers > 1 && [2, 3, 4, 7, 9].contains(&roll);
    let target = match roll {
        _ if is_broker => Target::Broker(random.random_range(1..=brokers)),
        2 | 3 => Target::Loader,
        4..=6 => Target::Writer(random.random_range(1..=writers)),
        7 | 8 => Target::Broker(1),
        9 | 10 => Target::Arango,
        _ => Target::ArangoNetwork,
    };
    let kind = match target {
        Target::ArangoNetwork => Kind::Cut,
        Target::Broker(_) if brokers > 1 && random.random_bool(0.25) => Kind::Restart,
        _ if random.random_bool(0.5) => Kind::Kill,
        _ => Kind::Freeze,
    };
    // A writer may be frozen for longer than its group waits for it, one of several brokers for longer than the others do.
    let longest = match target {
        Target::Writer(_) => 9_000,
        Target::Broker(_) if brokers > 1 => 25_000,
        _ => 4_000,
    };
    Fault {
        target,
        kind,
        lasts: Duration::from_millis(random.random_range(300..longest)),
    }
}
