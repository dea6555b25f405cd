//! What the Jobs say about the parts.

use streamforge_utils::protocol::TimestampMs;

use super::{Action, Look, orphans::has_ended, words};
use crate::{
    launcher::{JobPhase, JobStatus, Trouble, TroubleKind},
    state::{Asked, Part, Stall, Status, Workflow},
};

impl Look<'_> {
    /// Brings each part up to what its Job says; what is to be done about it comes later, when all are.
    pub(super) fn join(&mut self, workflow: &mut Workflow) {
        for index in 0..workflow.parts.len() {
            let jobs = self.jobs_of(workflow, &workflow.parts[index].telemetry_id);
            self.retire_earlier_runs(workflow, index);
            let told = workflow.told_to_stop(&workflow.parts[index]);
            let part = &mut workflow.parts[index];
            match jobs.current {
                Some(job) if part.is_final() => self.retire(part, job),
                Some(job) => self.join_job(part, job, told.map(|told| told.reason)),
                None if !part.is_final() && part.job.seen => {
                    part.job.over_since.get_or_insert(self.seen.now);
                    part.instance_lost = true;
                }
                None => {}
            }
        }
    }

    fn join_job(&mut self, part: &mut Part, job: &JobStatus, told: Option<String>) {
        part.attempts = part.attempts.max(job.attempt);
        if job.attempt == part.attempts {
            part.job.seen = true;
        }
        part.starts = job.starts;
        if let Some(TroubleKind::ExitCode(code)) = job.trouble.as_ref().map(|trouble| trouble.kind)
        {
            part.exit_code = Some(code);
        }
        if job.alive == 0 {
            part.instance_lost = true;
        }
        if job.is_deleting {
            part.job.over_since = None;
            let reason = || "its Job is being deleted".to_owned();
            part.reason.get_or_insert_with(reason);
            return;
        }
        match job.phase {
            JobPhase::Pending => {
                part.job.over_since = None;
                self.join_pending(part, job.trouble.as_ref());
            }
            JobPhase::Running => {
                part.job.over_since = None;
                if words::is_queued(job.trouble.as_ref()) {
                    // It ran, and was put back into its queue.
                    self.join_pending(part, job.trouble.as_ref());
                    return;
                }
                let is_heard = part.status == Status::Running || part.stall == Some(Stall::Idle);
                match &job.trouble {
                    Some(trouble) if words::keeps_from_starting(trouble) && !is_heard => {
                        self.join_pending(part, Some(trouble));
                    }
                    _ => self.join_running(part, job),
                }
            }
            JobPhase::Succeeded | JobPhase::Failed => {
                let since = *part.job.over_since.get_or_insert(self.seen.now);
                if self.is_settled(since) {
                    self.conclude(part, job, told);
                } else {
                    let reason = "its Job has ended; its last event is waited for";
                    part.reason = Some(reason.to_owned());
                }
            }
        }
    }

    fn join_pending(&mut self, part: &mut Part, trouble: Option<&Trouble>) {
        let Some(trouble) = trouble else {
            part.job.trouble_since = None;
            let was_queued = self.leaves_queue(part);
            if part.status == Status::Pending || part.stall == Some(Stall::Job) || was_queued {
                part.starting(None);
            }
            return;
        };
        if words::is_queued(Some(trouble)) {
            part.job.trouble_since = None;
            part.starting(Some(words::of_trouble(trouble)));
            return;
        }
        let since = *part.job.trouble_since.get_or_insert(self.seen.now);
        let limit = match trouble.kind {
            TroubleKind::NoPod => self.settings.quota_limit,
            TroubleKind::Unschedulable => self.settings.schedule_limit,
            _ => self.settings.start_limit,
        };
        let words = words::of_trouble(trouble);
        if self.is_past(since, limit) {
            let reason = format!("given up after {} min: {words}", limit.as_secs() / 60);
            part.end(Status::Error, Some(reason), self.seen.now);
        } else {
            part.stalled(Stall::Job, words);
        }
    }

    fn join_running(&mut self, part: &mut Part, job: &JobStatus) {
        // Between two processes: the last one died without a word, or said why and is being followed by the next.
        let died = job.alive == 0 && !part.instance_ended && part.status == Status::Running;
        if let (true, Some(trouble)) = (died, &job.trouble) {
            let reason = format!("{}; its Job starts it again", words::of_trouble(trouble));
            part.starting(Some(reason));
            return;
        }
        let was_queued = self.leaves_queue(part);
        if part.status == Status::Pending || part.stall == Some(Stall::Job) || was_queued {
            part.job.trouble_since = None;
            part.starting(None);
        }
    }

    /// Whether its Job was queued until now. Its silence is counted from now on.
    fn leaves_queue(&self, part: &mut Part) -> bool {
        let was_queued = part.reason.as_deref().is_some_and(words::says_queued);
        if was_queued {
            part.job.launched_at = Some(self.seen.now);
        }
        was_queued
    }

    /// Ends a part by its Job, now that its last event would have been read.
    fn conclude(&mut self, part: &mut Part, job: &JobStatus, told: Option<String>) {
        let now = self.seen.now;
        let trouble = job.trouble.as_ref();
        if job.phase == JobPhase::Succeeded {
            part.exit_code = Some(0);
            let unseen = "its Job ended well, and its last event was never seen";
            match told {
                Some(told) => {
                    part.end(Status::Interrupted, Some(format!("{told}; {unseen}")), now);
                }
                None => {
                    part.retryable = Some(true);
                    let reason = format!(
                        "{unseen}: it finished, or was stopped from elsewhere; a retry finds out"
                    );
                    part.end(Status::Error, Some(reason), now);
                }
            }
            return;
        }
        if !words::can_pass(trouble) {
            let reason = words::of_failure(part, trouble);
            part.end(Status::Error, Some(reason), now);
        } else if let Some(told) = told {
            let reason = format!("{told}; {}", words::of_failure(part, trouble));
            part.end(Status::Interrupted, Some(reason), now);
        } else if part.attempts > self.settings.max_relaunches {
            let reason = words::of_failure(part, trouble);
            let reason = format!("given up after {} Jobs: {reason}", part.attempts);
            part.end(Status::Error, Some(reason), now);
        } else {
            self.replace(part, trouble);
        }
    }

    /// Makes room for the next Job. That is made once this one is gone.
    fn replace(&mut self, part: &mut Part, trouble: Option<&Trouble>) {
        let reason = words::of_failure(part, trouble);
        let asked = part.job.delete.map(|asked| asked.first_at);
        if asked.is_some_and(|at| self.is_past(at, self.settings.delete_limit)) {
            let reason = format!("{reason}; its Job could not be deleted");
            part.end(Status::Error, Some(reason), self.seen.now);
        } else {
            part.starting(Some(format!("{reason}; its Job is made anew")));
            self.delete(part, "its place is needed for the next");
        }
    }

    /// A part is final: its Job must not keep its place.
    fn retire(&mut self, part: &mut Part, job: &JobStatus) {
        let ended_at = part.ended_at.unwrap_or(self.seen.now);
        if !has_ended(job) && !job.is_deleting && self.is_past(ended_at, self.settings.linger) {
            self.delete(part, "its part has ended, and it goes on");
        }
    }

    /// A worker of an earlier run would work against this one.
    fn retire_earlier_runs(&mut self, workflow: &mut Workflow, index: usize) {
        let (queue_id, run) = (workflow.queue_id.clone(), workflow.run);
        let part = &mut workflow.parts[index];
        let earlier = |job: &&JobStatus| {
            job.queue_id == queue_id && job.telemetry_id == part.telemetry_id && job.run < run
        };
        let jobs = self.seen.jobs.iter().filter(earlier);
        let names: Vec<String> = jobs
            .filter(|job| !has_ended(job) && !job.is_deleting)
            .map(|job| job.name.clone())
            .collect();
        let swept_at = part.job.swept_at;
        let is_due = swept_at.is_none_or(|at| self.is_past(at, self.settings.delete_repeat));
        if names.is_empty() || !is_due {
            return;
        }
        part.job.swept_at = Some(self.seen.now);
        for name in names {
            let reason = "it is of an earlier run".to_owned();
            self.actions.push(Action::DeleteJob { name, reason });
        }
    }

    pub(super) fn is_due(&self, asked: Option<Asked>) -> bool {
        asked.is_none_or(|asked| self.is_past(asked.at, self.settings.delete_repeat))
    }

    /// Deletes a part's Job, and again after a while if it is still there.
    pub(super) fn delete(&mut self, part: &mut Part, reason: &str) {
        if !self.is_due(part.job.delete) {
            return;
        }
        part.job.delete = Some(again(part.job.delete, self.seen.now));
        self.actions.push(Action::DeleteJob {
            name: part.job_name.clone(),
            reason: reason.to_owned(),
        });
    }
}

pub(super) fn again(asked: Option<Asked>, now: TimestampMs) -> Asked {
    let first_at = asked.map_or(now, |asked| asked.first_at);
    Asked { first_at, at: now }
}
