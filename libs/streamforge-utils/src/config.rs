//! Configuration from the environment: read once, a section at a time, every fault reported at once.
//!
//! A section is a flat struct that serde fills through envy. What each of its variables means, and what a good
//! value looks like, stands beside it as [`Variable`]s: from them come the messages and the `--help` of a worker.
//! Nothing in here connects to anything.

mod checked;
mod faults;
mod kafka;
mod ops;
mod proxy;
mod queue;
mod seconds;
mod values;
mod variable;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

pub use faults::{ConfigError, Fault, Faults};
pub use kafka::{KafkaConfig, SaslMechanism, SecurityProtocol, is_loopback};
pub use ops::{DEFAULT_METRICS_PORT, LogFormat, OpsConfig};
pub use queue::QueueConfig;
pub use seconds::Seconds;
pub use values::{TopicName, Within};
pub use variable::Variable;

/// The environment, or what a test takes for one.
pub type Vars = BTreeMap<String, String>;

/// The environment of this process. Variables that are not UTF-8 are none of ours and are left out.
pub fn process_vars() -> Vars {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// A part of a service's configuration: a flat struct whose fields are named like its variables, in lower case.
///
/// No `#[serde(flatten)]`: envy gives flattened numbers as strings (softprops/envy#26).
pub trait Section: DeserializeOwned {
    /// Its variables.
    const VARIABLES: &'static [Variable];

    /// Reports values that are well-formed and still wrong, such as two that contradict each other.
    fn check(&self, faults: &mut Faults) {
        let _ = faults;
    }
}

/// Reads sections and collects what is wrong with them.
#[derive(Debug)]
pub struct Reader<'a> {
    vars: &'a Vars,
    faults: Faults,
}

impl<'a> Reader<'a> {
    /// Reads from these variables. A blank value counts as absent.
    pub fn new(vars: &'a Vars) -> Self {
        Self {
            vars,
            faults: Faults::default(),
        }
    }

    /// Reads one section; `None` if a variable of it is missing or malformed, which is noted.
    pub fn section<S: Section>(&mut self) -> Option<S> {
        let (mut given, mut refused) = (Vars::new(), Vec::new());
        for variable in S::VARIABLES {
            match variable.find(self.vars) {
                Ok(Some(value)) => _ = given.insert(variable.name.to_owned(), value.to_owned()),
                Ok(None) => {
                    if let Some(default) = variable.default {
                        given.insert(variable.name.to_owned(), default.to_owned());
                    }
                }
                Err(fault) => {
                    self.faults.push(fault);
                    refused.push(variable.name);
                }
            }
        }
        if !refused.is_empty() {
            self.diagnose::<S>(&given, &refused);
            return None;
        }
        match envy::from_iter::<_, S>(given.clone()) {
            Ok(section) => {
                section.check(&mut self.faults);
                Some(section)
            }
            Err(error) => {
                if self.diagnose::<S>(&given, &refused) == 0 {
                    self.faults.wrong(
                        "the environment",
                        &error.to_string(),
                        "variables that agree with each other",
                    );
                }
                None
            }
        }
    }

    /// Notes a fault that no single section can see.
    pub fn fault(&mut self, variable: &str, found: &str, expected: &str) {
        self.faults.wrong(variable, found, expected);
    }

    /// Notes a proxy of the environment that would send requests to the URL in `variable`, which has this scheme and
    /// host, to another machine although they are for this one.
    pub fn refuse_diversion(&mut self, variable: &str, scheme: &str, host: &str) {
        if let Some(found) = proxy::diverted(self.vars, scheme, host) {
            let expected = format!(
                "NO_PROXY with {host}: the proxy can't reach the address of this machine that {variable} names"
            );
            self.faults.wrong(found.variable, &found.proxy, &expected);
        }
    }

    /// Says whether anything was wrong.
    ///
    /// # Errors
    /// All faults of all sections.
    pub fn finish(self) -> Result<(), ConfigError> {
        self.faults.into_result()
    }

    /// Finds every bad variable of a section that can't be read, and says how many there are: envy stops at the first, so
    /// each is tried alone among good ones. What was `refused` before is left out.
    fn diagnose<S: Section>(&mut self, given: &Vars, refused: &[&str]) -> usize {
        let before = self.faults.len();
        for variable in S::VARIABLES {
            if refused.contains(&variable.name) {
                continue;
            }
            let mut trial: Vars = S::VARIABLES
                .iter()
                .map(|other| (other.name.to_owned(), other.example.to_owned()))
                .collect();
            let Some(value) = given.get(variable.name) else {
                if variable.required {
                    self.faults.push(Fault::missing(variable));
                }
                continue;
            };
            trial.insert(variable.name.to_owned(), value.clone());
            if let Err(error) = envy::from_iter::<_, S>(trial) {
                self.faults.push(Fault::malformed(variable, value, &error));
            }
        }
        self.faults.len() - before
    }
}

#[cfg(test)]
mod tests;
