//! What every StreamForge worker shares: the protocol between the parts, and the life of a process that speaks it.
//!
//! - [`protocol`]: what crosses a process boundary, as serde types. Imports nothing below.
//! - [`config`]: configuration from the environment, a section at a time, all faults at once.
//! - [`logging`], [`metrics`], [`ops_server`]: how a process is watched.
//! - [`kafka`]: clients as every part sets them up, topics, and reading by offset.
//! - [`control`]: commands to one worker. [`telemetry`]: its events, in order.
//! - [`latency`]: how long things took, as percentiles.
//! - [`text`]: texts of bounded length.
//! - [`shutdown`]: the one token that everything stops by, and why.
//! - [`worker`]: [`worker::run_worker`], which puts all of it together.

#![warn(missing_docs)]

pub mod config;
pub mod control;
pub mod kafka;
pub mod latency;
pub mod logging;
pub mod metrics;
pub mod ops_server;
pub mod protocol;
pub mod shutdown;
pub mod telemetry;
pub mod text;
pub mod worker;
