//! Looking at a topic by offset, outside any group's assignment.

mod visit;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{BorrowedMessage, OwnedMessage},
    types::RDKafkaErrorCode,
};

use visit::{First, Last, Session};
pub use visit::{Stretch, Visit};

use super::{KafkaContext, consumer_config, context::hear_errors, is_permanent};
use crate::config::KafkaConfig;

/// How long one request to the broker may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How much is kept of what comes before and after the message that was asked for, in KiB.
const PREFETCH_KIB: u32 = 1024;
/// How long a broker may hold a fetch that has nothing to give, in ms. A reader waits for nothing new; but librdkafka asks
/// for more once it has read to a partition's end, and while the broker holds that, no other partition is fetched.
const FETCH_WAIT_MAX_MS: &str = "10";
/// How long a partition is left alone once enough of it is kept, in ms. The default of a second makes a long read wait
/// most of its time.
const FULL_BACKOFF_MS: &str = "5";
/// An assignment that gives no message for this long is replaced.
const ASSIGNMENT_PATIENCE: Duration = Duration::from_secs(30);
/// How long after a failure a visit waits until it reads on.
const VISIT_PAUSE: Duration = Duration::from_millis(500);
/// Offsets that the search for the last message looks at: first, and at most at a time.
const SEARCH_SPAN: (i64, i64) = (1, 4_096);

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
    #[error("{doing} got no answer for {waited:?}{}", last_error(.last))]
    Timeout {
        /// What was being done.
        doing: String,
        /// For how long.
        waited: Duration,
        /// What the client last had trouble with.
        last: Option<String>,
    },
}

impl ReadError {
    /// Whether no retry can mend it.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Kafka { error, .. } => is_permanent(error),
            Self::Refused { .. } => true,
            Self::Timeout { .. } => false,
        }
    }
}

fn last_error(last: &Option<String>) -> String {
    last.as_ref()
        .map(|last| format!("; the client's last error: {last}"))
        .unwrap_or_default()
}

