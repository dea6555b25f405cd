//! The two topics: commands out, events in.
//!
//! Its promise: once it is open, every event that is published later is received, since the place in every partition is
//! fixed as a number. It joins no group, commits nothing and creates no topic.

mod hearing;
mod place;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    error::KafkaError,
    message::{BorrowedMessage, Message},
    types::RDKafkaErrorCode as Code,
};
use streamforge_utils::{
    control::{Commander, Delivery},
    kafka,
    protocol::{Command, Event},
};
use tokio::time::{sleep, timeout_at};

use crate::{config::Config, request::Address};
use hearing::Hearing;
use place::{NotFound, Place};

/// Between attempts while the brokers are away.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// How long the first fetch may take before it goes on without: it only makes the first round trip longer.
const WARM_UP: Duration = Duration::from_secs(1);
/// A broker may hold an empty fetch so long at most, whatever the environment says. It answers at once if there is an
/// event, so this only decides how soon it is known that there is none.
const FETCH_WAIT_MS: u32 = 100;

/// Why nothing can be sent or received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("no answer from the broker at {servers} within {timeout:?}{}", because(.reason.as_deref()))]
    NoAnswer {
        servers: String,
        timeout: Duration,
        reason: Option<String>,
    },
    #[error("refused, and trying again does not help: {0}")]
    Refused(String),
    #[error("the topic {topic:?} is not there; {variable} names it")]
    NoTopic {
        topic: String,
        variable: &'static str,
    },
    #[error("the topic {0:?} can't be read on: {1}")]
    LostPlace(String, KafkaError),
    #[error("the Kafka client does not take this configuration: {0}")]
    Client(KafkaError),
}

fn because(reason: Option<&str>) -> String {
    reason
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default()
}

/// Something from the events topic.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// An event, as text and understood.
    Event {
        at: Instant,
        raw: String,
        event: Box<Event>,
    },
    /// A message that is no event.
    Malformed {
        partition: i32,
        offset: i64,
        error: serde_json::Error,
    },
    /// The brokers are away; librdkafka goes on once they are back.
    Away(KafkaError),
}

/// A connection to both topics.
pub(crate) struct Wire {
    commander: Commander<Hearing>,
    consumer: Arc<StreamConsumer<Hearing>>,
    group_id: String,
    events_topic: String,
    /// What came while the first fetch was waited for.
    early: VecDeque<Arrival>,
}

impl Wire {
    /// Connects, and takes its place at the end of the events topic if it is to listen. The broker may take `timeout`.
    pub(crate) async fn open(
        config: &Config,
        to: &Address,
        listen: bool,
        timeout: Duration,
    ) -> Result<Self, WireError> {
        let (kafka, client_id) = (&config.kafka, crate::SERVICE);
        let context = Hearing::default();
        let fetch_wait = kafka.fetch_wait_max_ms.min(FETCH_WAIT_MS);
        let consumer =
            kafka::consumer_config(kafka, client_id, &to.group_id(), kafka::CONTROL_QUEUE_KIB)
                .set("fetch.wait.max.ms", fetch_wait.to_string())
                .create_with_context(context.clone())
                .map_err(WireError::Client)?;
        let control_topic = config.topics.queue_control_topic.as_str();
        let commander =
            Commander::with_context(kafka, client_id, control_topic, timeout, context.clone())
                .map_err(WireError::Client)?;
        let mut wire = Self {
            group_id: to.group_id(),
            commander,
            consumer: Arc::new(consumer),
            events_topic: config.topics.queue_events_topic.as_str().to_owned(),
            early: VecDeque::new(),
        };
        let deadline = Instant::now() + timeout;
        let mut reason = None;
        let places = {
            let looking = timeout_at(deadline.into(), wire.look_up(listen, &mut reason));
            tokio::select! {
                found = looking => found.ok(),
                refused = wire.refused() => Some(Err(wire.refusal(refused))),
            }
        };
        let no_answer = || WireError::NoAnswer {
            servers: kafka.bootstrap_servers.clone(),
            timeout,
            // That a request timed out is known; why there is no connection is not.
            reason: context.last_failure().or(reason),
        };
        let places = places.unwrap_or_else(|| Err(no_answer()))?;
        if listen {
            wire.take_place(&places).await?;
        }
        Ok(wire)
    }

