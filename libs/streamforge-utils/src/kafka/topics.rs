//! Finding topics, waiting for them, making and deleting them.

mod settings;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use backon::{ExponentialBuilder, Retryable};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use super::{KafkaContext, client_config, context::hear_errors, is_permanent};
use crate::config::KafkaConfig;

pub use settings::TopicSettings;

/// How long one request to the broker may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a topic that is not there yet is looked for.
const WAIT_INTERVAL: Duration = Duration::from_millis(250);

/// How long brokers have to say that there are too few of them for a topic before it is believed. They also say so while
/// none counts as alive, as when the only one was frozen or has just started.
const TOO_FEW_BROKERS_FOR: Duration = Duration::from_secs(10);

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT))
}

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// How many replicas; `None` takes the broker's default.
    pub replication: Option<i32>,
    /// Hours until records are deleted by age; there is no limit by bytes.
    pub retention_hours: u64,
}

/// A topic could not be found, awaited or made.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// Can pass: no broker, a time-out.
    #[error("{doing} {topic:?} failed: {reason}")]
    Unavailable {
        /// What was being done.
        doing: &'static str,
        /// The topic.
        topic: String,
        /// What librdkafka said.
        error: KafkaError,
        /// The same in words, with the address that can't be reached, if there is one.
        reason: String,
    },
    /// No retry can mend it: no rights, a name or a setting that the broker refuses.
    #[error("{doing} {topic:?} was refused: {reason}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// The topic.
        topic: String,
        /// The broker's reason.
        reason: String,
    },
}

impl TopicError {
    /// Whether no retry can mend it.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// Finds, awaits and makes topics.
#[derive(Clone)]
pub struct Topics {
    // A consumer, since a producer that looks for a topic makes it where the broker allows that.
    finder: Arc<BaseConsumer<KafkaContext>>,
    kafka: KafkaConfig,
    client_id: String,
}

impl Topics {
    /// Connects when used.
    ///
    /// # Errors
    /// The configuration is refused by librdkafka.
    pub fn new(kafka: &KafkaConfig, client_id: &str) -> Result<Self, KafkaError> {
        // It belongs to no group, so it needs no right to one.
        let finder = client_config(kafka, client_id)
            .set("allow.auto.create.topics", "false")
            .create_with_context(KafkaContext::default())?;
        Ok(Self {
            finder: Arc::new(finder),
            kafka: kafka.clone(),
            client_id: client_id.to_owned(),
        })
    }

    /// How many partitions `topic` has; `None` if there is no such topic. Never makes it.
    ///
    /// # Errors
    /// No broker, or no right to look.
    pub async fn partitions(&self, topic: &str) -> Result<Option<i32>, TopicError> {
        let (finder, name) = (Arc::clone(&self.finder), topic.to_owned());
        let asked = Instant::now();
        let looked = tokio::task::spawn_blocking(move || {
            let metadata = finder
                .fetch_metadata(Some(&name), REQUEST_TIMEOUT)
                .inspect_err(|_| hear_errors(&finder))?;
            let Some(found) = metadata.topics().iter().find(|found| found.name() == name) else {
                return Ok(None);
            };
            match found.error().map(RDKafkaErrorCode::from) {
                None if found.partitions().is_empty() => Ok(None),
                None => Ok(Some(
                    i32::try_from(found.partitions().len()).unwrap_or(i32::MAX),
                )),
                Some(
                    RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic,
                ) => Ok(None),
                Some(code) => Err(KafkaError::MetadataFetch(code)),
            }
        });
        let looked = looked
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        if looked.is_ok() {
            self.finder.context().accepted();
        }
        looked.map_err(|error| self.classify("looking for topic", topic, asked, error))
    }

    /// Waits until `topic` is there, and says how many partitions it has. Waits for ever, so give it a token's
    /// company; brokers that are away are waited for as long as `deadline`.
    ///
    /// # Errors
    /// No right to look, or no broker for `deadline`.
    pub async fn wait_for(&self, topic: &str, deadline: Duration) -> Result<i32, TopicError> {
        let mut said = false;
        loop {
            if let Some(partitions) = self.patiently(deadline, || self.partitions(topic)).await? {
                return Ok(partitions);
            }
            if !said {
                tracing::info!(topic, "Waiting for the topic, which is not there yet");
                said = true;
            }
            tokio::time::sleep(WAIT_INTERVAL).await;
        }
    }

    /// Finds the topic or makes it, and says how many partitions it has. Tries as long as `deadline`; where the brokers
    /// can't make topics (`KAFKA_TOPIC_ADMIN`) it waits as long for somebody to.
    ///
    /// # Errors
    /// No right to make it, a setting that the broker refuses, or no broker for `deadline`.
    pub async fn ensure(&self, spec: &TopicSpec, deadline: Duration) -> Result<i32, TopicError> {
        let too_few = Mutex::new(None);
        self.patiently(deadline, || async {
            if let Some(partitions) = self.partitions(&spec.name).await? {
                return Ok(partitions);
            }
            if !self.kafka.topic_admin {
                return Err(self.unmade(&spec.name));
            }
            self.create(spec)
                .await
                .map_err(|error| believed(error, &too_few))?;
            tracing::info!(
                topic = spec.name,
                partitions = spec.partitions,
                "Created the topic"
            );
            // The broker that is asked next may not know it yet.
            self.partitions(&spec.name)
                .await
                .map(|found| found.unwrap_or(spec.partitions))
        })
        .await
    }

