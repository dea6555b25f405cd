//! Joins the Jobs of a workflow with what is known of it, and says what to do.
//!
//! Level-triggered: what to do follows each time from the document and the Jobs alone, and each action may be done
//! twice. So whoever does it may die before, in between or after: the next look says what is left. The document is
//! stored before an action is done; what was asked for stands in it, so that nothing is asked for every second.
//!
//! Silence alone is no reason to act. A Job is made only when the one before it failed or is gone, nothing of it is
//! alive, its last events were read, and what ended it can pass; and only a few times.

mod act;
mod join;
mod orphans;
mod settings;
mod watch;
mod words;

use streamforge_utils::protocol::TimestampMs;

use crate::{launcher::JobStatus, state::Workflow};

pub use orphans::orphans;
pub use settings::HealSettings;

/// What is seen of a workflow at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Its Jobs, of all runs. Others are passed over.
    pub jobs: &'a [JobStatus],
    /// The clock, Unix ms.
    pub now: TimestampMs,
    /// All events that queue-events had at this moment have been applied, Unix ms. As long as the broker is away it
    /// stays, and nobody counts as silent.
    pub events_until: TimestampMs,
}

/// What is to be done, after the document is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make its topic and send `start`; then [`Workflow::prepared`], or [`Workflow::prepare_delayed`] if that can pass,
    /// or [`Workflow::prepare_failed`].
    Prepare,
    /// Make this part's Job: [`Workflow::job`]. If that can't be done: [`Workflow::launch_failed`].
    Launch {
        /// The part.
        telemetry_id: String,
        /// Which Job of it in this run.
        attempt: u32,
    },
    /// End a Job and forget it.
    DeleteJob {
        /// Its name.
        name: String,
        /// For the log.
        reason: String,
    },
    /// Send `stop` for this run to a part.
    SendStop {
        /// The part: `target` of the command.
        telemetry_id: String,
        /// Whether it empties the topic first.
        drain: bool,
    },
    /// Delete the data topic and its dead letters; then [`Workflow::topics_deleted`] or [`Workflow::topics_kept`].
    DeleteTopics,
}

/// Brings the document up to what is seen, and says what to do. Nothing changed and nothing to do: the document is
/// equal to what it was.
///
/// It is to be called for each workflow that is not final, and for a final one as long as it has Jobs or topics.
pub fn observe(workflow: &mut Workflow, seen: &Seen<'_>, settings: &HealSettings) -> Vec<Action> {
    let before = workflow.clone();
    let mut look = Look {
        seen,
        settings,
        actions: Vec::new(),
    };
    look.join(workflow);
    workflow.refresh();
    look.act(workflow);
    workflow.refresh();
    look.watch(workflow);
    workflow.refresh();
    look.retire_topics(workflow);
    if *workflow != before {
        workflow.updated_at = workflow.updated_at.max(seen.now);
    }
    look.actions
}

/// One look at one workflow.
struct Look<'a> {
    seen: &'a Seen<'a>,
    settings: &'a HealSettings,
    actions: Vec<Action>,
}

/// The Jobs of a part.
struct Jobs<'a> {
    /// The one of this run that counts: of several, the last that was made.
    current: Option<&'a JobStatus>,
    /// Whether a process of any of its Jobs lives, of whatever run, or a Job bears the name that a new one would.
    is_blocked: bool,
}

impl<'a> Look<'a> {
    fn jobs_of(&self, workflow: &Workflow, telemetry_id: &str) -> Jobs<'a> {
        let ours = |job: &&JobStatus| {
            job.queue_id == workflow.queue_id && job.telemetry_id == telemetry_id
        };
        let of_run = |job: &&JobStatus| job.run == workflow.run;
        let jobs = self.seen.jobs.iter().filter(ours);
        let current = jobs.clone().filter(of_run).max_by_key(|job| job.attempt);
        let is_blocked = current.is_some() || jobs.clone().any(|job| job.alive > 0);
        Jobs {
            current,
            is_blocked,
        }
    }

    /// Whether `since` is at least this long ago.
    fn is_past(&self, since: TimestampMs, wait: std::time::Duration) -> bool {
        self.seen.now >= settings::after(since, wait)
    }

    /// Whether what a worker said before `since`, when it was over, must have been read by now.
    fn is_settled(&self, since: TimestampMs) -> bool {
        self.seen.events_until >= settings::after(since, self.settings.settle_after)
            || self.is_past(since, self.settings.settle_at_most)
    }
}

#[cfg(test)]
mod tests;
