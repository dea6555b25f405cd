//! Where recorded market data lies, for tests that replay it.
//!
//! The recordings are not part of the repository; `STREAMFORGE_RECORDINGS` names their folder. A test that needs them
//! and has none says so aloud and ends, through this one function.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

/// Names the folder of the recordings.
pub const VARIABLE: &str = "STREAMFORGE_RECORDINGS";

/// The folder of the recordings; `None`, with a line on stderr, if [`VARIABLE`] names none: then the test returns.
pub fn recordings_dir() -> Option<PathBuf> {
    match std::env::var_os(VARIABLE).map(PathBuf::from) {
        Some(folder) if folder.is_dir() => return Some(folder),
        Some(folder) => skipped(&format!("{VARIABLE}={} is no folder", folder.display())),
        None => skipped(&format!("{VARIABLE} is not set")),
    }
    None
}

/// Writes past the test harness, which keeps what `eprintln!` prints to itself when a test passes.
fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // If even stderr is closed, there is nobody to tell.
    let _ = writeln!(
        io::stderr(),
        "SKIPPED: {test} replays recorded market data, and {why}"
    );
}
