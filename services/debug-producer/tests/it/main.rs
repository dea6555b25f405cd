//! The command as people use it: a real process, workers in this one, and the development stack's broker between them.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod follow;
mod matching;
mod orders;
mod pings;
mod refusals;
mod rig;
