//! A database that accepts batches and discards them. Everything else is asked of a real one behind it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{
        Method, StatusCode,
        header::{CONTENT_TYPE, HOST, SERVER},
    },
    response::{IntoResponse, Response},
};
use tokio::net::TcpListener;

/// What came, so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    pub(crate) documents: u64,
    /// Those of the first batch, and when it came.
    first: Option<(u64, Instant)>,
    last: Option<Instant>,
}

impl Taken {
    /// Documents a second, between the first batch and the last.
    pub(crate) fn rate(&self) -> f64 {
        let (Some((of_first, first)), Some(last)) = (self.first, self.last) else {
            return 0.0;
        };
        (self.documents - of_first) as f64 / (last - first).as_secs_f64()
    }
}

/// The server. It ends with the runtime.
#[derive(Debug, Clone)]
pub(crate) struct Sink {
    address: SocketAddr,
    shared: Shared,
}

#[derive(Debug, Clone)]
struct Shared {
    behind: String,
    http: reqwest::Client,
    latency: Duration,
    taken: Arc<Mutex<Taken>>,
}

impl Sink {
    /// Answers a batch after `latency`; asks the server at the URL `behind` for all else.
    pub(crate) async fn start(behind: String, latency: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared {
            behind,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            latency,
            taken: Arc::default(),
        };
        let router = Router::new().fallback(answer).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn taken(&self) -> Taken {
        *self
            .shared
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let is_batch =
        request.method() == Method::POST && request.uri().path().contains("/_api/document/");
    if !is_batch {
        return ask(&shared, request).await;
    }
    let body = to_bytes(request.into_body(), usize::MAX).await.unwrap();
    let now = Instant::now();
    // Candles are flat, so each has one.
    let documents = body.iter().filter(|byte| **byte == b'{').count() as u64;
    drop(body);
    tokio::time::sleep(shared.latency).await;
    let mut taken = shared.taken.lock().unwrap_or_else(PoisonError::into_inner);
    taken.documents += documents;
    taken.first.get_or_insert((documents, now));
    taken.last = Some(now);
    drop(taken);
    let headers = [(CONTENT_TYPE, "application/json"), (SERVER, "ArangoDB")];
    (StatusCode::ACCEPTED, headers, "{}").into_response()
}

/// Asks the server behind.
async fn ask(shared: &Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let path = parts.uri.path_and_query().unwrap();
    let mut headers = parts.headers;
    headers.remove(HOST);
    let asked = shared
        .http
        .request(parts.method, format!("{}{path}", shared.behind))
        .headers(headers)
        .body(body);
    let answered = asked.send().await.unwrap();
    let mut response = Response::builder().status(answered.status());
    for (name, value) in answered.headers() {
        response = response.header(name, value);
    }
    let body = answered.bytes().await.unwrap();
    response.body(Body::from(body)).unwrap()
}
