//! How patient healing is.

use std::time::Duration;

use streamforge_utils::protocol::TimestampMs;

/// How patient healing is. The defaults fit the workers' own: a heartbeat every 10 s, 25 s of grace, 300 s of retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealSettings {
    /// After a Job's end: how long its last events may be on the way. Counts while events are read.
    pub settle_after: Duration,
    /// The same while no events can be read.
    pub settle_at_most: Duration,
    /// After a launch: how long its Job may be invisible.
    pub launch_grace: Duration,
    /// Between two tries to make the same Job; doubled by each failure, up to a minute.
    pub launch_pause: Duration,
    /// After so long a Job that can't be made is given up.
    pub launch_limit: Duration,
    /// Jobs of a part in one run beyond the first.
    pub max_relaunches: u32,
    /// Before the first Job that replaces one; doubled each time, up to ten minutes.
    pub relaunch_pause: Duration,
    /// A worker that says nothing for so long is stalled: six heartbeats.
    pub silent_after: Duration,
    /// A worker whose records do not move for so long, although there are some, is stalled. Longer than the ten minutes
    /// that a loader may wait for the exchange, and than any retry.
    pub idle_after: Duration,
    /// A Job whose container can't start for so long is given up.
    pub start_limit: Duration,
    /// The same while no pod of it is made, as for want of quota.
    pub quota_limit: Duration,
    /// The same while no node takes it; nodes may take a while to come up.
    pub schedule_limit: Duration,
    /// From a `stop` to the deletion of a Job that goes on.
    pub stop_grace: Duration,
    /// The same for a writer that empties its topic, counted from its last progress. Longer than its retries.
    pub drain_grace: Duration,
    /// Between two `stop` to the same part.
    pub stop_repeat: Duration,
    /// Between two deletions of the same Job.
    pub delete_repeat: Duration,
    /// After so long a part whose Job does not go away counts as ended; the reason says so.
    pub delete_limit: Duration,
    /// How long a Job may go on after its part became final.
    pub linger: Duration,
    /// How long writers may stand still after their loader was interrupted: it may have left no markers.
    pub upstream_grace: Duration,
    /// How long the topics of a finished workflow are kept.
    pub topics_kept: Duration,
    /// Between two tries to prepare a workflow.
    pub prepare_repeat: Duration,
    /// Between two tries to delete its topics.
    pub topics_repeat: Duration,
    /// How old a Job of an unknown workflow must be before it counts as an orphan.
    pub orphan_grace: Duration,
}

impl Default for HealSettings {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            settle_after: secs(10),
            settle_at_most: secs(600),
            launch_grace: secs(60),
            launch_pause: secs(5),
            launch_limit: secs(600),
            max_relaunches: 3,
            relaunch_pause: secs(10),
            silent_after: secs(60),
            idle_after: secs(900),
            start_limit: secs(900),
            quota_limit: secs(3_600),
            schedule_limit: secs(3_600),
            stop_grace: secs(45),
            drain_grace: secs(330),
            stop_repeat: secs(10),
            delete_repeat: secs(30),
            delete_limit: secs(300),
            linger: secs(60),
            upstream_grace: secs(60),
            topics_kept: secs(86_400),
            prepare_repeat: secs(10),
            topics_repeat: secs(3_600),
            orphan_grace: secs(60),
        }
    }
}

/// `since` and `wait`.
pub(super) fn after(since: TimestampMs, wait: Duration) -> TimestampMs {
    since + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 4)
}

/// `pause`, doubled `times` times, up to `limit`.
pub(super) fn doubled(pause: Duration, times: u32, limit: Duration) -> Duration {
    pause.saturating_mul(1 << times.min(16)).min(limit)
}
