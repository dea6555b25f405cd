//! The row of workflows that wait for their turn, as it is when somebody asks.
//!
//! It is computed as the conductor does, from all workflows that have not ended, and stored nowhere. Those that ask
//! within a second share an answer, so that watching a long row costs no more than looking at it once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use streamforge_utils::protocol::QueueId;
use tokio::sync::Mutex;

use crate::{
    admission::{Admission, Claim, Claimant, Limits, Turn, admit},
    error::ApiError,
    service::of_store,
    store::{Filter, Store, Workflows},
};

/// How long an answer counts.
const KNOWN_FOR: Duration = Duration::from_secs(1);

pub(super) struct Row {
    workflows: Workflows<Claimant>,
    limits: Limits,
    known: Mutex<Option<(Instant, Arc<Admission>)>>,
}

impl Row {
    pub(super) fn new(store: &Store, limits: Limits) -> Self {
        Self {
            workflows: store.workflows(),
            limits,
            known: Mutex::default(),
        }
    }

    /// Where these stand; None of one that does not wait, or may start at the conductor's next look.
    ///
    /// # Errors
    /// The store is away.
    pub(super) async fn turns(&self, ids: &[&QueueId]) -> Result<Vec<Option<Turn>>, ApiError> {
        let admission = self.admission(ids).await?;
        let turn = |id: &&QueueId| admission.waiting.get(*id).copied();
        Ok(ids.iter().map(turn).collect())
    }

    async fn admission(&self, ids: &[&QueueId]) -> Result<Arc<Admission>, ApiError> {
        // Whoever comes while it is computed waits for that.
        let mut known = self.known.lock().await;
        if let Some((at, admission)) = known.as_ref()
            && at.elapsed() < KNOWN_FOR
            && ids.iter().all(|id| is_in(admission, id))
        {
            return Ok(Arc::clone(admission));
        }
        let unfinished = Filter {
            unfinished_only: true,
            ..Filter::default()
        };
        let found = self.workflows.all(&unfinished).await.map_err(of_store)?;
        let claims: Vec<Claim> = found
            .into_iter()
            .filter_map(|found| found.content.claim())
            .collect();
        let admission = Arc::new(admit(&claims, &self.limits));
        *known = Some((Instant::now(), Arc::clone(&admission)));
        Ok(admission)
    }
}

/// Else it may be newer than the answer.
fn is_in(admission: &Admission, id: &QueueId) -> bool {
    admission.waiting.contains_key(id) || admission.start.contains(id)
}
