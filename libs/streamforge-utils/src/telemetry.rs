//! Events of one worker, in order: `started`, any number of `loading` and `pong`, one last one, then nothing.

mod deliveries;
mod progress;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
};

pub use progress::Progress;
use tokio::time::Instant;

use deliveries::Deliveries;

use crate::{
    config::{KafkaConfig, QueueConfig},
    kafka::{self, KafkaContext},
    metrics::WorkerMetrics,
    protocol::{Event, EventKind, InterruptReason, RecordCounts, TimestampMs},
    text::cut_owned,
};

/// `loading` events that may wait for a broker; more would say nothing new once it is back.
const MAX_WAITING: i32 = 10;
/// A worker that lives says so at least this often.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// What the last event of a worker says.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// All done.
    Finished,
    /// Told to end.
    Interrupted(InterruptReason),
    /// Failed.
    Error {
        /// What went wrong, with its causes.
        message: String,
        /// Whether trying again can help.
        retryable: bool,
    },
}

/// Is told of each event of a worker in order, before it goes to Kafka. It must not block.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(&Event) + Send + Sync>);

impl Observer {
    /// Tells this function.
    pub fn new(observe: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

/// Publishes the events of one worker. Clones are the same worker.
#[derive(Clone)]
pub struct Telemetry {
    inner: Arc<Inner>,
}

struct Inner {
    producer: ThreadedProducer<EventContext>,
    log: KafkaContext,
    deliveries: Arc<Deliveries>,
    topic: String,
    template: Event,
    progress: Progress,
    metrics: WorkerMetrics,
    observer: Option<Observer>,
    order: Mutex<Order>,
}

/// Numbers are given and messages queued under one lock, so that they leave in order.
#[derive(Default)]
struct Order {
    seq: u64,
    ended: bool,
}

impl Telemetry {
    /// Sets up the publisher; it connects in the background.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(
        kafka: &KafkaConfig,
        queue: &QueueConfig,
        service: &str,
        version: &str,
        metrics: WorkerMetrics,
        observer: Option<Observer>,
    ) -> Result<Self, KafkaError> {
        let producer_id = queue.producer_id(service);
        let (log, deliveries) = (KafkaContext::default(), Arc::<Deliveries>::default());
        let context = EventContext {
            log: log.clone(),
            deliveries: Arc::clone(&deliveries),
            lost: metrics.events_lost.clone(),
        };
        let producer = kafka::producer_config(
            kafka,
            &format!("{producer_id}-events"),
            kafka::CONTROL_QUEUE_KIB,
        )
        // An idempotent producer waits half a second for its number before it sends anything. Without one, a single
        // request in flight keeps the order, and an event that is repeated has the same number.
        .set("enable.idempotence", "false")
        .set("max.in.flight.requests.per.connection", "1")
        // Events are few and each is waited for by someone.
        .set("linger.ms", "0")
        // None is dropped by its age: the last one waits behind them, and how long that is tried is up to the worker.
        .set("message.timeout.ms", "0")
        .create_with_context(context)?;
        let template = Event {
            queue_id: queue.queue_id.to_string(),
            run: queue.run,
            producer: producer_id,
            instance: uuid::Uuid::now_v7().to_string(),
            seq: 0,
            service: service.to_owned(),
            service_version: version.to_owned(),
            symbol: queue.symbol.to_string(),
            kind: queue.kind.to_string(),
            event: EventKind::Started,
            status: None,
            message: String::new(),
            records: RecordCounts::default(),
            last_progress_at: None,
            finished: false,
            timestamp: 0.0,
            gaps: None,
            error_message: None,
            retryable: None,
            reason: None,
            ping_ts: None,
            ponged_at: None,
        };
        let inner = Inner {
            producer,
            log,
            deliveries,
            topic: queue.queue_events_topic.clone(),
            template,
            progress: Progress::default(),
            metrics,
            observer,
            order: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Where the worker's counts are kept.
    pub fn progress(&self) -> &Progress {
        &self.inner.progress
    }

    /// Says that the process is up.
    pub fn started(&self) {
        self.publish(self.event(EventKind::Started, "started".to_owned()));
    }

    /// Says how far it is.
    pub fn loading(&self) {
        if self.inner.producer.in_flight_count() < MAX_WAITING {
            self.publish(self.event(EventKind::Loading, self.inner.progress.message()));
        }
    }

    /// Answers a ping that was sent at `ping_ts`.
    pub fn pong(&self, ping_ts: Option<f64>) {
        let mut event = self.event(EventKind::Pong, "pong".to_owned());
        event.ping_ts = ping_ts;
        event.ponged_at = Some(event.timestamp);
        self.publish(event);
    }

    /// The event that says how it ended. Nothing is published after it, whoever asks; it is itself by
    /// [`send_last`](Self::send_last).
    pub fn last(&self, ending: &Ending) -> Event {
        let progress = self.inner.progress.message();
        let mut event = match ending {
            Ending::Finished => self.event(EventKind::Finished, progress),
            Ending::Interrupted(reason) => {
                let mut event = self.event(EventKind::Interrupted, progress);
                event.reason = Some(*reason);
                event
            }
            Ending::Error { message, retryable } => {
                let mut event = self.event(EventKind::Error, message.clone());
                event.error_message = Some(event.message.clone());
                event.retryable = Some(*retryable);
                event
            }
        };
        event.gaps = self.inner.progress.gaps();
        let mut order = self.order();
        self.number(&mut order, &mut event);
        event
    }

    /// Publishes the last event and waits for its acknowledgement, which may be for ever. Can be tried again.
    ///
    /// # Errors
    /// It could not be queued, or the broker refused it.
    pub async fn send_last(&self, event: &Event) -> Result<(), KafkaError> {
        self.inner.deliveries.is_last(event.seq);
        self.queue(event)?;
        self.inner.deliveries.of_last().await
    }

    /// Counts the last event as lost.
    pub fn lost(&self) {
        self.inner.metrics.events_lost.inc();
    }

    /// Why the broker refuses this client altogether, if it does.
    pub fn refusal(&self) -> Option<String> {
        self.inner.log.permanent_error()
    }

    /// For how long the oldest event that Kafka has not acknowledged has been waiting.
    pub fn unacknowledged_for(&self) -> Option<Duration> {
        self.inner.deliveries.oldest()
    }

    /// Publishes `loading` every `interval` while counts move, and every [`HEARTBEAT`] while they do not.
    pub async fn beat(&self, interval: Duration) {
        let interval = interval.min(HEARTBEAT);
        let (mut told, mut told_at) = (self.inner.progress.counts(), Instant::now());
        loop {
            // Whichever comes first, so that no interval makes the heartbeat late.
            let heartbeat = told_at + HEARTBEAT;
            tokio::time::sleep_until((Instant::now() + interval).min(heartbeat)).await;
            self.update_metrics();
            let counts = self.inner.progress.counts();
            if counts != told || Instant::now() >= heartbeat {
                self.loading();
                (told, told_at) = (counts, Instant::now());
            }
        }
    }

    /// Copies the counts into the metrics.
    pub fn update_metrics(&self) {
        let counts = self.inner.progress.counts();
        let metrics = &self.inner.metrics;
        for (gauge, count) in [
            (&metrics.records_written, counts.written),
            (&metrics.records_total, counts.total.unwrap_or(0)),
            (&metrics.records_rejected, counts.rejected),
            (&metrics.records_missing, counts.missing),
            (&metrics.records_suspect, counts.suspect),
        ] {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn event(&self, kind: EventKind, message: String) -> Event {
        Event {
            event: kind,
            status: (kind != EventKind::Pong).then_some(kind),
            message: cut_owned(message),
            records: self.inner.progress.counts(),
            last_progress_at: self.inner.progress.last_progress_at(),
            finished: kind.is_terminal(),
            timestamp: unix_seconds(),
            ..self.inner.template.clone()
        }
    }

    fn publish(&self, mut event: Event) {
        let mut order = self.order();
        if !self.number(&mut order, &mut event) {
            return;
        }
        let kind = event.event.as_str();
        if let Err(error) = self.queue(&event) {
            self.inner.metrics.events_lost.inc();
            tracing::warn!(%error, event = kind, "Could not queue the event");
        }
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.inner
            .order
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the event its number, and tells the observer; `false` if there was a last one.
    fn number(&self, order: &mut Order, event: &mut Event) -> bool {
        self.update_metrics();
        if order.ended {
            return false;
        }
        order.seq += 1;
        order.ended = event.finished;
        event.seq = order.seq;
        if let Some(Observer(observe)) = &self.inner.observer {
            observe(event);
        }
        let kind = event.event.as_str();
        self.inner.metrics.events.with_label_values(&[kind]).inc();
        true
    }

    fn queue(&self, event: &Event) -> Result<(), KafkaError> {
        let inner = &self.inner;
        let payload = serde_json::to_string(event).expect("an event has no key that is not text");
        let record: BaseRecord<'_, str, str, usize> = BaseRecord::with_opaque_to(
            &inner.topic,
            usize::try_from(event.seq).unwrap_or(usize::MAX),
        )
        .key(event.queue_id.as_str())
        .payload(payload.as_str())
        .headers(kafka::headers::with(&[]));
        inner.deliveries.queued(event.seq);
        inner.producer.send(record).map_err(|(error, _)| {
            inner.deliveries.reported(event.seq, Err(error.clone()));
            error
        })
    }
}

/// Wall clock, Unix seconds.
pub(crate) fn unix_seconds() -> f64 {
    TimestampMs::now().as_millis() as f64 / 1_000.0
}

/// Looks at what became of each event.
struct EventContext {
    log: KafkaContext,
    deliveries: Arc<Deliveries>,
    lost: prometheus::IntCounter,
}

impl ClientContext for EventContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for EventContext {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, seq: Self::DeliveryOpaque) {
        let report = match result {
            Ok(_) => {
                self.log.accepted();
                Ok(())
            }
            Err((error, _)) => Err(error.clone()),
        };
        let error = report.as_ref().err().map(KafkaError::to_string);
        if self.deliveries.reported(seq as u64, report) {
            self.lost.inc();
            tracing::warn!(error, "An event did not reach Kafka");
        }
    }
}
