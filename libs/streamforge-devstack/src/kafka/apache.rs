//! A real Apache Kafka on loopback, as `ci/kafka.sh` starts it: TLS, SCRAM users, and the rights that we ship.
//!
//! It is a process of its own, with a folder that holds everything about it. Its file `env` is what is read here.

mod several;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, LazyLock},
};

use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    error::KafkaError,
};
use streamforge_utils::{
    config::{KafkaConfig, Reader, Vars},
    kafka::client_config,
};
use tokio::{
    process::Command,
    sync::{Mutex, OwnedMutexGuard},
};

pub use several::BrokerAction;

/// The broker of this process that can be frozen: its folder, once it was started. One test after the other has it.
static ALONE: LazyLock<Arc<Mutex<Option<PathBuf>>>> = LazyLock::new(Arc::default);

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
    /// It could not be told to stand still or to go on.
    #[error("the broker of {dir:?} takes no {signal}")]
    Signal {
        /// Its folder.
        dir: PathBuf,
        /// What was sent.
        signal: &'static str,
    },
    /// It did not do what a client of it asked for.
    #[error("asking the broker: {0}")]
    Asking(#[from] KafkaError),
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
    /// While this is held, nobody else uses the broker, and it may be frozen.
    turn: Option<OwnedMutexGuard<Option<PathBuf>>>,
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
            turn: None,
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

    /// A broker that nobody else uses until this is dropped, so that it may be frozen. A process has one of these: it is
    /// started with `script` for the first who asks, and ends with the process; who asks later waits for his turn.
    ///
    /// # Errors
    /// It does not start; the script says why.
    pub async fn alone(script: &Path) -> Result<Self, ApacheKafkaError> {
        let mut turn = Arc::clone(&ALONE).lock_owned().await;
        let dir = match &*turn {
            Some(dir) => dir.clone(),
            None => {
                let own = std::process::id().to_string();
                let dir = std::env::temp_dir().join(format!("streamforge-kafka-{own}"));
                run(script, &dir, &["start", "--while", &own]).await?;
                turn.insert(dir).clone()
            }
        };
        let mut kafka = Self::running(&dir)?;
        kafka.turn = Some(turn);
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

    /// Makes it stand still: connections stay, new ones are taken by the kernel, and nothing is answered.
    ///
    /// # Errors
    /// It is not there, or others use it too.
    pub fn freeze(&self) -> Result<(), ApacheKafkaError> {
        if self.turn.is_none() {
            return Err(ApacheKafkaError::Lacks {
                path: self.dir.clone(),
                name: "a broker of our own".to_owned(),
            });
        }
        self.signal("STOP")
    }

    /// Lets it go on after [`ApacheKafka::freeze`].
    ///
    /// # Errors
    /// It is not there.
    pub fn thaw(&self) -> Result<(), ApacheKafkaError> {
        self.signal("CONT")
    }

    fn signal(&self, signal: &'static str) -> Result<(), ApacheKafkaError> {
        let refused = || ApacheKafkaError::Signal {
            dir: self.dir.clone(),
            signal,
        };
        let pid = fs::read_to_string(self.dir.join("pid")).map_err(|_| refused())?;
        let told = std::process::Command::new("kill")
            .args(["-s", signal, pid.trim()])
            .stdin(Stdio::null())
            .output();
        match told {
            Ok(output) if output.status.success() => Ok(()),
            _ => Err(refused()),
        }
    }

    /// Deletes the records of a partition that are before `offset`, as retention does.
    ///
    /// # Errors
    /// The broker does not do it.
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), ApacheKafkaError> {
        let admin: AdminClient<DefaultClientContext> =
            client_config(&self.config()?, "devstack").create()?;
        let mut before = TopicPartitionList::new();
        before.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        admin.delete_records(&before, &AdminOptions::new()).await?;
        Ok(())
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
        if self.turn.is_some()
            && let Err(error) = self.thaw()
        {
            tracing::warn!(%error, "The next one finds a frozen broker");
        }
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
