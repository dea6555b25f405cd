//! The shim: a process beside each Job that starts its worker, starts it again as a Kubernetes Job would, ends it, and
//! writes down what happened. It outlives queue-manager and needs nothing of it.
//!
//! Who holds the Job's shim lock is its shim. One that was killed is replaced by one that adopts the worker: that can't
//! learn its exit code and never starts it again, but sees its end, keeps its deadline and deletes it.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use streamforge_utils::{
    protocol::TimestampMs,
    worker::job::{BACKOFF_LIMIT, backoff, can_pass},
};
use tokio::{
    process::{Child, Command},
    signal::unix::{Signal, SignalKind, signal},
};

use super::{
    family::{self, MARKER},
    folder::{Folder, JobsDir, remove_all},
    log,
    record::{Ended, Job, ProcessId, Start, Status, Why},
};

/// How soon a deletion and a deadline are seen.
const TICK: Duration = Duration::from_millis(250);
/// Between two tries to write the status.
const SAVE_AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at a worker that was killed and still runs.
const KILL_AGAIN: Duration = Duration::from_millis(100);

const KEEP_TRIES: u32 = 20;
const KEEP_AGAIN: Duration = Duration::from_millis(25);

/// The first argument of a shim's process.
pub const MODE: &str = "shim";
/// The second one: what it does with the folder that follows.
pub(super) const START: &str = "start";
pub(super) const ADOPT: &str = "adopt";

/// Runs as the shim, with what follows `shim` in the arguments. Its environment is the worker's.
///
/// 0: the Job was kept until it was over, whatever became of it. 1: it was not, and stderr, which is the Job's log,
/// says why; for `start` there is no such Job then.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let [what, folder] = args.as_slice() else {
        return fail("the arguments of the shim are start or adopt, and a folder");
    };
    // Away from the terminal and the group of who started it. Fails only if it leads one already.
    let _ = rustix::process::setsid();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let kept = runtime.and_then(|runtime| {
        let folder = Folder::new(PathBuf::from(folder));
        match what.to_str() {
            Some(START) => runtime.block_on(start(&folder)),
            Some(ADOPT) => runtime.block_on(adopt(folder)),
            _ => Err(io::Error::other(
                "the shim can start and adopt, nothing else",
            )),
        }
    });
    match kept {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "queue-manager shim: {message}");
    ExitCode::FAILURE
}

/// False if the name is taken, or the folder has its shim.
async fn start(made: &Folder) -> io::Result<bool> {
    let Some(_kept) = made.try_keep()? else {
        return Ok(false);
    };
    let signals = Signals::new()?;
    let job = made.job()?;
    let jobs = JobsDir::of(made).ok_or_else(|| io::Error::other("the folder is in none"))?;
    let mut status = made.status()?;
    status.shim = family::process(std::process::id());
    made.save_status(&status)?;
    let Some(folder) = jobs.publish(made, &job)? else {
        remove_all(made.path())?;
        return Ok(false);
    };
    let mut shim = Shim {
        folder,
        jobs,
        job,
        status,
        signals,
    };
    let kept = match shim.work().await {
        Ok(why) => shim.end(why).await,
        Err(error) => Err(error),
    };
    shim.leave_nothing(kept)
}

/// False if it has its shim.
async fn adopt(folder: Folder) -> io::Result<bool> {
    let Some(_kept) = keep(&folder).await? else {
        return Ok(false);
    };
    let signals = Signals::new()?;
    let jobs = JobsDir::of(&folder).ok_or_else(|| io::Error::other("the folder is in none"))?;
    let mut shim = Shim {
        job: folder.job()?,
        status: folder.status()?,
        folder,
        jobs,
        signals,
    };
    let kept = shim.see_to_the_end().await;
    shim.leave_nothing(kept)
}

/// Those who ask whether there is a shim hold its lock for a moment too.
async fn keep(folder: &Folder) -> io::Result<Option<File>> {
    for _ in 0..KEEP_TRIES {
        if let Some(kept) = folder.try_keep()? {
            return Ok(Some(kept));
        }
        tokio::time::sleep(KEEP_AGAIN).await;
    }
    Ok(None)
}

/// Why a worker is ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Deleted,
    Deadline,
    Evicted,
}