    /// Timestamps are the broker's, so that a wrong clock of a producer neither lets retention delete what was not read
    /// yet nor has the broker refuse a record.
    async fn create(&self, spec: &TopicSpec) -> Result<(), TopicError> {
        const DOING: &str = "creating topic";
        let asked = Instant::now();
        let classify = |error| self.classify(DOING, &spec.name, asked, error);
        let retention_ms = (spec.retention_hours * 3_600_000).to_string();
        let topic = NewTopic::new(
            &spec.name,
            spec.partitions,
            TopicReplication::Fixed(spec.replication.unwrap_or(-1)),
        )
        .set("cleanup.policy", "delete")
        .set("message.timestamp.type", "LogAppendTime")
        .set("retention.bytes", "-1")
        .set("retention.ms", &retention_ms);
        let admin = self.admin().map_err(classify)?;
        let answers = admin
            .create_topics([&topic], &options())
            .await
            .map_err(classify)?;
        for answer in answers {
            match answer {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(classify(KafkaError::AdminOp(code))),
            }
        }
        Ok(())
    }

    /// Deletes the topic, whatever is in it; whether it was there. Tries once.
    ///
    /// # Errors
    /// No broker, no right to delete it, or a broker that can't.
    pub async fn delete(&self, topic: &str) -> Result<bool, TopicError> {
        const DOING: &str = "deleting topic";
        if !self.kafka.topic_admin {
            return Err(TopicError::Refused {
                doing: DOING,
                topic: topic.to_owned(),
                reason: "the brokers can't delete topics (KAFKA_TOPIC_ADMIN is false)".to_owned(),
            });
        }
        let asked = Instant::now();
        let classify = |error| self.classify(DOING, topic, asked, error);
        let admin = self.admin().map_err(classify)?;
        let answers = admin.delete_topics(&[topic], &options()).await;
        match answers.map_err(classify)?.into_iter().next() {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))) => Ok(false),
            Some(Err((_, code))) => Err(classify(KafkaError::AdminOp(code))),
            None => Err(classify(KafkaError::AdminOp(RDKafkaErrorCode::BadMessage))),
        }
    }

    /// A topic that somebody else has to make is not there yet.
    fn unmade(&self, topic: &str) -> TopicError {
        let error = KafkaError::AdminOp(RDKafkaErrorCode::UnknownTopicOrPartition);
        TopicError::Unavailable {
            doing: "waiting for somebody to make topic",
            topic: topic.to_owned(),
            reason: error.to_string(),
            error,
        }
    }

    fn admin(&self) -> Result<AdminClient<KafkaContext>, KafkaError> {
        // With the context of the finder, so that what can't be reached is known to both.
        let context = self.finder.context().as_ref().clone();
        client_config(&self.kafka, &self.client_id).create_with_context(context)
    }

    async fn patiently<T, F: Future<Output = Result<T, TopicError>>>(
        &self,
        deadline: Duration,
        attempt: impl FnMut() -> F,
    ) -> Result<T, TopicError> {
        // By the clock: what the attempts themselves take counts too.
        let until = Instant::now() + deadline;
        attempt
            .retry(
                ExponentialBuilder::default()
                    .with_min_delay(Duration::from_millis(200))
                    .with_max_delay(Duration::from_secs(5))
                    .with_jitter()
                    .without_max_times(),
            )
            .when(|error: &TopicError| !error.is_permanent() && Instant::now() < until)
            .notify(
                |error, wait| tracing::warn!(%error, ?wait, "Kafka did not answer, trying again"),
            )
            .await
    }

    fn classify(
        &self,
        doing: &'static str,
        topic: &str,
        asked: Instant,
        error: KafkaError,
    ) -> TopicError {
        let topic = topic.to_owned();
        let refusal = self.finder.context().permanent_error_after(asked.elapsed());
        match refusal {
            Some(reason) => TopicError::Refused {
                doing,
                topic,
                reason,
            },
            None if is_permanent(&error) => TopicError::Refused {
                doing,
                topic,
                reason: error.to_string(),
            },
            None => TopicError::Unavailable {
                doing,
                topic,
                reason: self.finder.context().explained(&error),
                error,
            },
        }
    }
}

/// Too few brokers for the replicas that are asked for: no retry mends that once it has stood for a while.
fn believed(error: TopicError, since: &Mutex<Option<Instant>>) -> TopicError {
    let mut since = since.lock().unwrap_or_else(PoisonError::into_inner);
    match error {
        TopicError::Unavailable {
            doing,
            topic,
            error: error @ KafkaError::AdminOp(RDKafkaErrorCode::InvalidReplicationFactor),
            reason,
        } => {
            if since.get_or_insert_with(Instant::now).elapsed() < TOO_FEW_BROKERS_FOR {
                return TopicError::Unavailable {
                    doing,
                    topic,
                    error,
                    reason,
                };
            }
            TopicError::Refused {
                doing,
                topic,
                reason,
            }
        }
        other => {
            *since = None;
            other
        }
    }
}
