//! A memory cgroup, as a container runtime makes one of a pod's limit.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// The limit's file and where groups are made, in version 2 and version 1 of cgroups.
const VERSIONS: [(&str, &str); 2] = [
    ("memory.max", "/sys/fs/cgroup"),
    ("memory.limit_in_bytes", "/sys/fs/cgroup/memory"),
];

/// A group. It is removed when this is dropped, after its processes have ended.
#[derive(Debug)]
pub(crate) struct Pod {
    dir: PathBuf,
    processes: PathBuf,
}

impl Pod {
    /// A group of so many MiB. Where none can be made this is said aloud.
    pub(crate) fn make(mib: u64) -> Option<Self> {
        let mut reasons = Vec::new();
        for (limit, root) in VERSIONS {
            match Self::make_in(Path::new(root), limit, mib) {
                Ok(pod) => return Some(pod),
                Err(error) => reasons.push(format!("{root}: {error}")),
            }
        }
        let reasons = reasons.join("; ");
        eprintln!("NOT LIMITED: no memory cgroup can be made, only VmHWM is checked: {reasons}");
        None
    }

    fn make_in(root: &Path, limit: &str, mib: u64) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // In version 2 the groups below have only the controllers that are named here.
        let controllers = root.join("cgroup.subtree_control");
        if controllers.exists() {
            fs::write(controllers, "+memory")?;
        }
        let dir = root.join(format!("streamforge-test-{}-{count}", std::process::id()));
        fs::create_dir(&dir)?;
        let processes = dir.join("cgroup.procs");
        let pod = Self { dir, processes };
        // The kernel makes the files of a group; where there is none, this would make one of no effect.
        let file = pod.dir.join(limit);
        fs::metadata(&file)?;
        fs::write(file, (mib * 1024 * 1024).to_string())?;
        Ok(pod)
    }

    /// Where a process writes its id to be in this group.
    pub(crate) fn processes(&self) -> &Path {
        &self.processes
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.dir) {
            eprintln!("The memory cgroup {:?} stays: {error}", self.dir);
        }
    }
}
