//! What is said to people, who look at stderr; stdout is for results.

use std::io::{self, Write};

/// Says a line, or several.
pub(crate) fn say(text: &str) {
    // Nothing can be said if even the terminal is gone.
    let _ = writeln!(io::stderr(), "{text}");
}