/// Reads single messages, stretches, watermarks and committed offsets. It joins no group and commits nothing.
#[derive(Clone)]
pub struct TopicReader {
    consumer: Arc<BaseConsumer<KafkaContext>>,
    /// Held by who reads: there is one assignment.
    turn: Arc<Mutex<()>>,
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
        let consumer: BaseConsumer<_> = consumer_config(kafka, client_id, group_id, PREFETCH_KIB)
            .set("fetch.wait.max.ms", FETCH_WAIT_MAX_MS)
            .set("fetch.queue.backoff.ms", FULL_BACKOFF_MS)
            .create_with_context(context.clone())?;
        Ok(Self {
            consumer: Arc::new(consumer),
            turn: Arc::default(),
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

    /// The message at `offset`; `None` if the partition has no message there: it never had one, it was deleted or
    /// compacted, or the offset is that of a transaction's control record.
    ///
    /// # Errors
    /// No broker, no rights, or no such partition.
    pub async fn message_at(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<Option<OwnedMessage>, ReadError> {
        let detach = |message: &BorrowedMessage<'_>| Some(message.detach());
        self.find_first(topic, partition, (offset, offset + 1), detach)
            .await
    }

    /// Whether a partition has a message in `[from, to)`. An offset may have none: control records of transactions take one,
    /// and compaction removes messages.
    ///
    /// # Errors
    /// No broker, no rights, no such partition, or `from` is no longer there.
    pub async fn has_message(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        to: i64,
    ) -> Result<bool, ReadError> {
        let any = |_: &BorrowedMessage<'_>| Some(());
        let found = self.find_first(topic, partition, (from, to), any).await?;
        Ok(found.is_some())
    }

    /// How many partitions the topic has now; 0 if there is no such topic.
    ///
    /// # Errors
    /// No broker or no rights.
    pub async fn partitions(&self, topic: &str) -> Result<i32, ReadError> {
        let name = topic.to_owned();
        self.blocking(
            format!("looking up the partitions of {topic}"),
            move |consumer| {
                let metadata = consumer.fetch_metadata(Some(&name), REQUEST_TIMEOUT)?;
                let found = metadata.topics().iter().find(|topic| topic.name() == name);
                let count = found.map_or(0, |topic| topic.partitions().len());
                Ok(i32::try_from(count).unwrap_or(i32::MAX))
            },
        )
        .await
    }

    /// What `pick` makes of the first message of the offsets `[from, to)` that it makes something of.
    ///
    /// # Errors
    /// No broker, no rights, no such partition, or `from` is no longer there.
    pub async fn find_first<T: Send + 'static>(
        &self,
        topic: &str,
        partition: i32,
        (from, to): (i64, i64),
        pick: impl FnMut(&BorrowedMessage<'_>) -> Option<T> + Send + 'static,
    ) -> Result<Option<T>, ReadError> {
        let stretch = Stretch {
            partition,
            from,
            to,
        };
        let visitor = First::new(pick);
        let visited = self.visit(topic, vec![stretch], REQUEST_TIMEOUT, visitor);
        Ok(visited.await?.found)
    }

    /// What `pick` makes of the last message of the offsets `[low, high)` that it makes something of. Searches backwards,
    /// so offsets without a message, and messages of others, may be any number.
    ///
    /// # Errors
    /// No broker, no rights, no such partition, or what is looked at was deleted meanwhile.
    pub async fn find_last<T: Send + 'static>(
        &self,
        topic: &str,
        partition: i32,
        (low, high): (i64, i64),
        pick: impl FnMut(&BorrowedMessage<'_>) -> Option<T> + Send + 'static,
    ) -> Result<Option<T>, ReadError> {
        let (mut to, mut span) = (high, SEARCH_SPAN.0);
        let mut visitor = Last::new(pick);
        while to > low {
            let from = low.max(to - span);
            let stretch = Stretch {
                partition,
                from,
                to,
            };
            visitor = Last::new(visitor.pick);
            visitor = self
                .visit(topic, vec![stretch], REQUEST_TIMEOUT, visitor)
                .await?;
            if visitor.found.is_some() {
                break;
            }
            (to, span) = (from, (span * 8).min(SEARCH_SPAN.1));
        }
        Ok(visitor.found)
    }

    /// Every message of the offsets `[from, to)`, in order. For few of them: all are held.
    ///
    /// # Errors
    /// No broker, no rights, no such partition, or `from` is no longer there.
    pub async fn messages(
        &self,
        topic: &str,
        partition: i32,
        offsets: (i64, i64),
    ) -> Result<Vec<OwnedMessage>, ReadError> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let keep = move |message: &BorrowedMessage<'_>| -> Option<()> {
            // Nobody listens if the read was given up.
            let _ = sender.send(message.detach());
            None
        };
        self.find_first(topic, partition, offsets, keep).await?;
        Ok(receiver.iter().collect())
    }

    /// Lets `visitor` take the messages of `stretches`, and gives it back once it has seen enough. There is one assignment,
    /// unless reading fails: then it is assigned again at its position, until `deadline` has passed without a message.
    ///
    /// # Errors
    /// No message for `deadline`, no rights, no such partition, or an offset that is no longer there.
    pub async fn visit<V: Visit>(
        &self,
        topic: &str,
        stretches: Vec<Stretch>,
        deadline: Duration,
        visitor: V,
    ) -> Result<V, ReadError> {
        let mut session = Session::new(topic, stretches, visitor);
        if session.visitor.wants().is_none() {
            return Ok(session.visitor);
        }
        let _cancel = CancelOnDrop(Arc::clone(&session.is_cancelled));
        let patience = deadline.min(ASSIGNMENT_PATIENCE);
        loop {
            let (consumer, turn) = (Arc::clone(&self.consumer), Arc::clone(&self.turn));
            let run = tokio::task::spawn_blocking(move || {
                let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
                let ran = session.run(&consumer, patience);
                let heard = ran.inspect_err(|_| hear_errors(&consumer));
                (session, heard)
            });
            let ran = run
                .await
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            let error = match ran {
                (visited, Ok(())) => {
                    self.context.accepted();
                    return Ok(visited.visitor);
                }
                (interrupted, Err(error)) => {
                    session = interrupted;
                    error
                }
            };
            let waited = session.moved_at.elapsed();
            let is_gone = matches!(
                error.rdkafka_error_code(),
                Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset)
            );
            let doing = || format!("reading {topic}");
            let error = self.classify(doing(), error, waited);
            if error.is_permanent() || is_gone || waited >= deadline {
                return Err(error);
            }
            tracing::warn!(%error, topic, "Failed to read the topic; reading on after a pause");
            tokio::time::sleep(VISIT_PAUSE).await;
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        doing: String,
        work: impl FnOnce(&BaseConsumer<KafkaContext>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let (consumer, turn) = (Arc::clone(&self.consumer), Arc::clone(&self.turn));
        let asked = Instant::now();
        let answer = tokio::task::spawn_blocking(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            // What reads does not stay assigned.
            work(&consumer).inspect_err(|_| hear_errors(&consumer))
        });
        let answer = answer
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        if answer.is_ok() {
            self.context.accepted();
        }
        answer.map_err(|error| self.classify(doing, error, asked.elapsed()))
    }

    fn classify(&self, doing: String, error: KafkaError, waited: Duration) -> ReadError {
        let refusal = self.context.permanent_error_after(waited);
        match (refusal, error.rdkafka_error_code()) {
            (Some(reason), _) => ReadError::Refused { doing, reason },
            (None, Some(RDKafkaErrorCode::OperationTimedOut)) => ReadError::Timeout {
                doing,
                waited,
                last: self.context.last_error(),
            },
            (None, _) => ReadError::Kafka { doing, error },
        }
    }
}

/// Tells a visit that nobody waits for it any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
