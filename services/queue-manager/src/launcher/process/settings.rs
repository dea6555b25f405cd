//! How the launcher of processes is set up, and the environment that a worker gets.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use streamforge_utils::{config::Vars, worker::job::inherited};

use crate::launcher::{JobSpec, LaunchError};

/// As in our Kubernetes Jobs.
const DEFAULT_BACKOFF: Duration = Duration::from_secs(10);
/// A worker's own grace and its last event, as in our Kubernetes Jobs.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// From the end of a worker's own grace to SIGKILL.
const LAST_EVENT: Duration = Duration::from_secs(5);
/// `ttlSecondsAfterFinished` of our Kubernetes Jobs.
const DEFAULT_KEPT: Duration = Duration::from_secs(3600);
/// Days of a worker at `info`, and no trouble for a disk; there are two such files at most.
const DEFAULT_LOG_LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// How Jobs are run as processes.
#[derive(Clone)]
pub struct ProcessSettings {
    /// Where each Job has its folder. On a local disk: locks on it tell what is alive.
    pub jobs_dir: PathBuf,
    /// The installation that it is of; None takes any.
    pub installation: Option<String>,
    /// The `queue-manager` that is run as `shim`.
    pub shim: PathBuf,
    /// The program of all workers.
    pub program: PathBuf,
    /// Its arguments; `{target}` is the service.
    pub args: Vec<String>,
    /// What all workers are given, connections and passwords: no Job may change it.
    pub common: Vars,
    /// What workers inherit of this process's environment.
    pub inherited: Vars,
    /// Before the second start; it doubles. Default 10 s.
    pub backoff: Duration,
    /// From SIGTERM to SIGKILL, unless a worker's `SHUTDOWN_GRACE_SECS` asks for more. Default 30 s.
    pub grace: Duration,
    /// How long a Job that has ended by itself is kept, with its log. Default 1 h.
    pub kept: Duration,
    /// A log longer than this is moved aside, in place of the one before. Default 16 MiB.
    pub log_limit_bytes: u64,
}

impl ProcessSettings {
    /// With the defaults: `streamforge worker {target}`, looked for beside this executable, which is the shim itself.
    /// `vars` is this process's environment; with `outside` workers inherit its proxies.
    ///
    /// # Errors
    /// It is not known where this executable is.
    pub fn new(jobs_dir: &Path, common: Vars, vars: &Vars, outside: bool) -> io::Result<Self> {
        let shim = std::env::current_exe()?;
        Ok(Self {
            jobs_dir: std::path::absolute(jobs_dir)?,
            installation: None,
            program: shim.with_file_name("streamforge"),
            shim,
            args: vec!["worker".to_owned(), "{target}".to_owned()],
            common,
            inherited: inherited(vars, outside),
            backoff: DEFAULT_BACKOFF,
            grace: DEFAULT_GRACE,
            kept: DEFAULT_KEPT,
            log_limit_bytes: DEFAULT_LOG_LIMIT_BYTES,
        })
    }

    /// The environment of a Job's worker, all of it.
    ///
    /// # Errors
    /// The Job would change what is common to all, or has what no environment can hold.
    pub(super) fn worker_vars(&self, spec: &JobSpec) -> Result<Vars, LaunchError> {
        let mut vars = self.inherited.clone();
        for (name, value) in &spec.env {
            let legal = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
            if !legal {
                return Err(LaunchError::Refused(format!(
                    "no environment can hold variable {name:?} of Job {}",
                    spec.name
                )));
            }
            if self.common.get(name).is_some_and(|common| common != value) {
                return Err(LaunchError::Refused(format!(
                    "Job {} would change {name}, which is common to all workers",
                    spec.name
                )));
            }
            vars.insert(name.clone(), value.clone());
        }
        vars.extend(self.common.clone());
        // Workers on one machine would fight for any other.
        vars.insert("METRICS_PORT".to_owned(), "0".to_owned());
        Ok(vars)
    }

    /// From SIGTERM to SIGKILL for a worker with this environment.
    pub(super) fn grace_for(&self, vars: &Vars) -> Duration {
        let own = vars
            .get("SHUTDOWN_GRACE_SECS")
            .and_then(|seconds| seconds.parse().ok())
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        own.map_or(self.grace, |own| {
            self.grace.max(own.saturating_add(LAST_EVENT))
        })
    }

    pub(super) fn worker_args(&self, target: &str) -> Vec<String> {
        let args = self.args.iter();
        args.map(|arg| arg.replace("{target}", target)).collect()
    }
}

impl fmt::Debug for ProcessSettings {
    /// Names of variables only: values are passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessSettings")
            .field("jobs_dir", &self.jobs_dir)
            .field("installation", &self.installation)
            .field("shim", &self.shim)
            .field("program", &self.program)
            .field("args", &self.args)
            .field("common", &self.common.keys())
            .field("inherited", &self.inherited.keys())
            .field("backoff", &self.backoff)
            .field("grace", &self.grace)
            .field("kept", &self.kept)
            .field("log_limit_bytes", &self.log_limit_bytes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(vars: &[(&str, &str)]) -> Vars {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        vars.iter().map(owned).collect()
    }

    fn settings() -> ProcessSettings {
        let common = vars(&[("KAFKA_PASSWORD", "hunter2"), ("METRICS_PORT", "8000")]);
        let process = vars(&[("PATH", "/bin"), ("ARANGO_PASSWORD", "other")]);
        ProcessSettings::new(Path::new("/jobs"), common, &process, false).unwrap()
    }

    fn spec(env: &[(&str, &str)]) -> JobSpec {
        JobSpec {
            name: "job-x".to_owned(),
            queue_id: "wf-x".parse().unwrap(),
            run: 1,
            attempt: 1,
            target: "x".to_owned(),
            telemetry_id: "x__1".to_owned(),
            image: String::new(),
            env: vars(env),
            deadline: None,
        }
    }

    #[test]
    fn a_worker_gets_its_own_the_common_and_what_it_inherits() {
        let found = settings().worker_vars(&spec(&[("RUN", "2"), ("KAFKA_PASSWORD", "hunter2")]));
        let expected = [
            ("KAFKA_PASSWORD", "hunter2"),
            ("METRICS_PORT", "0"),
            ("PATH", "/bin"),
            ("RUN", "2"),
        ];
        assert_eq!(found, Ok(vars(&expected)));
    }

    #[test]
    fn no_job_changes_a_connection() {
        for env in [
            ("KAFKA_PASSWORD", "mine"),
            ("A=B", ""),
            ("", "x"),
            ("A", "\0"),
        ] {
            let refused = settings().worker_vars(&spec(&[env]));
            assert!(matches!(refused, Err(LaunchError::Refused(_))), "{env:?}");
        }
    }

    #[test]
    fn a_worker_that_wants_more_grace_gets_it() {
        for (own, grace) in [("60", 65), ("1", 30), ("x", 30), ("-1", 30)] {
            let found = settings().grace_for(&vars(&[("SHUTDOWN_GRACE_SECS", own)]));
            assert_eq!(found.as_secs(), grace, "{own}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        assert!(!format!("{:?}", settings()).contains("hunter2"));
    }
}
