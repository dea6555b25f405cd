//! What the routes call: starts, stops, repeats and removes workflows, and reads what is known of them.
//!
//! It decides on what the store says now, and stores the decision only if nobody else was faster. It launches nothing:
//! that is the conductor's, which is nudged. What a start checks, it checks before anything is made.

mod once;
mod read;
mod row;
mod start;

use std::sync::Arc;

use streamforge_utils::protocol::{QueueId, TimestampMs};
use tokio::sync::Notify;

use crate::{
    admission::Limits,
    error::ApiError,
    flows::Flows,
    launcher::Launcher,
    plan::Planner,
    state::{NoRetry, Workflow},
    store::{Store, StoreError, Telemetry, Workflows},
    symbols::Symbols,
    view::QueueSummary,
};
pub use once::{Answer, Key, Once};
pub use read::Wanted;
use row::Row;
pub use start::Shorts;

/// What a service is made of.
pub struct Parts {
    /// What is known.
    pub store: Store,
    /// The history.
    pub telemetry: Telemetry,
    /// What runs the Jobs; asked for logs only.
    pub launcher: Arc<dyn Launcher>,
    /// Which symbols there are.
    pub symbols: Symbols,
    /// What the operator decides for all plans.
    pub planner: Planner,
    /// What the operator has written down.
    pub flows: Flows,
    /// How much may run at once: who waits is told for what.
    pub run_limits: Limits,
    /// Wakes the conductor, if this replica has it.
    pub nudge: Arc<Notify>,
    /// Wakes who tells of changes.
    pub changed: Arc<Notify>,
}

/// What the routes call.
pub struct Service {
    parts: Parts,
    workflows: Workflows<Workflow>,
    summaries: Workflows<QueueSummary>,
    row: Row,
}

/// What a stop came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopping {
    /// It was asked for now.
    Begun,
    /// It was asked for before.
    AlreadyAsked,
    /// There is nothing to stop.
    AlreadyEnded,
}

impl Service {
    /// Puts it together. Asks for nothing.
    pub fn new(parts: Parts) -> Self {
        Self {
            workflows: parts.store.workflows(),
            summaries: parts.store.workflows(),
            row: Row::new(&parts.store, parts.run_limits),
            parts,
        }
    }

    /// Something was stored.
    fn stored(&self) {
        self.parts.nudge.notify_one();
        self.parts.changed.notify_waiters();
    }

    /// Asks a workflow to end.
    ///
    /// # Errors
    /// There is none of this id, or the store is away.
    pub async fn stop(
        &self,
        queue_id: &QueueId,
        drain: bool,
        by: &str,
    ) -> Result<(Stopping, Workflow), ApiError> {
        let mut stopping = Stopping::Begun;
        let stored = self.workflows.update(queue_id, |workflow| {
            let changed = workflow.request_stop(drain, by, TimestampMs::now());
            stopping = match (changed, workflow.stop.is_some()) {
                (true, _) => Stopping::Begun,
                (false, true) if !workflow.status.is_final() => Stopping::AlreadyAsked,
                (false, _) => Stopping::AlreadyEnded,
            };
            changed
        });
        let stored = stored.await.map_err(|error| of_queue(queue_id, error))?;
        self.stored();
        Ok((stopping, stored.content))
    }

    /// Begins the next run of what did not finish.
    ///
    /// # Errors
    /// There is no such workflow, or nothing of it to run again; or the store is away.
    pub async fn retry(&self, queue_id: &QueueId) -> Result<Workflow, ApiError> {
        let mut refused = None;
        let stored = self.workflows.update(queue_id, |workflow| {
            refused = workflow.begin_retry(TimestampMs::now()).err();
            refused.is_none()
        });
        let stored = stored.await.map_err(|error| of_queue(queue_id, error))?;
        if let Some(refused) = refused {
            let advice = match refused {
                NoRetry::NotEnded => ": stop it, or wait",
                NoRetry::AllFinished | NoRetry::Removed => "",
            };
            return Err(ApiError::Conflict(format!(
                "{queue_id} can't be run again: {refused}{advice}"
            )));
        }
        self.stored();
        Ok(stored.content)
    }

    /// Asks for a workflow to be forgotten; the conductor removes its Jobs, topics and events, and then itself. One that
    /// has not ended is refused, or, with `force`, stopped first.
    ///
    /// # Errors
    /// There is none of this id, or it has not ended; or the store is away.
    pub async fn remove(
        &self,
        queue_id: &QueueId,
        force: bool,
        by: &str,
    ) -> Result<Workflow, ApiError> {
        let mut refused = false;
        let stored = self.workflows.update(queue_id, |workflow| {
            refused = !force && !workflow.status.is_final() && workflow.removal.is_none();
            !refused && workflow.request_removal(by, TimestampMs::now())
        });
        let stored = stored.await.map_err(|error| of_queue(queue_id, error))?;
        if refused {
            return Err(ApiError::Conflict(format!(
                "{queue_id} has not ended: stop it and wait, or remove it with force=true, which stops it first"
            )));
        }
        self.stored();
        Ok(stored.content)
    }
}

/// What went wrong with one workflow in the store.
fn of_queue(queue_id: &QueueId, error: StoreError) -> ApiError {
    match error {
        StoreError::NotFound(_) => ApiError::NoQueue(queue_id.clone()),
        StoreError::Conflict(_) => ApiError::Conflict(format!(
            "{queue_id} is being changed by others again and again; ask again"
        )),
        StoreError::Unreadable(what) => ApiError::Conflict(format!(
            "the document of {queue_id} can't be read, so it is left as it is: {what}"
        )),
        other => of_store(other),
    }
}

/// What went wrong with the store.
pub(crate) fn of_store(error: StoreError) -> ApiError {
    match error {
        StoreError::BadCursor => {
            let mut errors = crate::request::FieldErrors::default();
            errors.wrong(
                "cursor",
                "none that an earlier page of this list gave",
                "next_cursor of an earlier answer, as it was",
            );
            errors.into()
        }
        StoreError::Unavailable(cause) => ApiError::unavailable("the database", cause),
        other => ApiError::Internal(other.to_string()),
    }
}
