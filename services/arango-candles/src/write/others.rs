//! The partitions that other writers of the group have: whether they have ended, by what the group has committed.
//!
//! Nothing of them is read, unless a commit was made by somebody who left no note with it.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use streamforge_utils::kafka::{ReadError, TopicReader};
use tokio::time::Instant;
use tracing::warn;

use super::Settings;
use crate::{
    assignment::Assignment,
    end::{self, End},
    note::CommitNote,
    partition::LOOK_BACK,
    record::{self, Content, Expected},
};

/// How often is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often is asked how many records the others have rejected, once this writer has rejected some.
const COUNT_INTERVAL: Duration = Duration::from_secs(2);

type Answer = Pin<Box<dyn Future<Output = Result<Found, ReadError>> + Send>>;

#[derive(Debug, Default)]
struct Found {
    ended: BTreeMap<i32, End>,
    rejected: BTreeMap<i32, u64>,
}

/// What is known of the other partitions.
pub(super) struct Others {
    asker: Asker,
    deadline: Duration,
    ended: BTreeMap<i32, End>,
    /// Records rejected, by partition.
    rejected: BTreeMap<i32, u64>,
    answer: Option<Answer>,
    ask_at: Instant,
    count_at: Instant,
    failing_since: Option<Instant>,
}

impl Others {
    pub(super) fn new(reader: TopicReader, settings: &Settings) -> Self {
        Self {
            asker: Asker {
                reader,
                topic: settings.topic.clone(),
                expected: settings.expected.clone(),
                run: settings.run,
                partitions: settings.partitions,
            },
            deadline: settings.retry_deadline,
            ended: BTreeMap::new(),
            rejected: BTreeMap::new(),
            answer: None,
            ask_at: Instant::now(),
            count_at: Instant::now(),
            failing_since: None,
        }
    }

    /// The topic has more partitions than it had.
    pub(super) fn set_partitions(&mut self, partitions: i32) {
        self.asker.partitions = partitions;
    }

    /// Records that the others have rejected, by what they have committed.
    pub(super) fn rejected(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// The partitions that have ended: these own ones, and those of others.
    pub(super) fn with(&self, own: &BTreeMap<i32, End>) -> BTreeMap<i32, End> {
        let mut ended = self.ended.clone();
        ended.extend(own);
        ended
    }

    /// The partitions have changed hands: what was known may be ours now.
    pub(super) fn forget(&mut self) {
        self.ended.clear();
        self.rejected.clear();
        self.answer = None;
        self.ask_at = Instant::now();
        self.count_at = self.ask_at;
    }

    /// Asks how many records the others have rejected, now and then, if this writer has rejected some.
    pub(super) fn ask_counts(&mut self, own: &Assignment) {
        if self.answer.is_some() || Instant::now() < self.count_at || own.rejected_of_all() == 0 {
            return;
        }
        let others = self.all_but(own);
        if !others.is_empty() {
            self.start(others);
        }
    }

    fn all_but(&self, own: &Assignment) -> Vec<i32> {
        (0..self.asker.partitions)
            .filter(|partition| !own.has(*partition))
            .collect()
    }

    fn start(&mut self, wanted: Vec<i32>) {
        let now = Instant::now();
        self.ask_at = now + INTERVAL;
        self.count_at = now + COUNT_INTERVAL;
        let asker = self.asker.clone();
        self.answer = Some(Box::pin(async move { asker.look(&wanted).await }));
    }

    /// Asks after the partitions in `open`, or after all that are not `own` if it is empty. Returns whether it did;
    /// it does not while an answer is awaited, nor too often, nor if there are no others.
    pub(super) fn ask(&mut self, open: &[i32], own: &Assignment) -> bool {
        if self.answer.is_some() || Instant::now() < self.ask_at {
            return false;
        }
        let wanted: Vec<i32> = if open.is_empty() {
            self.all_but(own)
        } else {
            // Those that had ended by an interrupted marker may have been written on since.
            let again = self.ended.iter().filter(|(_, end)| !end.is_final());
            open.iter()
                .chain(again.map(|(partition, _)| partition))
                .copied()
                .collect()
        };
        if wanted.is_empty() {
            return false;
        }
        self.start(wanted);
        true
    }

    /// Waits for the answer, if there is one to wait for, and keeps it.
    ///
    /// # Errors
    /// The broker refuses it, or did not answer until the deadline.
    pub(super) async fn found(&mut self) -> Result<(), ReadError> {
        let Some(answer) = self.answer.as_mut() else {
            return std::future::pending().await;
        };
        let found = answer.await;
        self.answer = None;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let now = Instant::now();
                let since = *self.failing_since.get_or_insert(now);
                if error.is_permanent() || now - since > self.deadline {
                    return Err(error);
                }
                warn!(%error, "Failed to look up the other writers' partitions; retrying");
                return Ok(());
            }
        };
        self.failing_since = None;
        self.ended.retain(|_, end| end.is_final());
        self.ended.extend(found.ended);
        self.rejected.extend(found.rejected);
        Ok(())
    }
}

#[derive(Clone)]
struct Asker {
    reader: TopicReader,
    topic: String,
    expected: Expected,
    run: u32,
    /// How many partitions the topic has.
    partitions: i32,
}

impl Asker {
    async fn look(&self, partitions: &[i32]) -> Result<Found, ReadError> {
        let mut found = Found::default();
        for committed in self.reader.committed(&self.topic, partitions).await? {
            let Some(offset) = committed.offset else {
                continue;
            };
            let end = match CommitNote::parse(&committed.metadata) {
                Some(note) => {
                    found.rejected.insert(committed.partition, note.rejected);
                    end::of_note(&note)
                }
                None => self.marker_before(committed.partition, offset).await?,
            };
            let Some(end) = end.filter(|end| end.partitions <= self.partitions) else {
                continue;
            };
            let holds = end.is_final() || {
                let watermarks = self
                    .reader
                    .watermarks(&self.topic, committed.partition)
                    .await?;
                let partition = committed.partition;
                let is_last = watermarks.high <= offset
                    || !self
                        .reader
                        .has_message(&self.topic, partition, offset, watermarks.high)
                        .await?;
                end.holds(self.run, is_last)
            };
            if holds {
                found.ended.insert(committed.partition, end);
            }
        }
        Ok(found)
    }

    /// The end by a marker before `offset`, which no numbered record follows.
    async fn marker_before(&self, partition: i32, offset: i64) -> Result<Option<End>, ReadError> {
        let watermarks = self.reader.watermarks(&self.topic, partition).await?;
        let from = (offset - LOOK_BACK).max(watermarks.low);
        let mut end: Option<End> = None;
        let messages = self
            .reader
            .messages(&self.topic, partition, (from, offset))
            .await?;
        for message in messages {
            let reading = record::read(&message, &self.expected);
            match reading.content {
                _ if end.is_some_and(|end| end.is_final()) => {}
                Content::Marker(marker) => end = Some(End::of_marker(&marker)),
                _ if reading.seq.is_some() => end = None,
                _ => {}
            }
        }
        Ok(end)
    }
}