impl Cause {
    fn why(self) -> Why {
        match self {
            Self::Deleted => Why::Deleted,
            Self::Deadline => Why::Deadline,
            Self::Evicted => Why::Evicted,
        }
    }
}

/// Signals that ask the shim itself to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

struct Shim {
    folder: Folder,
    jobs: JobsDir,
    job: Job,
    status: Status,
    signals: Signals,
}

impl Shim {
    /// Writes the status; on a full disk, once there is room again.
    ///
    /// # Errors
    /// The folder is gone.
    async fn save(&self) -> io::Result<()> {
        loop {
            match self.folder.save_status(&self.status) {
                Err(error) if self.folder.path().exists() => {
                    self.say(&format!("can't write the status: {error}"));
                    tokio::time::sleep(SAVE_AGAIN).await;
                }
                saved => return saved,
            }
        }
    }

    /// Kills the worker of a Job that can't be kept any more, as nobody would find it.
    fn leave_nothing(&self, kept: io::Result<()>) -> io::Result<bool> {
        kept.inspect_err(|_| family::kill_all(self.status.worker(), &self.job.id))?;
        Ok(true)
    }

    /// Keeps an adopted worker.
    async fn see_to_the_end(&mut self) -> io::Result<()> {
        if self.status.ended.is_none() {
            self.status.shim = family::process(std::process::id());
            self.save().await?;
        }
        let why = match self.watch_adopted().await? {
            Some(cause) => cause.why(),
            None => Why::Lost {
                message: "its shim was killed, and nobody saw how the worker ended after that"
                    .to_owned(),
            },
        };
        self.end(why).await
    }

