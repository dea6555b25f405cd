//! Jobs that belong to nothing any more.

use std::collections::BTreeMap;

use streamforge_utils::protocol::{QueueId, TimestampMs};

use super::{HealSettings, settings::after};
use crate::launcher::{JobPhase, JobStatus};

/// The names of Jobs to delete, given the workflows in the store and the run of each.
///
/// - One whose workflow is not in the store, whether it runs or not: the workflow was deleted. A document is stored
///   before its Jobs are made; still, a Job counts only once it is a while old, as `known` may be older than `jobs`.
/// - One of an earlier run that has not ended: it would work on the topic of the run that is now.
///
/// One of an earlier run that has ended stays, for its log. One of a later run stays: the store may lag.
pub fn orphans(
    jobs: &[JobStatus],
    known: &BTreeMap<QueueId, u32>,
    now: TimestampMs,
    settings: &HealSettings,
) -> Vec<String> {
    let is_orphan = |job: &&JobStatus| match known.get(&job.queue_id) {
        None => now >= after(job.created, settings.orphan_grace),
        Some(run) => job.run < *run && !has_ended(job),
    };
    jobs.iter()
        .filter(|job| !job.is_deleting)
        .filter(is_orphan)
        .map(|job| job.name.clone())
        .collect()
}

/// Whether nothing of it runs, nor will.
pub(super) fn has_ended(job: &JobStatus) -> bool {
    matches!(job.phase, JobPhase::Succeeded | JobPhase::Failed) && job.alive == 0
}
