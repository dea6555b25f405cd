//! What a topic's own settings mean for who writes to it: whether it keeps every record, how large a batch may be, whose
//! clock its timestamps are by.

use std::time::{Duration, Instant};

use rdkafka::{
    admin::{AdminOptions, ResourceSpecifier},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use super::{TopicError, Topics};
use crate::kafka::DATA_BATCH_BYTES;

/// How long the whole look-up may take.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(10);
/// What a batch may have besides its records, in bytes. Brokers count it, librdkafka counts most of it.
const BATCH_OVERHEAD: u32 = 128;
const LOOKING_UP: &str = "looking up the settings of topic";
const CLEANUP_POLICY: &str = "cleanup.policy";
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
const TIMESTAMP_TYPE: &str = "message.timestamp.type";

/// The settings of a topic that matter to who writes to it. One that the broker does not tell is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicSettings {
    /// `cleanup.policy`: `delete`, `compact`, or both with a comma.
    pub cleanup_policy: String,
    /// `max.message.bytes`: the largest batch that it takes, compressed.
    pub max_message_bytes: Option<u32>,
    /// `message.timestamp.type`: `CreateTime` or `LogAppendTime`.
    pub timestamp_type: String,
}

impl TopicSettings {
    /// The largest batch that a producer should make for it, before compression, in bytes: that of
    /// [`data_producer_config`](crate::kafka::data_producer_config), or a smaller one that fits in any case.
    pub fn batch_bytes(&self) -> u32 {
        let fits = |limit: u32| limit.saturating_sub(BATCH_OVERHEAD).max(1);
        self.max_message_bytes
            .map_or(DATA_BATCH_BYTES, fits)
            .min(DATA_BATCH_BYTES)
    }

    fn is_compacted(&self) -> bool {
        let mut policies = self.cleanup_policy.split(',');
        policies.any(|policy| policy.trim() == "compact")
    }
}

impl Topics {
    /// Looks at the settings of a topic of data or dead letters before anything is written to it. Where they can't be
    /// looked up (no right to `DescribeConfigs`, a broker that does not know the request or does not answer within 10 s)
    /// that is warned about, and the defaults are given. A topic whose timestamps are by the producers' clocks is warned
    /// about too.
    ///
    /// # Errors
    /// It is compacted: Kafka would delete records that were not read yet.
    pub async fn check_settings(&self, topic: &str) -> Result<TopicSettings, TopicError> {
        let settings = match self.settings(topic, LOOK_UP_LIMIT).await {
            Ok(settings) => settings,
            Err(error) => {
                tracing::warn!(
                    topic,
                    %error,
                    "Failed to look up the topic's settings (needs DescribeConfigs); continuing without a check of \
                     {CLEANUP_POLICY}, {MAX_MESSAGE_BYTES} and {TIMESTAMP_TYPE}"
                );
                return Ok(TopicSettings::default());
            }
        };
        if settings.is_compacted() {
            return Err(TopicError::Refused {
                doing: "checking the settings of topic",
                topic: topic.to_owned(),
                reason: format!(
                    "{CLEANUP_POLICY} is {:?}, expected \"delete\": compaction would delete records of the stream",
                    settings.cleanup_policy
                ),
            });
        }
        if settings.timestamp_type == "CreateTime" {
            tracing::warn!(
                topic,
                "{TIMESTAMP_TYPE} of the topic is CreateTime, expected LogAppendTime: with a wrong clock here, records are \
                 refused, or deleted by retention before they are read"
            );
        }
        Ok(settings)
    }

    /// The settings of a topic. Tries as long as `deadline`.
    ///
    /// # Errors
    /// No right to see them, brokers that can't tell (`KAFKA_TOPIC_ADMIN`), no such topic, or no broker for `deadline`.
    pub async fn settings(
        &self,
        topic: &str,
        deadline: Duration,
    ) -> Result<TopicSettings, TopicError> {
        if !self.kafka.topic_admin {
            return Err(TopicError::Refused {
                doing: LOOKING_UP,
                topic: topic.to_owned(),
                reason: "the brokers can't tell (KAFKA_TOPIC_ADMIN is false)".to_owned(),
            });
        }
        self.patiently(deadline, || self.describe(topic)).await
    }

    async fn describe(&self, topic: &str) -> Result<TopicSettings, TopicError> {
        let asked = Instant::now();
        let classify = |error| self.classify(LOOKING_UP, topic, asked, error);
        let admin = self.admin().map_err(classify)?;
        let options = AdminOptions::new().request_timeout(Some(super::REQUEST_TIMEOUT));
        let resource = [ResourceSpecifier::Topic(topic)];
        let answers = admin.describe_configs(&resource, &options).await;
        let answer = match answers.map_err(classify)?.into_iter().next() {
            Some(Ok(resource)) => resource,
            Some(Err(code)) => return Err(classify(KafkaError::AdminOp(code))),
            None => return Err(classify(KafkaError::AdminOp(RDKafkaErrorCode::BadMessage))),
        };
        let value = |name: &str| {
            let found = answer.entries.iter().find(|entry| entry.name == name);
            found.and_then(|entry| entry.value.clone())
        };
        Ok(TopicSettings {
            cleanup_policy: value(CLEANUP_POLICY).unwrap_or_default(),
            max_message_bytes: value(MAX_MESSAGE_BYTES).and_then(|bytes| bytes.parse().ok()),
            timestamp_type: value(TIMESTAMP_TYPE).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_fits_the_topic_and_is_never_larger_than_ours() {
        let batch = |limit| {
            let settings = TopicSettings {
                max_message_bytes: limit,
                ..TopicSettings::default()
            };
            settings.batch_bytes()
        };
        assert_eq!(batch(None), DATA_BATCH_BYTES);
        assert_eq!(batch(Some(1_048_588)), DATA_BATCH_BYTES);
        assert_eq!(batch(Some(10_000)), 9_872);
        assert_eq!(batch(Some(7)), 1);
    }

    #[test]
    fn compaction_is_recognized_beside_other_policies() {
        for (policy, is_compacted) in [
            ("delete", false),
            ("", false),
            ("compact", true),
            ("delete,compact", true),
            ("compact, delete", true),
        ] {
            let settings = TopicSettings {
                cleanup_policy: policy.to_owned(),
                ..TopicSettings::default()
            };
            assert_eq!(settings.is_compacted(), is_compacted, "{policy:?}");
        }
    }
}
