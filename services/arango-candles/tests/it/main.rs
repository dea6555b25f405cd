//! The whole writer, in-process, over the development stack: a broker and a database on loopback.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod consuming;
mod database;
mod ending;
mod process;
mod proxied;
mod rejecting;
mod settings;
mod workflow;
