//! Publishing to the data topic, so that each partition always holds a gapless prefix of its records.
//!
//! Idempotent and acknowledged by all replicas in sync. Every delivery report is looked at, in order, and only an
//! acknowledged record counts. There is no time-out of single messages, which could leave a hole behind them, but
//! one deadline without any acknowledgement. At the first failed delivery, or past the deadline, what is queued is
//! dropped and nothing more is taken. Which partition a record belongs to is decided elsewhere.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rdkafka::{error::KafkaError, message::OwnedHeaders};
use streamforge_utils::{
    config::KafkaConfig,
    kafka::{self, BatchProducer, KafkaContext, Receipts, Target},
};
use tokio::{sync::Notify, time::Instant};

pub use streamforge_utils::kafka::PublishError;

use crate::metrics::Metrics;

/// How long a record may wait for others that share its batch. Pages of up to 1,000 candles come at once, so there is
/// nothing to wait for longer than that takes.
const LINGER: Duration = Duration::from_millis(16);
/// The most records that wait for an acknowledgement. Besides its bytes each costs about as much again here and in
/// librdkafka: with the 16 MiB of the queue as the only bound, a worker whose broker is away grew to 88 MiB, with this
/// one to 40.
const QUEUE_RECORDS: &str = "10000";
/// How often a wait for an acknowledgement looks whether the broker has refused this client for good.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Publishes to one topic.
pub struct Publisher {
    producer: BatchProducer<Acknowledgements>,
    target: Target,
    queued: u64,
    /// As far as [`Publisher::next_delivery`] has looked.
    acknowledged: u64,
    metrics: Metrics,
}

/// What became of the messages.
#[derive(Default)]
struct Acknowledgements {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    acknowledged: u64,
    /// The first failure.
    failed: Option<KafkaError>,
    /// When the last acknowledgement came, or the first record since then was queued.
    progress_at: Option<Instant>,
}

impl Acknowledgements {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receipts for Acknowledgements {
    type Opaque = ();

    fn settled(&self, _bytes: usize, outcome: Result<(), KafkaError>, (): ()) {
        let mut state = self.state();
        match outcome {
            Ok(()) => {
                state.acknowledged += 1;
                state.progress_at = Some(Instant::now());
            }
            Err(error) => {
                state.failed.get_or_insert(error);
            }
        }
        drop(state);
        self.changed.notify_one();
    }
}

impl Publisher {
    /// A publisher to `target`. Connects in the background.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(
        kafka: &KafkaConfig,
        client_id: &str,
        target: Target,
        metrics: Metrics,
    ) -> Result<Self, KafkaError> {
        let mut config =
            kafka::data_producer_config(kafka, client_id, kafka::DATA_PRODUCER_QUEUE_KIB);
        config
            .set("batch.size", target.batch_bytes().to_string())
            .set("queue.buffering.max.messages", QUEUE_RECORDS);
        let producer = BatchProducer::new(
            config,
            target.name(),
            LINGER,
            KafkaContext::default(),
            Acknowledgements::default(),
        )?;
        Ok(Self {
            producer,
            target,
            queued: 0,
            acknowledged: 0,
            metrics,
        })
    }

    /// Queues a message; waits while the queue is full. Queued is not published: see [`Publisher::next_delivery`].
    ///
    /// Dropping the future leaves the message out, whole.
    ///
    /// # Errors
    /// An earlier message failed.
    pub async fn send(
        &mut self,
        partition: i32,
        key: Option<&str>,
        value: &[u8],
        headers: OwnedHeaders,
    ) -> Result<(), PublishError> {
        let key = key.map(str::as_bytes);
        while !self.producer.has_room(key, value) {
            self.next_delivery().await?;
        }
        let failed = {
            let mut state = self.producer.receipts().state();
            if state.acknowledged == self.queued {
                state.progress_at = Some(Instant::now());
            }
            state.failed.clone()
        };
        if let Some(error) = failed {
            return Err(self.fail(error));
        }
        self.producer.send(partition, key, value, headers, ());
        self.queued += 1;
        self.count_in_flight();
        Ok(())
    }

    /// Whether messages wait for their acknowledgement.
    pub fn is_waiting(&self) -> bool {
        self.acknowledged < self.queued
    }

    /// Messages that were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Waits until further messages are acknowledged, if any wait. Dropping the future loses nothing.
    ///
    /// # Errors
    /// A message failed, or nothing was acknowledged until the deadline. What is queued has been dropped.
    pub async fn next_delivery(&mut self) -> Result<(), PublishError> {
        while self.is_waiting() {
            let (acknowledged, failed, progress_at) = {
                let mut state = self.producer.receipts().state();
                let progress_at = *state.progress_at.get_or_insert_with(Instant::now);
                (state.acknowledged, state.failed.clone(), progress_at)
            };
            if let Some(error) = failed {
                return Err(self.fail(error));
            }
            if acknowledged > self.acknowledged {
                self.acknowledged = acknowledged;
                self.count_in_flight();
                return Ok(());
            }
            let deadline = progress_at + self.target.deadline();
            let look = (Instant::now() + LOOK_INTERVAL).min(deadline);
            let changed = self.producer.receipts().changed.notified();
            if tokio::time::timeout_at(look, changed).await.is_ok() {
                continue;
            }
            // librdkafka itself goes on for ever after a wrong password.
            if let Some(reason) = self.producer.log().permanent_error() {
                self.abandon();
                return Err(self.target.refused(reason));
            }
            if Instant::now() >= deadline {
                self.abandon();
                let log = self.producer.log();
                return Err(self.target.unacknowledged(log).await);
            }
        }
        Ok(())
    }

    fn count_in_flight(&self) {
        let in_flight = self.queued - self.acknowledged;
        self.metrics
            .in_flight(usize::try_from(in_flight).unwrap_or(usize::MAX));
    }

    /// Drops what is queued and what is on its way, and says why the producer stopped.
    fn fail(&mut self, error: KafkaError) -> PublishError {
        let fatal = self.producer.fatal_error();
        self.abandon();
        self.target.failed(&error, fatal)
    }

    /// Drops what is queued and what is on its way. Nothing may be sent afterwards: it would leave a hole.
    pub fn abandon(&mut self) {
        self.producer.abandon();
        self.queued = self.acknowledged;
        self.metrics.in_flight(0);
    }
}
