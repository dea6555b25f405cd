//! A reverse proxy on loopback, for tests: what an ingress, a gateway or a load balancer does before a server.
//!
//! It hides the server's name, adds a path prefix, closes connections that are kept, and answers by itself in HTML.
//! Each request goes to the server on a connection of its own.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, Uri, header},
};
use hyper::{body::Incoming, client, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Requests that are remembered; the first ones.
const MAX_SEEN: usize = 10_000;

/// A running proxy. Dropping it closes its port and its connections.
pub struct ReverseProxy {
    address: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
}

/// How the proxy stands before its server.
#[derive(Clone, Debug, Default)]
pub struct ProxySettings {
    /// Path below which the server stands, as in `/data/arango`. All else is answered with 404.
    pub prefix: String,
    /// What `Server` says of every answer; without it the header is dropped.
    pub server: Option<&'static str>,
    /// Kept connections are closed after being idle for so long.
    pub idle: Option<Duration>,
}

struct State {
    upstream: SocketAddr,
    settings: ProxySettings,
    /// Whether each second request on a connection is met by its end, as if it was closed at that moment.
    closes_reused: AtomicBool,
    /// Status and body of what is answered next without asking the server, and how often.
    answers: Mutex<VecDeque<(StatusCode, String, usize)>>,
    seen: Mutex<Vec<String>>,
    connections: AtomicUsize,
}

/// Ends the connection in place of an answer.
#[derive(Debug, thiserror::Error)]
#[error("the proxy closed the connection")]
struct Closed;

impl ReverseProxy {
    /// Starts before the server at `upstream`, a URL as in `http://127.0.0.1:8529`.
    pub async fn start(upstream: &str, settings: ProxySettings) -> anyhow::Result<Self> {
        let upstream = upstream.trim_start_matches("http://").parse();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            upstream: upstream.context("the address of the server")?,
            settings,
            closes_reused: AtomicBool::new(false),
            answers: Mutex::default(),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, Arc::clone(&state), stop.clone()));
        Ok(Self {
            address,
            state,
            stop,
        })
    }

    /// Where the server is found behind it.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, self.state.settings.prefix)
    }

    /// Whether from now on each second request on a connection is met by its end.
    pub fn close_reused(&self, closes: bool) {
        self.state.closes_reused.store(closes, Ordering::Relaxed);
    }

    /// Answers the next `times` requests by itself, after those asked for earlier.
    pub fn answer_next(&self, status: u16, body: &str, times: usize) {
        let status = StatusCode::from_u16(status).expect("a status of HTTP");
        let answer = (status, body.to_owned(), times);
        lock(&self.state.answers).push_back(answer);
    }

    /// How many of the answers asked for were not given yet.
    pub fn pending(&self) -> usize {
        let answers = lock(&self.state.answers);
        answers.iter().map(|(_, _, times)| times).sum()
    }

    /// `METHOD path` of each request that reached the server, in order.
    pub fn seen(&self) -> Vec<String> {
        lock(&self.state.seen).clone()
    }

    /// How many connections were opened to the proxy.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }
}

impl Drop for ReverseProxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this")
}

async fn accept(listener: TcpListener, state: Arc<State>, stop: CancellationToken) {
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                state.connections.fetch_add(1, Ordering::Relaxed);
                tracker.spawn(serve(stream, Arc::clone(&state), stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "The test proxy cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, state: Arc<State>, stop: CancellationToken) {
    let idle = state.settings.idle;
    let (requests, in_flight) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let idle_since = Mutex::new(Instant::now());
    let service = service_fn(|request: Request<Incoming>| {
        let is_reused = requests.fetch_add(1, Ordering::Relaxed) > 0;
        in_flight.fetch_add(1, Ordering::Relaxed);
        let (state, in_flight, idle_since) = (&state, &in_flight, &idle_since);
        async move {
            let closes = is_reused && state.closes_reused.load(Ordering::Relaxed);
            let answer = match closes {
                true => Err(Closed),
                false => Ok(state.answer(request).await),
            };
            *lock(idle_since) = Instant::now();
            in_flight.fetch_sub(1, Ordering::Relaxed);
            answer
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    loop {
        let due = match idle {
            Some(idle) if in_flight.load(Ordering::Relaxed) == 0 => *lock(&idle_since) + idle,
            _ => Instant::now() + Duration::from_millis(10),
        };
        tokio::select! {
            _ = connection.as_mut() => return,
            () = stop.cancelled() => return,
            () = sleep_until(due) => {
                let is_idle = in_flight.load(Ordering::Relaxed) == 0;
                if idle.is_some_and(|idle| is_idle && lock(&idle_since).elapsed() >= idle) {
                    return;
                }
            }
        }
    }
}

impl State {
    async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        if let Some((status, body)) = self.own_answer() {
            return html(status, body);
        }
        let Some(uri) = below(request.uri(), &self.settings.prefix) else {
            return html(StatusCode::NOT_FOUND, "no such route".to_owned());
        };
        let seen = format!("{} {}", request.method(), uri.path());
        *request.uri_mut() = uri;
        {
            let mut all = lock(&self.seen);
            if all.len() < MAX_SEEN {
                all.push(seen);
            }
        }
        match self.forward(request).await {
            Ok(mut response) => {
                response.headers_mut().remove(header::SERVER);
                if let Some(name) = self.settings.server {
                    let name = HeaderValue::from_static(name);
                    response.headers_mut().insert(header::SERVER, name);
                }
                response
            }
            Err(error) => html(StatusCode::BAD_GATEWAY, error.to_string()),
        }
    }

    fn own_answer(&self) -> Option<(StatusCode, String)> {
        let mut answers = lock(&self.answers);
        while answers.front().is_some_and(|(_, _, times)| *times == 0) {
            answers.pop_front();
        }
        let (status, body, times) = answers.front_mut()?;
        *times -= 1;
        Some((*status, body.clone()))
    }

    async fn forward(&self, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        let stream = TcpStream::connect(self.upstream).await?;
        let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        Ok(response.map(Body::new))
    }
}

/// The URI below the prefix; `None` if it is not below.
fn below(uri: &Uri, prefix: &str) -> Option<Uri> {
    let path = uri.path_and_query()?.as_str().strip_prefix(prefix)?;
    path.starts_with('/').then(|| path.parse().ok())?
}

fn html(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("<html><body>{body}</body></html>\n")));
    *response.status_mut() = status;
    let html = HeaderValue::from_static("text/html");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response
}
