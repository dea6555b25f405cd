//! Accepts connections and serves HTTP on them, with one trick: a connection can be closed in place of
//! an answer.
//!
//! axum's own server always answers. hyper closes a connection whose service fails, so the service here
//! fails when a response carries the mark [`DropConnection`].
use std::{pin::pin, time::Duration};

use axum::{Router, body::Body, http::Request};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::faults::DropConnection;

/// How long answers under way may take once the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// Wait after a failed accept: the usual cause, no free file descriptors, does not pass at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` is cancelled and every connection is closed.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let served = serve_connection(stream, router.clone(), stop.clone());
                connections.spawn(served);
            }
            Err(error) => {
                tracing::warn!(%error, "The development ArangoDB cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Ends the connection instead of answering.
#[derive(Debug, thiserror::Error)]
#[error("a fault closed the connection")]
struct ConnectionDropped;

async fn serve_connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "Cannot switch off Nagle's algorithm");
    }
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        let answer = router.call(request.map(Body::new));
        async move {
            let response = answer.await.unwrap_or_else(|never| match never {});
            match response.extensions().get::<DropConnection>() {
                Some(DropConnection) => Err(ConnectionDropped),
                None => Ok(response),
            }
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "A connection to the development ArangoDB ended early");
    }
}
