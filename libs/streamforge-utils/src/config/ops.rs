//! How a worker is watched and how long it tries.

use std::time::Duration;

use serde::Deserialize;

use super::{Seconds, Section, Variable, checked};

/// Where `/metrics` is served if nobody asked for another port.
pub const DEFAULT_METRICS_PORT: u16 = 8000;

/// `LOG_FORMAT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How a worker is watched and how long it tries.
#[derive(Debug, Clone, Deserialize)]
pub struct OpsConfig {
    /// Port of `/metrics` and `/health/*`; 0 takes any. Read from `METRICS_PORT`, default 8000.
    pub metrics_port: Option<u16>,
    /// Level, or directives such as `info,rdkafka=debug`. Read from `LOG_LEVEL`, default `info`.
    #[serde(deserialize_with = "checked::log_directives")]
    pub log_level: String,
    /// Read from `LOG_FORMAT`; default `text` on a terminal, else `json`.
    pub log_format: Option<LogFormat>,
    progress_interval_secs: Seconds,
    #[serde(deserialize_with = "checked::retry_deadline")]
    retry_deadline_secs: Seconds,
    shutdown_grace_secs: Seconds,
}

impl OpsConfig {
    /// Time between `loading` events while there is progress. Read from `PROGRESS_INTERVAL_SECS`, default 5 s.
    pub fn progress_interval(&self) -> Duration {
        self.progress_interval_secs.duration()
    }

    /// The same with another time between `loading` events, for a worker that has a setting of its own for it.
    #[must_use]
    pub fn with_progress_interval(self, interval: Seconds) -> Self {
        Self {
            progress_interval_secs: interval,
            ..self
        }
    }

    /// How long something that can pass is tried again. Read from `RETRY_DEADLINE_SECS`, default 300 s.
    pub fn retry_deadline(&self) -> Duration {
        self.retry_deadline_secs.duration()
    }

    /// Time to write and commit what is held, once a stop was requested; what is left of it goes to the last event, which has 5 s
    /// in any case. Read from `SHUTDOWN_GRACE_SECS`, default 25 s, which leaves those 5 of Kubernetes' 30 s.
    pub fn shutdown_grace(&self) -> Duration {
        self.shutdown_grace_secs.duration()
    }
}

impl Section for OpsConfig {
    const VARIABLES: &'static [Variable] = &[
        Variable::optional("METRICS_PORT", "a port from 0 to 65535", "8000")
            .otherwise("8000")
            .means("where /metrics and /health/* are served; 0 takes any free port and logs it"),
        Variable::optional(
            "LOG_LEVEL",
            "error, warn, info, debug, trace or tracing directives",
            "info",
        )
        .default("info")
        .means("how much is logged"),
        Variable::optional("LOG_FORMAT", "text or json", "json")
            .otherwise("text on a terminal, else json")
            .means("how it is logged"),
        Variable::optional("PROGRESS_INTERVAL_SECS", "seconds, more than 0", "5")
            .default("5")
            .means("time between loading events while there is progress"),
        Variable::optional(
            "RETRY_DEADLINE_SECS",
            "seconds, more than 0 and up to 2147483",
            "300",
        )
        .default("300")
        .means("how long something that can pass is tried again"),
        Variable::optional("SHUTDOWN_GRACE_SECS", "seconds, more than 0", "25")
            .default("25")
            .means("time to write and commit what is held, once told to end"),
    ];
}
