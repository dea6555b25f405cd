//! Which parts stand still, and when topics go: what only time tells.

use streamforge_utils::protocol::TimestampMs;

use super::{Action, Look, orphans::has_ended, words};
use crate::{
    launcher::{JobPhase, JobStatus},
    plan::Role,
    state::{Part, Stall, Status, Workflow},
};

impl Look<'_> {
    /// Marks the parts that stand still, and those that do no longer.
    ///
    /// **Silent**: no event for [`super::HealSettings::silent_after`] although its Job should have a
    /// process, and however it came to that.
    ///
    /// **Idle**: events come, and records have not moved for [`super::HealSettings::idle_after`] although there are some:
    /// for a loader of a range always, for the writers of a collection if they have not written all that is published.
    /// A writer whose loader waits for the exchange is not idle, nor a stream of a quiet market, nor a dummy.
    pub(super) fn watch(&self, workflow: &mut Workflow) {
        for index in 0..workflow.parts.len() {
            let part = &workflow.parts[index];
            if part.is_final() || part.stall == Some(Stall::Job) {
                continue;
            }
            let job = self.jobs_of(workflow, &part.telemetry_id).current;
            let behind_since = self
                .is_behind(workflow, part)
                .then(|| part.behind_since.unwrap_or(self.seen.now));
            workflow.parts[index].behind_since = behind_since;
            let idle_since = self.idle_since(workflow, &workflow.parts[index]);
            let part = &mut workflow.parts[index];
            if let Some(job) = job.filter(|job| is_up(job)) {
                self.watch_part(part, job, idle_since);
            }
        }
        wait_for_loaders(workflow);
    }

    fn watch_part(&self, part: &mut Part, job: &JobStatus, idle_since: Option<TimestampMs>) {
        let began = part.job.launched_at.unwrap_or(job.created);
        let heard = part.last_event_at.map_or(began, |at| at.max(began));
        if self.is_quiet(heard, self.settings.silent_after) {
            if part.stall != Some(Stall::Silent) {
                let before = part.reason.take();
                let before = before.map_or_else(String::new, |reason| format!("{reason}; "));
                let reason = format!("{before}nothing was heard of it since {heard}");
                part.stalled(Stall::Silent, reason);
            }
            return;
        }
        let is_idle = |since: &TimestampMs| self.is_quiet(*since, self.settings.idle_after);
        match (idle_since.filter(is_idle), part.status) {
            (Some(since), Status::Running | Status::Stalled) => part.stalled(
                Stall::Idle,
                format!("it lives, and its records have not moved since {since}"),
            ),
            (None, Status::Stalled) if part.stall == Some(Stall::Idle) => {
                part.status = Status::Running;
                part.reason = None;
                part.stall = None;
            }
            _ => {}
        }
    }

    /// Since when its records should have moved; None if they need not.
    fn idle_since(&self, workflow: &Workflow, part: &Part) -> Option<TimestampMs> {
        let own = part.last_progress_at.max(part.instance_at);
        match part.role {
            Role::Dummy => None,
            Role::Loader => own.filter(|_| part.is_historical),
            Role::Writer => {
                let others = workflow.of_role(Role::Writer);
                let moved = others
                    .filter(|other| other.collection == part.collection)
                    .map(|other| other.last_progress_at)
                    .max()
                    .flatten();
                let behind_since = part.behind_since?;
                Some(behind_since).max(own).max(moved)
            }
        }
    }

    fn is_behind(&self, workflow: &Workflow, part: &Part) -> bool {
        let handled = workflow.handled();
        let handled = handled.get(&part.collection.as_deref());
        part.role == Role::Writer
            && handled.is_some_and(|handled| handled.done() < workflow.published())
    }

    /// Deletes the topics of a workflow that finished, a while after and once nothing of it runs. Of others they are
    /// kept for a retry.
    pub(super) fn retire_topics(&mut self, workflow: &mut Workflow) {
        let is_due = workflow
            .topics_due(self.settings.topics_kept)
            .is_some_and(|at| self.seen.now >= at);
        let tried_at = workflow.retention.tried_at;
        let waits = tried_at.is_some_and(|at| !self.is_past(at, self.settings.topics_repeat));
        let of_it = |job: &&JobStatus| job.queue_id == workflow.queue_id;
        let runs = self
            .seen
            .jobs
            .iter()
            .filter(of_it)
            .any(|job| !has_ended(job));
        if is_due && !waits && !runs {
            workflow.retention.tried_at = Some(self.seen.now);
            self.actions.push(Action::DeleteTopics);
        }
    }
}

/// A writer that runs while its loader is queued says so. It waits without limit, since nothing is published that it could
/// be late with.
fn wait_for_loaders(workflow: &mut Workflow) {
    const WAITS: &str = "it waits for its loader, whose Job is queued";
    let is_queued = workflow.of_role(Role::Loader).any(|loader| {
        let reason = loader.reason.as_deref();
        loader.status == Status::Starting && reason.is_some_and(words::says_queued)
    });
    let writers = workflow.parts.iter_mut();
    for writer in writers.filter(|part| part.role == Role::Writer && !part.is_final()) {
        if is_queued && writer.reason.is_none() {
            writer.reason = Some(WAITS.to_owned());
        } else if !is_queued && writer.reason.as_deref() == Some(WAITS) {
            writer.reason = None;
        }
    }
}

/// Whether its process should be heard, or another one soon.
fn is_up(job: &JobStatus) -> bool {
    job.is_deleting
        || job.phase == JobPhase::Running && !words::is_queued(job.trouble.as_ref())
        || job.phase == JobPhase::Pending && job.trouble.is_none()
}
