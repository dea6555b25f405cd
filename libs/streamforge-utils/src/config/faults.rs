//! What is wrong with a configuration, in words that a person can act on.

use std::fmt;

use super::{Variable, variable::is_quoted};
use crate::text::{cut, cut_owned};

/// One variable that is missing, malformed or contradicts another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    variable: String,
    problem: String,
    /// Empty where `problem` says it already.
    expected: String,
}

impl Fault {
    /// The variable's name.
    pub fn variable(&self) -> &str {
        &self.variable
    }

    /// What it should be; empty where the whole text says it in other words.
    pub fn expected(&self) -> &str {
        &self.expected
    }

    pub(super) fn missing(variable: &Variable) -> Self {
        let name = variable.alias.map_or(variable.name.to_owned(), |alias| {
            format!("{} (or {alias})", variable.name)
        });
        Self {
            variable: name,
            problem: "is missing".to_owned(),
            expected: with_example(variable),
        }
    }

    pub(super) fn malformed(variable: &Variable, found: &str, error: &envy::Error) -> Self {
        let name = variable.name.to_owned();
        if variable.secret {
            let around = if is_quoted(found) {
                ", with quotes around it"
            } else {
                ""
            };
            let problem = format!("is malformed{around} (its value is not shown)");
            return Self {
                variable: name,
                problem,
                expected: with_example(variable),
            };
        }
        // envy repeats the value and the name behind its own words.
        let error = error.to_string();
        let reason = error
            .split(" while parsing value")
            .next()
            .unwrap_or_default();
        let expected = if reason.contains("expected") {
            String::new()
        } else {
            with_example(variable)
        };
        Self {
            variable: name,
            problem: format!("is {:?}: {}", cut(found), cut(reason)),
            expected,
        }
    }

    pub(super) fn contradiction(variable: &Variable, first: &str, second: &str) -> Self {
        let alias = variable.alias.unwrap_or_default();
        Self {
            variable: variable.name.to_owned(),
            problem: if variable.secret {
                format!("and {alias}, its other name, differ (their values are not shown)")
            } else {
                let (first, second) = (cut(first), cut(second));
                format!("is {first:?} and {alias}, its other name, is {second:?}")
            },
            expected: "one of them".to_owned(),
        }
    }

    /// Of a value that has something around it which is no part of it.
    pub(super) fn wrapped(variable: &Variable, found: &str, around: &str) -> Self {
        let shown = if variable.secret {
            "a value that is not shown".to_owned()
        } else {
            format!("{:?}", cut(found))
        };
        Self {
            variable: variable.name.to_owned(),
            problem: format!("is {shown} with {around}"),
            expected: "the value alone".to_owned(),
        }
    }
}

fn with_example(variable: &Variable) -> String {
    if variable.secret || variable.expected.contains(variable.example) {
        variable.expected.to_owned()
    } else {
        format!("{}, such as {}", variable.expected, variable.example)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.variable, self.problem)?;
        if self.expected.is_empty() {
            return Ok(());
        }
        write!(f, "; expected {}", self.expected)
    }
}

/// Faults that are being collected.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn push(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Notes that `variable` has the value `found`, which is not `expected`.
    pub fn wrong(&mut self, variable: &str, found: &str, expected: &str) {
        self.push(Fault {
            variable: variable.to_owned(),
            problem: format!("is {:?}", cut(found)),
            expected: cut_owned(expected.to_owned()),
        });
    }

    /// Notes that `variable` is missing although another one, or this service, needs it.
    pub fn missing(&mut self, variable: &str, expected: &str) {
        self.push(Fault {
            variable: variable.to_owned(),
            problem: "is missing".to_owned(),
            expected: expected.to_owned(),
        });
    }

    pub(super) fn into_result(self) -> Result<(), ConfigError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(ConfigError { faults: self.0 })
        }
    }
}

/// A configuration that can't be used: all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    faults: Vec<Fault>,
}

impl ConfigError {
    /// Each fault, for whoever says it in words of his own.
    pub fn each(&self) -> &[Fault] {
        &self.faults
    }

    /// Each fault, one line.
    pub fn faults(&self) -> impl Iterator<Item = String> + '_ {
        self.faults.iter().map(Fault::to_string)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.faults.len() == 1 {
            "fault"
        } else {
            "faults"
        };
        write!(f, "bad configuration, {} {noun}", self.faults.len())?;
        self.faults
            .iter()
            .try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for ConfigError {}
