//! A stand-in for queue-manager's API that says what a test wants, one answer after the other.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, Uri},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::task::AbortOnDropHandle;

use super::ID;
use crate::process::LIMIT;

/// One answer.
#[derive(Debug, Clone)]
pub(super) enum Says {
    /// Code, body, `Retry-After` in seconds.
    Json(u16, Value, Option<u32>),
    /// What is no queue-manager says something like this.
    Html(u16),
    Redirect,
    /// No answer at all.
    Nothing,
    /// Events of a stream, which then stays open, or breaks.
    Stream {
        told: Vec<Value>,
        breaks: bool,
    },
}

impl Says {
    pub(super) fn data(code: u16, data: Value) -> Self {
        Self::Json(code, envelope("success", "", data), None)
    }

    pub(super) fn refused(code: u16, message: &str, retry_after: u32) -> Self {
        Self::Json(
            code,
            envelope("error", message, json!({})),
            Some(retry_after),
        )
    }

    pub(super) fn stream(told: impl Into<Vec<Value>>) -> Self {
        let told = told.into();
        Self::Stream {
            told,
            breaks: false,
        }
    }

    pub(super) fn broken(told: impl Into<Vec<Value>>) -> Self {
        let told = told.into();
        Self::Stream { told, breaks: true }
    }
}

pub(super) fn envelope(status: &str, message: &str, data: Value) -> Value {
    json!({"status": status, "message": message, "data": data})
}

/// A workflow half-way, with the fields of `more`.
pub(super) fn workflow(more: Value) -> Value {
    let part = |name: &str, written: u64| {
        json!({"telemetry_id": format!("{name}__abc123"), "job_name": format!("job-{name}-btcusdt-abc123"),
            "collection": null, "status": "running", "reason": null, "message": "", "attempts": 1, "exit_code": null,
            "progress": {"written": written, "total": 44_640, "rejected": 0, "missing": 0}, "gaps": []})
    };
    let mut workflow = json!({
        "schema": 1, "queue_id": ID, "run": 1, "symbol": "BTCUSDT", "type": "api_candles_1m",
        "time_range": "2024-08-01:2024-08-31", "status": "running", "reason": null,
        "created_at": 1_722_470_400_000_i64, "started_at": 1_722_470_410_000_i64, "ended_at": null,
        "totals": {"written": 20_133, "total": 44_640, "rejected": 0, "missing": 0, "rate": 1440.2, "percentage": 45.1},
        "parts": [part("loader-api-candles", 30_000), part("arango-candles", 20_133)],
    });
    let fields = more.as_object().cloned().unwrap_or_default();
    workflow.as_object_mut().unwrap().extend(fields);
    workflow
}

/// The same at its end.
pub(super) fn ended(status: &str) -> Value {
    let totals = json!({"written": 44_640, "total": 44_640, "percentage": 100.0});
    workflow(json!({"status": status, "ended_at": 1_722_470_710_000_i64, "totals": totals}))
}

/// A request that came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Value,
    headers: HeaderMap,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    }
}

#[derive(Default)]
struct Inner {
    /// By method and path; the last answer of a row comes again and again.
    says: Mutex<BTreeMap<String, VecDeque<Says>>>,
    seen: watch::Sender<Vec<Seen>>,
}

/// The stand-in, until it is dropped.
pub(super) struct Api {
    url: String,
    inner: Arc<Inner>,
    _serving: AbortOnDropHandle<()>,
}

impl Api {
    pub(super) async fn start() -> Self {
        let inner = Arc::new(Inner::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&inner));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            inner,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// What it says from now on to this method and path.
    pub(super) fn on(&self, route: &str, says: impl Into<VecDeque<Says>>) {
        let mut all = self.inner.says.lock().unwrap();
        all.insert(route.to_owned(), says.into());
    }

    /// All requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.borrow().clone()
    }

    /// Waits for such a request.
    pub(super) async fn wait_for(&self, method: &str, path: &str) {
        let mut seen = self.inner.seen.subscribe();
        let came = seen.wait_for(|all| all.iter().any(|it| it.method == method && it.path == path));
        tokio::time::timeout(LIMIT, came).await.unwrap().unwrap();
    }
}

async fn answer(
    State(inner): State<Arc<Inner>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let route = format!("{method} {}", uri.path());
    inner.seen.send_modify(|all| {
        all.push(Seen {
            method,
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
            headers,
        });
    });
    let says = {
        let mut all = inner.says.lock().unwrap();
        let row = all.get_mut(&route);
        row.and_then(|row| match row.len() {
            0 | 1 => row.front().cloned(),
            _ => row.pop_front(),
        })
    };
    let says = says.unwrap_or_else(|| panic!("{route} was not expected"));
    respond(says).await
}

async fn respond(says: Says) -> Response {
    match says {
        Says::Json(code, body, retry_after) => {
            let mut response = Response::builder()
                .status(code)
                .header("content-type", "application/json");
            if let Some(seconds) = retry_after {
                response = response.header("retry-after", seconds);
            }
            response.body(Body::from(body.to_string())).unwrap()
        }
        Says::Html(code) => {
            let body = Body::from("<html>who are you?</html>");
            Response::builder().status(code).body(body).unwrap()
        }
        Says::Redirect => {
            let response = Response::builder()
                .status(302)
                .header("location", "/elsewhere");
            response.body(Body::empty()).unwrap()
        }
        Says::Nothing => std::future::pending().await,
        Says::Stream { told, breaks } => {
            let events = told
                .into_iter()
                .map(|told| Ok::<_, Infallible>(Event::default().data(told.to_string())));
            let events = stream::iter(events);
            if breaks {
                Sse::new(events).into_response()
            } else {
                Sse::new(events.chain(stream::pending())).into_response()
            }
        }
    }
}
