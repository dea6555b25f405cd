//! `/metrics` and `/health/{live,ready,startup}` over HTTP.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router, extract::State, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse,
    routing::get,
};
use prometheus::Registry;
use tokio::net::TcpListener;

use crate::{config::DEFAULT_METRICS_PORT, metrics};

/// How a process is, as Kubernetes' probes ask for it.
#[derive(Debug, Clone, Default)]
pub struct Health {
    started: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
}

impl Health {
    /// The work of the process has begun.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// The process is ending.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    fn is_ready(&self) -> bool {
        self.is_started() && !self.stopping.load(Ordering::Relaxed)
    }
}

/// The port can't be had.
#[derive(Debug, thiserror::Error)]
#[error("METRICS_PORT {port} can't be listened on: {source}")]
pub struct PortError {
    port: u16,
    source: std::io::Error,
}

/// Serves until the runtime ends, and says where. `None`: the default port was taken, which is only warned of.
///
/// # Errors
/// A port that was asked for can't be had.
pub async fn serve(
    port: Option<u16>,
    registry: Registry,
    health: Health,
) -> Result<Option<SocketAddr>, PortError> {
    let asked = port.unwrap_or(DEFAULT_METRICS_PORT);
    // All addresses, since Prometheus and the kubelet come from outside the pod.
    let listener = match TcpListener::bind((Ipv4Addr::UNSPECIFIED, asked)).await {
        Ok(listener) => listener,
        Err(error) if port.is_none() => {
            tracing::warn!(port = asked, %error, "No /metrics and /health: the default port is taken, set METRICS_PORT");
            return Ok(None);
        }
        Err(source) => {
            return Err(PortError {
                port: asked,
                source,
            });
        }
    };
    let address = listener.local_addr().map_err(|source| PortError {
        port: asked,
        source,
    })?;
    let app = Router::new()
        .route("/metrics", get(serve_metrics))
        .route("/health/live", get(|| async { "live\n" }))
        .route(
            "/health/ready",
            get(|State((_, health)): State<Served>| answer(health.is_ready(), "ready")),
        )
        .route(
            "/health/startup",
            get(|State((_, health)): State<Served>| answer(health.is_started(), "started")),
        )
        .with_state((registry, health));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::warn!(%error, "Serving /metrics and /health ended");
        }
    });
    tracing::info!(
        port = address.port(),
        "Serving /metrics and /health on port {}",
        address.port()
    );
    Ok(Some(address))
}

type Served = (Registry, Health);

async fn answer(yes: bool, what: &'static str) -> (StatusCode, String) {
    if yes {
        (StatusCode::OK, format!("{what}\n"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not {what}\n"))
    }
}

async fn serve_metrics(State((registry, _)): State<Served>) -> impl IntoResponse {
    match metrics::encode(&registry.gather()) {
        Ok((text, content_type)) => ([(CONTENT_TYPE, content_type)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
