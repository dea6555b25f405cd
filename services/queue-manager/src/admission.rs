//! Which workflows may start, and the row of those that wait.
//!
//! Pure: from all workflows that are not final. The limits are on workflows at a time, and on loaders per exchange,
//! which share its limits for one address.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use streamforge_utils::protocol::{QueueId, TimestampMs, WorkflowKind};
use utoipa::ToSchema;

use crate::{
    plan::Role,
    state::{Status, Workflow},
    store::Excerpt,
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
        let parts = workflow.parts.iter().map(|part| (part.role, part.status));
        Claimant {
            queue_id: workflow.queue_id.clone(),
            kind: workflow.kind,
            status: workflow.status,
            queued_at: workflow.queued_at,
            admitted_at: workflow.admitted_at,
            parts: parts
                .map(|(role, status)| ClaimantPart { role, status })
                .collect(),
        }
        .claim()
    }
}

/// A workflow as far as its claim goes: all that is read of its document to know the row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claimant {
    queue_id: QueueId,
    #[serde(rename = "type")]
    kind: WorkflowKind,
    status: Status,
    queued_at: TimestampMs,
    admitted_at: Option<TimestampMs>,
    parts: Vec<ClaimantPart>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ClaimantPart {
    role: Role,
    status: Status,
}

impl Excerpt for Claimant {
    const ATTRIBUTES: &'static [&'static str] = &[
        "queue_id",
        "type",
        "status",
        "queued_at",
        "admitted_at",
        "parts",
    ];
}

impl Claimant {
    /// Its claim; None if it is final, and so takes nothing.
    pub fn claim(self) -> Option<Claim> {
        if self.status.is_final() {
            return None;
        }
        let loads = |part: &&ClaimantPart| part.role == Role::Loader && !part.status.is_final();
        Some(Claim {
            is_admitted: self.admitted_at.is_some(),
            exchange: exchange_of(self.kind),
            loaders: self.parts.iter().filter(loads).count(),
            queue_id: self.queue_id,
            queued_at: self.queued_at,
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

/// What a workflow waits for that waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WaitsFor {
    /// A place among those that run: `MAX_WORKFLOWS`.
    Place,
    /// The exchange, which others load from: `MAX_LOADERS`.
    Exchange,
}

/// Where a workflow stands in the row of those that wait for their turn, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Turn {
    /// How many wait before it.
    pub before: usize,
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// How many workflows may run at a time, or how many loaders may ask the exchange.
    pub limit: usize,
}

/// Who may start, and who waits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Admission {
    /// Those that may start now, in order.
    pub start: Vec<QueueId>,
    /// Those that wait.
    pub waiting: BTreeMap<QueueId, Turn>,
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
            let (waits_for, limit) = match has_turn {
                true => (WaitsFor::Place, limits.workflows),
                false => (WaitsFor::Exchange, limits.loaders_per_exchange),
            };
            let turn = Turn {
                before: admission.waiting.len(),
                waits_for,
                limit,
            };
            admission.waiting.insert(claim.queue_id.clone(), turn);
        }
    }
    admission
}

#[cfg(test)]
mod tests;
