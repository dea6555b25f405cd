//! The record stream of a load: which partition a candle goes to, its number there, and the markers at the end.
//!
//! Numbers rise by one a record in each partition, over all attempts. A candle that a partition has already is left
//! out. Markers are written only after every record was acknowledged.

use streamforge_utils::{
    kafka::headers,
    protocol::{
        EOS, EOS_VALUE, Interval, Marker, MarkerOutcome, Numbers, QueueId, SEQ, Symbol, TimeRange,
        TimestampMs,
    },
};

use crate::{
    kline::Kline,
    partition::{PartitionKey, partition_of},
    publish::{PublishError, Publisher},
};

/// What a load writes, and where.
#[derive(Debug, Clone)]
pub struct StreamSpec {
    /// The workflow.
    pub queue_id: QueueId,
    /// Its run.
    pub run: u32,
    /// Who writes: the telemetry id.
    pub producer: String,
    /// The trading pair.
    pub symbol: Symbol,
    /// Length of its candles.
    pub interval: Interval,
    /// How numbers are written.
    pub numbers: Numbers,
    /// What is loaded.
    pub time_range: TimeRange,
    /// What decides a record's partition.
    pub partition_key: PartitionKey,
    /// How many partitions are used, from 0 on.
    pub partitions: i32,
}

impl StreamSpec {
    /// The Kafka key of the record with this document key.
    pub fn kafka_key<'a>(&'a self, document_key: &'a str) -> &'a str {
        match self.partition_key {
            PartitionKey::Symbol => self.symbol.as_str(),
            PartitionKey::Record => document_key,
        }
    }

    /// The partitions that records can be in.
    pub fn reachable(&self) -> Vec<i32> {
        self.partition_key
            .reachable(self.symbol.as_str(), self.partitions)
    }

    fn marker(&self, state: &PartitionState, outcome: MarkerOutcome) -> Marker {
        Marker {
            queue_id: self.queue_id.clone(),
            run: self.run,
            producer: self.producer.clone(),
            last_seq: state.last_seq,
            first_open_time: state.first_open,
            last_open_time: state.last_open,
            partitions: self.partitions,
            time_range: self.time_range.clone(),
            outcome,
        }
    }
}

/// What a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartitionState {
    /// Number of its last record; 0 if it has none.
    pub last_seq: u64,
    /// Open time of its first record.
    pub first_open: Option<TimestampMs>,
    /// Whether that is of the record with number 1: none before it was deleted or compacted.
    pub is_first_known: bool,
    /// Open time of its last record.
    pub last_open: Option<TimestampMs>,
    /// How the stream ends, if its last message is a marker.
    pub outcome: Option<MarkerOutcome>,
    /// Lowest offset that is still there. Above 0, retention has deleted what was before it.
    pub low: i64,
    /// One past its last message, when it was looked at.
    pub high: i64,
}

/// Publishes the candles of one load.
pub struct CandleSink {
    spec: StreamSpec,
    publisher: Publisher,
    partitions: Vec<PartitionState>,
    /// Records of earlier attempts.
    earlier: u64,
    /// Records of this attempt that were queued; markers follow them.
    queued: u64,
}

impl CandleSink {
    /// Goes on after `partitions`, one a partition from 0 on.
    pub fn new(spec: StreamSpec, publisher: Publisher, partitions: Vec<PartitionState>) -> Self {
        let earlier = partitions.iter().map(|state| state.last_seq).sum();
        Self {
            spec,
            publisher,
            partitions,
            earlier,
            queued: 0,
        }
    }

    /// What is being written.
    pub fn spec(&self) -> &StreamSpec {
        &self.spec
    }

    /// What each partition holds, what is queued included.
    pub fn partitions(&self) -> &[PartitionState] {
        &self.partitions
    }

    /// Records of the whole run that the broker acknowledged.
    pub fn published(&self) -> u64 {
        self.earlier + self.published_now()
    }

    /// Those of this attempt.
    pub fn published_now(&self) -> u64 {
        self.publisher.acknowledged().min(self.queued)
    }

    /// Queues the record of a kline; waits while the queue is full. A kline that its partition has is left out.
    ///
    /// Dropping the future leaves the record out, whole.
    ///
    /// # Errors
    /// This record or an earlier one failed; none after it will be published.
    pub async fn publish(&mut self, kline: &Kline) -> Result<(), PublishError> {
        let spec = &self.spec;
        let record = kline.to_record(&spec.symbol, spec.interval, spec.numbers);
        let key = spec.kafka_key(&record.key);
        let partition = partition_of(key, spec.partitions);
        let state = &mut self.partitions[usize::try_from(partition).expect("counted from 0")];
        if state.last_open.is_some_and(|last| record.open_time <= last) {
            return Ok(());
        }
        let seq = state.last_seq + 1;
        let headers = headers::with(&[(SEQ, &seq.to_string())]);
        self.publisher
            .send(partition, Some(key), &record.value, headers)
            .await?;
        state.last_seq = seq;
        state.first_open.get_or_insert(record.open_time);
        state.last_open = Some(record.open_time);
        state.outcome = None;
        self.queued += 1;
        Ok(())
    }

    /// Whether records wait for their acknowledgement.
    pub fn is_waiting(&self) -> bool {
        self.publisher.is_waiting()
    }

    /// Waits for the acknowledgement of the oldest record that waits. Dropping the future loses nothing.
    ///
    /// # Errors
    /// It failed, or nothing was acknowledged for too long.
    pub async fn next_delivery(&mut self) -> Result<(), PublishError> {
        self.publisher.next_delivery().await
    }

    /// Ends the stream: one marker to every partition that is not `finished` yet, each acknowledged.
    ///
    /// # Errors
    /// A record or a marker failed.
    pub async fn end(&mut self, outcome: MarkerOutcome) -> Result<(), PublishError> {
        self.settle().await?;
        for (partition, state) in (0..).zip(&mut self.partitions) {
            if state.outcome == Some(MarkerOutcome::Finished) {
                continue;
            }
            let marker = self.spec.marker(state, outcome);
            let value = serde_json::to_vec(&marker).expect("a marker has no key that is not text");
            self.publisher
                .send(partition, None, &value, headers::with(&[(EOS, EOS_VALUE)]))
                .await?;
            state.outcome = Some(outcome);
        }
        self.settle().await
    }

    /// Drops all that is not acknowledged. Nothing may be published afterwards.
    pub fn abandon(&mut self) {
        self.publisher.abandon();
    }

    async fn settle(&mut self) -> Result<(), PublishError> {
        while self.publisher.is_waiting() {
            self.publisher.next_delivery().await?;
        }
        Ok(())
    }
}
