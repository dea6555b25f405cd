//! The queue-manager beside this program, as a part of the dev stack: it runs workflows as processes of this machine.
//!
//! Its workers end with it, as all that they talk to does.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use streamforge_utils::{config::Vars, shutdown::StopSignal, worker::job::inherited};
use tempfile::TempDir;
use tokio::{
    process::{Child, ChildStdin, Command},
    time::Instant,
};

use crate::talk::say;

/// Where people look first.
const PORT: u16 = 8080;
/// How long it may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// From SIGTERM to SIGKILL: its workers have their own grace.
const END_LIMIT: Duration = Duration::from_secs(60);
/// Before it is started again, and the longest time before that; also how long it lives if it is well.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Lines of its log that are shown if it does not start.
const LOG_LINES: usize = 20;

/// Where it is to be, before anything is started.
#[derive(Debug)]
pub(super) struct Plan {
    program: PathBuf,
    port: u16,
}

impl Plan {
    /// None if there is no such program beside this one.
    ///
    /// # Errors
    /// No port can be had.
    pub(super) fn new() -> anyhow::Result<Option<Self>> {
        let program = std::env::current_exe()?.with_file_name("queue-manager");
        if !program.is_file() {
            return Ok(None);
        }
        let port = free_port().context("find a port for queue-manager")?;
        Ok(Some(Self { program, port }))
    }

    /// Where its API will be.
    pub(super) fn url(&self) -> String {
        format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Starts it with these connections of its own, and those of `worker_env` for workers; once this is back it is
    /// ready. `vars` is this process's environment.
    ///
    /// # Errors
    /// It does not come up; its log says why.
    pub(super) async fn start(
        self,
        connections: Vars,
        worker_env: &Path,
        vars: &Vars,
    ) -> anyhow::Result<Manager> {
        let jobs = tempfile::Builder::new()
            .prefix("streamforge-jobs-")
            .tempdir()
            .context("make a folder for Jobs")?;
        let log = jobs.path().join("queue-manager.log");
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let own = [
            ("LAUNCHER", "process".to_owned()),
            ("JOBS_DIR", path(jobs.path())),
            ("WORKER_ENV_FILE", path(worker_env)),
            ("STOP_JOBS_AT_EXIT", "true".to_owned()),
            ("END_WITH_STDIN", "true".to_owned()),
            (
                "API_LISTEN",
                format!("{}:{}", Ipv4Addr::LOCALHOST, self.port),
            ),
            ("RECONCILE_INTERVAL_SECS", "1".to_owned()),
        ];
        let mut env = inherited(vars, true);
        env.extend(connections);
        env.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let url = self.url();
        let (child, line) = spawn(&self.program, &env, &log)?;
        let mut manager = Manager {
            child,
            line,
            program: self.program,
            env,
            jobs,
            log,
            url,
        };
        manager.until_ready().await?;
        Ok(manager)
    }
}

/// What it says is added to `log`. It lives as long as the other end of its stdin, on which nothing is ever written.
fn spawn(program: &Path, env: &Vars, log: &Path) -> anyhow::Result<(Child, Option<ChildStdin>)> {
    let file = File::options().create(true).append(true).open(log);
    let file = file.with_context(|| format!("write {}", log.display()))?;
    let mut child = Command::new(program)
        .env_clear()
        .envs(env)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(file)
        // Ctrl-C of a terminal goes to the whole group; it must hear of it from us, when workers can still be told.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    // Whoever waits for a child closes what it has of it.
    let line = child.stdin.take();
    Ok((child, line))
}

/// The usual one, or any other.
fn free_port() -> io::Result<u16> {
    let usual = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT));
    let listener = match usual {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
    };
    Ok(listener.local_addr()?.port())
}

/// It runs. Killed when this is dropped; [`Manager::end`] lets it end its workers.
#[derive(Debug)]
pub(super) struct Manager {
    child: Child,
    /// Closed with this process, however that ends.
    line: Option<ChildStdin>,
    program: PathBuf,
    env: Vars,
    /// The folders of its Jobs, and its log.
    jobs: TempDir,
    log: PathBuf,
    url: String,
}

impl Manager {
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    async fn until_ready(&mut self) -> anyhow::Result<()> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(READY_WITHIN)
            .build()?;
        let url = format!("{}/health/ready", self.url);
        let until = Instant::now() + READY_WITHIN;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "queue-manager has ended with {status}:\n{}",
                    self.last_lines()
                );
            }
            if let Ok(answer) = http.get(&url).send().await
                && answer.status().is_success()
            {
                return Ok(());
            }
            if Instant::now() >= until {
                let lines = self.last_lines();
                bail!("queue-manager was not ready within {READY_WITHIN:?}:\n{lines}");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn last_lines(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Starts it again whenever it has ended, for as long as this is awaited. Workers do not notice: they go on, and the
    /// next one takes up where the last one was.
    pub(super) async fn keep(&mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let how = match self.child.wait().await {
                Ok(status) => format!("queue-manager has ended with {status}"),
                Err(error) => format!("queue-manager can't be watched: {error}"),
            };
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            say(&format!(
                "{how}; it is started again. Its workers go on. Its log: {}",
                self.log.display()
            ));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match spawn(&self.program, &self.env, &self.log) {
                Ok((child, line)) => (self.child, self.line) = (child, line),
                // The child that is no more is waited for again, which takes no time.
                Err(error) => say(&format!("{error:#}")),
            }
        }
    }

    /// Ends it and its workers; at once if `stop` is at its second signal.
    pub(super) async fn end(mut self, stop: &StopSignal) {
        let pid = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // It may have ended by itself just now, which is as good.
            let _ = kill_process(pid, Signal::TERM);
        }
        tokio::select! {
            _ = self.child.wait() => {}
            () = stop.at_once() => {}
            () = tokio::time::sleep(END_LIMIT) => {}
        }
        drop(self.line);
        // What is left ends with this.
        let _ = self.child.kill().await;
        drop(self.jobs);
    }
}
