//! Commands to workers: sent by who runs them, and read by each from `queue-control` by assignment, so that every worker
//! of a queue sees every command.

mod send;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    error::KafkaError,
    message::{BorrowedMessage, Message, Timestamp},
};
use tokio::sync::mpsc;

use crate::{
    config::{KafkaConfig, QueueConfig},
    kafka::{self, KafkaContext, Topics},
    metrics::WorkerMetrics,
    protocol::{Command, CommandKind, QueueId, TimestampMs},
};

pub use send::{Commander, Delivery};

/// How far back the look-up goes behind `QUEUE_STARTED_AT`: the clocks of launcher and broker may differ this much.
const LOOK_BACK_MS: i64 = 60_000;
/// How long one request to the broker may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Between attempts while the brokers or the topic are away.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Which commands are for this worker, and which are too old.
#[derive(Debug, Clone)]
pub struct CommandFilter {
    queue_id: QueueId,
    run: u32,
    service: String,
    telemetry_id: String,
    /// When it was launched, if the launcher says so.
    queue_started_at: Option<TimestampMs>,
    process_started_at: TimestampMs,
}

impl CommandFilter {
    /// For a worker of `service` in this queue, whose process started at `process_started_at`.
    pub fn new(queue: &QueueConfig, service: &str, process_started_at: TimestampMs) -> Self {
        let launched = queue
            .queue_started_at
            .map(|seconds| TimestampMs((seconds * 1_000.0) as i64));
        Self {
            queue_id: queue.queue_id.clone(),
            run: queue.run,
            service: service.to_owned(),
            telemetry_id: queue.producer_id(service),
            queue_started_at: launched,
            process_started_at,
        }
    }

    /// Whether to obey a command that the broker took at `at`. `is_new` says that it came after listening began, which
    /// no difference of clocks can hide.
    ///
    /// Of what is older than the process only `stop` is obeyed, since the launch. One from before the launch, which can
    /// only be within the 60 s that clocks may differ, counts where it can mean no other run: it names this run, or it
    /// names this queue and there was no run before. A worker that a person starts, without a launch, obeys no `stop` of
    /// before.
    pub fn obeys(&self, command: &Command, at: TimestampMs, is_new: bool) -> bool {
        if !command.addresses(&self.queue_id, self.run, &self.service, &self.telemetry_id) {
            return false;
        }
        if is_new || at >= self.process_started_at {
            return true;
        }
        let Some(launched) = self.queue_started_at else {
            return false;
        };
        if command.command != CommandKind::Stop {
            return false;
        }
        let ours = command.run.is_some() || self.run == 1;
        at >= launched || (at >= launched - LOOK_BACK_MS && ours && !command.is_for_all())
    }

    /// From when on a command may have to be obeyed.
    fn since(&self) -> TimestampMs {
        let began = self.process_started_at;
        self.queue_started_at.unwrap_or(began).min(began) - LOOK_BACK_MS
    }
}

/// What [`listen`] says.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A command for this worker.
    Command(Box<Command>),
    /// All that was on the topic when listening began has been heard. Said again each time the place is looked up anew.
    CaughtUp,
}

