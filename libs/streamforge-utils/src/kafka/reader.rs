//! Looking at a topic by offset, outside any group's assignment.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{Message, OwnedMessage},
    types::RDKafkaErrorCode,
};

use super::{KafkaContext, consumer_config, context::hear_errors, is_permanent};
use crate::config::KafkaConfig;

/// How long one request to the broker may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How much is kept of what comes before and after the message that was asked for, in KiB.
const PREFETCH_KIB: u32 = 1024;
/// How long a broker may hold a fetch that has nothing to give, in ms. A reader waits for nothing new; but librdkafka asks
/// for more once it has read to a partition's end, and while the broker holds that, no other partition is fetched.
const FETCH_WAIT_MAX_MS: &str = "10";

/// The lowest offset that a partition still has, and the offset that its next message will get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// First offset that is still there.
    pub low: i64,
    /// One past the last message.
    pub high: i64,
}

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The partition.
    pub partition: i32,
    /// The next offset to read; `None` if the group has committed nothing.
    pub offset: Option<i64>,
    /// What was committed along with it.
    pub metadata: String,
}

/// Reading failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The broker or the connection; see [`ReadError::is_permanent`].
    #[error("{doing} failed: {error}")]
    Kafka {
        /// What was being done.
        doing: String,
        /// What librdkafka said.
        error: KafkaError,
    },
    /// The broker refuses this client, whatever is asked.
    #[error("{doing} failed: {reason}")]
    Refused {
        /// What was being done.
        doing: String,
        /// The broker's reason.
        reason: String,
    },
    /// No answer in time.
    #[error("{0} took more than {1:?}")]
    Timeout(String, Duration),
}

impl ReadError {
    /// Whether no retry can mend it.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Kafka { error, .. } => is_permanent(error),
            Self::Refused { .. } => true,
            Self::Timeout(..) => false,
        }
    }
}

/// Reads single messages, stretches, watermarks and committed offsets. It joins no group and commits nothing.
#[derive(Clone)]
pub struct TopicReader {
    consumer: Arc<Mutex<BaseConsumer<KafkaContext>>>,
    context: KafkaContext,
}

impl TopicReader {
    /// A reader that looks at the offsets of `group_id` where it is asked for committed ones. Connects when used. The
    /// broker asks for the right to read that group in any case, so it has to be one of the workflow.
    ///
    /// # Errors
    /// The configuration is refused by librdkafka.
    pub fn new(kafka: &KafkaConfig, client_id: &str, group_id: &str) -> Result<Self, KafkaError> {
        let context = KafkaContext::default();
        let consumer = consumer_config(kafka, client_id, group_id, PREFETCH_KIB)
            .set("fetch.wait.max.ms", FETCH_WAIT_MAX_MS)
            .create_with_context(context.clone())?;
        Ok(Self {
            consumer: Arc::new(Mutex::new(consumer)),
            context,
        })
    }

    /// The watermarks of a partition.
    ///
    /// # Errors
    /// No broker, no rights, or no such partition.
    pub async fn watermarks(&self, topic: &str, partition: i32) -> Result<Watermarks, ReadError> {
        let name = topic.to_owned();
        self.blocking(
            format!("looking up the offsets of {topic} [{partition}]"),
            move |consumer| consumer.fetch_watermarks(&name, partition, REQUEST_TIMEOUT),
        )
        .await
        .map(|(low, high)| Watermarks { low, high })
    }

