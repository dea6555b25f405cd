//! A worker as a process of its own: started, signalled, awaited, measured.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use streamforge_utils::config::Vars;
use tokio::process::{Child, Command};

/// How long anything in these tests may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

const PROGRAM: &str = env!("CARGO_BIN_EXE_streamforge");

pub(crate) struct Worker {
    name: &'static str,
    child: Child,
    pid: Pid,
    log: PathBuf,
    peak_kib: Arc<AtomicU64>,
}

impl Worker {
    /// Starts `streamforge worker NAME` with nothing in its environment but `vars`; its log goes to a file in `logs`.
    pub(crate) fn start(name: &'static str, vars: &Vars, logs: &Path) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["worker", name]);
        Self::run(command, name, vars, logs)
    }

    /// As [`Self::start`], in the cgroup whose file of processes this is.
    pub(crate) fn start_in(processes: &Path, name: &'static str, vars: &Vars, logs: &Path) -> Self {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", r#"echo $$ >"$0" && exec "$@""#])
            .arg(processes)
            .args([PROGRAM, "worker", name]);
        Self::run(command, name, vars, logs)
    }

    fn run(mut command: Command, name: &'static str, vars: &Vars, logs: &Path) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let log = logs.join(format!("{name}-{count}.log"));
        let child = command
            .env_clear()
            .envs(vars)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        let peak_kib = Arc::new(AtomicU64::new(0));
        tokio::spawn(watch_memory(pid, Arc::clone(&peak_kib)));
        Self {
            name,
            child,
            pid,
            log,
            peak_kib,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Kills it as the kernel does when memory is short, and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for its end, and gives its exit code.
    pub(crate) async fn ends(mut self) -> i32 {
        let ended = tokio::time::timeout(LIMIT, self.child.wait()).await;
        let Ok(status) = ended else {
            panic!(
                "{} has not ended after {LIMIT:?}:\n{}",
                self.name,
                self.log()
            )
        };
        let peak = self.peak_kib.load(Ordering::Relaxed);
        eprintln!("{}: peak memory {:.1} MiB", self.name, peak as f64 / 1024.0);
        status
            .unwrap()
            .code()
            .unwrap_or_else(|| panic!("{} was killed by a signal:\n{}", self.name, self.log()))
    }

    /// Waits for its end, which must be with this code.
    pub(crate) async fn ends_with(self, code: i32) {
        let (name, log) = (self.name, self.log.clone());
        let found = self.ends().await;
        assert_eq!(
            found,
            code,
            "exit code of {name}:\n{}",
            std::fs::read_to_string(log).unwrap()
        );
    }

    /// Waits for its end, which must be with 0, and that it never had as much memory as this.
    pub(crate) async fn ends_below(self, mib: u64) {
        let peak_kib = Arc::clone(&self.peak_kib);
        let name = self.name;
        self.ends_with(0).await;
        let peak = peak_kib.load(Ordering::Relaxed);
        assert!(
            peak > 0 && peak < mib * 1024,
            "peak memory of {name}: {peak} KiB, expected less than {mib} MiB"
        );
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.log.clone()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

/// Keeps the highest resident set that the kernel has seen, for as long as the process lives.
async fn watch_memory(pid: Pid, peak_kib: Arc<AtomicU64>) {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    while let Ok(status) = std::fs::read_to_string(&path) {
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kib) =
            peak.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse().ok())
        {
            peak_kib.fetch_max(kib, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
