//! What to do about each part: make its Job, stop it, delete what outlasts that.

use std::time::Duration;

use streamforge_utils::protocol::TimestampMs;

use super::{
    Action, Look,
    join::again,
    settings::{after, doubled},
};
use crate::{
    launcher::{JobPhase, JobStatus},
    plan::Role,
    state::{JobRecord, Part, Status, StopSent, Told, UPSTREAM, Workflow},
};

/// Longest pause between two tries to make the same Job.
const MAX_LAUNCH_PAUSE: Duration = Duration::from_secs(60);
/// Longest pause before a Job is replaced.
const MAX_RELAUNCH_PAUSE: Duration = Duration::from_secs(600);

impl Look<'_> {
    pub(super) fn act(&mut self, workflow: &mut Workflow) {
        if workflow.status.is_final() || workflow.admitted_at.is_none() {
            return;
        }
        if workflow.prepared_at.is_none() && workflow.stop.is_none() {
            self.prepare(workflow);
        }
        for index in 0..workflow.parts.len() {
            let part = &workflow.parts[index];
            if part.is_final() {
                continue;
            }
            let jobs = self.jobs_of(workflow, &part.telemetry_id);
            let told = workflow
                .told_to_stop(part)
                .or_else(|| self.left_alone(workflow, part));
            let began = match (workflow.admitted_at, workflow.prepared_at) {
                (Some(admitted), Some(_)) => Some(admitted),
                _ => None,
            };
            let part = &mut workflow.parts[index];
            match (told, began) {
                (Some(told), _) => self.stop(part, jobs.current, &told),
                (None, Some(began)) if !jobs.is_blocked => self.launch(part, began),
                _ => {}
            }
        }
    }

    fn prepare(&mut self, workflow: &mut Workflow) {
        let (now, limit) = (self.seen.now, self.settings.launch_limit);
        let tried = workflow.prepare_tried;
        if tried.is_some_and(|tried| self.is_past(tried.first_at, limit)) {
            let problem = workflow.prepare_problem.as_deref();
            let problem = problem.unwrap_or("it could not be prepared");
            let reason = format!("given up after {} min: {problem}", limit.as_secs() / 60);
            workflow.prepare_failed(&reason, now);
        } else if tried.is_none_or(|tried| self.is_past(tried.at, self.settings.prepare_repeat)) {
            workflow.prepare_tried = Some(again(tried, now));
            self.actions.push(Action::Prepare);
        }
    }

    /// A writer whose loader was interrupted ends by the markers that it left. It left none if the broker was away or
    /// if it was killed for being late; then the writer stands still for ever.
    fn left_alone(&self, workflow: &Workflow, part: &Part) -> Option<Told> {
        let mut ended_at = None;
        for loader in workflow.of_role(Role::Loader) {
            ended_at = ended_at.max(Some(loader.ended_at?));
        }
        let is_cut_off = workflow
            .of_role(Role::Loader)
            .any(|loader| loader.status == Status::Interrupted);
        let since = part.instance_at?.max(ended_at?);
        let since = part.last_progress_at.map_or(since, |at| at.max(since));
        let is_still = self.is_quiet(since, self.settings.upstream_grace);
        (part.role == Role::Writer && is_cut_off && is_still).then(|| Told {
            drain: true,
            reason: UPSTREAM.to_owned(),
        })
    }

    fn launch(&mut self, part: &mut Part, began: TimestampMs) {
        let now = self.seen.now;
        if part.attempts == 0 && !part.job.seen {
            self.make(part, 1, began, None);
        } else if !part.job.seen {
            let pause = doubled(
                self.settings.launch_pause,
                part.job.failures,
                MAX_LAUNCH_PAUSE,
            );
            let limit = self.settings.launch_limit;
            if part
                .job
                .tried_since
                .is_some_and(|at| self.is_past(at, limit))
            {
                let reason = part.reason.as_deref();
                let reason = reason.unwrap_or("its Job was made, and was never there");
                let reason = format!("given up after {} min: {reason}", limit.as_secs() / 60);
                part.end(Status::Error, Some(reason), now);
            } else if part
                .job
                .launched_at
                .is_none_or(|at| self.is_past(at, pause))
            {
                part.job.launched_at = Some(now);
                part.job.tried_since.get_or_insert(now);
                self.push_launch(part);
            }
        } else if let Some(since) = part.job.over_since {
            self.relaunch(part, since, began);
        }
    }

    /// Replaces a Job that was there and is gone without a word.
    fn relaunch(&mut self, part: &mut Part, since: TimestampMs, began: TimestampMs) {
        let grace = self.settings.launch_grace;
        let may_be_hidden = part
            .job
            .launched_at
            .is_some_and(|at| !self.is_past(at, grace));
        if may_be_hidden || !self.is_settled(since) {
            part.starting(Some(format!(
                "its Job is gone since {since}; its last events are waited for"
            )));
            return;
        }
        if part.attempts > self.settings.max_relaunches {
            let reason = format!("given up after {} Jobs: the last vanished", part.attempts);
            part.end(Status::Error, Some(reason), self.seen.now);
            return;
        }
        let times = part.attempts.saturating_sub(1);
        let pause = doubled(self.settings.relaunch_pause, times, MAX_RELAUNCH_PAUSE);
        if self.is_past(since, pause) {
            let next = part.attempts + 1;
            let reason = format!("its Job was gone at {since}; this is number {next}");
            self.make(part, next, began, Some(reason));
        } else {
            let at = after(since, pause);
            part.starting(Some(format!("its Job vanished; the next is made at {at}")));
        }
    }

    fn make(&mut self, part: &mut Part, attempt: u32, began: TimestampMs, reason: Option<String>) {
        part.attempts = attempt;
        part.queue_started_at.get_or_insert(began);
        part.job = JobRecord {
            launched_at: Some(self.seen.now),
            tried_since: Some(self.seen.now),
            ..JobRecord::default()
        };
        part.instance_lost = true;
        part.starting(reason);
        self.push_launch(part);
    }

    fn push_launch(&mut self, part: &Part) {
        self.actions.push(Action::Launch {
            telemetry_id: part.telemetry_id.clone(),
            attempt: part.attempts,
        });
    }

    fn stop(&mut self, part: &mut Part, job: Option<&JobStatus>, told: &Told) {
        let now = self.seen.now;
        let Some(job) = job else {
            self.stop_without_job(part, told);
            return;
        };
        let deleted_at = part.job.delete.map(|asked| asked.first_at);
        if deleted_at.is_some_and(|at| self.is_past(at, self.settings.delete_limit)) {
            let reason = format!(
                "{}; its Job does not go away, and may still run",
                told.reason
            );
            part.end(Status::Interrupted, Some(reason), now);
        } else if job.is_deleting {
            part.job.delete.get_or_insert(again(None, now));
        } else {
            match job.phase {
                JobPhase::Pending => self.delete(part, "it was stopped before it ran"),
                JobPhase::Running => self.stop_running(part, told),
                // Its last event is waited for.
                JobPhase::Succeeded | JobPhase::Failed => {}
            }
        }
    }

    fn stop_without_job(&mut self, part: &mut Part, told: &Told) {
        let reason = if part.job.seen {
            if !part.job.over_since.is_some_and(|at| self.is_settled(at)) {
                return;
            }
            match part.job.delete {
                Some(_) => format!("{}; its Job was deleted", told.reason),
                None => format!("{}; its Job is gone", told.reason),
            }
        } else {
            // A launch may be under way.
            let grace = self.settings.launch_grace;
            let launched_at = part.job.launched_at;
            if launched_at.is_some_and(|at| !self.is_past(at, grace)) {
                return;
            }
            format!("{} before it was started", told.reason)
        };
        part.end(Status::Interrupted, Some(reason), self.seen.now);
    }

    fn stop_running(&mut self, part: &mut Part, told: &Told) {
        let now = self.seen.now;
        let asked = match part.stop_sent {
            // It had time to empty the topic, and has it no longer: the grace begins anew.
            Some(sent) if sent.drain && !told.drain => None,
            sent => sent.map(|sent| sent.asked),
        };
        if asked.is_none_or(|asked| self.is_past(asked.at, self.settings.stop_repeat)) {
            part.stop_sent = Some(StopSent {
                asked: again(asked, now),
                drain: told.drain,
            });
            self.actions.push(Action::SendStop {
                telemetry_id: part.telemetry_id.clone(),
                drain: told.drain,
            });
        }
        let first_at = asked.map_or(now, |asked| asked.first_at);
        let is_late = if told.drain && part.role == Role::Writer {
            let moved_at = part.last_progress_at.unwrap_or(first_at);
            self.is_past(first_at.max(moved_at), self.settings.drain_grace)
        } else {
            self.is_past(first_at, self.settings.stop_grace)
        };
        if is_late {
            self.delete(part, "it did not end after a stop");
        }
    }

    /// Whether, by the events that were read, nothing happened for `wait` after `since`.
    pub(super) fn is_quiet(&self, since: TimestampMs, wait: Duration) -> bool {
        self.seen.events_until >= after(since, wait)
    }
}