    /// The partitions of the events topic with their end offsets, once the brokers tell.
    async fn look_up(
        &self,
        listen: bool,
        reason: &mut Option<String>,
    ) -> Result<Vec<Place>, WireError> {
        loop {
            let consumer = Arc::clone(&self.consumer);
            let producer = self.commander.producer().clone();
            let control = self.commander.topic().to_owned();
            let events = listen.then(|| self.events_topic.clone());
            let looked = tokio::task::spawn_blocking(move || {
                place::find(&consumer, &producer, &control, events.as_deref())
            });
            match looked
                .await
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
            {
                Ok(places) => return Ok(places),
                Err(NotFound::Topic { topic, variable }) => {
                    return Err(WireError::NoTopic { topic, variable });
                }
                Err(NotFound::Kafka { topic, error }) if kafka::is_permanent(&error) => {
                    return Err(WireError::Refused(format!("topic {topic:?}: {error}")));
                }
                Err(NotFound::Kafka { error, .. }) => {
                    tracing::debug!(%error, "The brokers did not answer, trying again");
                    *reason = Some(error.to_string());
                    sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    /// Waits until the brokers refuse this client for good, which librdkafka tells only to who polls.
    async fn refused(&self) -> String {
        loop {
            if let Some(reason) = self.consumer.client().context().permanent_error() {
                return reason;
            }
            tokio::select! {
                _ = self.consumer.recv() => {}
                () = sleep(RETRY_INTERVAL) => {}
            }
        }
    }

    /// The client says that its group was refused, not what it is called.
    fn refusal(&self, reason: String) -> WireError {
        if reason.contains("GroupAuthorizationFailed") {
            WireError::Refused(format!("group {:?}: {reason}", self.group_id))
        } else {
            WireError::Refused(reason)
        }
    }

    async fn take_place(&mut self, places: &[Place]) -> Result<(), WireError> {
        let mut list = TopicPartitionList::with_capacity(places.len());
        for (partition, end) in places {
            list.add_partition_offset(&self.events_topic, *partition, Offset::Offset(*end))
                .map_err(WireError::Client)?;
        }
        self.consumer.assign(&list).map_err(WireError::Client)?;
        let mut cold: BTreeSet<i32> = places.iter().map(|(partition, _)| *partition).collect();
        let until = Instant::now() + WARM_UP;
        while !cold.is_empty() {
            let Ok(received) = timeout_at(until.into(), self.consumer.recv()).await else {
                tracing::debug!("The first fetch takes long, going on without");
                break;
            };
            match received {
                Ok(message) => {
                    cold.remove(&message.partition());
                    let arrival = arrival(&message);
                    self.early.push_back(arrival);
                }
                Err(KafkaError::PartitionEOF(partition)) => _ = cold.remove(&partition),
                Err(error) => {
                    let arrival = self.trouble(error)?;
                    self.early.extend(arrival);
                }
            }
        }
        Ok(())
    }

    /// Where commands go.
    pub(crate) fn control_topic(&self) -> &str {
        self.commander.topic()
    }

    /// Sends a command at once. What comes of it is told later.
    pub(crate) fn send(&self, command: &Command) -> Delivery {
        self.commander.send(command)
    }

    /// The next arrival. May be dropped while it waits; nothing is lost by that.
    pub(crate) async fn next(&mut self) -> Result<Arrival, WireError> {
        if let Some(arrival) = self.early.pop_front() {
            return Ok(arrival);
        }
        loop {
            match self.consumer.recv().await {
                Ok(message) => {
                    self.consumer.client().context().accepted();
                    return Ok(arrival(&message));
                }
                Err(error) => {
                    if let Some(arrival) = self.trouble(error)? {
                        return Ok(arrival);
                    }
                }
            }
        }
    }

    fn trouble(&self, error: KafkaError) -> Result<Option<Arrival>, WireError> {
        if matches!(error, KafkaError::PartitionEOF(_)) {
            self.consumer.client().context().accepted();
            return Ok(None);
        }
        if let Some(reason) = self.consumer.client().context().permanent_error() {
            return Err(self.refusal(reason));
        }
        if kafka::is_permanent(&error) {
            return Err(WireError::Refused(format!(
                "topic {:?}: {error}",
                self.events_topic
            )));
        }
        if kafka::is_lost_position(&error) {
            return Err(WireError::LostPlace(self.events_topic.clone(), error));
        }
        match error.rdkafka_error_code() {
            Some(Code::AllBrokersDown) => Ok(Some(Arrival::Away(error))),
            _ => {
                tracing::debug!(%error, "Reading events failed, librdkafka tries again");
                Ok(None)
            }
        }
    }
}

fn arrival(message: &BorrowedMessage<'_>) -> Arrival {
    let at = Instant::now();
    let payload = message.payload().unwrap_or_default();
    match serde_json::from_slice::<Event>(payload) {
        Ok(event) => {
            let raw = String::from_utf8_lossy(payload).into_owned();
            Arrival::Event {
                at,
                raw,
                event: Box::new(event),
            }
        }
        Err(error) => Arrival::Malformed {
            partition: message.partition(),
            offset: message.offset(),
            error,
        },
    }
}
