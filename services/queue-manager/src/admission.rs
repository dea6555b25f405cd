//! Which workflows may start, and the row of those that wait.
//!
//! Pure: from all workflows that are not final. The limits are on workflows at a time, and on loaders per exchange,
//! which share its limits for one address.

use std::collections::BTreeMap;

use streamforge_utils::protocol::{QueueId, TimestampMs, WorkflowKind};

use crate::{
    plan::Role,
    state::{Part, Workflow},
};

/// How much may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Workflows at a time.
    pub workflows: usize,
    /// Loaders at a time that ask the same exchange.
    pub loaders_per_exchange: usize,
}

/// What a workflow takes of the limits, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The workflow.
    pub queue_id: QueueId,
    /// When its run was asked for: its place in the row.
    pub queued_at: TimestampMs,
    /// Whether it had its turn.
    pub is_admitted: bool,
    /// Which exchange its loaders ask; None if they ask none.
    pub exchange: Option<&'static str>,
    /// Its loaders that are not final.
    pub loaders: usize,
}

impl Claim {
    /// Of a workflow; None if it is final, and so takes nothing.
    pub fn of(workflow: &Workflow) -> Option<Self> {
        if workflow.status.is_final() {
            return None;
        }
        let loads = |part: &&Part| part.role == Role::Loader && !part.is_final();
        Some(Self {
            queue_id: workflow.queue_id.clone(),
            queued_at: workflow.queued_at,
            is_admitted: workflow.admitted_at.is_some(),
            exchange: exchange_of(workflow.kind),
            loaders: workflow.parts.iter().filter(loads).count(),
        })
    }
}

/// The exchange that loaders of this type ask.
fn exchange_of(kind: WorkflowKind) -> Option<&'static str> {
    match kind {
        WorkflowKind::Dummy => None,
        WorkflowKind::ApiCandles(_)
        | WorkflowKind::ApiTrades
        | WorkflowKind::WsCandles(_)
        | WorkflowKind::WsTrades
        | WorkflowKind::WsOrderbook => Some("binance"),
    }
}

/// Who may start, and who waits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Admission {
    /// Those that may start now, in order.
    pub start: Vec<QueueId>,
    /// Those that wait, each with its place, from 1.
    pub waiting: BTreeMap<QueueId, usize>,
}

/// Decides from the claims of all workflows that are not final, in any order.
///
/// In order of [`Claim::queued_at`], then of the id. Nobody overtakes for what both need: as soon as one waits for a
/// place, all later ones do; as soon as one waits for an exchange, later ones that need the same do, and others pass.
/// A workflow that alone has more loaders than the limit starts when no other loads from its exchange, since else it
/// never would.
pub fn admit(claims: &[Claim], limits: &Limits) -> Admission {
    let mut running = 0;
    let mut loaders: BTreeMap<&str, usize> = BTreeMap::new();
    for claim in claims.iter().filter(|claim| claim.is_admitted) {
        running += 1;
        if let Some(exchange) = claim.exchange {
            *loaders.entry(exchange).or_default() += claim.loaders;
        }
    }
    let mut row: Vec<&Claim> = claims.iter().filter(|claim| !claim.is_admitted).collect();
    row.sort_by_key(|claim| (claim.queued_at, &claim.queue_id));
    let mut admission = Admission::default();
    let mut closed: Vec<&str> = Vec::new();
    for claim in row {
        let has_turn = match claim.exchange.filter(|_| claim.loaders > 0) {
            None => true,
            Some(exchange) => {
                let used = loaders.get(exchange).copied().unwrap_or(0);
                let fits = used == 0 || used + claim.loaders <= limits.loaders_per_exchange;
                let has_turn = fits && !closed.contains(&exchange);
                if !has_turn {
                    closed.push(exchange);
                }
                has_turn
            }
        };
        if has_turn && running < limits.workflows {
            running += 1;
            if let Some(exchange) = claim.exchange {
                *loaders.entry(exchange).or_default() += claim.loaders;
            }
            admission.start.push(claim.queue_id.clone());
        } else {
            let place = admission.waiting.len() + 1;
            admission.waiting.insert(claim.queue_id.clone(), place);
        }
    }
    admission
}

#[cfg(test)]
mod tests;
