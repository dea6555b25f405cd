//! The processes of a worker: whether there are any, and how they are signalled.
//!
//! The sign of life is a lock on a file that the worker inherits and hands on to all its descendants: it needs no
//! numbers of processes, so neither a killed shim nor a number that is used again nor a reboot can make it lie. To be
//! signalled they are found by a variable in their environment.

use std::{ffi::OsStr, fs::File, io, path::Path};

use rustix::{
    fs::{FlockOperation, flock},
    io::{Errno, FdFlags, fcntl_setfd},
    process::{Pid, Signal, kill_process, kill_process_group},
};
use sysinfo::{ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

use super::record::ProcessId;

/// The variable by which a Job's processes are known.
pub(super) const MARKER: &str = "STREAMFORGE_JOB_ID";

/// The system counts from its own start, and rounds.
const CLOCK_TOLERANCE_SECS: u64 = 2;

fn open(path: &Path) -> io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
}

/// Whether somebody holds this lock. To ask does not hinder others who ask.
pub(super) fn is_held(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Takes this lock unless it is held; it is held while the file is open.
pub(super) fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Takes this lock, once it is free.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    loop {
        match flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes this lock, once it is free, so that every process started while it is open holds it too.
pub(super) fn lock_for_children(path: &Path) -> io::Result<File> {
    let file = lock(path)?;
    fcntl_setfd(&file, FdFlags::empty())?;
    Ok(file)
}

/// The process with this number now; None if there is none, or only its exit code is left.
pub(super) fn process(pid: u32) -> Option<ProcessId> {
    let mut system = System::new().ok()?;
    let wanted = sysinfo::Pid::from_u32(pid);
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[wanted]),
        true,
        ProcessRefreshKind::nothing().without_tasks(),
    );
    let found = system.process(wanted)?;
    let gone = matches!(found.status(), ProcessStatus::Zombie | ProcessStatus::Dead);
    (!gone).then(|| ProcessId {
        pid,
        since: found.start_time(),
    })
}

/// Whether this very process runs.
pub(super) fn runs(wanted: ProcessId) -> bool {
    process(wanted.pid)
        .is_some_and(|found| found.since.abs_diff(wanted.since) <= CLOCK_TOLERANCE_SECS)
}

/// All processes of the Job with this id. Those of other users can't be seen and are none of ours.
fn of_job(id: &str) -> Vec<Pid> {
    let Ok(mut system) = System::new() else {
        return Vec::new();
    };
    system.refresh_processes_specifics(
        ProcessesToUpdate::All,
        true,
        ProcessRefreshKind::nothing()
            .with_environ(UpdateKind::Always)
            .without_tasks(),
    );
    let marked = format!("{MARKER}={id}");
    system
        .processes()
        .values()
        .filter(|process| {
            process
                .environ()
                .iter()
                .any(|set| set == OsStr::new(&marked))
        })
        .filter_map(|process| pid(process.pid().as_u32()))
        .collect()
}

fn pid(number: u32) -> Option<Pid> {
    Pid::from_raw(number.cast_signed())
}

/// Asks a worker to end: its first process if that is known and runs, which tells its own children as it likes; else
/// all of them.
pub(super) fn terminate(worker: Option<ProcessId>, id: &str) {
    if let Some(first) = worker
        .filter(|worker| runs(*worker))
        .and_then(|worker| pid(worker.pid))
    {
        // It may have ended by itself just now, which is as good.
        let _ = kill_process(first, Signal::TERM);
        return;
    }
    for process in of_job(id) {
        let _ = kill_process(process, Signal::TERM);
    }
}

/// Kills what is left of the group that a worker led which has just ended: while one of it is left, no other process can
/// have its number.
pub(super) fn kill_rest_of_group(leader: u32) {
    if let Some(leader) = pid(leader) {
        let _ = kill_process_group(leader, Signal::KILL);
    }
}

/// Kills all processes of a worker that can be found.
pub(super) fn kill_all(worker: Option<ProcessId>, id: &str) {
    if let Some(leader) = worker
        .filter(|worker| runs(*worker))
        .and_then(|worker| pid(worker.pid))
    {
        // Each worker leads a group of its own.
        let _ = kill_process_group(leader, Signal::KILL);
    }
    for process in of_job(id) {
        let _ = kill_process(process, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_number() {
        let own = process(std::process::id()).unwrap();
        assert!(runs(own));
        let earlier = ProcessId {
            since: own.since - 60,
            ..own
        };
        assert!(!runs(earlier));
    }

    #[test]
    fn a_lock_is_held_as_long_as_a_child_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(!is_held(&path).unwrap());
        let file = lock_for_children(&path).unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        drop(file);
        assert!(is_held(&path).unwrap());
        assert!(try_lock(&path).unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_held(&path).unwrap());
    }
}
