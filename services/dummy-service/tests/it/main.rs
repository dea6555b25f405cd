//! The dummy service as a process, over a broker on loopback: every flag, every command, every way to end.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that can't go on fails, and one that does not run says so"
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
