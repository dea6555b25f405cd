//! `queue-events`, from where state was last stored.
//!
//! Read by assignment: one replica follows, and which one decides the lease, not a group's rebalance. Offsets are
//! committed under a group of their own once what was read is stored, so a restart reads again at most what was
//! not, and the documents know what they have seen. A topic that was made anew is read from its beginning.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer, StreamConsumer},
    error::KafkaError,
    message::{BorrowedMessage, Timestamp},
};
use streamforge_utils::{
    config::KafkaConfig,
    kafka::{self, FetchSizes, KafkaContext, TopicError, Topics},
    protocol::{Event, TimestampMs},
    text::cut_owned,
};
use tokio::task::spawn_blocking;

use crate::{SERVICE, state::Position};

/// How long one request to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// What is fetched ahead: some thousands of events. More at a time than a worker may: it has memory for it.
const FETCH: FetchSizes = FetchSizes {
    partition_bytes: 2 * 1_024 * 1_024,
    response_bytes: 4 * 1_024 * 1_024,
    queue_kib: 4 * 1_024,
};

/// Why the feed ended.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The topic can't be looked at.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The topic is not there; it comes with the broker, see k8s/kafka.
    #[error("the topic {0:?} is not there")]
    NoTopic(String),
    /// There are partitions that it does not read. Opened anew, it does.
    #[error("the topic {0:?} has got more partitions")]
    MorePartitions(String),
    /// Nothing came, and that there is no more is not known. Opened anew, it goes on where it was committed.
    #[error("nothing came of {topic:?} for {silent:?}, and there may be more")]
    StandsStill {
        /// The topic.
        topic: String,
        /// For how long.
        silent: Duration,
    },
    /// Reading failed. Opened anew, it goes on where it was committed.
    #[error("reading {topic:?} failed: {error}")]
    Kafka {
        /// The topic.
        topic: String,
        /// What librdkafka said.
        error: KafkaError,
    },
}

/// One message.
#[derive(Debug)]
pub struct Arrival {
    /// Where it stands.
    pub position: Position,
    /// As it came.
    pub text: String,
    /// What it says; None if it is no event, which was logged.
    pub event: Option<Event>,
}

/// A place in the topic.
pub struct Feed {
    consumer: Arc<StreamConsumer<KafkaContext>>,
    topic: String,
    /// Partition → the offset that comes next.
    next: BTreeMap<i32, i64>,
    /// Partition → the end when it was opened.
    ends: BTreeMap<i32, i64>,
}

impl Feed {
    /// Takes its place in every partition: where the group has committed, else at the beginning.
    ///
    /// # Errors
    /// The topic or the brokers are not there, or refuse.
    pub async fn open(kafka: &KafkaConfig, topic: &str, group: &str) -> Result<Self, FeedError> {
        let partitions = Topics::new(kafka, SERVICE)
            .map_err(|error| failed(topic, error))?
            .partitions(topic)
            .await?
            .ok_or_else(|| FeedError::NoTopic(topic.to_owned()))?;
        let mut config = kafka::consumer_config(kafka, SERVICE, group, FETCH.queue_kib);
        FETCH.apply(&mut config);
        let consumer: StreamConsumer<KafkaContext> = config
            .create_with_context(KafkaContext::default())
            .map_err(|error| failed(topic, error))?;
        let consumer = Arc::new(consumer);
        let (ours, name) = (Arc::clone(&consumer), topic.to_owned());
        let placed = spawn_blocking(move || take_place(&ours, &name, partitions));
        let (next, ends) = placed
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
            .map_err(|error| failed(topic, error))?;
        tracing::info!(topic, ?next, "Following events");
        Ok(Self {
            consumer,
            topic: topic.to_owned(),
            next,
            ends,
        })
    }

    /// Partition → the end that it had when this was opened.
    pub fn ends(&self) -> &BTreeMap<i32, i64> {
        &self.ends
    }

    /// Partition → the offset that comes next: what to commit once all before is stored.
    pub fn next_offsets(&self) -> &BTreeMap<i32, i64> {
        &self.next
    }

    /// The next message. May be dropped while it waits; nothing is lost by that.
    ///
    /// # Errors
    /// The place is lost, or the brokers refuse this client. Brokers that are away are waited for.
    pub async fn next(&mut self) -> Result<Arrival, FeedError> {
        loop {
            match self.consumer.recv().await {
                Ok(message) => {
                    self.consumer.context().accepted();
                    self.next.insert(message.partition(), message.offset() + 1);
                    return Ok(arrival(&message));
                }
                Err(KafkaError::PartitionEOF(_)) => self.consumer.context().accepted(),
                Err(error) if kafka::is_lost_position(&error) || kafka::is_permanent(&error) => {
                    return Err(failed(&self.topic, error));
                }
                Err(error) => {
                    tracing::debug!(%error, "Reading events failed, librdkafka tries again");
                }
            }
        }
    }

    /// The error that says that nothing came for so long, and that there may be more.
    pub fn stands_still(&self, silent: Duration) -> FeedError {
        FeedError::StandsStill {
            topic: self.topic.clone(),
            silent,
        }
    }

    /// The error that says that it does not read all partitions.
    pub fn has_more_partitions(&self) -> FeedError {
        FeedError::MorePartitions(self.topic.clone())
    }

