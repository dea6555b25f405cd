//! Does what is to be done, side by side, each thing once at a time.
//!
//! Nothing here decides anything: an action that fails or is lost is asked for again by healing.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use streamforge_utils::{
    control::Commander,
    kafka::{TopicError, TopicSpec, Topics},
    protocol::{Command, CommandKind, CommandPayload, QueueId, dead_letter_topic},
};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{Conductor, held::Change};
use crate::{
    heal::Action,
    launcher::{JobSpec, Launched, Launcher},
    state::Workflow,
    store::{StoreError, Telemetry, Workflows},
};

/// How long making a topic may take; then it is tried again.
const TOPIC_LIMIT: Duration = Duration::from_secs(20);
/// Actions on Jobs at a time, and as many that need the brokers: while those are away, Jobs are still ended.
const AT_A_TIME: usize = 16;

/// An action has ended.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) queue_id: QueueId,
    /// The run that it was for: it means nothing for a later one.
    pub(super) run: u32,
    /// What that means for the document, if anything.
    pub(super) change: Option<Change>,
    /// Whether there is no document any more.
    pub(super) is_removed: bool,
    key: Key,
}

/// What is under way: it is not begun again before it has ended.
type Key = (String, String);

pub(super) struct Actor {
    launcher: Arc<dyn Launcher>,
    topics: Topics,
    commander: Commander,
    workflows: Workflows<Workflow>,
    history: Telemetry,
    has_topic_admin: bool,
    job_deadline: Duration,
    job_slots: Arc<Semaphore>,
    broker_slots: Arc<Semaphore>,
    running: JoinSet<Done>,
    busy: BTreeSet<Key>,
}

impl Actor {
    pub(super) fn new(conductor: &Conductor) -> Self {
        Self {
            launcher: Arc::clone(&conductor.launcher),
            topics: conductor.topics.clone(),
            commander: conductor.commander.clone(),
            workflows: conductor.store.workflows(),
            history: conductor.store.telemetry(conductor.settings.events_kept),
            has_topic_admin: conductor.kafka.topic_admin,
            job_deadline: conductor.settings.job_deadline,
            job_slots: Arc::new(Semaphore::new(AT_A_TIME)),
            broker_slots: Arc::new(Semaphore::new(AT_A_TIME)),
            running: JoinSet::new(),
            busy: BTreeSet::new(),
        }
    }

    /// The next action that has ended; waits for ever if there is none.
    pub(super) async fn next(&mut self) -> Done {
        match self.running.join_next().await {
            Some(done) => {
                let done =
                    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
                self.busy.remove(&done.key);
                done
            }
            None => std::future::pending().await,
        }
    }

    /// Begins an action for a workflow whose document is stored.
    pub(super) fn begin(&mut self, workflow: &Workflow, action: Action) {
        let queue_id = workflow.queue_id.clone();
        let of_run = (queue_id.clone(), workflow.run);
        tracing::debug!(queue.id = %queue_id, ?action, "Acting");
        match action {
            Action::Prepare => {
                let work = self.prepare(workflow);
                self.spawn(of_run, "prepare".to_owned(), work);
            }
            Action::Launch {
                telemetry_id,
                attempt,
            } => {
                let Some(job) = workflow.job(&telemetry_id, attempt, self.job_deadline) else {
                    return;
                };
                let work = launch(Arc::clone(&self.launcher), job);
                self.spawn(of_run, format!("launch {telemetry_id}"), work);
            }
            Action::DeleteJob { name, reason } => {
                tracing::info!(queue.id = %queue_id, job = name, reason, "Deleting a Job");
                let work = delete_job(Arc::clone(&self.launcher), name.clone());
                self.spawn(of_run, format!("delete job {name}"), work);
            }
            Action::SendStop {
                telemetry_id,
                drain,
            } => {
                let command = Command {
                    run: Some(workflow.run),
                    target: Some(telemetry_id.clone()),
                    payload: drain.then_some(CommandPayload {
                        drain,
                        ..CommandPayload::default()
                    }),
                    ..Command::new(CommandKind::Stop, queue_id.as_str())
                };
                let commander = self.commander.clone();
                let work = async move {
                    if let Err(error) = commander.send(&command).await {
                        tracing::warn!(queue.id = command.queue_id, %error, "A stop was not sent; it is tried again");
                    }
                    None
                };
                self.spawn(of_run, format!("stop {telemetry_id}"), work);
            }
            Action::DeleteTopics => {
                let work = delete_topics(self.topics.clone(), workflow.kafka_topic.clone());
                self.spawn(of_run, "delete topics".to_owned(), work);
            }
        }
    }

    /// Ends a Job of which nothing else is known.
    pub(super) fn delete_orphan(&mut self, name: &str, queue_id: &QueueId) {
        let (name, queue_id) = (name.to_owned(), queue_id.clone());
        tracing::warn!(job = name, queue.id = %queue_id, "Deleting a Job that belongs to nothing any more");
        let work = delete_job(Arc::clone(&self.launcher), name.clone());
        self.spawn((queue_id, 0), format!("delete job {name}"), work);
    }

