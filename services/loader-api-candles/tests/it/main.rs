//! The loader over a broker and an exchange on loopback, in this process.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that can't go on fails, and one that does not run says so"
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
