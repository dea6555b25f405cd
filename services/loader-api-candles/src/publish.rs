//! Publishing to the data topic, so that each partition always holds a gapless prefix of its records.
//!
//! Idempotent and acknowledged by all replicas in sync. Every delivery report is looked at, in order, and only an
//! acknowledged record counts. There is no time-out of single messages, which could leave a hole behind them, but
//! one deadline without any acknowledgement. At the first failed delivery, or past the deadline, what is queued is
//! dropped and nothing more is taken. Which partition a record belongs to is decided elsewhere.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rdkafka::{
    error::KafkaError,
    message::OwnedHeaders,
    producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer, PurgeConfig},
    types::RDKafkaErrorCode,
};
use streamforge_utils::{
    config::KafkaConfig,
    kafka::{self, KafkaContext, Target},
};
use tokio::time::Instant;

pub use streamforge_utils::kafka::PublishError;

use crate::metrics::Metrics;

/// How long a record may wait for others that share its batch, in ms. Pages of up to 1,000 candles come at once, so
/// there is nothing to wait for longer than that takes.
const LINGER_MS: &str = "20";
/// The most records that wait for an acknowledgement. Besides its bytes each costs about as much again here and in
/// librdkafka: with the 16 MiB of the queue as the only bound, a worker whose broker is away grew to 88 MiB, with this
/// one to 40.
const QUEUE_RECORDS: &str = "10000";
/// How often a wait for an acknowledgement looks whether the broker has refused this client for good.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the queue may stay full of records that are not ours before it is looked at again.
const FULL_QUEUE_INTERVAL: Duration = Duration::from_millis(10);

/// Publishes to one topic.
pub struct Publisher {
    producer: FutureProducer<KafkaContext>,
    context: KafkaContext,
    target: Target,
    in_flight: VecDeque<DeliveryFuture>,
    acknowledged: u64,
    /// When the last acknowledgement came, or the first record since then was queued.
    progress_at: Instant,
    metrics: Metrics,
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
        let context = KafkaContext::default();
        let producer =
            kafka::data_producer_config(kafka, client_id, kafka::DATA_PRODUCER_QUEUE_KIB)
                .set("batch.size", target.batch_bytes().to_string())
                .set("queue.buffering.max.messages", QUEUE_RECORDS)
                .set("linger.ms", LINGER_MS)
                .create_with_context(context.clone())?;
        Ok(Self {
            producer,
            context,
            target,
            in_flight: VecDeque::new(),
            acknowledged: 0,
            progress_at: Instant::now(),
            metrics,
        })
    }

    /// Queues a message; waits while the queue is full. Queued is not published: see [`Publisher::next_delivery`].
    ///
    /// Dropping the future leaves the message out, whole.
    ///
    /// # Errors
    /// An earlier message failed, or this one is refused.
    pub async fn send(
        &mut self,
        partition: i32,
        key: Option<&str>,
        value: &[u8],
        headers: OwnedHeaders,
    ) -> Result<(), PublishError> {
        let topic = Arc::clone(self.target.name());
        let mut record = FutureRecord::to(&topic)
            .partition(partition)
            .payload(value)
            .headers(headers);
        record.key = key;
        loop {
            match self.producer.send_result(record) {
                Ok(delivery) => {
                    if self.in_flight.is_empty() {
                        self.progress_at = Instant::now();
                    }
                    self.in_flight.push_back(delivery);
                    self.metrics.in_flight(self.in_flight.len());
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    record = returned;
                    if self.in_flight.is_empty() {
                        tokio::time::sleep(FULL_QUEUE_INTERVAL).await;
                    } else {
                        self.next_delivery().await?;
                    }
                }
                Err((error, _)) => return Err(self.fail(error)),
            }
        }
    }

    /// Whether messages wait for their acknowledgement.
    pub fn is_waiting(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Messages that were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Waits for the report on the oldest message that waits, if any. Dropping the future loses nothing.
    ///
    /// # Errors
    /// That message failed, or nothing was acknowledged until the deadline. What is queued has been dropped.
    pub async fn next_delivery(&mut self) -> Result<(), PublishError> {
        let deadline = self.progress_at + self.target.deadline();
        let report = loop {
            let Some(oldest) = self.in_flight.front_mut() else {
                return Ok(());
            };
            let look = (Instant::now() + LOOK_INTERVAL).min(deadline);
            if let Ok(report) = tokio::time::timeout_at(look, oldest).await {
                break report;
            }
            // librdkafka itself goes on for ever after a wrong password.
            if let Some(reason) = self.context.permanent_error() {
                self.abandon();
                return Err(self.target.refused(reason));
            }
            if Instant::now() >= deadline {
                self.abandon();
                return Err(self.target.unacknowledged(&self.context).await);
            }
        };
        self.in_flight.pop_front();
        self.metrics.in_flight(self.in_flight.len());
        match report {
            Ok(Ok(_)) => {
                self.context.accepted();
                self.acknowledged += 1;
                self.progress_at = Instant::now();
                Ok(())
            }
            Ok(Err((error, _))) => Err(self.fail(error)),
            Err(_) => Err(self.fail(KafkaError::Canceled)),
        }
    }

    /// Drops what is queued and what is on its way, and says why the producer stopped.
    fn fail(&mut self, error: KafkaError) -> PublishError {
        let fatal = self.producer.client().fatal_error();
        self.abandon();
        self.target.failed(&error, fatal)
    }

    /// Drops what is queued and what is on its way. Nothing may be sent afterwards: it would leave a hole.
    pub fn abandon(&mut self) {
        // First, so that nobody waits for the reports on what is purged: each would carry a copy of its record.
        self.in_flight.clear();
        self.producer
            .purge(PurgeConfig::default().queue().inflight());
        self.metrics.in_flight(0);
    }
}
