//! What surrounds every request: its id, its span in the log, its metrics, and headers that every answer has.
//!
//! A request's headers and query are not logged: a token may stand in them.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tracing::Instrument;
use uuid::Uuid;

use crate::metrics::ApiMetrics;

/// Names a request in answers and in the log; a sender may choose it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that a sender may choose, in bytes.
const LONGEST_ID: usize = 64;
/// The pages of /docs bring scripts and styles of their own, inline ones too; nothing comes from elsewhere.
const POLICY: &str = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

/// Names a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The sender's, if it is short and plain; else a new one.
    fn of(headers: &HeaderMap) -> Self {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        let given =
            given.filter(|id| (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(plain));
        Self(given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned))
    }
}

/// Names, logs and counts a request.
pub async fn observe(
    State(metrics): State<Arc<ApiMetrics>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = RequestId::of(request.headers());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("no route", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", request.id = id.as_str(), %method, route);
    request.extensions_mut().insert(id.clone());
    let began = Instant::now();
    let timed = metrics.begin();
    let mut response = next.run(request).instrument(span.clone()).await;
    drop(timed);
    let took = began.elapsed();
    let status = response.status();
    metrics.ended(&route, &method, status, took);
    span.in_scope(|| {
        // Probes come every few seconds.
        if route.starts_with("/health") || route == "/metrics" {
            tracing::debug!(code = status.as_u16(), ?took, "Answered");
        } else {
            tracing::info!(code = status.as_u16(), ?took, "Answered");
        }
    });
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_senders_id_is_taken_if_it_is_plain() {
        let long = "a".repeat(65);
        for (given, is_taken) in [
            ("abc-1.2_3", true),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            (long.as_str(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(given).unwrap());
            let id = RequestId::of(&headers);
            assert_eq!(id.as_str() == given, is_taken, "{given:?}");
            assert!(!id.as_str().is_empty());
        }
    }
}
