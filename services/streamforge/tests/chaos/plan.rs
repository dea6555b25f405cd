//! What is done to whom, and when: all of it from the seed.

use std::{fmt, time::Duration};

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

/// What something is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Loader,
    /// Counted from 1.
    Writer(u32),
    Broker,
    Arango,
    /// The way from the writers to ArangoDB.
    ArangoNetwork,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loader => f.write_str("the loader"),
            Self::Writer(number) => write!(f, "writer {number}"),
            Self::Broker => f.write_str("the broker"),
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
                    Kind::Kill => "kill",
                    Kind::Freeze => "freeze",
                    Kind::Cut => "cut off",
                };
                write!(f, "{kind} {target} for {:.1} s", lasts.as_secs_f64())
            }
        }
    }
}

/// So many steps.
pub(crate) fn steps(seed: u64, count: u32, writers: u32) -> Vec<Step> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut steps = Vec::new();
    for _ in 0..count {
        let after = Duration::from_millis(random.random_range(300..2_000));
        let act = match random.random_range(0..12) {
            0 | 1 => Act::Poison(random.random_range(1..6)),
            roll => Act::Fault(fault(&mut random, roll, writers)),
        };
        steps.push(Step { after, act });
    }
    steps
}

fn fault(random: &mut ChaCha8Rng, roll: u32, writers: u32) -> Fault {
    let target = match roll {
        2 | 3 => Target::Loader,
        4..=6 => Target::Writer(random.random_range(1..=writers)),
        7 | 8 => Target::Broker,
        9 | 10 => Target::Arango,
        _ => Target::ArangoNetwork,
    };
    let kind = match target {
        Target::ArangoNetwork => Kind::Cut,
        _ if random.random_bool(0.5) => Kind::Kill,
        _ => Kind::Freeze,
    };
    // A writer may be frozen for longer than its group waits for it.
    let longest = if matches!(target, Target::Writer(_)) {
        9_000
    } else {
        4_000
    };
    Fault {
        target,
        kind,
        lasts: Duration::from_millis(random.random_range(300..longest)),
    }
}
