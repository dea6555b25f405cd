//! A Kafka broker inside this process: librdkafka's own mock cluster, on a free port of loopback.
//!
//! It speaks the real protocol to any client, consumer groups and commits included. Its limits, measured with
//! librdkafka 2.12.1, and what follows from them:
//!
//! | limit | what follows |
//! |---|---|
//! | a partition keeps 5,242,880 bytes or 100,000 batches and then drops the oldest: about 12,800 raw or 63,000 compressed candles | more than that goes over several partitions, or its readers must keep up; what a reader missed is an error of that reader |
//! | no CreateTopics, DeleteTopics, ListGroups; a topic comes to be when a producer asks for its metadata | [`MockKafka::create_topic`] makes those that a workflow needs, before it starts, and [`MockKafka::vars`] has `KAFKA_TOPIC_ADMIN=false` |
//! | no SASL, no TLS | it is for loopback only |
//! | offsets by time always answer "end" | [`MockKafka::vars`] has `KAFKA_OFFSETS_FOR_TIMES=false` |
//! | a fetch waits out `fetch.wait.max.ms`, also if there are messages | [`MockKafka::vars`] has a short one |
//! | commits are refused while a group rebalances, where Kafka takes them | a rebalance makes writers write more again |
//! | the first join of a group takes 3 s, as with Kafka's default `group.initial.rebalance.delay.ms` | a first writer starts 3 s late |
//!
//! Settings that only the mock needs come from [`MockKafka::vars`], never from a client's defaults.

use std::{net::SocketAddr, sync::mpsc, thread};

use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use socket2::{Domain, Socket, Type};
use streamforge_utils::{
    config::{KafkaConfig, Reader, Vars},
    protocol::{Command, dead_letter_topic},
};

use super::send;

/// Topics that every worker needs.
const QUEUE_TOPICS: [&str; 2] = ["queue-control", "queue-events"];

/// The broker could not be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum MockKafkaError {
    /// librdkafka said no.
    #[error("mock broker: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// Its thread is gone.
    #[error("mock broker: its thread has ended")]
    Gone,
    /// The thread could not be started.
    #[error("mock broker: {0}")]
    Thread(#[from] std::io::Error),
}

enum Request {
    CreateTopic { name: String, partitions: i32 },
    Refuse(RDKafkaApiKey, Vec<RDKafkaRespErr>),
    Down,
    Up,
}

type Answer = Result<(), MockKafkaError>;

/// A running broker. It and all its topics are gone when this is dropped.
#[derive(Debug)]
pub struct MockKafka {
    bootstrap_servers: String,
    requests: mpsc::Sender<(Request, mpsc::Sender<Answer>)>,
}

/// Keeps the port of a broker that is down: the kernel would give it to the next outgoing connection, and the mock aborts
/// the process if it can't have it back. Nobody listens on it, so clients are refused.
fn keep_port(address: &str) -> std::io::Result<Socket> {
    let address: SocketAddr = address.parse().map_err(std::io::Error::other)?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections of before are still going.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

impl MockKafka {
    /// Starts a broker with the topics `queue-control` and `queue-events`.
    ///
    /// # Errors
    /// librdkafka can't start it.
    pub fn start() -> Result<Self, MockKafkaError> {
        let (requests, received) = mpsc::channel::<(Request, mpsc::Sender<Answer>)>();
        let (started, starting) = mpsc::channel();
        // The cluster must stay on one thread, so it gets its own.
        thread::Builder::new()
            .name("mock-kafka".to_owned())
            .spawn(move || {
                let cluster = match MockCluster::new(1) {
                    Ok(cluster) => cluster,
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                let servers = cluster.bootstrap_servers();
                let _ = started.send(Ok(servers.clone()));
                let mut kept = None;
                for (request, answer) in received {
                    let done = match request {
                        Request::CreateTopic { name, partitions } => {
                            cluster.create_topic(&name, partitions, 1)
                        }
                        Request::Refuse(requests, errors) => {
                            cluster.request_errors(requests, &errors);
                            Ok(())
                        }
                        Request::Down => {
                            let done = cluster.broker_down(1);
                            kept = keep_port(&servers).ok();
                            done
                        }
                        Request::Up => {
                            kept.take();
                            cluster.broker_up(1)
                        }
                    };
                    let _ = answer.send(done.map_err(MockKafkaError::from));
                }
            })?;
        let bootstrap_servers = starting.recv().map_err(|_| MockKafkaError::Gone)??;
        let kafka = Self {
            bootstrap_servers,
            requests,
        };
        for topic in QUEUE_TOPICS {
            kafka.create_topic(topic, 1)?;
        }
        Ok(kafka)
    }

    /// Where clients connect.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// The variables that a worker needs to use this broker.
    pub fn vars(&self) -> Vars {
        [
            ("KAFKA_BOOTSTRAP_SERVERS", self.bootstrap_servers.as_str()),
            ("KAFKA_OFFSETS_FOR_TIMES", "false"),
            ("KAFKA_TOPIC_ADMIN", "false"),
            ("KAFKA_FETCH_WAIT_MAX_MS", "10"),
            // A killed member's partitions are free after this long; a real broker allows no less than 6 s.
            ("KAFKA_SESSION_TIMEOUT_MS", "3000"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// The settings of a client of this broker.
    pub fn config(&self) -> KafkaConfig {
        Reader::new(&self.vars())
            .section()
            .expect("our own variables are well-formed")
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// It is there already.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), MockKafkaError> {
        self.ask(Request::CreateTopic {
            name: name.to_owned(),
            partitions,
        })
    }

    /// Makes a workflow's data topic and its dead-letter topic.
    ///
    /// # Errors
    /// One of them is there already.
    pub fn create_data_topics(
        &self,
        data_topic: &str,
        partitions: i32,
    ) -> Result<(), MockKafkaError> {
        self.create_topic(data_topic, partitions)?;
        self.create_topic(&dead_letter_topic(data_topic), 1)
    }

    /// Answers the next requests of this kind with these errors.
    ///
    /// # Errors
    /// The broker is gone.
    pub fn refuse(
        &self,
        requests: RDKafkaApiKey,
        errors: Vec<RDKafkaRespErr>,
    ) -> Result<(), MockKafkaError> {
        self.ask(Request::Refuse(requests, errors))
    }

    /// Closes all connections and takes no new ones until [`MockKafka::up`].
    ///
    /// # Errors
    /// librdkafka says no.
    pub fn down(&self) -> Result<(), MockKafkaError> {
        self.ask(Request::Down)
    }

    /// Takes connections again; topics and offsets are as they were.
    ///
    /// # Errors
    /// librdkafka says no.
    pub fn up(&self) -> Result<(), MockKafkaError> {
        self.ask(Request::Up)
    }

    /// Sends a command on `queue-control`.
    ///
    /// # Errors
    /// The broker does not take it within 10 s.
    pub async fn send_command(&self, command: &Command) -> anyhow::Result<()> {
        send::send_command(&self.config(), command).await
    }

    /// Publishes one message, with the schema header and `headers`.
    ///
    /// # Errors
    /// The broker does not take it within 10 s.
    pub async fn publish(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: &str,
        payload: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        send::publish(&self.config(), topic, partition, key, payload, headers).await
    }

    fn ask(&self, request: Request) -> Answer {
        let (answer, answered) = mpsc::channel();
        self.requests
            .send((request, answer))
            .map_err(|_| MockKafkaError::Gone)?;
        answered.recv().map_err(|_| MockKafkaError::Gone)?
    }
}
