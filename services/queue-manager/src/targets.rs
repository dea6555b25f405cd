//! What can be launched: each service with what it moves, and which of its variables a request may set.
//!
//! Both come from the services themselves, so that what is set here is what they read. What a variable means is theirs.

use streamforge_arango::ArangoConfig;
use streamforge_utils::{
    config::{ConfigError, KafkaConfig, QueueConfig, Section, Variable, Vars},
    protocol::WorkflowKind,
};

use crate::plan::Role;

/// A service that can be launched.
pub struct Target {
    /// Its name.
    pub service: &'static str,
    /// What it does, unless its variables say otherwise; see [`Target::role`].
    role: Role,
    /// Its variables.
    variables: &'static [&'static [Variable]],
    /// Reads and checks its environment as it does itself.
    check: fn(&Vars) -> Result<(), ConfigError>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        service: loader_api_candles::SERVICE,
        role: Role::Loader,
        variables: loader_api_candles::config::VARIABLES,
        check: |vars| loader_api_candles::config::Config::from_vars(vars).map(drop),
    },
    Target {
        service: arango_candles::SERVICE,
        role: Role::Writer,
        variables: arango_candles::config::VARIABLES,
        check: |vars| arango_candles::config::Config::from_vars(vars).map(drop),
    },
    Target {
        service: dummy_service::SERVICE,
        role: Role::Dummy,
        variables: dummy_service::config::VARIABLES,
        check: |vars| dummy_service::config::Config::from_vars(vars).map(drop),
    },
];

/// What the plan or the operator decides, beside connections and the workflow's own variables. The grace must fit into
/// what the launcher gives, and the port into where it runs.
const NOT_FOR_REQUESTS: &[&str] = &[
    "BINANCE_API_URL",
    "COLLECTION_NAME",
    "KAFKA_TOPIC",
    "METRICS_PORT",
    "SHUTDOWN_GRACE_SECS",
    "TIME_RANGE",
];

/// Connections that no worker of ours reaches: only its configuration is read.
const HARMLESS: &[(&str, &str)] = &[
    ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
    ("ARANGO_URL", "http://127.0.0.1:8529"),
    ("ARANGO_DB", "streamforge"),
    ("ARANGO_USER", "streamforge"),
    ("ARANGO_PASSWORD", "x"),
];

impl Target {
    /// The one of this name.
    pub fn find(service: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.service == service)
    }

    /// The names of all, for messages.
    pub fn known() -> String {
        let names: Vec<_> = TARGETS.iter().map(|target| target.service).collect();
        names.join(", ")
    }

    /// What it does with these variables: a dummy that publishes or consumes takes the place of a loader or a writer.
    pub fn role(&self, env: &Vars) -> Role {
        if self.role != Role::Dummy {
            self.role
        } else if env.contains_key("DUMMY_PUBLISH_RATE") {
            Role::Loader
        } else if env.get("DUMMY_CONSUME").is_some_and(|it| it == "true") {
            Role::Writer
        } else {
            Role::Dummy
        }
    }

    /// Whether it is a dummy, whatever part it plays.
    pub fn is_dummy(&self) -> bool {
        self.role == Role::Dummy
    }

    /// Whether it writes a collection.
    pub fn has_collection(&self) -> bool {
        self.reads("COLLECTION_NAME")
    }

    /// Whether it moves this type. A dummy simulates any.
    pub fn takes(&self, kind: WorkflowKind) -> bool {
        self.is_dummy() || matches!(kind, WorkflowKind::ApiCandles(_))
    }

    /// The types that it moves, for messages.
    pub fn kinds(&self) -> &'static str {
        if self.is_dummy() {
            "any type"
        } else {
            "api_candles_<interval>"
        }
    }

    /// Whether it knows a variable.
    pub fn reads(&self, name: &str) -> bool {
        self.all_variables().any(|variable| variable.name == name)
    }

    fn all_variables(&self) -> impl Iterator<Item = &'static Variable> {
        self.variables.iter().copied().flatten()
    }

    /// A good value of a variable that it knows.
    pub fn example(&self, name: &str) -> Option<&'static str> {
        let mut all = self.all_variables();
        all.find(|variable| variable.name == name)
            .map(|variable| variable.example)
    }

    /// The variables that a request may set.
    pub fn settable(&self) -> impl Iterator<Item = &'static Variable> {
        let reserved = [
            QueueConfig::VARIABLES,
            KafkaConfig::VARIABLES,
            ArangoConfig::VARIABLES,
        ];
        self.all_variables().filter(move |variable| {
            let mut all = reserved.iter().copied().flatten();
            !variable.secret
                && !NOT_FOR_REQUESTS.contains(&variable.name)
                && !all.any(|other| other.name == variable.name)
        })
    }

    /// The variables that a Secret may hold for it: its connections, and what must not be shown. A writer knows the
    /// database, others do not.
    pub fn connections(&self) -> impl Iterator<Item = &'static Variable> {
        let sections = [KafkaConfig::VARIABLES, ArangoConfig::VARIABLES];
        self.all_variables().filter(move |variable| {
            let mut all = sections.iter().copied().flatten();
            variable.secret || all.any(|other| other.name == variable.name)
        })
    }

    /// Checks an environment as the service itself will, connections aside.
    ///
    /// # Errors
    /// What would end the worker with 78.
    pub fn check(&self, env: &Vars) -> Result<(), ConfigError> {
        let mut vars = env.clone();
        vars.extend(
            HARMLESS
                .iter()
                .map(|&(name, value)| (name.into(), value.into())),
        );
        (self.check)(&vars)
    }
}

/// Whether a type is of the past: it has a range, works through it and ends.
pub fn is_historical(kind: WorkflowKind) -> bool {
    matches!(kind, WorkflowKind::ApiCandles(_) | WorkflowKind::ApiTrades)
}

#[cfg(test)]
mod tests;
