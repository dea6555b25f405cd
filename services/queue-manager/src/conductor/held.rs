//! A workflow that the conductor looks after: its document, and what changed since that was stored.

use streamforge_utils::protocol::{Event, TimestampMs};

use crate::{
    launcher::LaunchError,
    state::{Applied, Position, Workflow},
};

/// Something that happened to a workflow. What is not stored yet is applied again to a document that somebody else has
/// changed meanwhile.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Event(Position, Box<Event>),
    Admitted,
    Prepared,
    PrepareDelayed(String),
    PrepareFailed(String),
    LaunchFailed {
        telemetry_id: String,
        error: LaunchError,
    },
    TopicsDeleted,
    TopicsKept(String),
}

/// A document, how it is stored, and what it is ahead of that.
#[derive(Debug)]
pub(super) struct Held<R> {
    pub(super) workflow: Workflow,
    pub(super) revision: R,
    /// What is not stored yet, with its run and when it happened.
    unstored: Vec<(Change, u32, TimestampMs)>,
    /// Whether healing changed it; that is found out again if it is lost.
    is_healed: bool,
}

impl<R> Held<R> {
    pub(super) fn new(workflow: Workflow, revision: R) -> Self {
        Self {
            workflow,
            revision,
            unstored: Vec::new(),
            is_healed: false,
        }
    }

    /// Whether it is ahead of what is stored.
    pub(super) fn is_dirty(&self) -> bool {
        self.is_healed || !self.unstored.is_empty()
    }

    /// Applies a change; what an event did.
    pub(super) fn change(&mut self, change: Change, now: TimestampMs) -> Applied {
        let applied = apply(&mut self.workflow, &change, now);
        if applied != Applied::Nothing {
            self.unstored.push((change, self.workflow.run, now));
        }
        applied
    }

    /// Lets healing look at it; whether that changed it.
    pub(super) fn heal<T>(&mut self, look: impl FnOnce(&mut Workflow) -> T) -> (bool, T) {
        let before = self.workflow.clone();
        let found = look(&mut self.workflow);
        let is_changed = self.workflow != before;
        self.is_healed |= is_changed;
        (is_changed, found)
    }

    /// All of it is stored, as this revision.
    pub(super) fn stored(&mut self, revision: R) {
        self.revision = revision;
        self.unstored.clear();
        self.is_healed = false;
    }

    /// Somebody else has changed it: goes on from there.
    pub(super) fn rebase(&mut self, workflow: Workflow, revision: R) {
        self.workflow = workflow;
        self.revision = revision;
        self.is_healed = false;
        for (change, run, at) in std::mem::take(&mut self.unstored) {
            // Events say themselves which run they are of; all else was about that one.
            if run == self.workflow.run || matches!(change, Change::Event(..)) {
                self.change(change, at);
            }
        }
    }
}

fn apply(workflow: &mut Workflow, change: &Change, now: TimestampMs) -> Applied {
    match change {
        Change::Event(position, event) => return workflow.apply(*position, event, now),
        Change::Admitted => workflow.admit(now),
        Change::Prepared => workflow.prepared(now),
        Change::PrepareDelayed(reason) => workflow.prepare_delayed(reason, now),
        Change::PrepareFailed(reason) => workflow.prepare_failed(reason, now),
        Change::LaunchFailed {
            telemetry_id,
            error,
        } => workflow.launch_failed(telemetry_id, error, now),
        Change::TopicsDeleted => workflow.topics_deleted(now),
        Change::TopicsKept(because) => workflow.topics_kept(because, now),
    }
    Applied::Lifecycle
}
