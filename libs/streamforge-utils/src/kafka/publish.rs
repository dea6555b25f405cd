//! Why records of a data topic were not taken, in the same words for every producer of them.

use std::{sync::Arc, time::Duration};

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

use super::{KafkaContext, PERMANENT, TopicSettings, Topics, is_permanent};

/// A record did not reach the broker; none after it will.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No retry can mend it: no rights, a record that the broker refuses.
    #[error("Kafka refuses to take records for {topic:?}: {reason}")]
    Refused {
        /// The data topic.
        topic: String,
        /// The broker's reason.
        reason: String,
    },
    /// May pass: a restart resumes after the last record that was acknowledged.
    #[error("Kafka did not take a record for {topic:?}: {reason}")]
    Unavailable {
        /// The data topic.
        topic: String,
        /// What happened.
        reason: String,
    },
}

impl PublishError {
    /// Whether no retry can mend it.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// The topic that a producer publishes to, and how long it waits for an acknowledgement.
#[derive(Clone)]
pub struct Target {
    name: Arc<str>,
    settings: TopicSettings,
    deadline: Duration,
    topics: Topics,
}

impl Target {
    /// The topic `name` with `settings`, which is given up after `deadline` without an acknowledgement. `topics` finds out
    /// then whether it is still there.
    pub fn new(name: &str, settings: TopicSettings, deadline: Duration, topics: Topics) -> Self {
        Self {
            name: name.into(),
            settings,
            deadline,
            topics,
        }
    }

    /// The topic's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The longest time without an acknowledgement.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The largest batch to make for it, before compression, in bytes.
    pub fn batch_bytes(&self) -> u32 {
        self.settings.batch_bytes()
    }

    /// A message failed with `error`. `fatal` is what has stopped the whole producer, if anything: an idempotent one says
    /// by its code only that a message is missing, and why in words.
    pub fn failed(
        &self,
        error: &KafkaError,
        fatal: Option<(RDKafkaErrorCode, String)>,
    ) -> PublishError {
        let (code, mut reason) = match fatal {
            Some((code, reason)) => (Some(code), reason),
            None => (None, error.to_string()),
        };
        let is_named = |code: &RDKafkaErrorCode| {
            let name = code.to_string();
            let words = name.split_once('(').map(|(_, words)| words);
            words.is_some_and(|words| reason.contains(words.trim_end_matches(')')))
        };
        let is_permanent = is_permanent(error)
            || code.is_some_and(|code| PERMANENT.contains(&code) || PERMANENT.iter().any(is_named));
        let is_too_large = error.rdkafka_error_code()
            == Some(RDKafkaErrorCode::MessageSizeTooLarge)
            || is_named(&RDKafkaErrorCode::MessageSizeTooLarge);
        if is_too_large {
            reason = match self.settings.max_message_bytes {
                Some(limit) => format!(
                    "{reason}; the topic's max.message.bytes is {limit}, which is too small for one record: raise it"
                ),
                None => format!(
                    "{reason}; the topic's max.message.bytes is too small for a batch of {} bytes: raise it, or give the \
                     right to DescribeConfigs so that batches are made to fit",
                    self.batch_bytes()
                ),
            };
        }
        if is_permanent {
            self.refused(reason)
        } else {
            self.unavailable(reason)
        }
    }

    /// The broker refuses this client for `reason`, whatever is sent.
    pub fn refused(&self, reason: String) -> PublishError {
        PublishError::Refused {
            topic: self.name.to_string(),
            reason,
        }
    }

    /// The deadline is over. Asks whether the topic is still there, and says what is known of the cause: a client is told
    /// of a topic that was deleted only after half a minute.
    pub async fn unacknowledged(&self, context: &KafkaContext) -> PublishError {
        let cause = match (
            self.topics.partitions(&self.name).await,
            context.last_error(),
        ) {
            (Ok(None), _) => "the topic does not exist any more".to_owned(),
            (_, Some(error)) => format!("the client's last error: {error}"),
            (Err(error), None) => error.to_string(),
            (Ok(Some(_)), None) => {
                "the topic is there, and the client reported no error".to_owned()
            }
        };
        self.unavailable(format!(
            "nothing was acknowledged for {:?}: {cause}",
            self.deadline
        ))
    }

    fn unavailable(&self, reason: String) -> PublishError {
        PublishError::Unavailable {
            topic: self.name.to_string(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Reader, Vars};

    fn target(limit: Option<u32>) -> Target {
        let nobody = ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1");
        let vars = Vars::from([(nobody.0.to_owned(), nobody.1.to_owned())]);
        let topics = Topics::new(&Reader::new(&vars).section().unwrap(), "test").unwrap();
        let settings = TopicSettings {
            max_message_bytes: limit,
            ..TopicSettings::default()
        };
        Target::new("wf-x-data", settings, Duration::from_secs(20), topics)
    }

    fn fatal(target: &Target, words: &str) -> PublishError {
        let reason = format!("ProduceRequest for x [0] failed: {words} (broker 1): unable");
        let error = KafkaError::MessageProduction(RDKafkaErrorCode::Fatal);
        target.failed(&error, Some((RDKafkaErrorCode::GaplessGuarantee, reason)))
    }

    #[test]
    fn a_fatal_error_is_as_permanent_as_what_it_comes_from() {
        let target = target(None);
        assert!(fatal(&target, "Broker: Message size too large").is_permanent());
        assert!(!fatal(&target, "Broker: Not enough in-sync replicas").is_permanent());
        let alone = KafkaError::MessageProduction(RDKafkaErrorCode::TopicAuthorizationFailed);
        assert!(target.failed(&alone, None).is_permanent());
    }

    #[test]
    fn a_record_that_does_not_fit_names_the_setting() {
        let text = fatal(&target(Some(200)), "Broker: Message size too large").to_string();
        assert!(text.contains("max.message.bytes is 200"), "{text}");
        let alone = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
        let text = target(None).failed(&alone, None).to_string();
        assert!(text.contains("max.message.bytes"), "{text}");
        let text = fatal(&target(Some(200)), "Broker: Not enough in-sync replicas").to_string();
        assert!(!text.contains("max.message.bytes"), "{text}");
    }
}
