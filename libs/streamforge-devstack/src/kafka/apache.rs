//! A real Apache Kafka on loopback, as `ci/kafka.sh` starts it: TLS, SCRAM users, and the rights that we ship.
//!
//! It is a process of its own, with a folder that holds everything about it. Its file `env` is what is read here.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
};

use streamforge_utils::config::{KafkaConfig, Reader, Vars};
use tokio::process::Command;

/// The broker could not be found, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ApacheKafkaError {
    /// Its folder does not tell of a broker.
    #[error("{path:?} does not tell of a broker ({error}): start one with ci/kafka.sh start")]
    NotThere {
        /// The file that was looked for.
        path: PathBuf,
        /// Why it can't be read.
        error: io::Error,
    },
    /// What its folder says lacks something.
    #[error("{path:?} has no {name}")]
    Lacks {
        /// The file.
        path: PathBuf,
        /// The variable.
        name: String,
    },
    /// The script failed.
    #[error("{script:?} {verb} failed: {reason}")]
    Script {
        /// `ci/kafka.sh`.
        script: PathBuf,
        /// What it was asked to do.
        verb: String,
        /// What it said.
        reason: String,
    },
}

/// A running broker. One that was started from here is stopped, and its folder removed, when this is dropped.
#[derive(Debug)]
pub struct ApacheKafka {
    dir: PathBuf,
    told: Vars,
    /// The script that started it, if it is ours to stop.
    script: Option<PathBuf>,
}

impl ApacheKafka {
    /// The broker of the folder `dir`, which somebody else runs.
    ///
    /// # Errors
    /// There is none.
    pub fn running(dir: &Path) -> Result<Self, ApacheKafkaError> {
        let path = dir.join("env");
        let text = fs::read_to_string(&path).map_err(|error| ApacheKafkaError::NotThere {
            path: path.clone(),
            error,
        })?;
        let told = text.lines().filter_map(|line| line.split_once('='));
        Ok(Self {
            dir: dir.to_owned(),
            told: told
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            script: None,
        })
    }

    /// Starts a broker of our own in the folder `dir`, which must not be there yet, with `script`, our `ci/kafka.sh`. It
    /// ends with this process at the latest.
    ///
    /// # Errors
    /// It does not start; the script says why.
    pub async fn start(script: &Path, dir: &Path) -> Result<Self, ApacheKafkaError> {
        let own = std::process::id().to_string();
        run(script, dir, &["start", "--while", &own]).await?;
        let mut kafka = Self::running(dir)?;
        kafka.script = Some(script.to_owned());
        Ok(kafka)
    }

    /// What a worker needs to use this broker as the user of workers: TLS, a password, and the least rights.
    ///
    /// # Errors
    /// The broker's folder lacks something.
    pub fn vars(&self) -> Result<Vars, ApacheKafkaError> {
        self.vars_as("user-streamforge")
    }

    /// What a client needs to use this broker as `user`.
    ///
    /// # Errors
    /// There is no such user.
    pub fn vars_as(&self, user: &str) -> Result<Vars, ApacheKafkaError> {
        let password = format!("KAFKA_PASSWORD_{}", user.to_uppercase().replace('-', "_"));
        let vars = [
            ("KAFKA_BOOTSTRAP_SERVERS", self.get("KAFKA_SASL_SERVERS")?),
            ("KAFKA_USER", user),
            ("KAFKA_PASSWORD", self.get(&password)?),
            ("KAFKA_CA_PATH", self.get("KAFKA_CA_PATH")?),
        ];
        Ok(vars
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into())
    }

    /// What a client needs that may do everything.
    ///
    /// # Errors
    /// The broker's folder lacks something.
    pub fn admin_vars(&self) -> Result<Vars, ApacheKafkaError> {
        let servers = self.get("KAFKA_PLAINTEXT_SERVERS")?.to_owned();
        Ok([("KAFKA_BOOTSTRAP_SERVERS".to_owned(), servers)].into())
    }

    /// The settings of a client that may do everything.
    ///
    /// # Errors
    /// The broker's folder lacks something.
    pub fn config(&self) -> Result<KafkaConfig, ApacheKafkaError> {
        Ok(Reader::new(&self.admin_vars()?)
            .section()
            .expect("an address alone is well-formed"))
    }

    /// What the broker's folder says under this name.
    ///
    /// # Errors
    /// Nothing.
    pub fn get(&self, name: &str) -> Result<&str, ApacheKafkaError> {
        let found = self.told.get(name);
        found
            .map(String::as_str)
            .ok_or_else(|| ApacheKafkaError::Lacks {
                path: self.dir.join("env"),
                name: name.to_owned(),
            })
    }

    /// Stops it in order; its data stay.
    ///
    /// # Errors
    /// It is not ours, or does not stop.
    pub async fn down(&self) -> Result<(), ApacheKafkaError> {
        run(self.script()?, &self.dir, &["stop", "--keep"]).await
    }

    /// Starts it again, with what it had.
    ///
    /// # Errors
    /// It is not ours, or does not start.
    pub async fn up(&self) -> Result<(), ApacheKafkaError> {
        run(self.script()?, &self.dir, &["start"]).await
    }

    fn script(&self) -> Result<&Path, ApacheKafkaError> {
        self.script
            .as_deref()
            .ok_or_else(|| ApacheKafkaError::Lacks {
                path: self.dir.clone(),
                name: "a broker of our own".to_owned(),
            })
    }
}

impl Drop for ApacheKafka {
    fn drop(&mut self) {
        if let Some(script) = &self.script {
            let stopping = std::process::Command::new(script)
                .args(["stop", "--dir"])
                .arg(&self.dir)
                .stdin(Stdio::null())
                .output();
            if let Err(error) = stopping {
                tracing::warn!(%error, "Could not stop the broker; it ends with this process");
            }
        }
    }
}

async fn run(script: &Path, dir: &Path, words: &[&str]) -> Result<(), ApacheKafkaError> {
    let failed = |reason: String| ApacheKafkaError::Script {
        script: script.to_owned(),
        verb: words[0].to_owned(),
        reason,
    };
    let output = Command::new(script)
        .args(words)
        .arg("--dir")
        .arg(dir)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()))
}
