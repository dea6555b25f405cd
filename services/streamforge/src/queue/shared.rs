//! One stream for all workflows that are watched: each connection of a token counts against its share.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::{
    Mutex,
    broadcast::{Receiver, Sender, WeakSender},
};

use super::{api::Told, client::Client, failure::Failure};

/// Messages that one workflow's follower may lag behind.
const LAG: usize = 1_024;

/// The stream of those that are watched. It is opened by the first who needs it, and again after it broke.
pub(super) struct Shared {
    client: Client,
    state: Mutex<State>,
}

struct State {
    ids: BTreeSet<String>,
    current: Option<WeakSender<Arc<Told>>>,
}

/// What one follower hears: messages about all that are watched.
pub(super) struct Heard {
    receiver: Receiver<Arc<Told>>,
    /// The stream was there before, so that its first messages were missed.
    pub(super) is_late: bool,
}

impl Shared {
    pub(super) fn new(client: &Client, ids: impl IntoIterator<Item = String>) -> Self {
        Self {
            client: client.clone(),
            state: Mutex::new(State {
                ids: ids.into_iter().collect(),
                current: None,
            }),
        }
    }

    /// Hears the stream, which is opened if there is none.
    ///
    /// # Errors
    /// There is no stream to be had.
    pub(super) async fn hear(&self) -> Result<Heard, Failure> {
        let mut state = self.state.lock().await;
        if let Some(sender) = state.current.as_ref().and_then(WeakSender::upgrade) {
            return Ok(Heard {
                receiver: sender.subscribe(),
                is_late: true,
            });
        }
        let mut stream = self.client.listen(&state.ids).await?;
        let sender = Sender::new(LAG);
        let receiver = sender.subscribe();
        state.current = Some(sender.downgrade());
        tokio::spawn(async move {
            // It ends when the stream does, and when nobody hears it any more.
            while let Ok(told) = stream.next().await {
                if sender.send(Arc::new(told)).is_err() {
                    return;
                }
            }
        });
        Ok(Heard {
            receiver,
            is_late: false,
        })
    }

    /// This one is not watched any more: a stream that is opened later is without it.
    pub(super) async fn forget(&self, id: &str) {
        self.state.lock().await.ids.remove(id);
    }
}

impl Heard {
    /// The next message; None if the stream broke, or some were missed.
    pub(super) async fn next(&mut self) -> Option<Arc<Told>> {
        self.receiver.recv().await.ok()
    }
}
