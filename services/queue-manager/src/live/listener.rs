//! One who listens: first a snapshot, then changes, until it is over.

use std::{pin::Pin, sync::Arc};

use futures::future::select_all;
use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};
use tokio_util::sync::CancellationToken;

use super::{Hub, Message, shares::Seat};

/// Why nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The workflow is gone, and that was said.
    Deleted,
    /// The server ends; another one may go on.
    Stopping,
    /// It was too slow.
    TooSlow,
    /// It may no longer listen.
    Revoked,
    /// Its token has more streams than its share, and another one needs the place.
    Displaced,
}

/// One workflow that is listened to.
pub(super) struct Listened {
    pub(super) receiver: watch::Receiver<Option<Message>>,
    /// What is said once it is gone.
    pub(super) gone: Message,
}

enum Source {
    Some(Vec<Listened>),
    All(broadcast::Receiver<Message>),
}

/// One who listens.
pub struct Listener {
    snapshot: Option<Message>,
    source: Source,
    stopping: CancellationToken,
    revoked: Pin<Box<dyn Future<Output = ()> + Send>>,
    seat: Seat,
}

impl Listener {
    pub(super) fn to_some(
        hub: &Arc<Hub>,
        seat: Seat,
        snapshot: Message,
        listened: Vec<Listened>,
    ) -> Self {
        Self::new(hub, seat, snapshot, Source::Some(listened))
    }

    pub(super) fn to_all(
        hub: &Arc<Hub>,
        seat: Seat,
        snapshot: Message,
        receiver: broadcast::Receiver<Message>,
    ) -> Self {
        Self::new(hub, seat, snapshot, Source::All(receiver))
    }

    fn new(hub: &Arc<Hub>, seat: Seat, snapshot: Message, source: Source) -> Self {
        Self {
            snapshot: Some(snapshot),
            source,
            stopping: hub.stopping.clone(),
            revoked: Box::pin(std::future::pending()),
            seat,
        }
    }

    /// Ends it with [`Over::Revoked`] once `revoked` comes back.
    #[must_use]
    pub fn until(mut self, revoked: impl Future<Output = ()> + Send + 'static) -> Self {
        self.revoked = Box::pin(revoked);
        self
    }

    /// The next message. Nothing is lost if the future is dropped before it comes.
    ///
    /// # Errors
    /// Why there is none any more.
    pub async fn next(&mut self) -> Result<Message, Over> {
        if let Some(snapshot) = self.snapshot.take() {
            return Ok(snapshot);
        }
        let stopping = self.stopping.clone();
        tokio::select! {
            () = stopping.cancelled() => Err(Over::Stopping),
            () = self.seat.is_needed() => Err(Over::Displaced),
            () = self.revoked.as_mut() => {
                // A future that has come back is not to be asked again.
                self.revoked = Box::pin(std::future::ready(()));
                Err(Over::Revoked)
            }
            next = self.source.next() => next,
        }
    }
}

impl Source {
    async fn next(&mut self) -> Result<Message, Over> {
        match self {
            Self::Some(all) => loop {
                if all.is_empty() {
                    return Err(Over::Deleted);
                }
                let changes = all.iter_mut().map(|it| Box::pin(it.receiver.changed()));
                let (changed, nth, _) = select_all(changes).await;
                if changed.is_err() {
                    return Ok(all.swap_remove(nth).gone);
                }
                let last = all[nth].receiver.borrow_and_update().clone();
                if let Some(message) = last {
                    return Ok(message);
                }
            },
            Self::All(receiver) => receiver.recv().await.map_err(|error| match error {
                RecvError::Lagged(_) => Over::TooSlow,
                RecvError::Closed => Over::Stopping,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::shares::Shares, *};

    fn gauge() -> prometheus::IntGauge {
        prometheus::IntGauge::new("listeners", "in a test").unwrap()
    }

    fn listener(source: Source, stopping: &CancellationToken) -> Listener {
        Listener {
            snapshot: None,
            source,
            stopping: stopping.clone(),
            revoked: Box::pin(std::future::pending()),
            seat: Shares::new(1, gauge()).seat("a test").unwrap(),
        }
    }

    #[tokio::test]
    async fn who_is_too_slow_for_all_is_cut_off() {
        let all = broadcast::Sender::<Message>::new(2);
        let stopping = CancellationToken::new();
        let mut slow = listener(Source::All(all.subscribe()), &stopping);
        for text in ["one", "two"] {
            all.send(text.into()).unwrap();
        }
        assert_eq!(slow.next().await, Ok("one".into()));
        for text in ["three", "four"] {
            all.send(text.into()).unwrap();
        }
        assert_eq!(slow.next().await, Err(Over::TooSlow));
    }

    #[tokio::test]
    async fn of_one_queue_only_the_last_state_counts() {
        let last = watch::Sender::new(None);
        let stopping = CancellationToken::new();
        let listened = Listened {
            receiver: last.subscribe(),
            gone: "gone".into(),
        };
        let mut slow = listener(Source::Some(vec![listened]), &stopping);
        for text in ["one", "two", "three"] {
            last.send_replace(Some(text.into()));
        }
        assert_eq!(slow.next().await, Ok("three".into()));
        drop(last);
        assert_eq!(slow.next().await, Ok("gone".into()));
        assert_eq!(slow.next().await, Err(Over::Deleted));
    }

    #[tokio::test]
    async fn a_server_that_ends_says_so() {
        let all = broadcast::Sender::<Message>::new(2);
        let stopping = CancellationToken::new();
        let mut listening = listener(Source::All(all.subscribe()), &stopping);
        stopping.cancel();
        assert_eq!(listening.next().await, Err(Over::Stopping));
    }
}
