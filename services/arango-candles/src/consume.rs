//! Reads the data topic as a member of the writers' consumer group.
//!
//! librdkafka wants to be polled, and calls back on the polling thread when partitions come and go; so it has a
//! thread of its own (`thread`), which talks to the writer over channels. It reads and commits; what may be
//! committed is the writer's to know. Promise: after a [`Event::Revoked`] nothing of that assignment is committed
//! any more, and everything it delivered comes through the [`Deliveries`] of that assignment only.

mod group;
mod position;
mod pulse;
mod thread;

use std::{
    sync::{Arc, mpsc as std_mpsc},
    time::Duration,
};

use rdkafka::{ClientConfig, error::KafkaError, message::OwnedMessage};
use streamforge_utils::{
    config::KafkaConfig,
    kafka::{self, FetchSizes, TopicReader},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};
use tracing::warn;

use crate::{metrics::Metrics, note::CommitNote, partition::Resume};

/// How long the writer may take to write what it holds when partitions are taken from it.
pub const REVOKE_LIMIT: Duration = Duration::from_secs(5);

/// What the consumer tells the writer. Events come before everything else.
#[derive(Debug)]
pub enum Event {
    /// These partitions are ours now, and only these.
    Assigned {
        /// Names this assignment among all of this consumer.
        generation: u64,
        /// Each with where it is taken up.
        partitions: Vec<(i32, Resume)>,
        /// Their messages.
        deliveries: Deliveries,
    },
    /// No partition is ours any more once this is answered. Dropping it answers it with nothing to commit.
    Revoked(Revocation),
    /// The broker confirmed commits: partition and offset.
    Committed(Vec<(i32, i64)>),
    /// The broker refused a commit, or did not answer; it can be made again.
    CommitFailed(KafkaError),
    /// The group gives no partitions, and why. It may still do.
    NoGroup(String),
    /// The end. Nothing follows.
    Failed(ConsumeError),
}

/// Partitions are being taken away.
#[derive(Debug)]
pub struct Revocation {
    answer: std_mpsc::Sender<Vec<Commit>>,
    until: Instant,
}

impl Revocation {
    /// When to answer: who asked gives up soon after.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Lets them go, after these last commits.
    pub fn answer(self, commits: Vec<Commit>) {
        // Who waited has given up by then, and the records come again.
        let _ = self.answer.send(commits);
    }
}

/// The messages of one assignment, in the order of their offsets in each partition.
pub type Deliveries = mpsc::UnboundedReceiver<Delivery>;

/// One thing that comes out of a partition.
#[derive(Debug)]
pub enum Delivery {
    /// A message.
    Message {
        /// The message.
        message: OwnedMessage,
        /// Its room in memory, to be kept until it is done.
        room: Room,
    },
    /// Nothing follows in this partition, for now.
    End {
        /// The partition.
        partition: i32,
    },
}

/// A part of the memory that records on their way may take. Dropping it makes room for others.
#[derive(Debug)]
pub struct Room {
    _permit: OwnedSemaphorePermit,
}

/// A commit to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// The partition.
    pub partition: i32,
    /// The first offset that is not done.
    pub offset: i64,
    /// What the commit says besides.
    pub note: CommitNote,
}

/// Reading can't go on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConsumeError {
    /// Messages were deleted before they were read, or the topic is another one.
    #[error("{0}")]
    Lost(String),
    /// The broker refuses this consumer.
    #[error("reading topic {topic:?}: {reason}")]
    Refused {
        /// The topic.
        topic: String,
        /// The reason.
        reason: String,
    },
    /// The broker was away for too long, or the group could not be joined.
    #[error("reading topic {topic:?}: {reason}")]
    Unavailable {
        /// The topic.
        topic: String,
        /// What happened.
        reason: String,
    },
}

impl ConsumeError {
    /// Whether trying again later can help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// What to read, and how much of it may be on its way.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data topic, which is there.
    pub topic: String,
    /// The consumer group.
    pub group_id: String,
    /// Most bytes of records between here and their acknowledgement.
    pub max_bytes_on_the_way: usize,
    /// How long a broker may be away.
    pub retry_deadline: Duration,
    /// How much is asked for at a time.
    pub fetch: FetchSizes,
}

/// What the writer asks of the thread.
#[derive(Debug)]
enum Request {
    /// Commits of the assignment with this generation, and of no other: made later they would set back whoever has the
    /// partitions then.
    Commit(u64, Vec<Commit>),
    /// The same; no answer if it came too late.
    CommitAndWait(u64, Vec<Commit>, oneshot::Sender<Result<(), KafkaError>>),
    Close(oneshot::Sender<()>),
}

