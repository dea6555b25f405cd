//! Folders of Jobs: made aside and put in place by one rename, looked at, and removed.
//!
//! A Job exists from the moment that its folder has its name, and by then its shim runs. Whoever changes which folders
//! there are holds the lock of the whole; so several launchers on one machine agree.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use streamforge_utils::protocol::TimestampMs;

use super::{
    family,
    record::{Ended, Job, Status, Why, load, save},
};
use crate::launcher::JobStatus;

/// Before the name of a folder that is being made, and of one that is being removed. No Job's name begins so.
const UNFINISHED: &str = ".new-";
const GONE: &str = ".gone-";
const LOCK: &str = ".lock";
/// Has the id of the installation that the Jobs are of.
pub(super) const INSTALLATION: &str = ".installation";
/// A folder that is older and not in place was left by a launcher that was killed.
const UNFINISHED_LIMIT: Duration = Duration::from_secs(600);

/// The folder of one Job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Folder(PathBuf);

/// A Job as it is now.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) job: Job,
    pub(super) status: Status,
    pub(super) is_deleting: bool,
    /// Its shim runs.
    pub(super) is_kept: bool,
    /// A process of its worker runs.
    pub(super) is_alive: bool,
}

impl Seen {
    /// Nothing of it runs, and nothing of it will.
    pub(super) fn is_over(&self) -> bool {
        !self.is_kept && !self.is_alive
    }

    pub(super) fn into_status(self) -> JobStatus {
        JobStatus {
            phase: self.status.phase(),
            is_deleting: self.is_deleting,
            trouble: self.status.trouble(),
            starts: u32::try_from(self.status.starts.len()).unwrap_or(u32::MAX),
            alive: u32::from(self.is_alive),
            created: self.job.created,
            ended: self.status.ended.map(|ended| ended.at),
            name: self.job.name,
            queue_id: self.job.queue_id,
            run: self.job.run,
            attempt: self.job.attempt,
            telemetry_id: self.job.telemetry_id,
        }
    }
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// Where its worker writes its last event.
    pub(super) fn last_event(&self) -> PathBuf {
        self.0.join("last-event.json")
    }

    /// Held by the shim.
    fn shim_lock(&self) -> PathBuf {
        self.0.join("shim.lock")
    }

    /// Held by the worker and its descendants.
    pub(super) fn worker_lock(&self) -> PathBuf {
        self.0.join("worker.lock")
    }

    fn deletion(&self) -> PathBuf {
        self.0.join("delete")
    }

    pub(super) fn status_path(&self) -> PathBuf {
        self.0.join("status.json")
    }

    pub(super) fn job(&self) -> io::Result<Job> {
        load(&self.0.join("job.json"))
    }

    pub(super) fn status(&self) -> io::Result<Status> {
        load(&self.status_path())
    }

    /// For the holder of the shim's lock only.
    pub(super) fn save_status(&self, status: &Status) -> io::Result<()> {
        save(&self.status_path(), status)
    }

    /// Becomes the one who keeps this Job, unless there is one.
    pub(super) fn try_keep(&self) -> io::Result<Option<File>> {
        family::try_lock(&self.shim_lock())
    }

    pub(super) fn is_deleting(&self) -> bool {
        self.deletion().exists()
    }

    fn has_shim(&self) -> io::Result<bool> {
        family::is_held(&self.shim_lock())
    }

    pub(super) fn has_worker(&self) -> io::Result<bool> {
        family::is_held(&self.worker_lock())
    }

    /// Looks at it. A Job that nobody keeps and of which nothing runs is over, whether or not that stands in it.
    ///
    /// # Errors
    /// It can't be read, or is not there.
    pub(super) fn look(&self) -> io::Result<Seen> {
        loop {
            let mut seen = self.look_once()?;
            // Another Job may have come into this place meanwhile.
            if self.job()?.id == seen.job.id {
                if seen.is_over() && seen.status.ended.is_none() {
                    lose(&mut seen.status);
                }
                return Ok(seen);
            }
        }
    }

