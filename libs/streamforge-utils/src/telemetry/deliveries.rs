//! What became of each event, as librdkafka reports it.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::error::KafkaError;
use tokio::sync::watch;

/// What the broker said about the last event.
pub(super) type Report = Result<(), KafkaError>;

/// Events that wait for their acknowledgement, and what came of the last one.
pub(super) struct Deliveries {
    /// Number and age of each that waits, oldest first.
    waiting: Mutex<VecDeque<(u64, Instant)>>,
    /// Number of the last event, 0 before there is one.
    last: AtomicU64,
    report: watch::Sender<Option<Report>>,
}

impl Default for Deliveries {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            last: AtomicU64::new(0),
            report: watch::Sender::new(None),
        }
    }
}

impl Deliveries {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<(u64, Instant)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event is about to be queued.
    pub(super) fn queued(&self, seq: u64) {
        self.waiting().push_back((seq, Instant::now()));
    }

    /// This one is the last, which is tried again if it fails. What came of an earlier try is forgotten.
    pub(super) fn is_last(&self, seq: u64) {
        self.last.store(seq, Ordering::Relaxed);
        self.report.send_replace(None);
    }

    /// The broker has taken an event, or never will. Returns whether it is lost: the last one is not yet.
    pub(super) fn reported(&self, seq: u64, report: Report) -> bool {
        self.waiting().retain(|(waiting, _)| *waiting != seq);
        let failed = report.is_err();
        if seq == self.last.load(Ordering::Relaxed) {
            self.report.send_replace(Some(report));
            return false;
        }
        failed
    }

    /// For how long the oldest event has been waiting; `None` if none is.
    pub(super) fn oldest(&self) -> Option<Duration> {
        let waiting = self.waiting();
        waiting.front().map(|(_, since)| since.elapsed())
    }

    /// What came of the last event, as soon as something does.
    pub(super) async fn of_last(&self) -> Report {
        let mut reports = self.report.subscribe();
        let report = reports.wait_for(Option::is_some).await;
        match report {
            Ok(report) => report.clone().unwrap_or(Err(KafkaError::Canceled)),
            Err(_) => Err(KafkaError::Canceled),
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::types::RDKafkaErrorCode;

    use super::*;

    #[tokio::test]
    async fn only_the_last_event_is_reported_and_only_others_are_lost() {
        let refused = || {
            Err(KafkaError::MessageProduction(
                RDKafkaErrorCode::TopicAuthorizationFailed,
            ))
        };
        let deliveries = Deliveries::default();
        assert_eq!(deliveries.oldest(), None);
        deliveries.queued(1);
        deliveries.queued(2);
        assert!(deliveries.oldest().is_some());
        deliveries.is_last(2);
        assert!(deliveries.reported(1, refused()), "it is not tried again");
        assert!(!deliveries.reported(2, refused()));
        assert_eq!(deliveries.oldest(), None);
        assert_eq!(deliveries.of_last().await, refused());
        deliveries.is_last(2);
        assert!(!deliveries.reported(2, Ok(())));
        assert_eq!(deliveries.of_last().await, Ok(()));
    }
}
