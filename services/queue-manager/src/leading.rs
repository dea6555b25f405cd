//! Conducts while this replica holds the lease.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    conductor::Conductor,
    store::{Lease, Standing},
};

/// Name of the lease.
pub const LEASE: &str = "conductor";

/// After conducting failed, before it begins again.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes the lease whenever it is free, and conducts for as long as it is held. Ends when told to, with the lease given
/// back.
pub async fn lead(conductor: &Conductor, lease: Lease, stop: &CancellationToken) {
    let (to_us, mut standing) = watch::channel(Standing::NotHeld);
    // A panic of what conducts gives the lease up, rather than keep it for nobody.
    let keeping = AbortOnDropHandle::new(tokio::spawn(lease.keep(to_us, stop.clone())));
    while !stop.is_cancelled() {
        tokio::select! {
            () = taken(&mut standing) => {}
            () = stop.cancelled() => break,
        }
        conductor.metrics.set_conducts(true);
        let mut watched = standing.clone();
        tokio::select! {
            ended = conductor.run() => if let Err(error) = ended {
                tracing::error!(%error, "Conducting failed, and begins again");
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = stop.cancelled() => {}
                }
            },
            () = lost(&mut watched) => tracing::warn!("The lease is lost, another replica conducts"),
            () = stop.cancelled() => {}
        }
        conductor.metrics.set_conducts(false);
    }
    let _ = keeping.await;
}

/// Waits until the lease is held.
async fn taken(standing: &mut watch::Receiver<Standing>) {
    // Nobody says anything more only when we are told to end.
    if standing
        .wait_for(|standing| standing.token().is_some())
        .await
        .is_err()
    {
        std::future::pending().await
    }
}

/// Waits until the lease is lost, also if nobody can say so.
async fn lost(standing: &mut watch::Receiver<Standing>) {
    loop {
        let now = *standing.borrow_and_update();
        let Standing::Held { until, .. } = now else {
            return;
        };
        if until <= Instant::now() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            changed = standing.changed() => if changed.is_err() {
                return;
            },
        }
    }
}