    /// The locks first: once nobody holds them, the status can only become more final.
    fn look_once(&self) -> io::Result<Seen> {
        let job = self.job()?;
        let is_kept = self.has_shim()?;
        let has_worker = self.has_worker()?;
        let status = self.status()?;
        // A worker that let go of its lock is known by its number.
        let is_alive = has_worker || (!is_kept && status.worker().is_some_and(family::runs));
        Ok(Seen {
            job,
            status,
            is_deleting: self.is_deleting(),
            is_kept,
            is_alive,
        })
    }
}

fn lose(status: &mut Status) {
    let last = status.starts.last().map(|start| start.started);
    let booted = sysinfo::System::boot_time().ok();
    let booted = booted.and_then(|secs| i64::try_from(secs).ok());
    let rebooted = booted
        .zip(last)
        .is_some_and(|(booted, last)| booted * 1_000 > last.as_millis());
    let message = if rebooted {
        "it is gone: the machine was started again"
    } else {
        "it is gone, its shim too, and nobody saw how it ended"
    };
    status.ended = Some(Ended {
        at: TimestampMs::now(),
        why: Why::Lost {
            message: message.to_owned(),
        },
    });
}

/// Who has a Job's name.
#[derive(Debug)]
pub(super) enum Occupant {
    Nobody,
    /// This Job: same workflow, run and attempt.
    Same {
        id: String,
        is_deleting: bool,
    },
    /// An earlier attempt that is over.
    Replaceable(Folder),
    /// Another one; says which.
    Other(String),
}

/// All folders of Jobs.
#[derive(Debug, Clone)]
pub(super) struct JobsDir(PathBuf);

