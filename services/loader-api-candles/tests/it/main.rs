//! The loader over a broker and an exchange on loopback, in this process.
#![expect(
    clippy::unwrap_used,
    reason = "in a test a failure is a panic, and clippy sees no #[test] around helpers"
)]

mod faults;
mod foreign;
mod load;
mod look_back;
mod process;
mod resume;
mod rig;
mod settings;
mod stop;
