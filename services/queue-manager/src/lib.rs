//! Starts, watches, stops and heals whole workflows: a REST request becomes names, a topic, a record of state, a command,
//! and one Job per worker.
//!
//! - [`plan`]: a workflow as it is to be run: names, workers, their environment.
//! - [`launcher`]: runs Jobs, and says what became of them.

pub mod launcher;
pub mod plan;

/// Name of the service, in logs, metrics and client ids.
pub const SERVICE: &str = "queue-manager";