/// Listens until the receiver is gone, and sends on what is for this worker. Brokers and a topic that are away are
/// waited for; a message that is no command is counted and skipped. A topic that was deleted or cut off behind our
/// position is looked up anew, as nothing would be heard any more. What only people can mend, a topic that is not there
/// or may not be read, is warned of once.
pub async fn listen(
    kafka: KafkaConfig,
    queue: QueueConfig,
    filter: CommandFilter,
    metrics: WorkerMetrics,
    heard: mpsc::Sender<Heard>,
) {
    let mut warned = false;
    while !heard.is_closed() {
        match assign(&kafka, &queue, &filter).await {
            Ok(mut listener) => {
                tracing::debug!(topic = queue.queue_control_topic, "Listening for commands");
                warned = false;
                // It ends when nobody hears, which the loop sees, or when the place is lost.
                let _ = listener.receive(&filter, &metrics, &heard).await;
            }
            Err(error) => {
                if error.needs_people() && !warned {
                    tracing::warn!(%error, "Can't listen for commands yet, not even for a stop; trying on");
                    warned = true;
                } else {
                    tracing::debug!(%error, "Can't listen for commands yet");
                }
                if matches!(error, ListenError::NoTopic(_)) {
                    let _ = heard.send(Heard::CaughtUp).await;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY_INTERVAL) => {}
            () = heard.closed() => {}
        }
    }
}

/// The control topic from where this worker has to hear it.
struct Listener {
    consumer: StreamConsumer<KafkaContext>,
    /// For each partition: the offset behind the last message that was there when listening began.
    ends: BTreeMap<i32, i64>,
    /// The partitions of which some of those are still to be read.
    behind: BTreeSet<i32>,
}

/// Nobody hears any more.
struct Unheard;

impl From<mpsc::error::SendError<Heard>> for Unheard {
    fn from(_: mpsc::error::SendError<Heard>) -> Self {
        Self
    }
}

impl Listener {
    /// Receives until the position is lost, or nobody hears.
    async fn receive(
        &mut self,
        filter: &CommandFilter,
        metrics: &WorkerMetrics,
        heard: &mpsc::Sender<Heard>,
    ) -> Result<(), Unheard> {
        let (mut caught_up, mut warned) = (false, false);
        loop {
            if !caught_up && self.behind.is_empty() {
                caught_up = true;
                heard.send(Heard::CaughtUp).await?;
            }
            let received = tokio::select! {
                received = self.consumer.recv() => received,
                () = heard.closed() => return Err(Unheard),
            };
            let message = match received {
                Ok(message) => message,
                Err(KafkaError::PartitionEOF(partition)) => {
                    self.behind.remove(&partition);
                    continue;
                }
                Err(error) if kafka::is_lost_position(&error) => {
                    tracing::warn!(%error, "Lost the place in the control topic, looking for it again");
                    return Ok(());
                }
                Err(error) => {
                    // librdkafka reconnects by itself.
                    if kafka::is_permanent(&error) && !warned {
                        tracing::warn!(%error, "Reading commands is refused, not even a stop is heard; trying on");
                        warned = true;
                    } else {
                        tracing::debug!(%error, "Reading commands failed, trying again");
                    }
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    continue;
                }
            };
            let (partition, next) = (message.partition(), message.offset() + 1);
            let end = self.ends.get(&partition).copied().unwrap_or(0);
            if let Some(command) = understood(&message, filter, next > end, metrics) {
                heard.send(Heard::Command(Box::new(command))).await?;
            }
            if next >= end {
                self.behind.remove(&partition);
            }
        }
    }
}

/// The command that a message is, if it is one and for this worker.
fn understood(
    message: &BorrowedMessage<'_>,
    filter: &CommandFilter,
    is_new: bool,
    metrics: &WorkerMetrics,
) -> Option<Command> {
    let at = match message.timestamp() {
        Timestamp::CreateTime(millis) | Timestamp::LogAppendTime(millis) => TimestampMs(millis),
        Timestamp::NotAvailable => TimestampMs::now(),
    };
    match serde_json::from_slice::<Command>(message.payload().unwrap_or_default()) {
        Ok(command) if filter.obeys(&command, at, is_new) => {
            tracing::info!(command = ?command.command, "Received a command");
            let kind = command.command.as_str();
            metrics.commands.with_label_values(&[kind]).inc();
            Some(command)
        }
        Ok(_) => None,
        Err(error) => {
            metrics.commands_malformed.inc();
            tracing::warn!(
                topic = message.topic(), partition = message.partition(), offset = message.offset(), %error,
                "Skipped a message that is no command"
            );
            None
        }
    }
}

/// Listening could not begin.
#[derive(Debug, thiserror::Error)]
enum ListenError {
    #[error(transparent)]
    Topic(#[from] kafka::TopicError),
    #[error("the topic {0:?} is not there")]
    NoTopic(String),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
}

impl ListenError {
    /// Whether it does not pass by itself, as brokers that are away may.
    fn needs_people(&self) -> bool {
        match self {
            Self::Topic(error) => error.is_permanent(),
            Self::NoTopic(_) => true,
            Self::Kafka(error) => kafka::is_permanent(error),
        }
    }
}

async fn assign(
    kafka: &KafkaConfig,
    queue: &QueueConfig,
    filter: &CommandFilter,
) -> Result<Listener, ListenError> {
    let topic = queue.queue_control_topic.clone();
    let client_id = format!("{}-control", filter.telemetry_id);
    let group = format!("{}-control", queue.queue_id);
    let partitions = Topics::new(kafka, &client_id)?
        .partitions(&topic)
        .await?
        .ok_or_else(|| ListenError::NoTopic(topic.clone()))?;
    let consumer: StreamConsumer<KafkaContext> =
        kafka::consumer_config(kafka, &client_id, &group, kafka::CONTROL_QUEUE_KIB)
            .create_with_context(KafkaContext::default())?;
    let from = filter.since();
    let by_time = kafka.offsets_for_times;
    let assigned = tokio::task::spawn_blocking(move || {
        let starts = start_offsets(&consumer, &topic, partitions, by_time.then_some(from))?;
        let mut list = TopicPartitionList::new();
        for start in &starts {
            list.add_partition_offset(&topic, start.partition, Offset::Offset(start.from))?;
        }
        consumer.assign(&list)?;
        let behind = starts.iter().filter(|start| start.from < start.end);
        Ok::<_, KafkaError>(Listener {
            behind: behind.map(|start| start.partition).collect(),
            ends: starts
                .iter()
                .map(|start| (start.partition, start.end))
                .collect(),
            consumer,
        })
    });
    Ok(assigned
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?)
}

/// Where to begin in a partition.
struct Start {
    partition: i32,
    from: i64,
    /// Behind the last message that was there when it was looked up.
    end: i64,
}

/// The offsets to begin at: the first message since `since`, or the beginning if the broker can't look up. End
/// offsets are taken first: a command that comes during the look-up is behind them.
fn start_offsets(
    consumer: &StreamConsumer<KafkaContext>,
    topic: &str,
    partitions: i32,
    since: Option<TimestampMs>,
) -> Result<Vec<Start>, KafkaError> {
    let mut starts = Vec::new();
    for partition in 0..partitions {
        let (from, end) = consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT)?;
        starts.push(Start {
            partition,
            from,
            end,
        });
    }
    let Some(since) = since else {
        return Ok(starts);
    };
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Offset(since.as_millis().max(0)))?;
    }
    let found = consumer.offsets_for_times(list, REQUEST_TIMEOUT)?;
    for start in &mut starts {
        let element = found.find_partition(topic, start.partition);
        start.from = match element.map(|element| element.offset()) {
            Some(Offset::Offset(offset)) => offset,
            _ => start.end,
        };
    }
    Ok(starts)
}

#[cfg(test)]
mod tests;
