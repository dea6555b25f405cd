//! Looks after all folders now and then: says that something changed, finds a shim for a worker that lost its own, writes
//! down what nobody saw end, and removes what has been kept long enough.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::unix::fs::MetadataExt,
    sync::Arc,
    time::Duration,
};

use streamforge_utils::protocol::TimestampMs;
use tokio::{
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{Inner, folder::Folder};

const TICK: Duration = Duration::from_millis(500);
/// Between two shims for one worker, should they fail.
const ADOPT_AGAIN: Duration = Duration::from_secs(10);
/// In ticks.
const SWEEP_EVERY: u32 = 120;

/// What was seen of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    stamp: Stamp,
    id: String,
    ended: Option<TimestampMs>,
    is_kept: bool,
    is_alive: bool,
}

/// Differs once the status was written again, or the Job is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: (i64, i64),
    is_deleting: bool,
}

#[derive(Debug, Default)]
struct Watch {
    known: BTreeMap<String, Known>,
    ticks: u32,
    /// Folders of workers without a shim.
    orphaned: Vec<Folder>,
}

/// Looks for ever.
pub(super) async fn watch(inner: Arc<Inner>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch::default();
    let mut adopted: HashMap<Folder, Instant> = HashMap::new();
    loop {
        ticks.tick().await;
        let looked = spawn_blocking({
            let inner = Arc::clone(&inner);
            move || {
                let changed = watch.look(&inner);
                (watch, changed)
            }
        });
        let changed;
        (watch, changed) = match looked.await {
            Ok(looked) => looked,
            // It begins anew, and says that all may have changed.
            Err(error) => {
                tracing::error!(%error, "Looking at the Jobs failed");
                (Watch::default(), true)
            }
        };
        adopted.retain(|_, at| at.elapsed() < ADOPT_AGAIN);
        for folder in watch.orphaned.drain(..) {
            if adopted.contains_key(&folder) {
                continue;
            }
            tracing::warn!(folder = %folder.path().display(), "A worker lost its shim and gets another");
            if let Err(error) = inner.adopt(&folder) {
                tracing::error!(%error, "A worker has no shim");
            }
            adopted.insert(folder, Instant::now());
        }
        if changed {
            inner.changes.send_modify(|changes| *changes += 1);
        }
    }
}

impl Watch {
    /// Says whether anything changed since the last time.
    fn look(&mut self, inner: &Inner) -> bool {
        if self.ticks.is_multiple_of(SWEEP_EVERY)
            && let Err(error) = inner.jobs.sweep()
        {
            tracing::warn!(%error, "Can't sweep the folders of Jobs");
        }
        self.ticks = self.ticks.wrapping_add(1);
        let names = match inner.jobs.names() {
            Ok(names) => names,
            // Whoever asks for the Jobs is told.
            Err(_) => return true,
        };
        let mut found = BTreeMap::new();
        for name in names {
            match self.look_at(inner, &name) {
                Ok(known) => _ = found.insert(name, known),
                Err(_) if !inner.jobs.folder(&name).path().exists() => {}
                Err(error) => inner.cannot_read(&name, &error),
            }
        }
        let changed = found != self.known;
        self.known = found;
        changed
    }

    fn look_at(&mut self, inner: &Inner, name: &str) -> io::Result<Known> {
        let folder = inner.jobs.folder(name);
        let stamp = stamp(&folder)?;
        let before = self.known.get(name);
        let is_over = |known: &&Known| {
            known.stamp == stamp && known.ended.is_some() && !known.is_kept && !known.is_alive
        };
        let known = match before.filter(is_over) {
            Some(known) => known.clone(),
            None => {
                let seen = folder.look()?;
                if seen.is_over() && folder.status()?.ended.is_none() {
                    inner.jobs.settle(name)?;
                }
                Known {
                    stamp,
                    id: seen.job.id,
                    ended: seen.status.ended.map(|ended| ended.at),
                    is_kept: seen.is_kept,
                    is_alive: seen.is_alive,
                }
            }
        };
        if known.is_kept {
            return Ok(known);
        }
        if known.is_alive {
            self.orphaned.push(folder);
        } else if known.stamp.is_deleting || known.ended.is_some_and(|at| is_past(at, inner)) {
            inner.jobs.remove(name, &known.id)?;
        }
        Ok(known)
    }
}

fn stamp(folder: &Folder) -> io::Result<Stamp> {
    let is_deleting = folder.is_deleting();
    let status = folder.status_path().metadata()?;
    Ok(Stamp {
        inode: status.ino(),
        modified: (status.mtime(), status.mtime_nsec()),
        is_deleting,
    })
}

/// Whether what ended then has been kept long enough.
fn is_past(ended: TimestampMs, inner: &Inner) -> bool {
    let age = TimestampMs::now().as_millis() - ended.as_millis();
    u64::try_from(age).is_ok_and(|age| Duration::from_millis(age) >= inner.settings.kept)
}
