//! The topic to publish to: found or made, and where an earlier attempt has left off in it.
//!
//! What is not of this workflow's dummy service, or has ended for good, is refused by name rather than written over.

use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use streamforge_utils::{
    kafka::{TopicReader, TopicSpec, Topics, headers},
    protocol::{EOS, EOS_VALUE, Marker, MarkerOutcome, QueueId, SEQ, Symbol, partition_of},
    worker::Failure,
};

use crate::{
    SERVICE,
    config::{Config, Publish},
};

/// Finds or makes the topic, and gives the number of its last record; 0 if it has none.
///
/// # Errors
/// The brokers are away, the topic is refused, or it holds what is not ours to go on with.
pub async fn open(config: &Config, publish: &Publish) -> Result<u64, Failure> {
    let client_id = config.queue.producer_id(SERVICE);
    let topics = Topics::new(&config.kafka, &client_id).map_err(Failure::permanent)?;
    let spec = TopicSpec {
        name: publish.topic.clone(),
        partitions: publish.partitions,
        replication: publish.replication,
        retention_hours: publish.retention_hours,
    };
    let found = topics.ensure(&spec, config.ops.retry_deadline()).await;
    let found = found.map_err(|error| {
        let permanent = error.is_permanent();
        Failure::new(error, !permanent)
    })?;
    if found < publish.partitions {
        return Err(Failure::permanent(anyhow::anyhow!(
            "topic {:?} has {found} partitions, and TOPIC_PARTITIONS is {}; expected at most {found}",
            publish.topic,
            publish.partitions
        )));
    }
    let reader = TopicReader::new(&config.kafka, &client_id, &config.group_id())
        .map_err(Failure::permanent)?;
    let mut last = 0;
    let ours = partition_of(config.queue.symbol.as_str(), publish.partitions);
    for partition in 0..publish.partitions {
        let look = Look {
            topic: &publish.topic,
            partition,
        };
        match look.patiently(&reader, config.ops.retry_deadline()).await? {
            Found::Nothing => {}
            Found::Marker(marker) => {
                look.check(&marker, &config.queue.queue_id, &publish.partitions)?;
                last = last.max(marker.last_seq);
            }
            Found::Record(number, key) => {
                let symbol = &config.queue.symbol;
                look.check_record(&key, symbol, partition == ours)?;
                last = last.max(number);
            }
        }
    }
    Ok(last)
}

/// The last message of a partition.
enum Found {
    Nothing,
    Marker(Box<Marker>),
    /// Its number and its key.
    Record(u64, String),
}

/// One partition that is looked at.
struct Look<'a> {
    topic: &'a str,
    partition: i32,
}

impl Look<'_> {
    /// Tries as long as `deadline`: a topic that has just been made may not have a leader yet.
    async fn patiently(&self, reader: &TopicReader, deadline: Duration) -> Result<Found, Failure> {
        // By the clock: what the attempts themselves take counts too.
        let until = Instant::now() + deadline;
        (|| self.last(reader))
            .retry(
                ExponentialBuilder::default()
                    .with_min_delay(Duration::from_millis(100))
                    .with_max_delay(Duration::from_secs(5))
                    .with_jitter()
                    .without_max_times(),
            )
            .when(|failure: &Failure| failure.is_retryable() && Instant::now() < until)
            .notify(|failure, _| {
                tracing::warn!(
                    error = failure.message(),
                    "Could not read the topic, trying again"
                );
            })
            .await
    }

    async fn last(&self, reader: &TopicReader) -> Result<Found, Failure> {
        let failed = |error: streamforge_utils::kafka::ReadError| {
            let permanent = error.is_permanent();
            Failure::new(error, !permanent)
        };
        let ends = reader.watermarks(self.topic, self.partition).await;
        let ends = ends.map_err(failed)?;
        if ends.high == 0 {
            return Ok(Found::Nothing);
        }
        let deleted =
            || self.refuse("its last messages were deleted, so nobody knows their numbers");
        // To ask for what is deleted would be answered as a broker's trouble that may pass.
        if ends.low == ends.high {
            return Err(deleted());
        }
        let last = ends.high - 1;
        let message = reader.message_at(self.topic, self.partition, last).await;
        let message = message.map_err(failed)?.ok_or_else(deleted)?;
        if headers::get(&message, EOS) == Some(EOS_VALUE) {
            let payload = rdkafka::Message::payload(&message).unwrap_or_default();
            let marker = serde_json::from_slice(payload);
            return marker
                .map(Found::Marker)
                .map_err(|error| self.refuse(&format!("its last message is no marker: {error}")));
        }
        let number = headers::get(&message, SEQ).and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| {
            self.refuse(&format!(
                "its last message has no number in the header {SEQ}"
            ))
        })?;
        let key = rdkafka::Message::key(&message).unwrap_or_default();
        Ok(Found::Record(
            number,
            String::from_utf8_lossy(key).into_owned(),
        ))
    }

    fn check(&self, marker: &Marker, queue_id: &QueueId, partitions: &i32) -> Result<(), Failure> {
        if marker.outcome == MarkerOutcome::Finished {
            return Err(
                self.refuse("its stream has finished, and nothing that follows would be read")
            );
        }
        if marker.queue_id != *queue_id {
            return Err(self.refuse(&format!("its stream is of QUEUE_ID {}", marker.queue_id)));
        }
        if marker.partitions != *partitions {
            return Err(self.refuse(&format!(
                "its stream has {} partitions, and TOPIC_PARTITIONS is {partitions}",
                marker.partitions
            )));
        }
        Ok(())
    }

    fn check_record(&self, key: &str, symbol: &Symbol, is_ours: bool) -> Result<(), Failure> {
        if key == symbol.as_str() && is_ours {
            return Ok(());
        }
        Err(self.refuse(&format!(
            "it holds records with the key {key:?}, which are not of a load of {symbol} over so many partitions"
        )))
    }

    fn refuse(&self, problem: &str) -> Failure {
        Failure::permanent(anyhow::anyhow!(
            "topic {:?}, partition {}: {problem}; take another topic",
            self.topic,
            self.partition
        ))
    }
}