    /// Asks for the ends of all partitions; the answer is to be compared with [`Feed::next_offsets`].
    pub fn look(&self) -> impl Future<Output = Result<Look, FeedError>> + Send + 'static {
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        let known: Vec<i32> = self.next.keys().copied().collect();
        async move {
            let at = TimestampMs::now();
            let name = topic.clone();
            let asked = spawn_blocking(move || ends(&consumer, &name, &known));
            let ends = asked
                .await
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
                .map_err(|error| failed(&topic, error))?;
            Ok(Look { at, ends })
        }
    }

    /// Commits: what is before these offsets is stored.
    ///
    /// # Errors
    /// The brokers do not take it; it is read again after a restart.
    pub fn commit(
        &self,
        next: BTreeMap<i32, i64>,
    ) -> impl Future<Output = Result<(), FeedError>> + Send + 'static {
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        async move {
            let name = topic.clone();
            let committed = spawn_blocking(move || {
                let mut list = TopicPartitionList::with_capacity(next.len());
                for (partition, offset) in next {
                    list.add_partition_offset(&name, partition, Offset::Offset(offset))?;
                }
                consumer.commit(&list, CommitMode::Sync)
            });
            committed
                .await
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
                .map_err(|error| failed(&topic, error))
        }
    }
}

/// The ends of the topic at one moment.
#[derive(Debug)]
pub struct Look {
    /// Before it was asked for.
    pub at: TimestampMs,
    ends: BTreeMap<i32, i64>,
}

impl Look {
    #[cfg(test)]
    pub(crate) fn of(ends: BTreeMap<i32, i64>) -> Self {
        Self {
            at: TimestampMs(0),
            ends,
        }
    }

    /// Whether all that was there had been read by `next`.
    pub fn is_reached(&self, next: &BTreeMap<i32, i64>) -> bool {
        self.behind(next).next().is_none()
    }

    /// The partitions of which more is there than had been read by `next`.
    pub fn behind(&self, next: &BTreeMap<i32, i64>) -> impl Iterator<Item = i32> {
        let is_behind = |(partition, end): &(&i32, &i64)| next.get(partition) < Some(end);
        self.ends
            .iter()
            .filter(is_behind)
            .map(|(partition, _)| *partition)
    }

    /// Whether there are partitions that nobody reads.
    pub fn has_more_than(&self, next: &BTreeMap<i32, i64>) -> bool {
        self.ends.len() > next.len()
    }
}

fn failed(topic: &str, error: KafkaError) -> FeedError {
    FeedError::Kafka {
        topic: topic.to_owned(),
        error,
    }
}

type Offsets = BTreeMap<i32, i64>;

fn take_place(
    consumer: &StreamConsumer<KafkaContext>,
    topic: &str,
    partitions: i32,
) -> Result<(Offsets, Offsets), KafkaError> {
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition(topic, partition);
    }
    let committed = consumer.committed_offsets(list, REQUEST_TIMEOUT)?;
    let (mut next, mut ends) = (Offsets::new(), Offsets::new());
    let mut places = TopicPartitionList::new();
    for partition in 0..partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT)?;
        let element = committed.find_partition(topic, partition);
        let from = match element.map(|element| element.offset()) {
            // What was deleted by age can't be read, and what is beyond the end was another topic's.
            Some(Offset::Offset(offset)) if offset <= high => offset.max(low),
            _ => low,
        };
        next.insert(partition, from);
        ends.insert(partition, high);
        places.add_partition_offset(topic, partition, Offset::Offset(from))?;
    }
    consumer.assign(&places)?;
    Ok((next, ends))
}

/// The ends of the partitions that are known, and whether there are more of them.
fn ends(
    consumer: &StreamConsumer<KafkaContext>,
    topic: &str,
    known: &[i32],
) -> Result<Offsets, KafkaError> {
    let until = Instant::now() + REQUEST_TIMEOUT;
    let left = || {
        until
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1))
    };
    let metadata = consumer.fetch_metadata(Some(topic), left())?;
    let there = metadata.topics().iter().find(|found| found.name() == topic);
    let mut ends: Offsets = there
        .into_iter()
        .flat_map(|topic| topic.partitions())
        .map(|partition| (partition.id(), 0))
        .collect();
    for partition in known {
        let (_, high) = consumer.fetch_watermarks(topic, *partition, left())?;
        ends.insert(*partition, high);
    }
    Ok(ends)
}

/// Whoever may write to the topic may say anything, and it goes into documents and answers.
fn bounded(event: Event) -> Event {
    Event {
        message: cut_owned(event.message),
        error_message: event.error_message.map(cut_owned),
        ..event
    }
}

fn arrival(message: &BorrowedMessage<'_>) -> Arrival {
    let position = Position {
        partition: message.partition(),
        offset: message.offset(),
        appended: match message.timestamp() {
            Timestamp::LogAppendTime(at) | Timestamp::CreateTime(at) => TimestampMs(at),
            Timestamp::NotAvailable => TimestampMs::now(),
        },
    };
    let text = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
    let event = serde_json::from_str(&text).map(bounded).inspect_err(|error| {
        tracing::warn!(
            topic = message.topic(), partition = position.partition, offset = position.offset, %error,
            "Skipped a message that is no event"
        );
    });
    Arrival {
        position,
        text,
        event: event.ok(),
    }
}
