//! The whole way, with real processes: exchange, loader, broker, writer, database. One file a subject.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that can't go on should say where, and a measurement should be seen"
)]

mod apache;
mod bad_input;
mod clustered;
mod complete;
mod database;
mod demo;
mod flow;
mod killed;
mod managed;
mod memory;
mod poison;
mod process;
#[path = "../chaos/proxy.rs"]
mod proxy;
mod queue;
mod recorded;
#[path = "../../benches/workers/sink.rs"]
#[allow(dead_code, reason = "the measurement needs more of it")]
mod sink;
mod stethoscope;
mod stopped;
mod up;