impl JobsDir {
    /// Makes it if need be: for this user only, as logs may have what is not for others.
    ///
    /// # Errors
    /// It can't be made.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self(path.to_owned()))
    }

    /// The one that this folder is in.
    pub(super) fn of(folder: &Folder) -> Option<Self> {
        folder.path().parent().map(|path| Self(path.to_owned()))
    }

    pub(super) fn folder(&self, name: &str) -> Folder {
        Folder::new(self.0.join(name))
    }

    /// Keeps all others from changing which folders there are, while the file is open.
    pub(super) fn lock(&self) -> io::Result<File> {
        family::lock(&self.0.join(LOCK))
    }

    /// The installation that the Jobs are of: what stands there, else `own` from now on, as of an older release's folder.
    ///
    /// # Errors
    /// It can't be read or written.
    pub(super) fn installation(&self, own: &str) -> io::Result<String> {
        let _lock = self.lock()?;
        let path = self.0.join(INSTALLATION);
        match fs::read_to_string(&path) {
            Ok(found) if !found.trim().is_empty() => return Ok(found.trim().to_owned()),
            // Torn by a crash while it was made.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        fs::write(&path, format!("{own}\n"))?;
        Ok(own.to_owned())
    }

    /// The names of all Jobs.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let names = self.entries()?.into_iter();
        Ok(names.filter(|name| !name.starts_with('.')).collect())
    }

    fn entries(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Makes a folder that is not in place yet.
    ///
    /// # Errors
    /// It can't be made; what there is of it is removed later.
    pub(super) fn make(&self, job: &Job) -> io::Result<Folder> {
        let folder = self.folder(&format!("{UNFINISHED}{}", job.id));
        fs::create_dir(folder.path())?;
        save(&folder.path().join("job.json"), job)?;
        folder.save_status(&Status::default())?;
        Ok(folder)
    }

    /// Who has the name of this Job.
    ///
    /// # Errors
    /// There is a folder, and it can't be read.
    pub(super) fn occupant(&self, job: &Job) -> io::Result<Occupant> {
        let folder = self.folder(&job.name);
        if !folder.path().exists() {
            return Ok(Occupant::Nobody);
        }
        let seen = folder.look()?;
        let there = &seen.job;
        let of_this_run = (&there.queue_id, there.run) == (&job.queue_id, job.run);
        if of_this_run && there.attempt == job.attempt {
            return Ok(Occupant::Same {
                id: there.id.clone(),
                is_deleting: seen.is_deleting,
            });
        }
        if of_this_run && there.attempt < job.attempt && seen.is_over() {
            return Ok(Occupant::Replaceable(folder));
        }
        Ok(Occupant::Other(format!(
            "{} is there, as attempt {} of run {} of {}{}",
            there.name,
            there.attempt,
            there.run,
            there.queue_id.as_str(),
            if seen.is_over() { "" } else { ", and runs" }
        )))
    }

    /// Puts a folder in place, and says where it is then; None if its name is taken.
    ///
    /// # Errors
    /// It can't be put there.
    pub(super) fn publish(&self, made: &Folder, job: &Job) -> io::Result<Option<Folder>> {
        let _alone = self.lock()?;
        match self.occupant(job)? {
            Occupant::Nobody => {}
            Occupant::Replaceable(earlier) => self.discard(&earlier)?,
            Occupant::Same { .. } | Occupant::Other(_) => return Ok(None),
        }
        let place = self.folder(&job.name);
        fs::rename(made.path(), place.path())?;
        // So that a Job that was reported as made is there after a loss of power.
        File::open(&self.0)?.sync_all()?;
        Ok(Some(place))
    }

    /// Asks for the end of a Job. Removes it if nothing of it runs; else whoever keeps it ends it. Says whether
    /// somebody has to be found who does.
    ///
    /// # Errors
    /// It could not be asked for.
    pub(super) fn ask_to_delete(&self, name: &str) -> io::Result<bool> {
        let _alone = self.lock()?;
        let folder = self.folder(name);
        if !folder.path().exists() {
            return Ok(false);
        }
        File::create(folder.deletion())?.sync_all()?;
        match folder.look() {
            Ok(seen) => {
                if seen.is_over() {
                    self.discard(&folder)?;
                }
                Ok(!seen.is_kept && seen.is_alive)
            }
            // One that nobody can read must not hold its name for ever.
            Err(_) if !folder.has_shim()? && !folder.has_worker()? => {
                self.discard(&folder)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes down that a Job is over, if nobody did who saw its end.
    ///
    /// # Errors
    /// It can't be looked at or written.
    pub(super) fn settle(&self, name: &str) -> io::Result<()> {
        // Else another Job could come into its place.
        let _alone = self.lock()?;
        let folder = self.folder(name);
        if let Some(_kept) = folder.try_keep()?
            && folder.status()?.ended.is_none()
        {
            let mut seen = folder.look_once()?;
            if !seen.is_alive {
                lose(&mut seen.status);
                folder.save_status(&seen.status)?;
            }
        }
        Ok(())
    }

    /// Removes the folder of this Job, if it is still its own.
    ///
    /// # Errors
    /// It can't be removed.
    pub(super) fn remove(&self, name: &str, id: &str) -> io::Result<()> {
        let _alone = self.lock()?;
        let folder = self.folder(name);
        match folder.job() {
            Ok(there) if there.id == id => self.discard(&folder),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// At once for all who look, however long it takes.
    fn discard(&self, folder: &Folder) -> io::Result<()> {
        let aside = self.0.join(format!("{GONE}{}", uuid::Uuid::now_v7()));
        fs::rename(folder.path(), &aside)?;
        remove_all(&aside)
    }

    /// Removes what launchers and shims that were killed have left.
    ///
    /// # Errors
    /// It can't be looked for.
    pub(super) fn sweep(&self) -> io::Result<()> {
        for name in self.entries()? {
            let folder = self.folder(&name);
            let is_left = name.starts_with(GONE)
                || (name.starts_with(UNFINISHED) && is_old(folder.path()) && !folder.has_shim()?);
            if is_left {
                remove_all(folder.path())?;
            }
        }
        Ok(())
    }
}

fn is_old(path: &Path) -> bool {
    let changed = fs::metadata(path).and_then(|found| found.modified());
    let age = changed.map(|changed| SystemTime::now().duration_since(changed));
    matches!(age, Ok(Ok(age)) if age > UNFINISHED_LIMIT)
}

/// Another may remove it at the same time.
pub(super) fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
