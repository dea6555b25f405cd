//! The partitions that other writers of the group have: whether they have ended, by what the group has committed.
//!
//! Nothing of them is read, unless a commit was made by somebody who left no note with it.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use streamforge_utils::kafka::{ReadError, TopicReader};
use tokio::time::Instant;

use super::Settings;
use crate::{
    assignment::Assignment,
    end::{self, End},
    note::CommitNote,
    record::{self, Content, Expected},
};

/// How often is asked.
const INTERVAL: Duration = Duration::from_secs(1);

type Answer = Pin<Box<dyn Future<Output = Result<BTreeMap<i32, End>, ReadError>> + Send>>;

/// What is known of the other partitions.
pub(super) struct Others {
    asker: Asker,
    /// How many partitions the topic has.
    partitions: i32,
    ended: BTreeMap<i32, End>,
    answer: Option<Answer>,
    ask_at: Instant,
}

impl Others {
    pub(super) fn new(reader: TopicReader, settings: &Settings) -> Self {
        Self {
            asker: Asker {
                reader,
                topic: settings.topic.clone(),
                expected: settings.expected.clone(),
                run: settings.run,
            },
            partitions: settings.partitions,
            ended: BTreeMap::new(),
            answer: None,
            ask_at: Instant::now(),
        }
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
        self.answer = None;
        self.ask_at = Instant::now();
    }

    /// Asks after the partitions in `open`, or after all that are not `own` if it is empty. Returns whether it did;
    /// it does not while an answer is awaited, nor too often, nor if there are no others.
    pub(super) fn ask(&mut self, open: &[i32], own: &Assignment) -> bool {
        if self.answer.is_some() || Instant::now() < self.ask_at {
            return false;
        }
        let wanted: Vec<i32> = if open.is_empty() {
            (0..self.partitions)
                .filter(|partition| !own.has(*partition))
                .collect()
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
        self.ask_at = Instant::now() + INTERVAL;
        let asker = self.asker.clone();
        self.answer = Some(Box::pin(async move { asker.ended(&wanted).await }));
        true
    }

    /// Waits for the answer, if there is one to wait for, and keeps it.
    pub(super) async fn found(&mut self) -> Result<(), ReadError> {
        let Some(answer) = self.answer.as_mut() else {
            return std::future::pending().await;
        };
        let found = answer.await;
        self.answer = None;
        self.ended.retain(|_, end| end.is_final());
        self.ended.extend(found?);
        Ok(())
    }
}

#[derive(Clone)]
struct Asker {
    reader: TopicReader,
    topic: String,
    expected: Expected,
    run: u32,
}

impl Asker {
    async fn ended(&self, partitions: &[i32]) -> Result<BTreeMap<i32, End>, ReadError> {
        let mut ended = BTreeMap::new();
        for committed in self.reader.committed(&self.topic, partitions).await? {
            let Some(offset) = committed.offset else {
                continue;
            };
            let end = match CommitNote::parse(&committed.metadata) {
                Some(note) => end::of_note(&note),
                None => self.marker_before(committed.partition, offset).await?,
            };
            let Some(end) = end else {
                continue;
            };
            let holds = end.is_final() || {
                let watermarks = self
                    .reader
                    .watermarks(&self.topic, committed.partition)
                    .await?;
                end.holds(self.run, watermarks.high == offset)
            };
            if holds {
                ended.insert(committed.partition, end);
            }
        }
        Ok(ended)
    }

    async fn marker_before(&self, partition: i32, offset: i64) -> Result<Option<End>, ReadError> {
        if offset == 0 {
            return Ok(None);
        }
        let message = self
            .reader
            .message_at(&self.topic, partition, offset - 1)
            .await?;
        let content = message.map(|message| record::read(&message, &self.expected).content);
        Ok(match content {
            Some(Content::Marker(marker)) => Some(End::of_marker(&marker)),
            _ => None,
        })
    }
}
