//! The rules of a Job for whoever runs workers as processes: what is started again, how often, and what a worker
//! inherits. In Kubernetes the Job's `podFailurePolicy` and `backoffLimit` say the same.

use std::time::Duration;

use super::{EXIT_CONFIG, EXIT_PERMANENT};
use crate::config::Vars;

/// How often a worker that failed is started again: the `backoffLimit` of our Jobs.
pub const BACKOFF_LIMIT: u32 = 2;

/// What is handed on of the launching process's environment, where it is set. Everything else that a worker knows is
/// its configuration.
const INHERITED: [&str; 7] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "TZ",
    "LD_LIBRARY_PATH",
    "RUST_BACKTRACE",
    "LOG_LEVEL",
];
/// What a worker needs besides to reach the world outside.
const OUTSIDE: [&str; 10] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The part of `vars` that a worker inherits; `outside` if it talks to more than this machine.
pub fn inherited(vars: &Vars, outside: bool) -> Vars {
    let more: &[&str] = if outside { &OUTSIDE } else { &[] };
    INHERITED
        .iter()
        .chain(more)
        .filter_map(|name| Some(((*name).to_owned(), vars.get(*name)?.clone())))
        .collect()
}

/// Whether a worker that ended so is started again, as far as its exit code goes: always, unless it is done or no
/// retry can mend it. `None` is a signal.
pub fn can_pass(exit_code: Option<i32>) -> bool {
    let is = |code: u8| exit_code == Some(i32::from(code));
    !(is(0) || is(EXIT_CONFIG) || is(EXIT_PERMANENT))
}

/// How long the next start is waited for after so many, the first of them 1: `first`, doubling.
pub fn backoff(first: Duration, starts: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(starts.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_again_what_a_job_would() {
        for (exit_code, again) in [
            (Some(0), false),
            (Some(1), true),
            (Some(70), false),
            (Some(78), false),
            (Some(130), true),
            (Some(137), true),
            (Some(143), true),
            (None, true),
        ] {
            assert_eq!(can_pass(exit_code), again, "{exit_code:?}");
        }
    }

    #[test]
    fn the_wait_for_the_next_start_doubles() {
        let waits = [1, 2, 3].map(|starts| backoff(Duration::from_secs(10), starts).as_secs());
        assert_eq!(waits, [10, 20, 40]);
    }

    #[test]
    fn a_worker_inherits_no_settings() {
        let vars: Vars = [
            ("PATH", "/bin"),
            ("KAFKA_USER", "me"),
            ("HTTPS_PROXY", "http://proxy"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        assert_eq!(
            inherited(&vars, false).into_keys().collect::<Vec<_>>(),
            ["PATH"]
        );
        assert_eq!(
            inherited(&vars, true).into_keys().collect::<Vec<_>>(),
            ["HTTPS_PROXY", "PATH"]
        );
    }
}
