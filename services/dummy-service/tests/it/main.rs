//! The dummy service as a process, over a broker on loopback: every flag, every command, every way to end.

#![expect(
    clippy::unwrap_used,
    reason = "in a test a failure is a panic, and clippy sees no #[test] around helpers"
)]

mod commands;
mod consume;
mod flags;
mod foreign;
mod load;
mod metrics;
mod rig;
mod settings;
mod signals;
