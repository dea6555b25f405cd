//! What the broker has to be asked before a partition can end: how far it reaches, and whether the last offsets before
//! that have a message at all.

use std::{pin::Pin, time::Duration};

use streamforge_utils::kafka::{ReadError, TopicReader};
use tokio::time::Instant;
use tracing::warn;

use crate::{assignment::Assignment, partition::Look};

/// How often is asked.
const INTERVAL: Duration = Duration::from_millis(100);
/// How soon the same is asked again.
const AGAIN: Duration = Duration::from_secs(1);

type Answer = Pin<Box<dyn Future<Output = Result<Vec<Found>, ReadError>> + Send>>;

/// An answer.
#[derive(Debug)]
pub(super) struct Found {
    generation: u64,
    partition: i32,
    look: Look,
    seen: Seen,
}

#[derive(Debug)]
enum Seen {
    HighWatermark(i64),
    /// Whether there is a message between the two offsets of the question.
    Message(bool),
}

/// Asks, one question at a time.
pub(super) struct EndLookup {
    reader: TopicReader,
    topic: String,
    deadline: Duration,
    answer: Option<Answer>,
    ask_at: Instant,
    failing_since: Option<Instant>,
}

impl EndLookup {
    /// Retries for `deadline`.
    pub(super) fn new(reader: TopicReader, topic: String, deadline: Duration) -> Self {
        Self {
            reader,
            topic,
            deadline,
            answer: None,
            ask_at: Instant::now(),
            failing_since: None,
        }
    }

    /// Asks what `assignment` has to know, unless an answer is awaited.
    pub(super) fn ask(&mut self, assignment: &Assignment) {
        let now = Instant::now();
        if self.answer.is_some() || now < self.ask_at {
            return;
        }
        let looks = assignment.looks();
        if looks.is_empty() {
            return;
        }
        let is_gap = looks.iter().any(|(_, look)| look.to.is_some());
        self.ask_at = now + if is_gap { AGAIN } else { INTERVAL };
        let (reader, topic, generation) = (
            self.reader.clone(),
            self.topic.clone(),
            assignment.generation(),
        );
        self.answer = Some(Box::pin(async move {
            let mut found = Vec::with_capacity(looks.len());
            for (partition, look) in looks {
                let seen = match look.to {
                    None => {
                        let watermarks = reader.watermarks(&topic, partition).await?;
                        Seen::HighWatermark(watermarks.high)
                    }
                    Some(to) => {
                        let has = reader.has_message(&topic, partition, look.from, to).await?;
                        Seen::Message(has)
                    }
                };
                found.push(Found {
                    generation,
                    partition,
                    look,
                    seen,
                });
            }
            Ok(found)
        }));
    }

    /// Waits for the answer, if there is one to wait for.
    ///
    /// # Errors
    /// The broker refuses it, or did not answer until the deadline.
    pub(super) async fn found(&mut self) -> Result<Vec<Found>, ReadError> {
        let Some(answer) = self.answer.as_mut() else {
            return std::future::pending().await;
        };
        let found = answer.await;
        self.answer = None;
        match found {
            Ok(found) => {
                self.failing_since = None;
                Ok(found)
            }
            Err(error) => {
                let now = Instant::now();
                let since = *self.failing_since.get_or_insert(now);
                if error.is_permanent() || now - since > self.deadline {
                    return Err(error);
                }
                warn!(%error, "Failed to look up how far a partition reaches; retrying");
                self.ask_at = now + AGAIN;
                Ok(Vec::new())
            }
        }
    }
}

/// Tells the partitions, as far as they are still ours.
pub(super) fn tell(assignment: &mut Assignment, found: Vec<Found>) {
    for found in found {
        if found.generation != assignment.generation() {
            continue;
        }
        let Some(partition) = assignment.partition_mut(found.partition) else {
            continue;
        };
        match found.seen {
            Seen::HighWatermark(high) => partition.see_high_watermark(found.look, high),
            Seen::Message(false) => partition.pass_gap(found.look),
            // It comes.
            Seen::Message(true) => {}
        }
    }
}
