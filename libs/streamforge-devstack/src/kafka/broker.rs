//! The broker that end-to-end tests run against: one setting chooses it.

use std::{path::Path, time::Duration};

use rdkafka::message::OwnedMessage;
use streamforge_utils::{
    config::{KafkaConfig, Vars, process_vars},
    kafka::{TopicSpec, Topics},
    protocol::{Command, Event},
};

use super::{ApacheKafka, MockKafka, send, watch};

/// Names the folder of an Apache Kafka that `ci/kafka.sh` runs; without it the mock is used.
pub const KAFKA_DIR: &str = "STREAMFORGE_KAFKA_DIR";
/// How long it may take to make a topic.
const LIMIT: Duration = Duration::from_secs(30);

/// A broker for one test. The mock is the test's own; an Apache Kafka is shared, and workflows are told apart by their
/// `queue_id`.
#[derive(Debug)]
pub enum Broker {
    /// In this process.
    Mock(MockKafka),
    /// The real one.
    Apache(ApacheKafka),
}

impl Broker {
    /// The one that [`KAFKA_DIR`] asks for.
    ///
    /// # Errors
    /// It can't be started or is not there.
    pub fn start() -> anyhow::Result<Self> {
        match process_vars().get(KAFKA_DIR) {
            Some(dir) if !dir.trim().is_empty() => {
                Ok(Self::Apache(ApacheKafka::running(Path::new(dir))?))
            }
            _ => Ok(Self::Mock(MockKafka::start()?)),
        }
    }

    /// The one that [`KAFKA_DIR`] asks for, for a test that takes it [`down`](Self::down): nobody else uses it meanwhile. A
    /// real one is not that of the folder, but one that `script`, our `ci/kafka.sh`, starts.
    ///
    /// # Errors
    /// It can't be started.
    pub async fn alone(script: &Path) -> anyhow::Result<Self> {
        match Self::start()? {
            Self::Mock(mock) => Ok(Self::Mock(mock)),
            Self::Apache(_) => Ok(Self::Apache(ApacheKafka::alone(script).await?)),
        }
    }

    /// Takes it away from its clients: the mock closes connections and takes no new ones, a real one stands still, so
    /// that connections stay and nothing is answered.
    ///
    /// # Errors
    /// It is used by others too.
    pub fn down(&self) -> anyhow::Result<()> {
        match self {
            Self::Mock(mock) => Ok(mock.down()?),
            Self::Apache(apache) => Ok(apache.freeze()?),
        }
    }

    /// Gives it back to its clients, with what it had.
    ///
    /// # Errors
    /// It is gone.
    pub fn up(&self) -> anyhow::Result<()> {
        match self {
            Self::Mock(mock) => Ok(mock.up()?),
            Self::Apache(apache) => Ok(apache.thaw()?),
        }
    }

    /// Whether it is a real one.
    pub fn is_real(&self) -> bool {
        matches!(self, Self::Apache(_))
    }

    /// What a worker needs to use it; on a real one that is TLS, a password, and the rights that we ship.
    ///
    /// # Errors
    /// The broker's folder lacks something.
    pub fn vars(&self) -> anyhow::Result<Vars> {
        match self {
            Self::Mock(mock) => Ok(mock.vars()),
            Self::Apache(apache) => Ok(apache.vars()?),
        }
    }

    /// What a person needs to command workers and to watch them, with the rights that we ship.
    ///
    /// # Errors
    /// The broker's folder lacks something.
    pub fn operator_vars(&self) -> anyhow::Result<Vars> {
        match self {
            Self::Mock(mock) => Ok(mock.vars()),
            Self::Apache(apache) => Ok(apache.vars_as("user-operator")?),
        }
    }

    /// What a client needs that may do everything.
    ///
    /// # Errors
    /// The broker's folder lacks something.
    pub fn admin_vars(&self) -> anyhow::Result<Vars> {
        match self {
            Self::Mock(mock) => Ok(mock.vars()),
            Self::Apache(apache) => Ok(apache.admin_vars()?),
        }
    }

    /// What queue-manager needs, with the rights that we ship.
    ///
    /// # Errors
    /// The broker's folder lacks something.
    pub fn manager_vars(&self) -> anyhow::Result<Vars> {
        match self {
            Self::Mock(mock) => Ok(mock.vars()),
            Self::Apache(apache) => Ok(apache.vars_as("user-queue-manager")?),
        }
    }

    /// The settings of a client that may do everything.
    ///
    /// # Errors
    /// The broker's folder lacks something.
    pub fn config(&self) -> anyhow::Result<KafkaConfig> {
        match self {
            Self::Mock(mock) => Ok(mock.config()),
            Self::Apache(apache) => Ok(apache.config()?),
        }
    }

    /// Makes a workflow's data topic; on the mock its dead-letter topic too, which nobody could make there.
    ///
    /// # Errors
    /// The broker does not make it.
    pub async fn create_data_topic(&self, name: &str, partitions: i32) -> anyhow::Result<()> {
        match self {
            Self::Mock(mock) => Ok(mock.create_data_topics(name, partitions)?),
            Self::Apache(_) => self.create_topic(name, partitions).await,
        }
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// The broker does not make it.
    pub async fn create_topic(&self, name: &str, partitions: i32) -> anyhow::Result<()> {
        match self {
            Self::Mock(mock) => mock.create_topic(name, partitions)?,
            Self::Apache(apache) => {
                let spec = TopicSpec {
                    name: name.to_owned(),
                    partitions,
                    replication: None,
                    retention_hours: 1,
                };
                let config = apache.config()?;
                let topics = Topics::new(&config, "devstack")?;
                topics.ensure(&spec, LIMIT).await?;
                watch::wait_for_partitions(&config, name, partitions, LIMIT).await?;
            }
        }
        Ok(())
    }

    /// Sends a command on `queue-control`.
    ///
    /// # Errors
    /// The broker does not take it.
    pub async fn send_command(&self, command: &Command) -> anyhow::Result<()> {
        send::send_command(&self.config()?, command).await
    }

    /// Publishes one message, with the schema header and `headers`.
    ///
    /// # Errors
    /// The broker does not take it.
    pub async fn publish(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: &str,
        payload: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        send::publish(&self.config()?, topic, partition, key, payload, headers).await
    }

    /// Every message that a topic has now, partition by partition, in order. A topic that is not there has none.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn read_topic(&self, topic: &str) -> anyhow::Result<Vec<OwnedMessage>> {
        watch::read_topic(&self.config()?, topic).await
    }

    /// Reads `topic` until `enough` of all events so far of the workflow `queue_id`, and gives them. Whatever other
    /// workflows have there is passed over, also what is no event.
    ///
    /// # Errors
    /// The broker does not answer, a message of this workflow is no event, or `limit` is over.
    pub async fn events_of(
        &self,
        queue_id: &str,
        topic: &str,
        limit: Duration,
        enough: impl FnMut(&[Event]) -> bool,
    ) -> anyhow::Result<Vec<Event>> {
        watch::wait_for_events_of(&self.config()?, topic, Some(queue_id), limit, enough).await
    }
}
