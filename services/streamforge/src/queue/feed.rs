//! What becomes of one workflow, change by change: by the stream, and while that is broken by asking each second. The
//! place of one that waits is no change of its own, so that is asked for.

use std::{pin::pin, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};

use super::{
    api::{Told, Turn, Workflow},
    client::Client,
    failure::Failure,
    shared::Shared,
};

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Between two questions how many are before one that waits.
const TURN_INTERVAL: Duration = Duration::from_secs(3);
/// An answer to one of those may take so long.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries to have the stream again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A workflow as it is now.
#[derive(Debug)]
pub(super) struct State {
    /// As it came.
    pub(super) raw: Value,
    pub(super) workflow: Workflow,
}

/// Something new about a workflow.
#[derive(Debug)]
pub(super) enum News {
    Is(Box<State>),
    /// It was removed.
    Gone {
        id: String,
    },
    /// queue-manager does not answer; it is asked on.
    Away(Failure),
    /// It is of no use to ask on.
    Failed(Failure),
}

/// Tells `news` of a workflow that is known as `from`, until it has ended or is gone, or until queue-manager was away for
/// longer than `patience`.
pub(super) async fn feed(
    client: Client,
    shared: Arc<Shared>,
    from: &Workflow,
    patience: Duration,
    news: mpsc::Sender<News>,
) {
    let poller = client.with_timeout(POLL_TIMEOUT);
    let mut feed = Feed {
        id: from.queue_id.clone(),
        shared,
        patience,
        news,
        heard_at: Instant::now(),
        turn: from.turn,
        waits: from.waits(),
    };
    let mut pause = FIRST_PAUSE;
    'followed: loop {
        let began = Instant::now();
        if feed.listen(&poller).await.is_none() {
            break;
        }
        if began.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        let until = Instant::now() + pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
        while Instant::now() < until {
            if feed.poll(&poller).await.is_none() {
                break 'followed;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
    feed.shared.forget(&feed.id).await;
}

struct Feed {
    id: String,
    shared: Arc<Shared>,
    patience: Duration,
    news: mpsc::Sender<News>,
    /// When queue-manager last answered.
    heard_at: Instant,
    /// Where it stood when that was last asked.
    turn: Option<Turn>,
    /// Whether it waited for its turn when it was last heard of.
    waits: bool,
}

impl Feed {
    /// Listens until the stream breaks; None if there is nothing more to be told.
    async fn listen(&mut self, client: &Client) -> Option<()> {
        // Why there is no stream does not matter as long as asking goes on.
        let Ok(mut heard) = self.shared.hear().await else {
            return Some(());
        };
        if heard.is_late {
            self.poll(client).await?;
        }
        let mut asks = tokio::time::interval(TURN_INTERVAL);
        asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let told = {
                let mut next = pin!(heard.next());
                loop {
                    tokio::select! {
                        told = &mut next => break told,
                        _ = asks.tick(), if self.waits => self.ask_for_turn(client).await?,
                    }
                }
            };
            let Some(told) = told else { break };
            let queues = match &*told {
                Told::Snapshot { queues } => queues.as_slice(),
                Told::Change { queue } => std::slice::from_ref(queue),
                Told::Deleted { queue_id } if *queue_id == self.id => {
                    return self.gone().await;
                }
                Told::Deleted { .. } | Told::Unknown => &[],
            };
            let id = self.id.clone();
            for raw in queues.iter().filter(|raw| raw["queue_id"] == *id) {
                match client.read::<Workflow>(raw) {
                    Ok(workflow) => self.tell(raw.clone(), workflow).await?,
                    Err(_) => return Some(()),
                }
            }
        }
        // Until now there were signs of life, if only that.
        self.heard_at = Instant::now();
        Some(())
    }

    /// Asks where it stands, and tells that if it is news. What can't be had is asked for again; the stream knows more.
    async fn ask_for_turn(&mut self, client: &Client) -> Option<()> {
        match client.workflow(&self.id).await {
            Ok((raw, workflow)) if workflow.turn != self.turn => {
                self.turn = workflow.turn;
                self.tell(raw, workflow).await
            }
            _ => Some(()),
        }
    }

    /// Asks once; None if there is nothing more to be told.
    async fn poll(&mut self, client: &Client) -> Option<()> {
        match client.workflow(&self.id).await {
            Ok((raw, workflow)) => {
                self.heard_at = Instant::now();
                self.turn = workflow.turn;
                self.tell(raw, workflow).await
            }
            Err(Failure::NotFound(_)) => self.gone().await,
            Err(failure) if failure.passes() && self.heard_at.elapsed() < self.patience => {
                self.news.send(News::Away(failure)).await.ok()
            }
            Err(failure) => {
                self.news.send(News::Failed(failure)).await.ok()?;
                None
            }
        }
    }

    async fn tell(&mut self, raw: Value, mut workflow: Workflow) -> Option<()> {
        self.waits = workflow.waits();
        self.turn = self.turn.filter(|_| self.waits);
        workflow.turn = self.turn;
        let is_final = workflow.status.is_final();
        let state = Box::new(State { raw, workflow });
        self.news.send(News::Is(state)).await.ok()?;
        (!is_final).then_some(())
    }

    async fn gone(&mut self) -> Option<()> {
        let id = self.id.clone();
        self.news.send(News::Gone { id }).await.ok()?;
        None
    }
}
