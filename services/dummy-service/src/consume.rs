//! Reading a topic from its beginning, all partitions, and saying what it holds: rate, latency, holes.
//!
//! It reads by assignment and commits nothing, so it disturbs no one and can be run as often as wanted. Lost data is an
//! error at the end, never a lower count. Brokers that are away are waited for.

use std::time::Duration;

use futures::FutureExt;
use rdkafka::{
    Offset, Timestamp, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    error::KafkaError,
    message::{BorrowedMessage, Message},
    types::RDKafkaErrorCode,
};
use streamforge_utils::{
    kafka::{self, FetchSizes, KafkaContext, Topics, headers},
    latency::Latencies,
    protocol::{EOS, EOS_VALUE, End, InterruptReason, Marker, SEQ, TimestampMs, Verdict},
    telemetry::Progress,
    worker::{Failure, Outcome},
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    SERVICE,
    config::Config,
    cue::{Cue, Cues, Ending},
    metrics::Metrics,
    rate::{Count, Rate, Window},
    tally::{Body, Tally},
};

/// How long a partition is left alone once enough is kept, in ms. The default of a second makes a reader that is behind
/// wait most of its time.
const FULL_BACKOFF_MS: &str = "5";
/// Messages between two looks at what ends the reading.
const MOST_AT_ONCE: usize = 1_000;
/// How often counts, rate and message are brought up to date.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Reads until the stream ends, or something else ends it.
///
/// # Errors
/// Lost data, the failure that was asked for, a topic that may not be read.
pub async fn run(
    cues: &mut Cues,
    config: &Config,
    topic: &str,
    progress: Progress,
    metrics: Metrics,
) -> Result<Outcome, Failure> {
    progress.set_message(format!("waiting for topic {topic}"));
    let client_id = config.queue.producer_id(SERVICE);
    let topics = Topics::new(&config.kafka, &client_id).map_err(Failure::permanent)?;
    let partitions = tokio::select! {
        biased;
        cue = cues.next() => return match cue {
            Cue::End(ending) => ending.outcome(),
            Cue::Simulate => unreachable!("a consumer does not simulate"),
        },
        found = topics.wait_for(topic, config.ops.retry_deadline()) => found.map_err(|error| {
            let permanent = error.is_permanent();
            Failure::new(error, !permanent)
        })?,
    };
    drop(topics);
    let consumer = assigned(config, topic, partitions).map_err(Failure::permanent)?;
    let reading = Reading {
        topic: topic.to_owned(),
        tally: Tally::new(config.queue.run),
        latencies: Latencies::default(),
        count: Count::default(),
        span: None,
        window: Window::open(),
        progress,
        metrics,
    };
    let logs = config.ops.progress_interval();
    reading.run(cues, &consumer, logs).await
}