    /// What the group has committed for `partitions` of `topic`.
    ///
    /// # Errors
    /// No broker or no rights.
    pub async fn committed(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> Result<Vec<Committed>, ReadError> {
        let (name, partitions) = (topic.to_owned(), partitions.to_vec());
        self.blocking(
            format!("looking up the committed offsets of {topic}"),
            move |consumer| {
                let mut list = TopicPartitionList::with_capacity(partitions.len());
                for partition in partitions {
                    list.add_partition(&name, partition);
                }
                // The list must not outlive its consumer (it would deadlock on drop), so it is copied out here.
                let answer = consumer.committed_offsets(list, REQUEST_TIMEOUT)?;
                answer
                    .elements()
                    .iter()
                    .map(|element| {
                        element.error()?;
                        let offset = match element.offset() {
                            Offset::Offset(offset) => Some(offset),
                            _ => None,
                        };
                        Ok(Committed {
                            partition: element.partition(),
                            offset,
                            metadata: element.metadata().to_owned(),
                        })
                    })
                    .collect()
            },
        )
        .await
    }

    /// The message at `offset`; `None` if the partition has no message there or any more.
    ///
    /// # Errors
    /// No broker, no rights, or no such partition.
    pub async fn message_at(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<Option<OwnedMessage>, ReadError> {
        let mut found = None;
        self.scan(topic, partition, offset, offset + 1, |message| {
            found = Some(message)
        })
        .await?;
        Ok(found.filter(|message| message.offset() == offset))
    }

    /// Hands every message in `[from, to)` of a partition to `each`, in order. Ends early at the partition's end.
    ///
    /// # Errors
    /// No broker, no rights, no such partition, or `from` is no longer there.
    pub async fn scan(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        to: i64,
        mut each: impl FnMut(OwnedMessage),
    ) -> Result<(), ReadError> {
        /// Messages a hand-over, so that a long stretch is never held whole.
        const STRIDE: usize = 1_000;
        let mut next = from;
        while next < to {
            let name = topic.to_owned();
            let (messages, ended) = self
                .blocking(
                    format!("reading {topic} [{partition}] from offset {next}"),
                    move |consumer| read_stride(consumer, &name, partition, next, to, STRIDE),
                )
                .await?;
            if let Some(last) = messages.last() {
                next = last.offset() + 1;
            }
            let count = messages.len();
            messages.into_iter().for_each(&mut each);
            if ended || count == 0 {
                break;
            }
        }
        Ok(())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        doing: String,
        work: impl FnOnce(&BaseConsumer<KafkaContext>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let consumer = Arc::clone(&self.consumer);
        let asked = Instant::now();
        let answer = tokio::task::spawn_blocking(move || {
            let consumer = consumer.lock().unwrap_or_else(PoisonError::into_inner);
            // What reads does not stay assigned.
            work(&consumer).inspect_err(|_| hear_errors(&consumer))
        });
        let answer = answer
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        if answer.is_ok() {
            self.context.accepted();
        }
        answer.map_err(|error| {
            let refusal = self.context.permanent_error_after(asked.elapsed());
            match (refusal, error.rdkafka_error_code()) {
                (Some(reason), _) => ReadError::Refused { doing, reason },
                (None, Some(RDKafkaErrorCode::OperationTimedOut)) => {
                    ReadError::Timeout(doing, REQUEST_TIMEOUT)
                }
                (None, _) => ReadError::Kafka { doing, error },
            }
        })
    }
}

/// Reads up to `stride` messages of `[from, to)`, and whether the partition ended there.
fn read_stride(
    consumer: &BaseConsumer<KafkaContext>,
    topic: &str,
    partition: i32,
    from: i64,
    to: i64,
    stride: usize,
) -> Result<(Vec<OwnedMessage>, bool), KafkaError> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(topic, partition, Offset::Offset(from))?;
    consumer.assign(&list)?;
    let mut messages = Vec::new();
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    let ended = loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) if message.partition() == partition && message.topic() == topic => {
                if message.offset() < to {
                    messages.push(message.detach());
                }
                if message.offset() + 1 >= to {
                    break true;
                }
                if messages.len() == stride {
                    break false;
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => break true,
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve,
            )))
            | Some(Ok(_))
            | None => {}
            Some(Err(error)) => {
                consumer.unassign()?;
                return Err(error);
            }
        }
        if Instant::now() >= deadline {
            consumer.unassign()?;
            return Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::OperationTimedOut,
            ));
        }
    };
    consumer.unassign()?;
    Ok((messages, ended))
}
