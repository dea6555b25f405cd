//! Serves a router over connections that are bounded in number and in time.
//!
//! A connection ends when its request head is not complete within [`Bounds::head`], when it has no request for
//! [`Bounds::idle`], and when its client takes nothing of an answer for [`Bounds::write`]. At the limit, new connections
//! wait in the listener's backlog and idle ones are closed. How long a request may take is [`crate::limits`]'s job.

mod paced;
mod tls;

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use http::{Request, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntGauge;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::metrics::Counted;
use paced::{Paced, Stage};
pub use tls::{Tls, TlsError};

/// Most bytes that are buffered of a connection: of a request head, and of an answer that is not taken.
const BUFFER_BYTES: usize = 64 * 1024;
/// Pause after a failure to accept, such as for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How often the same trouble is logged, at most.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// How often idle connections are closed while others wait.
const RECLAIM_EVERY: Duration = Duration::from_millis(250);

/// What the connections of one listener may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Open connections at a time, those of streams included.
    pub connections: usize,
    /// Time for the head of a request, from its first byte; for the first request, from the connection's begin.
    pub head: Duration,
    /// Time between two requests of a connection.
    pub idle: Duration,
    /// Time in which a client must take something of an answer.
    pub write: Duration,
}

impl Bounds {
    /// The API's and probes' times, with so many connections. `idle` exceeds the 60 s after which common proxies reuse a
    /// connection no more.
    pub fn of(connections: usize) -> Self {
        Self {
            connections,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            write: Duration::from_secs(30),
        }
    }
}

/// A listener with what it serves.
pub struct Server {
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    tls: Option<Tls>,
    open: IntGauge,
    slots: Arc<Semaphore>,
    /// Tells idle connections to end.
    reclaim: Arc<Notify>,
}

impl Server {
    /// `open` shows how many connections there are.
    pub fn new(listener: TcpListener, router: Router, bounds: Bounds, open: IntGauge) -> Self {
        Self {
            listener,
            router,
            bounds,
            tls: None,
            open,
            slots: Arc::new(Semaphore::new(bounds.connections)),
            reclaim: Arc::new(Notify::new()),
        }
    }

    /// Speaks TLS. The handshake must be over with the head of the first request.
    #[must_use]
    pub fn over(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    /// Serves until `stopping`, then until the requests that have begun are answered.
    pub async fn run(self, stopping: CancellationToken) {
        let connections = TaskTracker::new();
        let mut trouble = Rarely::default();
        while let Some(slot) = self.slot(&stopping, &mut trouble).await {
            let accepted = tokio::select! {
                () = stopping.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, client)) => {
                    connections.spawn(self.connection(stream, client, slot, stopping.clone()));
                }
                Err(error) if is_of_client(&error) => {}
                Err(error) => {
                    if trouble.is_due() {
                        tracing::error!(%error, "Failed to accept connections; retrying");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
    }

    /// Waits for a slot; None once it stops.
    async fn slot(
        &self,
        stopping: &CancellationToken,
        trouble: &mut Rarely,
    ) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
                return Some(slot);
            }
            if trouble.is_due() {
                tracing::warn!(
                    connections = self.bounds.connections,
                    "Connection limit reached; new connections wait (API_MAX_CONNECTIONS)"
                );
            }
            self.reclaim.notify_waiters();
            tokio::select! {
                () = stopping.cancelled() => return None,
                slot = Arc::clone(&self.slots).acquire_owned() => return slot.ok(),
                () = tokio::time::sleep(RECLAIM_EVERY) => {}
            }
        }
    }

    fn connection(
        &self,
        stream: TcpStream,
        client: SocketAddr,
        slot: OwnedSemaphorePermit,
        stopping: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let held = (slot, Counted::new(&self.open));
        let talk = Talk {
            router: self.router.clone(),
            bounds: self.bounds,
            stage: Stage::new(),
            client,
            reclaim: Arc::clone(&self.reclaim),
            stopping,
        };
        let tls = self.tls.clone();
        async move {
            // Answers are small, and each is written at once.
            let _ = stream.set_nodelay(true);
            let stream = Paced::new(stream, talk.stage.clone(), talk.bounds, held);
            match tls {
                None => talk.run(stream).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => talk.run(stream).await,
                    Err(error) => tracing::debug!(%client, %error, "A TLS handshake failed"),
                },
            }
        }
    }
}

/// What is said over one connection.
struct Talk {
    router: Router,
    bounds: Bounds,
    stage: Stage,
    client: SocketAddr,
    reclaim: Arc<Notify>,
    stopping: CancellationToken,
}

impl Talk {
    async fn run<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (router, stage) = (self.router, self.stage.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            stage.head_is_read();
            let (router, stage) = (router.clone(), stage.clone());
            async move {
                let response = router.oneshot(request).await;
                let is_upgrade = response
                    .as_ref()
                    .is_ok_and(|it| it.status() == StatusCode::SWITCHING_PROTOCOLS);
                stage.is_answered(is_upgrade);
                response
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // It runs between requests, too; of a head that has begun `Paced` asks for more haste.
            .header_read_timeout(self.bounds.idle)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(client = %self.client, %error, "A connection ended early");
                    }
                    return;
                }
                () = self.stopping.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    break;
                }
                () = self.reclaim.notified() => if self.stage.is_idle() {
                    connection.as_mut().graceful_shutdown();
                },
            }
        }
        let _ = connection.await;
    }
}

/// The client is gone before it was accepted: no trouble of this machine.
fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// Keeps a log line from being written at each turn.
#[derive(Default)]
struct Rarely(Option<Instant>);

impl Rarely {
    fn is_due(&mut self) -> bool {
        let is_due = self.0.is_none_or(|last| last.elapsed() >= LOG_EVERY);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}
