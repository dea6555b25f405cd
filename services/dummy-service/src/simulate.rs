//! Waiting, and pretending to load: counts grow by the clock, and nothing else happens.

use std::time::Duration;

use streamforge_utils::{
    telemetry::Progress,
    worker::{Failure, Outcome},
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cue::{Cue, Cues};

/// How many records a second a simulated load writes: a month of one-minute candles takes seven and a half minutes.
pub const RECORDS_PER_SECOND: u64 = 100;

/// How often the counts grow.
const STEP: Duration = Duration::from_millis(100);

/// Waits for whatever ends it; starts to simulate when told to.
///
/// # Errors
/// The failure that was asked for.
pub async fn wait(
    cues: &mut Cues,
    progress: &Progress,
    records_total: u64,
) -> Result<Outcome, Failure> {
    progress.set_message("waiting");
    match cues.next().await {
        Cue::Simulate => simulate(cues, progress, records_total).await,
        Cue::End(ending) => ending.outcome(),
    }
}

/// Pretends to load `records_total` records, and finishes as a loader would.
///
/// # Errors
/// The failure that was asked for.
pub async fn simulate(
    cues: &mut Cues,
    progress: &Progress,
    records_total: u64,
) -> Result<Outcome, Failure> {
    tracing::info!(
        records_total,
        "Simulating a load of {RECORDS_PER_SECOND} records/s"
    );
    progress.clear_message();
    progress.set_total(Some(records_total));
    let begun = Instant::now();
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            cue = cues.next() => match cue {
                Cue::Simulate => tracing::info!("Simulating already"),
                Cue::End(ending) => return ending.outcome(),
            },
            _ = steps.tick() => {
                let written = written_after(begun.elapsed(), records_total);
                progress.set_written(written);
                if written == records_total {
                    return Ok(Outcome::Done);
                }
            }
        }
    }
}

fn written_after(elapsed: Duration, records_total: u64) -> u64 {
    let written = elapsed.as_millis() * u128::from(RECORDS_PER_SECOND) / 1_000;
    u64::try_from(written).map_or(records_total, |written| written.min(records_total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_by_the_clock_up_to_the_total() {
        for (millis, total, written) in [
            (0, 1_000, 0),
            (1_234, 1_000, 123),
            (20_000, 1_000, 1_000),
            (u64::MAX, 7, 7),
        ] {
            let elapsed = Duration::from_millis(millis);
            assert_eq!(written_after(elapsed, total), written, "{millis}");
        }
    }
}
