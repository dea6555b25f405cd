//! The last event of a worker: how long it is tried. It changes neither the outcome nor the exit code.

use std::{
    path::Path,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rdkafka::error::KafkaError;
use tokio::time::Instant;

use super::termination;
use crate::{
    config::OpsConfig,
    kafka,
    protocol::Event,
    shutdown::StopSignal,
    telemetry::{Ending, HEARTBEAT, Telemetry},
};

/// How long the last event is tried where there is little hope or little time, and at the least.
const BRIEFLY: Duration = Duration::from_secs(5);
/// Between tries after a broker refused the event.
const RESEND_INTERVAL: Duration = Duration::from_millis(500);
/// How often is looked whether less time is left by now.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A wait that takes longer is logged.
const LOGGED_AFTER: Duration = Duration::from_secs(1);

/// How long the last event may be tried.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// `RETRY_DEADLINE_SECS`.
    retry_deadline: Duration,
    /// `SHUTDOWN_GRACE_SECS`.
    grace: Duration,
}

impl Patience {
    /// Whether the body ended because Kafka was away: what it did was tried until the deadline, and of its events none was
    /// acknowledged either. A worker that lives says so every [`HEARTBEAT`].
    fn is_spent(self, ending: &Ending, telemetry: &Telemetry) -> bool {
        let failed = matches!(
            ending,
            Ending::Error {
                retryable: true,
                ..
            }
        );
        let silent = telemetry.unacknowledged_for();
        failed && silent.is_some_and(|silent| silent + HEARTBEAT >= self.retry_deadline)
    }

    /// When to give up, and what decides that.
    fn limit(self, known: &Known) -> (Instant, &'static str) {
        let Known { ended_at, .. } = *known;
        let after = |since: Option<Instant>, time: Duration| {
            since.map(|since| (since + time).max(ended_at + BRIEFLY))
        };
        let least = ended_at + self.retry_deadline.max(BRIEFLY);
        [
            (Some(least), "RETRY_DEADLINE_SECS"),
            (
                after(known.stopped_at, self.grace),
                "SHUTDOWN_GRACE_SECS after a stop or a signal",
            ),
            (
                after(known.drained_at.map(|at| at.max(ended_at)), self.grace),
                "SHUTDOWN_GRACE_SECS after a stop or a signal",
            ),
            (
                after(known.hurried_at, BRIEFLY),
                "5 s after a second signal",
            ),
            (
                after(known.refused_at, BRIEFLY),
                "5 s after Kafka refused it",
            ),
            (
                after(known.is_spent.then_some(ended_at), BRIEFLY),
                "5 s, as Kafka has been away for RETRY_DEADLINE_SECS",
            ),
        ]
        .into_iter()
        .filter_map(|(limit, why)| Some((limit?, why)))
        .min_by_key(|(limit, _)| *limit)
        .expect("the first one is always there")
    }
}

/// What decides how long is left.
#[derive(Debug, Clone, Copy)]
struct Known {
    ended_at: Instant,
    is_spent: bool,
    stopped_at: Option<Instant>,
    drained_at: Option<Instant>,
    hurried_at: Option<Instant>,
    refused_at: Option<Instant>,
}

/// Publishes the last event, once it stands in the file `witness`, if there is one.
pub(super) async fn publish(
    telemetry: &Telemetry,
    ending: &Ending,
    stop: &StopSignal,
    ops: &OpsConfig,
    witness: Option<&Path>,
) {
    let patience = Patience {
        retry_deadline: ops.retry_deadline(),
        grace: ops.shutdown_grace(),
    };
    // Before there is another event that waits.
    let is_spent = patience.is_spent(ending, telemetry);
    let event = telemetry.last(ending);
    if let Some(path) = witness {
        termination::write(path, &event).await;
    }
    deliver(telemetry, &event, stop, patience, is_spent).await;
}

