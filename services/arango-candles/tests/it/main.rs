//! The whole writer, in-process, over the development stack: a broker and a database on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that can't go on fails, and one that does not run says so"
)]

mod consuming;
mod database;
mod ending;
mod grouping;
mod process;
mod proxied;
mod rejecting;
mod replaying;
mod settings;
mod workflow;
