//! The feed of events on a task of its own, opened again whenever it breaks or stands still.
//!
//! What is said comes in order: whoever has taken in everything before an [`Heard::Until`] knows all events up to then.

use std::{collections::BTreeMap, time::Duration};

use streamforge_utils::{config::KafkaConfig, protocol::TimestampMs};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::task::AbortOnDropHandle;

use super::pulse::Pulse;
use crate::feed::{Arrival, Feed, FeedError, Look};

/// Events that may wait to be taken in.
const MOST_WAITING: usize = 1_024;
/// Between two looks at the ends of the topic.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Before the feed is opened again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a commit may take; one that takes longer is made good by the next.
const COMMIT_LIMIT: Duration = Duration::from_secs(5);

/// Partition → offset.
type Offsets = BTreeMap<i32, i64>;

/// What the feed says.
#[derive(Debug)]
pub(super) enum Heard {
    /// The feed was opened; these are the ends of the topic. Documents that have seen more have seen another topic.
    Opened(Offsets),
    /// A message.
    Arrival(Box<Arrival>),
    /// All messages that were there at this moment have been said.
    Until(TimestampMs),
}

/// Reads events for as long as it lives.
pub(super) struct Reading {
    heard: mpsc::Receiver<Heard>,
    commits: watch::Sender<Offsets>,
    _task: AbortOnDropHandle<()>,
}

impl Reading {
    pub(super) fn new(kafka: KafkaConfig, topic: &str, group: &str) -> Self {
        let (to_conductor, heard) = mpsc::channel(MOST_WAITING);
        let (commits, to_commit) = watch::channel(Offsets::new());
        let (topic, group) = (topic.to_owned(), group.to_owned());
        let task = tokio::spawn(async move {
            let mut outage = Outage::default();
            loop {
                let commits = to_commit.clone();
                let Err(error) =
                    read(&kafka, &topic, &group, &to_conductor, commits, &mut outage).await
                else {
                    return;
                };
                outage.begins(&error);
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self {
            heard,
            commits,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// What comes next. May be dropped while it waits; nothing is lost by that.
    pub(super) async fn next(&mut self) -> Heard {
        match self.heard.recv().await {
            Some(heard) => heard,
            None => panic!("the task that reads events has ended"),
        }
    }

    /// What has come already.
    pub(super) fn next_now(&mut self) -> Option<Heard> {
        self.heard.try_recv().ok()
    }

    /// All before these offsets is stored; it is committed as soon as it can be.
    pub(super) fn commit(&self, next: &Offsets) {
        self.commits.send_if_modified(|committed| {
            let is_new = committed != next;
            if is_new {
                committed.clone_from(next);
            }
            is_new
        });
    }
}

/// Whether events can't be followed, so that each outage is told once, and its end.
#[derive(Default)]
struct Outage {
    is_told: bool,
}

impl Outage {
    fn begins(&mut self, error: &FeedError) {
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!(%error, "Events can't be followed, trying on");
        }
    }

    fn is_over(&mut self) {
        if std::mem::take(&mut self.is_told) {
            tracing::info!("Events are followed again");
        }
    }
}

/// Reads until nobody hears any more.
async fn read(
    kafka: &KafkaConfig,
    topic: &str,
    group: &str,
    to_conductor: &mpsc::Sender<Heard>,
    mut to_commit: watch::Receiver<Offsets>,
    outage: &mut Outage,
) -> Result<(), FeedError> {
    let mut feed = Feed::open(kafka, topic, group).await?;
    // Those of a feed before this one.
    to_commit.mark_unchanged();
    let opened = Heard::Opened(feed.ends().clone());
    if to_conductor.send(opened).await.is_err() {
        return Ok(());
    }
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looking: Option<AbortOnDropHandle<Result<Look, FeedError>>> = None;
    let mut committing: Option<AbortOnDropHandle<()>> = None;
    let mut seen: Option<Look> = None;
    let mut pulse = Pulse::new(Instant::now());
    loop {
        if let Some(look) = seen.take_if(|look| look.is_reached(feed.next_offsets())) {
            outage.is_over();
            if to_conductor.send(Heard::Until(look.at)).await.is_err() {
                return Ok(());
            }
        }
        let heard = tokio::select! {
            arrival = feed.next() => Heard::Arrival(Box::new(arrival?)),
            _ = looks.tick(), if looking.is_none() => {
                looking = Some(AbortOnDropHandle::new(tokio::spawn(feed.look())));
                continue;
            }
            look = finished(&mut looking) => {
                looking = None;
                let next = feed.next_offsets();
                if let Some(silent) = pulse.stands_still(next, look.as_ref().ok(), Instant::now()) {
                    return Err(feed.stands_still(silent));
                }
                match look {
                    Ok(look) if look.has_more_than(next) => {
                        return Err(feed.has_more_partitions());
                    }
                    // The older one is reached first, and under load perhaps alone.
                    Ok(look) => {
                        seen.get_or_insert(look);
                    }
                    Err(error) => tracing::debug!(%error, "The ends of the events topic are not known"),
                }
                continue;
            }
            () = finished(&mut committing) => {
                committing = None;
                continue;
            }
            // What changes meanwhile is committed next.
            changed = to_commit.changed(), if committing.is_none() => {
                if changed.is_err() {
                    return Ok(());
                }
                let next = to_commit.borrow_and_update().clone();
                let commit = commit(feed.commit(next));
                committing = Some(AbortOnDropHandle::new(tokio::spawn(commit)));
                continue;
            }
        };
        let begun = Instant::now();
        if to_conductor.send(heard).await.is_err() {
            return Ok(());
        }
        if begun.elapsed() > LOOK_INTERVAL {
            // It was not the feed that stood still.
            pulse = Pulse::new(Instant::now());
        }
    }
}

async fn finished<T>(task: &mut Option<AbortOnDropHandle<T>>) -> T {
    match task {
        Some(task) => task
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())),
        None => std::future::pending().await,
    }
}

async fn commit(commit: impl Future<Output = Result<(), FeedError>>) {
    let begun = Instant::now();
    match tokio::time::timeout(COMMIT_LIMIT, commit).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(%error, "What was read could not be committed; it is read again after a restart");
        }
        Err(_) => tracing::debug!(took = ?begun.elapsed(), "A commit takes too long"),
    }
}
