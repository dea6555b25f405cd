//! Faults that tests switch on, to see what a client makes of them.
//!
//! They are set from code only: the test process runs the server and holds the [`Faults`], while the
//! workers under test are processes of their own. By default they hit writes of documents and imports,
//! so that logging in and reading back keep working.
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    http::{Method, Request, StatusCode},
    response::{IntoResponse, Response},
};

use super::error::{ApiError, Known};

/// What happens to a request instead of, or around, what should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 503 with errorNum 21003 in ArangoDB's JSON; nothing is written.
    Unavailable,
    /// 503 with a plain text body, as a proxy answers; nothing is written.
    UnavailablePlainText,
    /// Any error of ArangoDB's; the HTTP status follows from the number; nothing is written.
    Error { num: i32, message: String },
    /// The connection is closed without an answer; nothing is written.
    DropBeforeWrite,
    /// The request is carried out; then the connection is closed without an answer.
    DropAfterWrite,
}

/// Which requests [`Faults`] hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FaultScope {
    /// POST, PUT, PATCH and DELETE on documents, and imports. Not `onlyget`.
    #[default]
    Writes,
    /// Everything, also logging in and the version.
    Everything,
}

/// Says which keys are refused.
type KeyPredicate = dyn Fn(&str) -> bool + Send + Sync;

/// Documents that are refused for their own sake, beside others that are written.
#[derive(Clone)]
pub(crate) struct Rejection {
    num: i32,
    refuses: Arc<KeyPredicate>,
}

impl Rejection {
    pub(crate) fn check(&self, key: &str) -> Option<ApiError> {
        (self.refuses)(key)
            .then(|| ApiError::numbered(self.num, format!("refused by a fault: {key}")))
    }
}

#[derive(Default)]
struct Plan {
    scope: FaultScope,
    next: VecDeque<(Fault, usize)>,
    always: Option<Fault>,
    delay: Duration,
    rejection: Option<Rejection>,
    queue_time_secs: f64,
}

/// The faults of one server. Clones share them.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

impl Faults {
    /// `fault` for the next `times` requests in scope, after those asked for earlier.
    pub fn next(&self, fault: Fault, times: usize) {
        self.plan().next.push_back((fault, times));
    }

    /// `fault` for every request in scope, until [`Faults::clear`].
    pub fn always(&self, fault: Fault) {
        self.plan().always = Some(fault);
    }

    /// Every request in scope waits this long before it is looked at.
    pub fn delay(&self, delay: Duration) {
        self.plan().delay = delay;
    }

    /// Refuses each document whose key `refuses` picks, with this `errorNum`; the others of its
    /// batch are written.
    pub fn reject_keys(
        &self,
        error_num: i32,
        refuses: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) {
        self.plan().rejection = Some(Rejection {
            num: error_num,
            refuses: Arc::new(refuses),
        });
    }

    /// What the header `x-arango-queue-time-seconds` of every answer says. A request that accepts
    /// less is refused with 412 and errorNum 21004.
    pub fn queue_time_secs(&self, seconds: f64) {
        self.plan().queue_time_secs = seconds;
    }

    /// Which requests are hit from now on.
    pub fn scope(&self, scope: FaultScope) {
        self.plan().scope = scope;
    }

    /// Back to no faults at all.
    pub fn clear(&self) {
        *self.plan() = Plan::default();
    }

    /// How many of the faults asked for with [`Faults::next`] have not happened yet.
    pub fn pending(&self) -> usize {
        self.plan().next.iter().map(|(_, times)| times).sum()
    }

    pub(crate) fn rejection(&self) -> Option<Rejection> {
        self.plan().rejection.clone()
    }

    pub(crate) fn reported_queue_time_secs(&self) -> f64 {
        self.plan().queue_time_secs
    }

    /// What this request must suffer. Counts it, so it is asked once a request.
    pub(crate) fn take<B>(&self, request: &Request<B>) -> (Duration, Option<Fault>) {
        let mut plan = self.plan();
        if plan.scope == FaultScope::Writes && !is_write(request) {
            return (Duration::ZERO, None);
        }
        while plan.next.front().is_some_and(|(_, times)| *times == 0) {
            plan.next.pop_front();
        }
        let fault = match plan.next.front_mut() {
            Some((fault, times)) => {
                *times -= 1;
                Some(fault.clone())
            }
            None => plan.always.clone(),
        };
        (plan.delay, fault)
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0
            .lock()
            .expect("nothing panics while it holds the faults")
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan();
        f.debug_struct("Faults")
            .field("scope", &plan.scope)
            .field("next", &plan.next)
            .field("always", &plan.always)
            .field("delay", &plan.delay)
            .finish_non_exhaustive()
    }
}

/// Marks an answer that is not sent: the connection is closed in its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DropConnection;

/// The answer that stands for closing the connection.
pub(crate) fn dropped_connection() -> Response {
    let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
    response.extensions_mut().insert(DropConnection);
    response
}

impl Fault {
    /// What is answered in place of carrying out the request; `None` if it is carried out.
    pub(crate) fn answer(&self) -> Option<Response> {
        match self {
            Self::Unavailable => Some(ApiError::from(Known::QueueFull).into_response()),
            Self::UnavailablePlainText => {
                Some((StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n").into_response())
            }
            Self::Error { num, message } => {
                Some(ApiError::numbered(*num, message.as_str()).into_response())
            }
            Self::DropBeforeWrite => Some(dropped_connection()),
            Self::DropAfterWrite => None,
        }
    }
}

fn is_write<B>(request: &Request<B>) -> bool {
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    let reads = [Method::GET, Method::HEAD].contains(request.method())
        || query
            .split('&')
            .any(|pair| matches!(pair, "onlyget=true" | "onlyget=1"));
    !reads && (path.contains("/_api/document") || path.contains("/_api/import"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, uri: &str) -> Request<()> {
        let request = Request::builder().method(method).uri(uri);
        request.body(()).unwrap()
    }

    #[test]
    fn faults_hit_writes_in_the_order_they_were_asked_for() {
        let faults = Faults::default();
        faults.always(Fault::Unavailable);
        faults.next(Fault::DropBeforeWrite, 2);
        faults.next(Fault::DropAfterWrite, 0);
        faults.next(Fault::UnavailablePlainText, 1);
        assert_eq!(faults.pending(), 3);

        let write = request(Method::POST, "/_db/d/_api/document/c");
        let hits: Vec<_> = (0..5).map(|_| faults.take(&write).1.unwrap()).collect();
        let (before, plain, always) = (
            Fault::DropBeforeWrite,
            Fault::UnavailablePlainText,
            Fault::Unavailable,
        );
        assert_eq!(
            hits,
            [before.clone(), before, plain, always.clone(), always]
        );
        faults.clear();
        assert_eq!(faults.take(&write).1, None);
    }

    #[test]
    fn reading_and_managing_are_spared_by_default() {
        let faults = Faults::default();
        faults.always(Fault::Unavailable);
        for (method, uri, hit) in [
            (Method::POST, "/_api/import?collection=c", true),
            (Method::PATCH, "/_api/document/c/k", true),
            (Method::GET, "/_api/document/c/k", false),
            (Method::PUT, "/_api/document/c?onlyget=true", false),
            (Method::POST, "/_open/auth", false),
            (Method::POST, "/_api/collection", false),
        ] {
            assert_eq!(faults.take(&request(method, uri)).1.is_some(), hit, "{uri}");
        }
        faults.scope(FaultScope::Everything);
        assert!(
            faults
                .take(&request(Method::GET, "/_api/version"))
                .1
                .is_some()
        );
    }
}