    /// Forgets a workflow that is over and has no Jobs any more: its topics, its events, and last its document, so that
    /// what is left of it after a crash is found again.
    pub(super) fn remove(&mut self, workflow: &Workflow) {
        let (queue_id, run) = (workflow.queue_id.clone(), workflow.run);
        let key = (queue_id.to_string(), "remove".to_owned());
        if !self.busy.insert(key.clone()) {
            return;
        }
        let has_topics = workflow.retention.deleted_at.is_none() && workflow.kafka_topic.is_some();
        let topics =
            has_topics.then(|| delete_topics(self.topics.clone(), workflow.kafka_topic.clone()));
        let (history, workflows) = (self.history.clone(), self.workflows.clone());
        let slots = Arc::clone(&self.broker_slots);
        self.running.spawn(async move {
            let _slot = slots.acquire().await;
            if let Some(topics) = topics {
                match topics.await {
                    Some(Change::TopicsKept(because)) => {
                        tracing::warn!(queue.id = %queue_id, because, "Its topics stay");
                    }
                    Some(_) => {}
                    // The brokers are away; it is asked for again.
                    None => {
                        return Done {
                            queue_id,
                            run,
                            change: None,
                            is_removed: false,
                            key,
                        };
                    }
                }
            }
            let removed = async {
                history.remove(&queue_id).await?;
                workflows.remove(&queue_id).await
            };
            let is_removed = match removed.await {
                Ok(()) | Err(StoreError::NotFound(_)) => true,
                Err(error) => {
                    tracing::warn!(queue.id = %queue_id, %error, "It is not forgotten yet, trying on");
                    false
                }
            };
            Done {
                queue_id,
                run,
                change: None,
                is_removed,
                key,
            }
        });
    }

    fn spawn(
        &mut self,
        (queue_id, run): (QueueId, u32),
        what: String,
        work: impl Future<Output = Option<Change>> + Send + 'static,
    ) {
        let is_about_a_job = what.starts_with("launch") || what.starts_with("delete job");
        let key = (queue_id.to_string(), what);
        if !self.busy.insert(key.clone()) {
            return;
        }
        let slots = Arc::clone(match is_about_a_job {
            true => &self.job_slots,
            false => &self.broker_slots,
        });
        self.running.spawn(async move {
            let _slot = slots.acquire().await;
            let change = work.await;
            Done {
                queue_id,
                run,
                change,
                is_removed: false,
                key,
            }
        });
    }

    /// Makes the data topic, then says `start` for each worker.
    fn prepare(
        &self,
        workflow: &Workflow,
    ) -> impl Future<Output = Option<Change>> + Send + 'static {
        let topics = self.topics.clone();
        let commander = self.commander.clone();
        // Where nobody can make topics when asked, whoever runs the broker does, and loaders wait for that.
        let spec = topic(workflow).filter(|_| self.has_topic_admin);
        let starts = starts(workflow);
        async move {
            if let Some(spec) = spec {
                match topics.ensure(&spec, TOPIC_LIMIT).await {
                    Ok(_) => {}
                    Err(error) if error.is_permanent() => {
                        return Some(Change::PrepareFailed(error.to_string()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "The data topic is not made yet, trying on");
                        return Some(Change::PrepareDelayed(error.to_string()));
                    }
                }
            }
            for start in starts {
                if let Err(error) = commander.send(&start).await {
                    tracing::warn!(queue.id = start.queue_id, %error, "A start was not sent; it is tried again");
                    return Some(Change::PrepareDelayed(error.to_string()));
                }
            }
            Some(Change::Prepared)
        }
    }
}

/// The data topic as its loader would make it; None if there is none.
fn topic(workflow: &Workflow) -> Option<TopicSpec> {
    Some(TopicSpec {
        name: workflow.kafka_topic.clone()?,
        partitions: i32::try_from(workflow.partitions).unwrap_or(i32::MAX),
        replication: workflow
            .replication
            .map(|replicas| i32::try_from(replicas).unwrap_or(i32::MAX)),
        retention_hours: workflow.retention_hours.into(),
    })
}

/// What tells everyone who listens what is launched.
fn starts(workflow: &Workflow) -> Vec<Command> {
    let of_run = workflow
        .parts
        .iter()
        .filter(|part| part.run == workflow.run);
    of_run
        .map(|part| Command {
            run: Some(workflow.run),
            target: Some(part.target.clone()),
            symbol: Some(workflow.symbol.to_string()),
            kind: Some(workflow.kind.to_string()),
            time_range: workflow.time_range.as_ref().map(ToString::to_string),
            kafka_topic: workflow.kafka_topic.clone(),
            collection_name: part.collection.clone(),
            telemetry_id: Some(part.telemetry_id.clone()),
            image: Some(part.image.clone()),
            ..Command::new(CommandKind::Start, workflow.queue_id.as_str())
        })
        .collect()
}

async fn launch(launcher: Arc<dyn Launcher>, job: JobSpec) -> Option<Change> {
    match launcher.launch(&job).await {
        Ok(Launched::New) => {
            tracing::info!(
                queue.id = %job.queue_id, run = job.run, attempt = job.attempt, job = job.name, "Launched a Job"
            );
            None
        }
        Ok(Launched::AlreadyThere) => None,
        Err(error) => {
            tracing::warn!(queue.id = %job.queue_id, job = job.name, %error, "A Job was not made");
            Some(Change::LaunchFailed {
                telemetry_id: job.telemetry_id,
                error,
            })
        }
    }
}

async fn delete_job(launcher: Arc<dyn Launcher>, name: String) -> Option<Change> {
    if let Err(error) = launcher.delete(&name).await {
        tracing::warn!(job = name, %error, "A Job was not deleted; it is tried again");
    }
    None
}

async fn delete_topics(topics: Topics, data: Option<String>) -> Option<Change> {
    let data = data?;
    for topic in [dead_letter_topic(&data), data] {
        match topics.delete(&topic).await {
            Ok(was_there) => tracing::info!(topic, was_there, "Deleted a topic"),
            Err(error @ TopicError::Refused { .. }) => {
                return Some(Change::TopicsKept(error.to_string()));
            }
            Err(error) => {
                tracing::warn!(%error, "A topic was not deleted; it is tried again");
                return None;
            }
        }
    }
    Some(Change::TopicsDeleted)
}
