//! The life of a worker over a real broker protocol: one file a subject.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can't go on should say where"
)]

mod kafka;
mod ops_server;
mod probe;
mod worker;