fn assigned(
    config: &Config,
    topic: &str,
    partitions: i32,
) -> Result<StreamConsumer<KafkaContext>, KafkaError> {
    let group = config.group_id();
    let client_id = config.queue.producer_id(SERVICE);
    let consumer: StreamConsumer<KafkaContext> = kafka::consumer_config(
        &config.kafka,
        &client_id,
        &group,
        FetchSizes::DATA.queue_kib,
    )
    // What is deleted before it was read shows as a hole, and the rest is read all the same.
    .set("auto.offset.reset", "earliest")
    .set("fetch.queue.backoff.ms", FULL_BACKOFF_MS)
    .create_with_context(KafkaContext::default())?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

struct Reading {
    topic: String,
    tally: Tally,
    latencies: Latencies,
    count: Count,
    /// When the first and the last record came.
    span: Option<(Instant, Instant)>,
    window: Window,
    progress: Progress,
    metrics: Metrics,
}

impl Reading {
    async fn run(
        mut self,
        cues: &mut Cues,
        consumer: &StreamConsumer<KafkaContext>,
        log_interval: Duration,
    ) -> Result<Outcome, Failure> {
        self.report();
        let mut reports = interval(REPORT_INTERVAL);
        reports.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut logs = interval(log_interval);
        logs.set_missed_tick_behavior(MissedTickBehavior::Skip);
        logs.reset();
        loop {
            tokio::select! {
                biased;
                cue = cues.next() => match cue {
                    Cue::Simulate => {}
                    Cue::End(ending) => {
                        let reason = cues.stop().reason();
                        return self.end(ending, reason);
                    }
                },
                _ = reports.tick() => {
                    if let Some(reason) = consumer.context().permanent_error() {
                        return Err(Failure::permanent(anyhow::Error::msg(reason)));
                    }
                    self.report();
                }
                _ = logs.tick() => tracing::info!("{}", self.summary()),
                received = consumer.recv() => {
                    if matches!(received, Ok(_) | Err(KafkaError::PartitionEOF(_))) {
                        consumer.context().accepted();
                    }
                    self.take(received)?;
                    // Without a look at the cues for each of them.
                    for _ in 1..MOST_AT_ONCE {
                        match consumer.recv().now_or_never() {
                            Some(received) => self.take(received)?,
                            None => break,
                        }
                    }
                    match self.tally.verdict() {
                        Verdict::Open(_) => {}
                        Verdict::Finished => return self.close(Ok(Outcome::Done)),
                        Verdict::Interrupted => return self.close(Ok(Outcome::UpstreamStopped)),
                    }
                }
            }
        }
    }

    fn take(&mut self, received: Result<BorrowedMessage<'_>, KafkaError>) -> Result<(), Failure> {
        use RDKafkaErrorCode as Code;
        match received {
            Ok(message) => self.take_message(&message),
            Err(KafkaError::PartitionEOF(partition)) => self.tally.at_end(partition),
            Err(error) if kafka::is_permanent(&error) => return Err(Failure::permanent(error)),
            Err(error) => match error.rdkafka_error_code() {
                Some(
                    Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition,
                ) => {
                    let error =
                        anyhow::Error::from(error).context(format!("read topic {:?}", self.topic));
                    return Err(Failure::retryable(error));
                }
                // librdkafka reconnects by itself.
                _ => tracing::debug!(%error, "Reading failed, librdkafka tries again"),
            },
        }
        Ok(())
    }

    fn take_message(&mut self, message: &BorrowedMessage<'_>) {
        let body = body(message);
        let seen = self.tally.take(message.partition(), message.offset(), body);
        if seen.is_behind_the_end {
            return;
        }
        if let Some(hole) = seen.hole {
            tracing::error!("Data is missing: {hole}");
            self.metrics.missing_numbers.inc_by(hole.missing());
        }
        self.metrics.missing_offsets.inc_by(seen.skipped_offsets);
        self.metrics.duplicates.inc_by(seen.is_duplicate.into());
        if matches!(body, Body::Marker(_)) {
            return;
        }
        if body == Body::Unnumbered {
            self.metrics.unnumbered.inc();
        }
        self.count(message);
    }

    fn count(&mut self, message: &BorrowedMessage<'_>) {
        let bytes = message.payload_len() as u64;
        self.count.records += 1;
        self.count.bytes += bytes;
        self.metrics.consumed.inc();
        self.metrics.consumed_bytes.inc_by(bytes);
        let now = Instant::now();
        self.span = Some((self.span.map_or(now, |(first, _)| first), now));
        if let Timestamp::CreateTime(at) | Timestamp::LogAppendTime(at) = message.timestamp() {
            let millis = u64::try_from(TimestampMs::now().as_millis() - at).unwrap_or(0);
            let latency = Duration::from_millis(millis);
            self.latencies.record(latency);
            self.metrics.consume_seconds.observe(latency.as_secs_f64());
        }
    }

    fn end(self, ending: Ending, reason: Option<InterruptReason>) -> Result<Outcome, Failure> {
        let is_signal = matches!(ending, Ending::Stop) && reason == Some(InterruptReason::Signal);
        if is_signal {
            // A restart reads again from the beginning, and finds the same.
            self.finish_report();
            return Ok(Outcome::Stopped);
        }
        self.close(ending.outcome())
    }

    /// Lost data is what it ends with, unless it failed anyway.
    fn close(self, outcome: Result<Outcome, Failure>) -> Result<Outcome, Failure> {
        let missing = self.tally.missing();
        self.finish_report();
        match (outcome, missing) {
            (Ok(_), Some(missing)) => Err(Failure::permanent(anyhow::Error::msg(missing))),
            (outcome, _) => outcome,
        }
    }

    fn finish_report(mut self) {
        self.report();
        tracing::info!("{}", self.summary());
    }

    fn report(&mut self) {
        let rate = self.window.next(self.count);
        self.metrics.consume_rate.set(rate.records.round() as i64);
        self.progress.set_written(self.count.records);
        self.progress.set_message(self.summary());
    }

    fn summary(&self) -> String {
        let rate = self
            .span
            .map(|(first, last)| Rate::of(self.count, last - first))
            .unwrap_or_default();
        let mut text = format!("{} records consumed; {rate}", self.count.records);
        if let Some(latency) = self.latencies.summary() {
            text += &format!("; latency {latency}");
        }
        if self.tally.duplicates + self.tally.unnumbered > 0 {
            text += &format!(
                "; {} duplicates, {} without a number",
                self.tally.duplicates, self.tally.unnumbered
            );
        }
        if self.tally.skipped_offsets > 0 {
            text += &format!("; {} offsets without a message", self.tally.skipped_offsets);
        }
        match self.tally.missing() {
            Some(missing) => text + "; " + &missing,
            None => text + "; no holes",
        }
    }
}

fn body(message: &BorrowedMessage<'_>) -> Body {
    // What else its headers say is about another record's place.
    if headers::is_replayed(message) {
        return Body::Unnumbered;
    }
    if headers::get(message, EOS) == Some(EOS_VALUE) {
        return match serde_json::from_slice::<Marker>(message.payload().unwrap_or_default()) {
            Ok(marker) => Body::Marker(End::of_marker(&marker)),
            Err(error) => {
                tracing::warn!(%error, offset = message.offset(), "A marker can't be read");
                Body::Unnumbered
            }
        };
    }
    let number = headers::get(message, SEQ).and_then(|number| number.parse().ok());
    number.map_or(Body::Unnumbered, Body::Record)
}
