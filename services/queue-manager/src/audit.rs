//! A line for every change that was asked for, also for those that were refused: who, what, which queue, what came of it.
//!
//! Handlers and the check of tokens note what they know in the response's extensions; the line is written outside of
//! everything that may refuse a request.

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use http::Method;
use streamforge_utils::protocol::QueueId;

use crate::observe::RequestId;

/// What is known of a request, for its line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audited {
    who: Option<String>,
    queues: Vec<QueueId>,
}

impl Audited {
    /// Who asked.
    pub fn by(name: &str) -> Self {
        Self {
            who: Some(name.to_owned()),
            queues: Vec::new(),
        }
    }

    /// What it was about.
    pub fn about(queues: impl IntoIterator<Item = QueueId>) -> Self {
        Self {
            who: None,
            queues: queues.into_iter().collect(),
        }
    }

    /// Adds what is known to a response.
    pub fn add_to(self, response: &mut Response) {
        let known = response.extensions_mut().get_or_insert_default::<Self>();
        known.who = self.who.or(known.who.take());
        known.queues.extend(self.queues);
    }
}

/// Writes the line of every request that is not only to look.
pub async fn write(request: Request, next: Next) -> Response {
    if matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    ) {
        return next.run(request).await;
    }
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or("no route", MatchedPath::as_str).to_owned();
    let asked = request.uri().path().to_owned();
    let id = request.extensions().get::<RequestId>().cloned();
    let response = next.run(request).await;
    let audited = response.extensions().get::<Audited>().cloned();
    let audited = audited.unwrap_or_default();
    let queues: Vec<&str> = audited.queues.iter().map(QueueId::as_str).collect();
    let queues = if queues.is_empty() {
        // Of a refused request the path is all there is.
        queue_in(&asked).unwrap_or("-").to_owned()
    } else {
        queues.join(",")
    };
    let code = response.status().as_u16();
    let outcome = if response.status().is_success() {
        "done"
    } else {
        "refused"
    };
    tracing::info!(
        target: "audit",
        who = audited.who.as_deref().unwrap_or("nobody"),
        what = %format_args!("{method} {path}"),
        queue.id = queues,
        outcome,
        code,
        request.id = id.as_ref().map(RequestId::as_str),
        "{method} {path} {outcome}"
    );
    response
}

/// The queue that a path names.
fn queue_in(path: &str) -> Option<&str> {
    path.split('/').find(|part| part.parse::<QueueId>().is_ok())
}
