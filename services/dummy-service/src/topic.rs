//! The topic to publish to: found or made, and where an earlier attempt has left off in it.
//!
//! What is not of this workflow's dummy service, or has ended for good, is refused by name rather than written over.

use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use rdkafka::message::{BorrowedMessage, Message};
use streamforge_utils::{
    kafka::{ReadError, Target, TopicError, TopicReader, TopicSpec, Topics, Watermarks, headers},
    protocol::{EOS, EOS_VALUE, Marker, MarkerOutcome, QueueId, SEQ, Symbol, partition_of},
    worker::Failure,
};

use crate::{
    SERVICE,
    config::{Config, Publish},
};

/// The topic, open for writing.
pub struct Opened {
    /// The number of its last record; 0 if it has none.
    pub last: u64,
    /// What the producer has to know of it.
    pub target: Target,
}

/// Finds or makes the topic, and looks at what it holds.
///
/// # Errors
/// The brokers are away, the topic is refused, or it holds what is not ours to go on with.
pub async fn open(config: &Config, publish: &Publish) -> Result<Opened, Failure> {
    let client_id = config.queue.producer_id(SERVICE);
    let topics = Topics::new(&config.kafka, &client_id).map_err(Failure::permanent)?;
    let spec = TopicSpec {
        name: publish.topic.clone(),
        partitions: publish.partitions,
        replication: publish.replication,
        retention_hours: publish.retention_hours,
    };
    let deadline = config.ops.retry_deadline();
    let failed = |error: TopicError| {
        let permanent = error.is_permanent();
        Failure::new(error, !permanent)
    };
    let found = topics.ensure(&spec, deadline).await.map_err(failed)?;
    if found < publish.partitions {
        return Err(Failure::permanent(anyhow::anyhow!(
            "topic {:?} has {found} partitions, and TOPIC_PARTITIONS is {}; expected at most {found}",
            publish.topic,
            publish.partitions
        )));
    }
    let settings = topics.check_settings(&publish.topic);
    let settings = settings.await.map_err(failed)?;
    let reader = TopicReader::new(&config.kafka, &client_id, &config.group_id())
        .map_err(Failure::permanent)?;
    let mut last = 0;
    let ours = partition_of(config.queue.symbol.as_str(), publish.partitions);
    for partition in 0..publish.partitions {
        let look = Look {
            topic: &publish.topic,
            partition,
        };
        match look.patiently(&reader, deadline).await? {
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
    Ok(Opened {
        last,
        target: Target::new(&publish.topic, settings, deadline, topics),
    })
}

/// The last message of a partition that counts: neither a dead letter that was put back, nor anything else without a
/// number that is no marker.
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
        let ends = reader.watermarks(self.topic, self.partition).await;
        let ends = ends.map_err(read_failure)?;
        // To ask for what is deleted would be answered as a broker's trouble that may pass.
        let found = if ends.low < ends.high {
            let (topic, offsets) = (self.topic, (ends.low, ends.high));
            let found = reader.find_last(topic, self.partition, offsets, found);
            found.await.map_err(read_failure)?
        } else {
            None
        };
        match found {
            Some(found) => found.map_err(|problem| self.refuse(&problem)),
            None if ends.low > 0 => Err(self.refuse(&format!(
                "its first {} messages were deleted, so nobody knows their numbers",
                ends.low
            ))),
            None => self.only_empty(reader, ends).await,
        }
    }

    /// Nothing in the partition counts, so it must not have anything that is not ours either.
    async fn only_empty(&self, reader: &TopicReader, ends: Watermarks) -> Result<Found, Failure> {
        let offsets = (ends.low, ends.high);
        let any = |message: &BorrowedMessage<'_>| Some(message.offset());
        let found = reader.find_first(self.topic, self.partition, offsets, any);
        match found.await.map_err(read_failure)? {
            Some(offset) => Err(self.refuse(&format!(
                "the message at offset {offset} has no number in the header {SEQ}, nor has any other one"
            ))),
            None => Ok(Found::Nothing),
        }
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

fn read_failure(error: ReadError) -> Failure {
    let permanent = error.is_permanent();
    Failure::new(error, !permanent)
}

/// What a message is, if it counts; what is wrong with it, if it is a marker that can't be read.
fn found(message: &BorrowedMessage<'_>) -> Option<Result<Found, String>> {
    if headers::is_replayed(message) {
        return None;
    }
    if headers::get(message, EOS) == Some(EOS_VALUE) {
        let marker = serde_json::from_slice(message.payload().unwrap_or_default());
        return Some(marker.map(Found::Marker).map_err(|error| {
            format!(
                "the message at offset {} is no marker: {error}",
                message.offset()
            )
        }));
    }
    let number = headers::get(message, SEQ)?;
    let Ok(number) = number.parse() else {
        return Some(Err(format!(
            "the message at offset {} has {number:?} in the header {SEQ}, which is no number",
            message.offset()
        )));
    };
    let key = String::from_utf8_lossy(message.key().unwrap_or_default());
    Some(Ok(Found::Record(number, key.into_owned())))
}
