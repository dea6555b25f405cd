//! One workflow: its loader and its writer side by side, and what becomes of one if the other fails.

use std::time::Duration;

use streamforge_utils::{
    protocol::{Command, CommandKind, CommandPayload},
    shutdown::StopSignal,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    plan::Workflow,
    workers::{Ended, Worker},
};
use crate::{events::Board, stack::Stack};

/// How long the other worker may take to end after one has failed and it was told.
const WIND_DOWN_LIMIT: Duration = Duration::from_secs(60);

/// How long the last event of a worker that has ended may take to be read.
const LAST_EVENT_LIMIT: Duration = Duration::from_secs(1);

/// How both workers of a workflow ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct BothEnded {
    pub(super) loader: Ended,
    pub(super) writer: Ended,
    /// From the first start to the last end.
    pub(super) took: Duration,
}

/// Runs both workers to their ends, or until `stop`. `say` is told what is worth a line.
///
/// If the loader fails for good, the writer is told to write what was published and to end; if the writer does, the
/// loader is told to end. `board` is what both say.
///
/// # Errors
/// A process can't be started or watched. Neither runs any more then.
pub(super) async fn launch(
    workflow: &Workflow,
    stack: &Stack,
    (loader, writer): (Worker, Worker),
    board: watch::Receiver<Board>,
    stop: &StopSignal,
    say: impl Fn(String),
) -> anyhow::Result<BothEnded> {
    let say = |text: String| say(format!("{}: {text}", workflow.name()));
    let end = stop.token().child_token();
    let began = Instant::now();
    let (loading, writing) = (loader.run(&end, stop, say), writer.run(&end, stop, say));
    tokio::pin!(loading, writing);
    let (loader, writer) = tokio::select! {
        ended = &mut loading => {
            let ended = ended?;
            let writer = if ended.is_success() || stop.is_cancelled() {
                writing.await?
            } else {
                say(format!("{} failed ({ended}); its writer writes what was published and ends", loader.service));
                let drain = has_published(workflow, loader.service, board).await;
                tell_to_stop(workflow, stack, writer.service, drain).await?;
                wind_down(writing, &end).await?
            };
            (ended, writer)
        }
        ended = &mut writing => {
            let ended = ended?;
            let loader = if ended.is_success() || stop.is_cancelled() {
                loading.await?
            } else {
                say(format!("{} failed ({ended}); its loader is told to end", writer.service));
                tell_to_stop(workflow, stack, loader.service, false).await?;
                wind_down(loading, &end).await?
            };
            (loader, ended)
        }
    };
    Ok(BothEnded {
        loader,
        writer,
        took: began.elapsed(),
    })
}

/// Whether there is something to drain: an empty topic without a marker is waited at for a while.
async fn has_published(
    workflow: &Workflow,
    loader: &str,
    mut board: watch::Receiver<Board>,
) -> bool {
    let said = |board: &Board| board.last(&workflow.queue_id, loader).cloned();
    let last = board.wait_for(|board| said(board).is_some_and(|event| event.finished));
    let _ = tokio::time::timeout(LAST_EVENT_LIMIT, last).await;
    said(&board.borrow()).is_some_and(|event| event.records.written > 0)
}

async fn tell_to_stop(
    workflow: &Workflow,
    stack: &Stack,
    service: &str,
    drain: bool,
) -> anyhow::Result<()> {
    let command = Command {
        target: Some(service.to_owned()),
        payload: drain.then_some(CommandPayload {
            drain,
            ..CommandPayload::default()
        }),
        ..Command::new(CommandKind::Stop, workflow.queue_id.as_str())
    };
    stack.kafka.send_command(&command).await
}

/// Waits for a worker that was told to end; one that does not gets a signal.
async fn wind_down(
    mut running: impl Future<Output = anyhow::Result<Ended>> + Unpin,
    end: &CancellationToken,
) -> anyhow::Result<Ended> {
    match tokio::time::timeout(WIND_DOWN_LIMIT, &mut running).await {
        Ok(ended) => ended,
        Err(_) => {
            end.cancel();
            running.await
        }
    }
}