/// Publishes `event`, which has been made the last one, until the broker has it or `patience` is over. `is_spent` is
/// [`Patience::is_spent`]'s of before.
async fn deliver(
    telemetry: &Telemetry,
    event: &Event,
    stop: &StopSignal,
    patience: Patience,
    is_spent: bool,
) {
    let mut known = Known {
        ended_at: Instant::now(),
        is_spent,
        stopped_at: None,
        drained_at: None,
        hurried_at: None,
        refused_at: None,
    };
    let failure = Mutex::new(None);
    let mut sending = pin!(send(telemetry, event, &failure));
    let mut is_logged = false;
    loop {
        tokio::select! {
            () = &mut sending => return,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
        let failed = failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let refusal = telemetry.refusal();
        known.stopped_at = stop.stopped_at();
        known.drained_at = stop.drained_at();
        if stop.is_at_once() {
            known.hurried_at.get_or_insert_with(Instant::now);
        }
        if refusal.is_some() || failed.as_ref().is_some_and(kafka::is_permanent) {
            known.refused_at.get_or_insert_with(Instant::now);
        }
        let (limit, why) = patience.limit(&known);
        let (now, waited) = (Instant::now(), known.ended_at.elapsed());
        let error = refusal
            .or(failed.map(|error| error.to_string()))
            .unwrap_or_else(|| "no acknowledgement".to_owned());
        if now >= limit {
            telemetry.lost();
            tracing::warn!(
                error,
                limit = why,
                "Gave up on the last event after {waited:.1?}: Kafka does not have it"
            );
            return;
        }
        if !is_logged && waited >= LOGGED_AFTER {
            is_logged = true;
            let left = limit.duration_since(now);
            tracing::info!(
                error,
                limit = why,
                "Kafka has not acknowledged the last event, trying for another {left:.0?}"
            );
        }
    }
}

/// Until the broker has it.
async fn send(telemetry: &Telemetry, event: &Event, failure: &Mutex<Option<KafkaError>>) {
    while let Err(error) = telemetry.send_last(event).await {
        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        tokio::time::sleep(RESEND_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        retry_deadline: Duration::from_secs(300),
        grace: Duration::from_secs(25),
    };

    /// How many seconds are left of `patience`, for a body that ended at 100 s.
    fn left(patience: Patience, change: impl FnOnce(&mut Known, &dyn Fn(u64) -> Instant)) -> u64 {
        let zero = Instant::now();
        let at = |seconds| zero + Duration::from_secs(seconds);
        let mut known = Known {
            ended_at: at(100),
            is_spent: false,
            stopped_at: None,
            drained_at: None,
            hurried_at: None,
            refused_at: None,
        };
        change(&mut known, &at);
        let (limit, _) = patience.limit(&known);
        limit.duration_since(known.ended_at).as_secs()
    }

    #[test]
    fn is_tried_as_long_as_there_is_hope_and_time() {
        let left = |change: fn(&mut Known, &dyn Fn(u64) -> Instant)| left(PATIENCE, change);
        assert_eq!(left(|_, _| {}), 300);
        assert_eq!(left(|known, at| known.stopped_at = Some(at(130))), 55);
        assert_eq!(left(|known, at| known.stopped_at = Some(at(90))), 15);
        assert_eq!(left(|known, at| known.stopped_at = Some(at(60))), 5);
        assert_eq!(left(|known, at| known.drained_at = Some(at(10))), 25);
        assert_eq!(left(|known, at| known.drained_at = Some(at(110))), 35);
        assert_eq!(left(|known, at| known.refused_at = Some(at(107))), 12);
        assert_eq!(left(|known, _| known.is_spent = true), 5);
        let second_signal = |known: &mut Known, at: &dyn Fn(u64) -> Instant| {
            (known.stopped_at, known.hurried_at) = (Some(at(120)), Some(at(121)));
        };
        assert_eq!(left(second_signal), 26);
    }

    #[test]
    fn has_five_seconds_at_the_least() {
        let hasty = Patience {
            retry_deadline: Duration::from_secs(1),
            grace: Duration::from_secs(1),
        };
        assert_eq!(left(hasty, |_, _| {}), 5);
        assert_eq!(left(hasty, |known, at| known.stopped_at = Some(at(100))), 5);
    }
}
