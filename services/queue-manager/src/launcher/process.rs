//! Jobs as processes of this machine. Each is a folder and a shim, which both outlive queue-manager: whoever looks at the
//! folder, the same queue-manager, the next one or a second one beside it, sees the same.
//!
//! What a shim does is in [`shim`], what there is of a Job in `folder`, and what tells the living from the dead in
//! `family`. Other machines are not its job, nor is the order in which the Jobs of a workflow are started.

mod family;
mod folder;
mod log;
mod record;
mod settings;
pub mod shim;
mod watch;

use std::{
    collections::BTreeMap,
    fs::{File, Metadata},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use streamforge_utils::{config::Vars, protocol::TimestampMs};
use tokio::{
    process::{Child, Command},
    sync::watch as channel,
    task::{JoinHandle, spawn_blocking},
    time::Instant,
};

use super::{JobSpec, JobStatus, LaunchError, Launched, Launcher};
use folder::{Folder, JobsDir, Occupant, remove_all};
use record::Job;
pub use settings::ProcessSettings;

/// A shim puts its folder in place within milliseconds, unless the machine is busy beyond use.
const SHIM_LIMIT: Duration = Duration::from_secs(30);
const SHIM_POLL: Duration = Duration::from_millis(10);

/// Runs Jobs as processes of this machine.
#[derive(Debug)]
pub struct ProcessLauncher {
    inner: Arc<Inner>,
    seen: AtomicU64,
    watching: JoinHandle<()>,
}

#[derive(Debug)]
struct Inner {
    settings: ProcessSettings,
    jobs: JobsDir,
    /// Counts changes.
    changes: channel::Sender<u64>,
    /// Why folders can't be read, so that it is said once.
    unreadable: Mutex<BTreeMap<String, String>>,
}

impl ProcessLauncher {
    /// Adopts the Jobs that there are, and looks after all that come: of its own, and of others on this machine. Needs
    /// tokio's runtime.
    ///
    /// # Errors
    /// There can't be folders of Jobs, or they are another installation's.
    pub fn new(settings: ProcessSettings) -> Result<Self, LaunchError> {
        let jobs = JobsDir::create(&settings.jobs_dir)
            .map_err(|error| failed("make", &settings.jobs_dir, &error))?;
        if let Some(own) = &settings.installation {
            let found = jobs
                .installation(own)
                .map_err(|error| failed("read the installation of", &settings.jobs_dir, &error))?;
            if found != *own {
                return Err(LaunchError::Refused(format!(
                    "{} (JOBS_DIR) is of installation {found}, and the database is of {own}: set another JOBS_DIR or \
                     another ARANGO_DB; if that installation is gone for good, end its workers and remove the file {}",
                    settings.jobs_dir.display(),
                    settings.jobs_dir.join(folder::INSTALLATION).display()
                )));
            }
        }
        let inner = Arc::new(Inner {
            settings,
            jobs,
            changes: channel::Sender::new(0),
            unreadable: Mutex::default(),
        });
        Ok(Self {
            watching: tokio::spawn(watch::watch(Arc::clone(&inner))),
            inner,
            seen: AtomicU64::new(0),
        })
    }
}

impl Drop for ProcessLauncher {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

#[async_trait]
impl Launcher for ProcessLauncher {
    fn name(&self) -> &'static str {
        "process"
    }

    async fn ready(&self) -> Result<(), LaunchError> {
        self.inner.blocking(Inner::check).await
    }

    async fn launch(&self, spec: &JobSpec) -> Result<Launched, LaunchError> {
        if !is_name(&spec.name) {
            return Err(LaunchError::Refused(format!(
                "{:?} is no name of a Job",
                spec.name
            )));
        }
        let mut vars = self.inner.settings.worker_vars(spec)?;
        let last_event = self.inner.jobs.folder(&spec.name).last_event();
        vars.insert(
            "TERMINATION_MESSAGE_PATH".to_owned(),
            last_event.to_string_lossy().into_owned(),
        );
        let job = self.inner.job(spec, &vars);
        let made = self.inner.blocking({
            let job = job.clone();
            move |inner| inner.make(&job)
        });
        let made = match made.await? {
            Ok(made) => made,
            Err(launched) => return Ok(launched),
        };
        let child = self.inner.shim(shim::START, &made, &vars);
        let child = child.map_err(|error| failed("start", &self.inner.settings.shim, &error));
        match child {
            Ok(child) => self.inner.await_shim(child, job, made).await,
            Err(error) => {
                // It is swept later if this fails.
                let _ = remove_all(made.path());
                Err(error)
            }
        }
    }

    async fn jobs(&self) -> Result<Vec<JobStatus>, LaunchError> {
        self.inner.blocking(Inner::all).await
    }

    async fn delete(&self, name: &str) -> Result<(), LaunchError> {
        if !is_name(name) {
            return Ok(());
        }
        let name = name.to_owned();
        let asked = self.inner.blocking(move |inner| {
            let folder = inner.jobs.folder(&name);
            let has_no_shim = inner
                .jobs
                .ask_to_delete(&name)
                .map_err(|error| failed("delete", folder.path(), &error))?;
            Ok(has_no_shim.then_some(folder))
        });
        if let Some(folder) = asked.await? {
            self.inner.adopt(&folder)?;
        }
        Ok(())
    }

    async fn logs(&self, name: &str, lines: u32) -> Result<Option<String>, LaunchError> {
        if !is_name(name) {
            return Ok(None);
        }
        let log = self.inner.jobs.folder(name).log();
        let read =
            move |_: &Inner| log::tail(&log, lines).map_err(|error| failed("read", &log, &error));
        self.inner.blocking(read).await
    }

    async fn changed(&self) {
        let seen = self.seen.load(Ordering::Relaxed);
        let mut changes = self.inner.changes.subscribe();
        // The sender lives as long as this.
        if let Ok(now) = changes.wait_for(|now| *now > seen).await {
            self.seen.fetch_max(*now, Ordering::Relaxed);
        }
    }
}

impl Inner {
    /// Files are read and locked off the runtime's threads.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, LaunchError> + Send + 'static,
    ) -> Result<T, LaunchError> {
        let inner = Arc::clone(self);
        let done = spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|error| Err(LaunchError::Unavailable(error.to_string())))
    }

    fn check(&self) -> Result<(), LaunchError> {
        let jobs_dir = &self.settings.jobs_dir;
        self.jobs
            .lock()
            .map_err(|error| failed("lock", jobs_dir, &error))?;
        is_program(&self.settings.shim)?;
        is_program(&self.settings.program)
    }

    fn job(&self, spec: &JobSpec, vars: &Vars) -> Job {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Job {
            id: uuid::Uuid::now_v7().to_string(),
            name: spec.name.clone(),
            queue_id: spec.queue_id.clone(),
            run: spec.run,
            attempt: spec.attempt,
            telemetry_id: spec.telemetry_id.clone(),
            program: self.settings.program.clone(),
            args: self.settings.worker_args(&spec.target),
            created: TimestampMs::now(),
            deadline_ms: spec.deadline.map(millis),
            backoff_ms: millis(self.settings.backoff),
            grace_ms: millis(self.settings.grace_for(vars)),
            log_limit_bytes: self.settings.log_limit_bytes,
        }
    }

    /// A folder for the shim to put in place; or what is there already.
    fn make(&self, job: &Job) -> Result<Result<Folder, Launched>, LaunchError> {
        self.check()?;
        match self.occupant(job)? {
            Occupant::Nobody | Occupant::Replaceable(_) => {
                let made = self.jobs.make(job);
                made.map(Ok)
                    .map_err(|error| failed("make a folder in", &self.settings.jobs_dir, &error))
            }
            Occupant::Same { is_deleting, .. } => already_there(job, is_deleting).map(Err),
            Occupant::Other(other) => Err(LaunchError::Taken(other)),
        }
    }

    fn occupant(&self, job: &Job) -> Result<Occupant, LaunchError> {
        let found = self.jobs.occupant(job);
        found.map_err(|error| failed("read", self.jobs.folder(&job.name).path(), &error))
    }

    /// Starts a shim for this folder; its environment is the worker's.
    fn shim(&self, what: &str, folder: &Folder, vars: &Vars) -> io::Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.log())?;
        Command::new(&self.settings.shim)
            .args([shim::MODE, what])
            .arg(folder.path())
            .env_clear()
            .envs(vars)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
    }

    /// Starts a shim for a Job whose own was killed. If another launcher did so too, one of them ends at once.
    fn adopt(&self, folder: &Folder) -> Result<(), LaunchError> {
        let child = self.shim(shim::ADOPT, folder, &self.settings.inherited);
        let child = child.map_err(|error| failed("start", &self.settings.shim, &error))?;
        reap(child);
        Ok(())
    }

    /// Waits until the shim has put its folder in place, or has ended because it could not.
    async fn await_shim(
        self: &Arc<Self>,
        mut child: Child,
        job: Job,
        made: Folder,
    ) -> Result<Launched, LaunchError> {
        let place = self.jobs.folder(&job.name);
        let is_mine = || place.job().is_ok_and(|there| there.id == job.id);
        let give_up = Instant::now() + SHIM_LIMIT;
        loop {
            if is_mine() {
                reap(child);
                return Ok(Launched::New);
            }
            if Instant::now() > give_up {
                reap(child);
                return Err(LaunchError::Unavailable(format!(
                    "the shim of {} did not come up within {SHIM_LIMIT:?}",
                    job.name
                )));
            }
            tokio::select! {
                ended = child.wait() => {
                    // It may have been over and gone before it was looked for.
                    if ended.is_ok_and(|ended| ended.success()) {
                        return Ok(Launched::New);
                    }
                    break;
                }
                () = tokio::time::sleep(SHIM_POLL) => {}
            }
        }
        self.blocking(move |inner| inner.why_not(&job, &made)).await
    }

    /// What there is after a shim that made no Job.
    fn why_not(&self, job: &Job, made: &Folder) -> Result<Launched, LaunchError> {
        let said = log::tail(&made.log(), 5).ok().flatten().unwrap_or_default();
        // It is swept later if this fails.
        let _ = remove_all(made.path());
        match self.occupant(job)? {
            Occupant::Same { id, .. } if id == job.id => Ok(Launched::New),
            Occupant::Same { is_deleting, .. } => already_there(job, is_deleting),
            Occupant::Other(other) => Err(LaunchError::Taken(other)),
            Occupant::Nobody | Occupant::Replaceable(_) => Err(LaunchError::Unavailable(format!(
                "the shim of {} ended before it began: {}",
                job.name,
                said.trim_end()
            ))),
        }
    }

    fn all(&self) -> Result<Vec<JobStatus>, LaunchError> {
        let jobs_dir = &self.settings.jobs_dir;
        let names = self
            .jobs
            .names()
            .map_err(|error| failed("list", jobs_dir, &error))?;
        let mut found = Vec::new();
        for name in names {
            let folder = self.jobs.folder(&name);
            match folder.look() {
                Ok(seen) if seen.is_deleting && seen.is_over() => {}
                Ok(seen) => found.push(seen.into_status()),
                // It was removed in between.
                Err(_) if !folder.path().exists() => {}
                Err(error) => self.cannot_read(&name, &error),
            }
        }
        Ok(found)
    }

    /// Says once that the folder of this Job can't be read.
    fn cannot_read(&self, name: &str, error: &io::Error) {
        let mut told = self
            .unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = told.insert(name.to_owned(), error.to_string());
        if before.as_deref() != Some(&error.to_string()) {
            let folder = self.settings.jobs_dir.join(name);
            tracing::error!(%error, folder = %folder.display(), "Can't read the folder of a Job");
        }
    }
}

