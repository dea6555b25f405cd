//! Reads what is known of workflows: states, lists, histories, logs.

use futures::{StreamExt, TryStreamExt, stream};
use streamforge_utils::protocol::QueueId;

use super::{Service, of_queue, of_store};
use crate::{
    error::ApiError,
    request::FieldErrors,
    state::{Part, Workflow},
    store::{Cursor, Filter, StoreError},
    view::{EventList, HistoryEvent, LogList, PartLog, Queue, QueueList, QueueSummary},
};

/// Logs that are fetched at a time.
const LOGS_AT_A_TIME: usize = 4;

/// A page that is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Behind what; from the beginning without it.
    pub after: Option<Cursor>,
    /// Most rows.
    pub limit: usize,
}

impl Service {
    /// The state of a workflow.
    ///
    /// # Errors
    /// There is none of this id, or the store is away.
    pub async fn get(&self, queue_id: &QueueId) -> Result<Workflow, ApiError> {
        let found = self.workflows.get(queue_id).await;
        let found = found.map_err(|error| of_queue(queue_id, error))?;
        Ok(found.content)
    }

    /// The state of a workflow, with its turn if it waits for that. One that can't be read is shown as failed.
    ///
    /// # Errors
    /// There is none of this id, or the store is away.
    pub async fn show(&self, queue_id: &QueueId) -> Result<Queue, ApiError> {
        let workflow = match self.workflows.get(queue_id).await {
            Ok(found) => found.content,
            Err(StoreError::Unreadable(what)) => Workflow::unreadable(queue_id, &what),
            Err(error) => return Err(of_queue(queue_id, error)),
        };
        let turn = match workflow.waits() {
            true => self.row.turns(&[queue_id]).await?.pop().flatten(),
            false => None,
        };
        Ok(Queue { workflow, turn })
    }

    /// A page of workflows, newest first, those that wait with their turn.
    ///
    /// # Errors
    /// The cursor is one of another list, or the store is away.
    pub async fn list(&self, filter: &Filter, page: &Wanted) -> Result<QueueList, ApiError> {
        let rows = self
            .summaries
            .list(filter, page.after.as_ref(), page.limit)
            .await
            .map_err(of_store)?;
        let mut queues: Vec<QueueSummary> = rows.rows.into_iter().map(Into::into).collect();
        let mut waiting: Vec<&mut QueueSummary> =
            queues.iter_mut().filter(|row| row.waits()).collect();
        if !waiting.is_empty() {
            let ids: Vec<&QueueId> = waiting.iter().map(|row| &row.queue_id).collect();
            let turns = self.row.turns(&ids).await?;
            for (row, turn) in waiting.iter_mut().zip(turns) {
                row.turn = turn;
            }
        }
        Ok(QueueList {
            queues,
            next_cursor: rows.next.map(|cursor| cursor.to_string()),
        })
    }

    /// A page of a workflow's events, oldest first.
    ///
    /// # Errors
    /// As [`Service::get`] and [`Service::list`].
    pub async fn events(&self, queue_id: &QueueId, page: &Wanted) -> Result<EventList, ApiError> {
        let telemetry = &self.parts.telemetry;
        let rows = telemetry
            .list(queue_id, page.after.as_ref(), page.limit)
            .await
            .map_err(of_store)?;
        if rows.rows.is_empty() {
            // No events, or no workflow?
            self.get(queue_id).await?;
        }
        let events = rows.rows.into_iter().map(|row| HistoryEvent {
            stored_at: row.stored_at,
            event: row.event,
        });
        Ok(EventList {
            events: events.collect(),
            next_cursor: rows.next.map(|cursor| cursor.to_string()),
        })
    }

    /// The last `lines` of the log of each worker's last pod or process, or of one worker's only.
    ///
    /// # Errors
    /// There is no such workflow or worker, or the store or the launcher is away.
    pub async fn logs(
        &self,
        queue_id: &QueueId,
        part: Option<&str>,
        lines: u32,
    ) -> Result<LogList, ApiError> {
        let workflow = self.get(queue_id).await?;
        let wanted: Vec<Part> = workflow
            .parts
            .iter()
            .filter(|it| part.is_none_or(|part| it.telemetry_id == part))
            .cloned()
            .collect();
        if let (true, Some(part)) = (wanted.is_empty(), part) {
            let all = workflow.parts.iter().map(|it| it.telemetry_id.as_str());
            let expected = format!("one of {}", all.collect::<Vec<_>>().join(", "));
            let mut errors = FieldErrors::default();
            errors.wrong("part", part, &expected);
            return Err(errors.into());
        }
        let logs = stream::iter(wanted)
            .map(|part| async move { self.log_of(&part, lines).await })
            .buffered(LOGS_AT_A_TIME)
            .try_collect()
            .await?;
        Ok(LogList { logs })
    }

    async fn log_of(&self, part: &Part, lines: u32) -> Result<PartLog, ApiError> {
        let text = self.parts.launcher.logs(&part.job_name, lines).await?;
        Ok(PartLog {
            part: part.telemetry_id.clone(),
            job_name: part.job_name.clone(),
            lines: text.map(|text| text.lines().map(str::to_owned).collect()),
        })
    }
}
