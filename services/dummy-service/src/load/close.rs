//! How a load ends: what is on its way is waited for, then the end of the stream is marked, or not.

use std::time::Duration;

use streamforge_utils::{
    kafka::headers,
    protocol::{EOS, EOS_VALUE, InterruptReason, Marker, MarkerOutcome},
    shutdown::StopSignal,
    worker::{Failure, Outcome},
};
use tokio::time::Instant;

use super::{Load, failure};
use crate::{
    SERVICE,
    cue::Ending,
    producer::{Kind, PublishError},
};

/// How often a wait for acknowledgements looks at them.
const SETTLE_INTERVAL: Duration = Duration::from_millis(2);

impl Load<'_> {
    pub(super) async fn end(
        mut self,
        ending: Ending,
        stop: &StopSignal,
    ) -> Result<Outcome, Failure> {
        match ending {
            Ending::Exit => self.finish(stop).await,
            Ending::Stop => {
                let interrupted = Some(MarkerOutcome::Interrupted);
                let marker = interrupted.filter(|_| stop.reason() == Some(InterruptReason::Stop));
                self.close(marker, stop).await?;
                Ok(Outcome::Stopped)
            }
            Ending::Fail(_) => {
                self.producer.abandon();
                self.report();
                ending.outcome()
            }
        }
    }

    pub(super) async fn finish(mut self, stop: &StopSignal) -> Result<Outcome, Failure> {
        let closed = self.close(Some(MarkerOutcome::Finished), stop).await?;
        Ok(if closed {
            Outcome::Done
        } else {
            Outcome::Stopped
        })
    }

    /// Waits for what is on its way and ends the stream; whether all was acknowledged before the grace was over.
    async fn close(
        &mut self,
        marker: Option<MarkerOutcome>,
        stop: &StopSignal,
    ) -> Result<bool, Failure> {
        let mut grace = Grace::new(stop, self.grace);
        let closed = self.settle(&mut grace).await.map_err(failure)?;
        self.report();
        if let Some(outcome) = marker.filter(|_| closed) {
            for partition in 0..self.publish.partitions {
                self.publish_marker(partition, outcome).map_err(failure)?;
            }
        }
        let closed = closed && self.settle(&mut grace).await.map_err(failure)?;
        if !closed {
            self.producer.abandon();
            tracing::warn!(
                "Kafka did not acknowledge all in time: dropped what was queued, and the end of the stream is not marked"
            );
        }
        tracing::info!("{}", self.summary());
        Ok(closed)
    }

    fn publish_marker(
        &mut self,
        partition: i32,
        outcome: MarkerOutcome,
    ) -> Result<(), PublishError> {
        let holds_all = partition == self.partition && self.last > 0;
        let marker = Marker {
            queue_id: self.config.queue.queue_id.clone(),
            run: self.config.queue.run,
            producer: self.config.queue.producer_id(SERVICE),
            last_seq: if holds_all { self.last } else { 0 },
            first_open_time: holds_all.then(|| self.synthetic.open_time(1)),
            last_open_time: holds_all.then(|| self.synthetic.open_time(self.last)),
            partitions: self.publish.partitions,
            time_range: self.synthetic.time_range(self.last),
            outcome,
        };
        let value = serde_json::to_vec(&marker).expect("a marker has no key that is not text");
        let headers = headers::with(&[(EOS, EOS_VALUE)]);
        // There is room: nothing else waits.
        self.producer
            .send(partition, None, &value, headers, Kind::Marker)?;
        Ok(())
    }

    /// Waits until nothing waits for its acknowledgement; `false` if the grace was over before.
    async fn settle(&self, grace: &mut Grace<'_>) -> Result<bool, PublishError> {
        loop {
            self.producer.check().await?;
            if self.producer.in_flight() == 0 {
                return Ok(true);
            }
            if grace.is_spent() {
                return Ok(false);
            }
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
    }
}

/// The time that a stop leaves for acknowledgements.
struct Grace<'a> {
    stop: &'a StopSignal,
    limit: Duration,
    until: Option<Instant>,
}

impl<'a> Grace<'a> {
    fn new(stop: &'a StopSignal, limit: Duration) -> Self {
        Self {
            stop,
            limit,
            until: None,
        }
    }

    fn is_spent(&mut self) -> bool {
        if !self.stop.is_cancelled() {
            return false;
        }
        let now = Instant::now();
        now >= *self.until.get_or_insert(now + self.limit)
    }
}