    /// Runs the worker until there is no other start, and says why.
    async fn work(&mut self) -> io::Result<Why> {
        loop {
            if let Some(cause) = self.cause_now() {
                return Ok(cause.why());
            }
            let mut child = match self.spawn().await? {
                Ok(child) => child,
                Err(why) => return Ok(why),
            };
            let waited = tokio::select! {
                ended = child.wait() => Ok(ended?),
                cause = self.cause() => Err(cause),
            };
            let (ended, cause) = match waited {
                Ok(ended) => (ended, None),
                Err(cause) => (self.finish(&mut child).await?, Some(cause)),
            };
            self.clear().await?;
            let why = self.ended(ended).await?;
            match cause {
                Some(Cause::Evicted) if !can_pass(ended.code()) => return Ok(why),
                Some(cause) => return Ok(cause.why()),
                None => {}
            }
            let starts = u32::try_from(self.status.starts.len()).unwrap_or(u32::MAX);
            if !can_pass(ended.code()) || starts > BACKOFF_LIMIT {
                return Ok(why);
            }
            let wait = backoff(self.job.backoff(), starts);
            self.say(&format!("{ended}; starting the worker again in {wait:?}"));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                cause = self.cause() => return Ok(cause.why()),
            }
        }
    }

    /// Starts the worker. It is in the status before and, with its number, after.
    async fn spawn(&mut self) -> io::Result<Result<Child, Why>> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.log())?;
        self.status.starts.push(Start {
            started: TimestampMs::now(),
            process: None,
            ended: None,
            exit_code: None,
            signal: None,
        });
        self.save().await?;
        // An earlier process of this Job may have left its own.
        match std::fs::remove_file(self.folder.last_event()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let for_worker = family::lock_for_children(&self.folder.worker_lock())?;
        let spawned = Command::new(&self.job.program)
            .args(&self.job.args)
            .env(MARKER, &self.job.id)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn();
        drop(for_worker);
        match spawned {
            Ok(child) => {
                let process = child.id().and_then(family::process);
                self.last().process = process;
                self.save().await?;
                Ok(Ok(child))
            }
            Err(error) => {
                self.status.starts.pop();
                let message = format!("can't start {}: {error}", self.job.program.display());
                self.say(&message);
                Ok(Err(Why::Program { message }))
            }
        }
    }

    fn last(&mut self) -> &mut Start {
        let last = self.status.starts.last_mut();
        last.expect("there is a start before there is a process")
    }

    /// Writes down how a start ended.
    async fn ended(&mut self, ended: ExitStatus) -> io::Result<Why> {
        let last = self.last();
        last.ended = Some(TimestampMs::now());
        last.exit_code = ended.code();
        last.signal = ended.signal();
        let why = last.why();
        self.save().await?;
        Ok(why)
    }

    /// Asks the worker to end, and makes it if it does not.
    async fn finish(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        let grace = self.tell_to_end().await?;
        if let Ok(ended) = tokio::time::timeout(grace, child.wait()).await {
            return ended;
        }
        let leader = child.id();
        leader.into_iter().for_each(family::kill_rest_of_group);
        child.wait().await
    }

    /// Tells the worker to end, once: to a worker a second signal means at once. Says what is left of its grace.
    async fn tell_to_end(&mut self) -> io::Result<Duration> {
        let now = TimestampMs::now();
        let told = self.status.told_to_end;
        if told.is_none() {
            self.status.told_to_end = Some(now);
            self.save().await?;
            family::terminate(self.status.worker(), &self.job.id);
        }
        let since = now.as_millis() - told.unwrap_or(now).as_millis();
        let since = u64::try_from(since).unwrap_or(0);
        Ok(Duration::from_millis(
            self.job.grace_ms.saturating_sub(since),
        ))
    }

    /// Comes back when nothing of the worker runs: it kills what its first process has left.
    async fn clear(&mut self) -> io::Result<()> {
        if self.folder.has_worker()? {
            let leader = self.status.starts.last().and_then(|last| last.process);
            leader
                .iter()
                .for_each(|leader| family::kill_rest_of_group(leader.pid));
        }
        while self.folder.has_worker()? {
            family::kill_all(None, &self.job.id);
            tokio::time::sleep(KILL_AGAIN).await;
        }
        Ok(())
    }

    /// Waits for the end of a worker that is not our child; says what it was ended for, if it was.
    async fn watch_adopted(&mut self) -> io::Result<Option<Cause>> {
        let mut cause = self.cause_now();
        while cause.is_none() && self.adopted()?.is_some() {
            tokio::select! {
                () = tokio::time::sleep(TICK) => cause = self.cause_now(),
                () = self.signals.recv() => cause = Some(Cause::Evicted),
            }
        }
        if cause.is_some() && self.adopted()?.is_some() {
            let grace = self.tell_to_end().await?;
            let give_up = tokio::time::Instant::now() + grace;
            while self.adopted()?.is_some() && tokio::time::Instant::now() < give_up {
                tokio::time::sleep(KILL_AGAIN).await;
            }
        }
        while let Some(worker) = self.adopted()? {
            family::kill_all(worker, &self.job.id);
            tokio::time::sleep(KILL_AGAIN).await;
        }
        if let Some(last) = self.status.starts.last_mut()
            && last.ended.is_none()
        {
            last.ended = Some(TimestampMs::now());
        }
        Ok(cause)
    }

    /// The adopted worker, with its number if it is known; None if nothing of it runs.
    fn adopted(&self) -> io::Result<Option<Option<ProcessId>>> {
        let first = self.status.worker().filter(|worker| family::runs(*worker));
        Ok((first.is_some() || self.folder.has_worker()?).then_some(first))
    }

    fn cause_now(&self) -> Option<Cause> {
        // Without its folder nobody could find it.
        if self.folder.is_deleting() || !self.folder.path().exists() {
            Some(Cause::Deleted)
        } else if self.job.is_overdue(TimestampMs::now()) {
            Some(Cause::Deadline)
        } else {
            None
        }
    }

    /// Waits for a reason to end the worker, and keeps its log from growing in the meantime.
    async fn cause(&mut self) -> Cause {
        loop {
            if let Some(cause) = self.cause_now() {
                return cause;
            }
            if let Err(error) = log::bound(&self.folder.log(), self.job.log_limit_bytes) {
                self.say(&format!("can't shorten this log: {error}"));
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = self.signals.recv() => return Cause::Evicted,
            }
        }
    }

    /// Writes down that the Job is over; one that is to be deleted is removed.
    async fn end(&mut self, why: Why) -> io::Result<()> {
        if self.status.ended.is_none() {
            let at = TimestampMs::now();
            self.status.ended = Some(Ended { at, why });
            self.save().await?;
        }
        if self.folder.is_deleting() {
            self.jobs.remove(&self.job.name, &self.job.id)?;
        }
        Ok(())
    }

    /// Into the Job's log, among the worker's lines.
    fn say(&self, message: &str) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.log());
        // Nobody is left to be told that it failed.
        let _ = log.and_then(|mut log| writeln!(log, "queue-manager shim: {message}"));
    }
}
