//! The life of a worker over a real broker protocol: one file a subject.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that can't go on should say where, and one that does not run should say so"
)]

mod kafka;
mod last_event;
mod ops_server;
mod probe;
mod worker;
