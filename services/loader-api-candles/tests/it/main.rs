//! The loader over a broker and an exchange on loopback, in this process.
#![expect(
    clippy::unwrap_used,
    reason = "in a test a failure is a panic, and clippy sees no #[test] around helpers"
)]

mod closed;
mod faults;
mod foreign;
mod intermediary;
mod load;
mod look_back;
mod process;
mod resume;
mod rig;
mod settings;
mod stop;
mod twist;
mod verified;
