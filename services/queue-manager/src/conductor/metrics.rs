//! What conducting counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::{heal::Action, state::Status};

/// Every status, so that one that nobody has shows as 0.
const STATUSES: [Status; 7] = [
    Status::Pending,
    Status::Starting,
    Status::Running,
    Status::Stalled,
    Status::Finished,
    Status::Interrupted,
    Status::Error,
];

/// What conducting counts. Clones count together.
#[derive(Debug, Clone)]
pub struct ConductorMetrics {
    pub(super) events: IntCounterVec,
    pub(super) events_malformed: IntCounter,
    actions: IntCounterVec,
    workflows: IntGaugeVec,
    conducts: IntGauge,
}

impl ConductorMetrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// One of these names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            events: IntCounterVec::new(
                Opts::new(
                    "streamforge_manager_events_total",
                    "Events read from queue-events, by kind",
                ),
                &["event"],
            )?,
            events_malformed: IntCounter::new(
                "streamforge_manager_events_malformed_total",
                "Messages on queue-events that are no events",
            )?,
            actions: IntCounterVec::new(
                Opts::new(
                    "streamforge_manager_actions_total",
                    "What was done about workflows, by action",
                ),
                &["action"],
            )?,
            workflows: IntGaugeVec::new(
                Opts::new(
                    "streamforge_manager_workflows",
                    "Workflows that are looked after, by status",
                ),
                &["status"],
            )?,
            conducts: IntGauge::new(
                "streamforge_manager_conducts",
                "1 if this replica conducts, 0 if another one does",
            )?,
        };
        registry.register(Box::new(metrics.events.clone()))?;
        registry.register(Box::new(metrics.events_malformed.clone()))?;
        registry.register(Box::new(metrics.actions.clone()))?;
        registry.register(Box::new(metrics.workflows.clone()))?;
        registry.register(Box::new(metrics.conducts.clone()))?;
        Ok(metrics)
    }

    /// Whether this replica conducts.
    pub fn set_conducts(&self, conducts: bool) {
        self.conducts.set(conducts.into());
        if !conducts {
            self.workflows.reset();
        }
    }

    pub(super) fn set_workflows(&self, statuses: impl Iterator<Item = Status>) {
        let found: Vec<Status> = statuses.collect();
        for status in STATUSES {
            let count = found.iter().filter(|found| **found == status).count();
            self.workflows
                .with_label_values(&[status.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn count(&self, action: &Action) {
        let kind = match action {
            Action::Prepare => "prepare",
            Action::Launch { .. } => "launch",
            Action::DeleteJob { .. } => "delete_job",
            Action::SendStop { .. } => "send_stop",
            Action::DeleteTopics => "delete_topics",
        };
        self.actions.with_label_values(&[kind]).inc();
    }
}
