//! File descriptors: what clients may hold, and what is kept for the controller's own connections and files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that clients never get: brokers, API server, Jobs' folders, the health listener with its connections.
const RESERVE: usize = 128;
/// Fewer connections than this are no service.
const FEWEST: usize = 16;

/// How many connections clients may hold, at most `wanted`. Raises the soft limit of open files as far as it needs and may.
///
/// `requests` are worked on at a time; each may need a connection to the database.
pub fn connections(wanted: usize, requests: usize) -> usize {
    let needed = wanted + reserve(requests);
    let limit = raised(u64::try_from(needed).unwrap_or(u64::MAX));
    let connections = share(limit, wanted, requests);
    if connections < wanted {
        tracing::warn!(
            connections,
            wanted,
            limit,
            needed,
            "Too few file descriptors for API_MAX_CONNECTIONS: fewer connections are accepted; raise ulimit -n"
        );
    }
    connections
}

fn reserve(requests: usize) -> usize {
    RESERVE + requests
}

/// What is left for clients of `limit` descriptors.
fn share(limit: Option<u64>, wanted: usize, requests: usize) -> usize {
    let Some(limit) = limit else { return wanted };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let left = limit.saturating_sub(reserve(requests));
    wanted.min(left.max(FEWEST))
}

/// The soft limit, raised to `needed` if the hard one allows it; None is no limit.
fn raised(needed: u64) -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let current = current?;
    if current >= needed {
        return Some(current);
    }
    let possible = maximum.map_or(needed, |maximum| maximum.min(needed));
    let limit = Rlimit {
        current: Some(possible),
        maximum,
    };
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => Some(possible),
        Err(error) => {
            tracing::debug!(%error, "The limit of open files stays as it is");
            Some(current)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_keeps_its_reserve() {
        // Limit, wanted, requests at a time, connections.
        let table = [
            (None, 1024, 64, 1024),
            (Some(1_048_576), 1024, 64, 1024),
            (Some(1024), 1024, 64, 832),
            (Some(256), 1024, 64, 64),
            (Some(64), 1024, 64, FEWEST),
            (Some(256), 32, 64, 32),
        ];
        for (limit, wanted, requests, expected) in table {
            let found = share(limit, wanted, requests);
            assert_eq!(found, expected, "{limit:?} {wanted}");
        }
    }
}
