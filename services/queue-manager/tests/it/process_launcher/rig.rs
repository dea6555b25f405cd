//! A launcher over a folder of its own, whose workers are shell scripts.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use queue_manager::launcher::{
    JobPhase, JobSpec, JobStatus, LaunchError, Launched, Launcher,
    process::{ProcessLauncher, ProcessSettings},
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use streamforge_utils::config::{Vars, process_vars};
use tempfile::TempDir;
use tokio::time::Instant;

/// Nothing in these tests takes this long.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const NAME: &str = "job-dummy-service-btcusdt-abc123";
pub(crate) const SECRET: &str = "correct-horse-battery";

pub(crate) struct Rig {
    pub(crate) launcher: ProcessLauncher,
    pub(crate) settings: ProcessSettings,
    folder: TempDir,
}

impl Rig {
    /// Every worker runs `script`; `$DIR` is a folder for its marks, `$1` its target.
    pub(crate) fn new(script: &str) -> Self {
        Self::with(script, |_| {})
    }

    pub(crate) fn with(script: &str, change: impl FnOnce(&mut ProcessSettings)) -> Self {
        let folder = TempDir::new().unwrap();
        let marks = folder.path().join("marks");
        fs::create_dir(&marks).unwrap();
        let jobs = folder.path().join("jobs");
        let mut settings = settings_for(&jobs, &marks, script);
        change(&mut settings);
        Self {
            launcher: ProcessLauncher::new(settings.clone()).unwrap(),
            settings,
            folder,
        }
    }

    /// Another launcher over the same folder.
    pub(crate) fn second(&self) -> ProcessLauncher {
        ProcessLauncher::new(self.settings.clone()).unwrap()
    }

    pub(crate) fn mark(&self, name: &str) -> PathBuf {
        self.folder.path().join("marks").join(name)
    }

    pub(crate) fn jobs_dir(&self) -> &Path {
        &self.settings.jobs_dir
    }

    pub(crate) async fn launch(&self) -> Result<Launched, LaunchError> {
        self.launcher.launch(&spec()).await
    }

    pub(crate) async fn jobs(&self) -> Vec<JobStatus> {
        self.launcher.jobs().await.unwrap()
    }

    /// The Job, once it is as wanted.
    pub(crate) async fn job_that(&self, wanted: impl Fn(&JobStatus) -> bool) -> JobStatus {
        job_that(&self.launcher, wanted).await
    }

    /// The Job, once it is over.
    pub(crate) async fn over(&self) -> JobStatus {
        self.job_that(|job| matches!(job.phase, JobPhase::Succeeded | JobPhase::Failed))
            .await
    }

    pub(crate) async fn gone(&self) {
        until(async || self.jobs().await.is_empty()).await;
        until(async || !self.jobs_dir().join(NAME).exists()).await;
    }

    /// The process whose number the worker wrote there.
    pub(crate) async fn pid(&self, mark: &str) -> Pid {
        let path = self.mark(mark);
        until(async || fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'))).await;
        let text = fs::read_to_string(&path).unwrap();
        Pid::from_raw(text.trim().parse().unwrap()).unwrap()
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        let text = fs::read(self.jobs_dir().join(NAME).join("status.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    pub(crate) fn shim(&self) -> Pid {
        let pid = self.status()["shim"]["pid"].as_i64().unwrap();
        Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
    }

    pub(crate) fn kill_shim(&self) {
        kill_process(self.shim(), Signal::KILL).unwrap();
    }
}

impl Drop for Rig {
    /// A test that failed leaves nothing behind.
    fn drop(&mut self) {
        let Ok(folders) = fs::read_dir(self.jobs_dir()) else {
            return;
        };
        for folder in folders.flatten() {
            let _ = fs::write(folder.path().join("delete"), "");
            let Ok(text) = fs::read(folder.path().join("status.json")) else {
                continue;
            };
            let status: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            for start in status["starts"].as_array().into_iter().flatten() {
                let pid = start["process"]["pid"]
                    .as_i64()
                    .filter(|_| start["ended"].is_null());
                let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
                if let Some(pid) = pid {
                    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
                }
            }
        }
    }
}

pub(crate) fn settings_for(jobs_dir: &Path, marks: &Path, script: &str) -> ProcessSettings {
    let common: Vars = [("KAFKA_PASSWORD", SECRET), ("DIR", marks.to_str().unwrap())]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let mut settings = ProcessSettings::new(jobs_dir, common, &process_vars(), false).unwrap();
    settings.shim = env!("CARGO_BIN_EXE_queue-manager").into();
    settings.program = "/bin/sh".into();
    settings.args = ["-c", script, "sh", "{target}"].map(str::to_owned).to_vec();
    settings.backoff = Duration::from_millis(50);
    settings.grace = Duration::from_secs(20);
    settings
}

pub(crate) fn spec() -> JobSpec {
    JobSpec {
        name: NAME.to_owned(),
        queue_id: "wf-btcusdt-dummy-20240801-abc123".parse().unwrap(),
        run: 1,
        attempt: 1,
        target: "dummy-service".to_owned(),
        telemetry_id: "dummy-service__abc123".to_owned(),
        image: "streamforge/dummy-service:1".to_owned(),
        env: BTreeMap::from([("RUN".to_owned(), "1".to_owned())]),
        deadline: None,
    }
}

pub(crate) async fn job_that(
    launcher: &ProcessLauncher,
    wanted: impl Fn(&JobStatus) -> bool,
) -> JobStatus {
    let give_up = Instant::now() + LIMIT;
    loop {
        let jobs = launcher.jobs().await.unwrap();
        if let Some(job) = jobs.iter().find(|job| wanted(job)) {
            return job.clone();
        }
        assert!(Instant::now() < give_up, "{jobs:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn until(is_so: impl AsyncFn() -> bool) {
    let give_up = Instant::now() + LIMIT;
    while !is_so().await {
        assert!(Instant::now() < give_up, "it never came to be");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether it runs; a process of which only the exit code is left does not.
pub(crate) fn runs(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    let is_zombie = stat.is_ok_and(|stat| stat.contains(") Z "));
    test_kill_process(pid).is_ok() && !is_zombie
}