/// How librdkafka reads for a writer.
pub fn client_config(
    kafka: &KafkaConfig,
    client_id: &str,
    group_id: &str,
    fetch: FetchSizes,
) -> ClientConfig {
    let mut config = kafka::consumer_config(kafka, client_id, group_id, fetch.queue_kib);
    fetch.apply(&mut config);
    config
        .set("partition.assignment.strategy", "range,roundrobin")
        // Small records take more room in librdkafka's queue than their bytes, which is all that it counts.
        .set("queued.min.messages", "10000")
        // How soon a queue that was full is filled again (default 1 s, far longer than a writer takes to empty it).
        .set("fetch.queue.backoff.ms", "5");
    config
}

/// A member of the group. Dropped, it leaves the group in the background.
#[derive(Debug)]
pub struct Consumer {
    events: mpsc::UnboundedReceiver<Event>,
    requests: std_mpsc::Sender<Request>,
    /// Of the last assignment that the writer has been told of.
    generation: u64,
}

impl Consumer {
    /// Joins the group; `reader` is another client, for second opinions. Must be called on a runtime.
    ///
    /// # Errors
    /// If librdkafka refuses the configuration.
    pub fn join(
        kafka: &KafkaConfig,
        client_id: &str,
        settings: Settings,
        reader: TopicReader,
        metrics: Metrics,
    ) -> Result<Self, ConsumeError> {
        let (to_writer, events) = mpsc::unbounded_channel();
        let (requests, from_writer) = std_mpsc::channel();
        let mut config = client_config(kafka, client_id, &settings.group_id, settings.fetch);
        config.set("statistics.interval.ms", "5000");
        let refused = |reason: String| ConsumeError::Refused {
            topic: settings.topic.clone(),
            reason,
        };
        let room = Arc::new(Semaphore::new(settings.max_bytes_on_the_way));
        let context = group::Context::new(&settings, to_writer, metrics);
        let consumer = config
            .create_with_context(context)
            .map_err(|error| refused(error.to_string()))?;
        let reading = thread::Reading::new(consumer, settings.clone(), room, from_writer, reader);
        std::thread::Builder::new()
            .name("consumer".to_owned())
            .spawn(move || reading.run())
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            events,
            requests,
            generation: 0,
        })
    }

    /// The next event.
    pub async fn next_event(&mut self) -> Event {
        let gone = || ConsumeError::Unavailable {
            topic: String::new(),
            reason: "the consumer's thread has ended".to_owned(),
        };
        let event = self
            .events
            .recv()
            .await
            .unwrap_or_else(|| Event::Failed(gone()));
        if let Event::Assigned { generation, .. } = &event {
            self.generation = *generation;
        }
        event
    }

    /// Asks for commits, whose outcome comes as an event; none comes if the partitions are let go before.
    pub fn commit(&self, commits: Vec<Commit>) {
        // If the thread has ended, its last event says why.
        let _ = self
            .requests
            .send(Request::Commit(self.generation, commits));
    }

    /// Commits and leaves the group, each for at most as long as `limit`. What could not be committed comes again.
    pub async fn close(mut self, commits: Vec<Commit>, limit: Duration) {
        if !commits.is_empty() && !self.commit_last(commits, limit).await {
            warn!("The last commit was not confirmed, its records may come again");
        }
        // Whatever waits for an answer gets none, so that the thread can see the request.
        self.events.close();
        while self.events.try_recv().is_ok() {}
        let (answer, closed) = oneshot::channel();
        let _ = self.requests.send(Request::Close(answer));
        let _ = tokio::time::timeout(limit, closed).await;
    }

    /// Returns whether the commits were confirmed, or handed over to a revocation that came first.
    async fn commit_last(&mut self, commits: Vec<Commit>, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let (answer, mut answered) = oneshot::channel();
        let request = Request::CommitAndWait(self.generation, commits.clone(), answer);
        let _ = self.requests.send(request);
        let mut let_go = false;
        loop {
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    // It blocks the thread, and once it is answered the request comes too late.
                    Some(Event::Revoked(revocation)) => {
                        revocation.answer(commits.clone());
                        let_go = true;
                    }
                    Some(_) => {}
                    None => return let_go,
                },
                answered = &mut answered => return match answered {
                    Ok(Ok(())) => true,
                    Ok(Err(error)) => {
                        warn!(%error, "The last commit failed");
                        let_go
                    }
                    Err(_) => let_go,
                },
                () = tokio::time::sleep_until(until) => return let_go,
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