fn already_there(job: &Job, is_deleting: bool) -> Result<Launched, LaunchError> {
    if is_deleting {
        let message = format!("{} is there and is being deleted", job.name);
        return Err(LaunchError::Unavailable(message));
    }
    Ok(Launched::AlreadyThere)
}

/// Takes a shim's exit code, so that it does not stay a zombie while this process lives.
fn reap(mut child: Child) {
    tokio::spawn(async move { child.wait().await });
}

fn is_program(path: &Path) -> Result<(), LaunchError> {
    let executable = |found: &Metadata| found.is_file() && found.permissions().mode() & 0o111 != 0;
    match path.metadata() {
        Ok(found) if executable(&found) => Ok(()),
        Ok(_) => Err(LaunchError::Refused(format!(
            "{} is no program",
            path.display()
        ))),
        Err(error) => Err(failed("find the program", path, &error)),
    }
}

/// DNS-1123, which is also a name of a folder, and of nothing but that.
fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let outer = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && bytes.iter().copied().all(inner)
        && outer(bytes.first())
        && outer(bytes.last())
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> LaunchError {
    let message = format!("can't {doing} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::Unsupported => LaunchError::Refused(message),
        _ => LaunchError::Unavailable(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        for (name, fits) in [
            ("job-arango-candles-btcusdt-abc123-r2", true),
            ("a", true),
            ("", false),
            ("..", false),
            (".lock", false),
            ("a/b", false),
            ("-a", false),
            ("a-", false),
            ("A", false),
            (&"a".repeat(63), true),
            (&"a".repeat(64), false),
        ] {
            assert_eq!(is_name(name), fits, "{name:?}");
        }
    }
}
