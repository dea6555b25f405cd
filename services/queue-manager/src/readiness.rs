//! Whether this replica can do its work: what it needs is asked in turn, and remembered for a moment.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::{BoxFuture, join_all};
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

/// Longest time that one need may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long an answer counts: probes of several sides do not multiply.
const COUNTS_FOR: Duration = Duration::from_secs(1);

type Ask = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What is needed, and how it is asked.
struct Need {
    name: &'static str,
    ask: Ask,
}

/// Whether one thing that is needed answers. Why it does not stands in the log, since probes need no token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Answer {
    /// `kafka`, `arangodb`, `launcher`.
    pub name: &'static str,
    /// Whether it answers.
    pub ready: bool,
}

/// Whether this replica can do its work. Clones share it.
#[derive(Clone, Default)]
pub struct Readiness {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    needs: Vec<Need>,
    is_started: AtomicBool,
    is_stopping: AtomicBool,
    last: Mutex<Option<(Instant, Vec<Answer>)>>,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.inner.needs.iter().map(|need| need.name);
        f.debug_list().entries(names).finish()
    }
}

/// Collects what is needed.
#[derive(Default)]
pub struct Needs(Vec<Need>);

impl Needs {
    /// One more. `ask` says why it does not answer.
    pub fn and<F, A>(mut self, name: &'static str, ask: A) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
        A: Fn() -> F + Send + Sync + 'static,
    {
        self.0.push(Need {
            name,
            ask: Box::new(move || Box::pin(ask())),
        });
        self
    }
}

impl Readiness {
    /// Ready when all of them answer.
    pub fn new(needs: Needs) -> Self {
        Self {
            inner: Arc::new(Inner {
                needs: needs.0,
                ..Inner::default()
            }),
        }
    }

    /// The start is over: collections are there, and the conductor runs.
    pub fn set_started(&self) {
        self.inner.is_started.store(true, Ordering::Relaxed);
    }

    /// The end has begun: no new requests are wanted.
    pub fn set_stopping(&self) {
        self.inner.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the start is over.
    pub fn is_started(&self) -> bool {
        self.inner.is_started.load(Ordering::Relaxed)
    }

    /// Whether it is ready, and which needs answer.
    pub async fn answers(&self) -> (bool, Vec<Answer>) {
        let is_up = self.is_started() && !self.inner.is_stopping.load(Ordering::Relaxed);
        let mut last = self.inner.last.lock().await;
        if let Some((at, answers)) = last.as_ref().filter(|(at, _)| at.elapsed() < COUNTS_FOR) {
            tracing::trace!(age = ?at.elapsed(), "Answered from memory");
            return (is_up && answers.iter().all(|it| it.ready), answers.clone());
        }
        let answers = join_all(self.inner.needs.iter().map(ask)).await;
        *last = Some((Instant::now(), answers.clone()));
        (is_up && answers.iter().all(|it| it.ready), answers)
    }
}

async fn ask(need: &Need) -> Answer {
    let answer = tokio::time::timeout(ANSWER_WITHIN, (need.ask)()).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_WITHIN:?}")));
    if let Err(reason) = &answer {
        tracing::warn!(need = need.name, reason, "Not ready: {} is away", need.name);
    }
    Answer {
        name: need.name,
        ready: answer.is_ok(),
    }
}
