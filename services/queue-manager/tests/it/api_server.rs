//! A small API server of Kubernetes, with real HTTP on loopback, for tests of the launcher and of what stands above it.
//!
//! It keeps Jobs and pods of one namespace, with versions, selectors, pages, watches, bookmarks and the errors that a real
//! one gives (404, 409, 410, 429, 403). Beside it stands the part of a cluster that acts on Jobs: a controller that makes
//! and replaces pods by the Job's own policies, and a node whose pods do what a test tells them. It checks nothing that a
//! schema checks; that is ci/k8s-jobs.py's job.

mod answers;
mod cluster;
mod line;
mod pod;
mod store;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use kube::{Client, Config};
use queue_manager::launcher::kubernetes;
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::pod::PodHandle;
use self::{
    cluster::Cluster,
    line::Line,
    store::{JOBS, PODS},
};

/// The only namespace that there is.
pub(crate) const NAMESPACE: &str = "streamforge";

/// A running server. It ends when this is dropped.
pub(crate) struct ApiServer {
    shared: Arc<Shared>,
    line: Line,
    _task: AbortOnDropHandle<()>,
}

/// What the routes and the handle share.
struct Shared {
    cluster: Mutex<Cluster>,
    faults: Mutex<Vec<Fault>>,
    requests: Mutex<Vec<String>>,
    rights: Mutex<BTreeSet<(String, String)>>,
    forbidden: Mutex<Vec<(String, String)>>,
    /// Cuts all connections when it changes.
    cut: watch::Sender<u64>,
}

/// How some requests are answered instead of what is right.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// `GET`, `POST`, `DELETE`.
    pub(crate) method: &'static str,
    /// What its path and query contain.
    pub(crate) path: &'static str,
    /// How many requests.
    pub(crate) times: usize,
    /// How.
    pub(crate) answer: Answer,
}

/// What a [`Fault`] does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// This code, with `Retry-After` in seconds.
    Status(u16, Option<u64>),
    /// None, ever.
    Silence,
    /// It is done, and all connections break before the answer is sent.
    DoneAndLost,
}

impl ApiServer {
    /// On a free port of loopback. Pods wait until a test tells them what to do, and end by themselves when told to go.
    pub(crate) async fn start() -> Self {
        let (cut, seen) = watch::channel(0);
        let shared = Arc::new(Shared {
            cluster: Mutex::default(),
            faults: Mutex::default(),
            requests: Mutex::default(),
            rights: Mutex::default(),
            forbidden: Mutex::default(),
            cut,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = answers::router(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            shared,
            line: Line::start(address, seen).await,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// As the launcher makes it from a configuration.
    pub(crate) fn client(&self) -> Client {
        let url = format!("http://{}", self.line.address);
        let mut config = Config::new(url.parse().unwrap());
        config.default_namespace = NAMESPACE.to_owned();
        kubernetes::client(config).unwrap()
    }

    // What there is.

    /// A Job as it is stored.
    pub(crate) fn job(&self, name: &str) -> Option<Value> {
        self.cluster().store.get(JOBS, name).cloned()
    }

    /// The pods of a Job, the oldest first.
    pub(crate) fn pods_of(&self, job: &str) -> Vec<Value> {
        self.cluster().pods_of_name(job)
    }

    /// What was asked, each as `METHOD path?query`.
    pub(crate) fn requests(&self) -> Vec<String> {
        lock(&self.shared.requests).clone()
    }

    /// The rights that this took: resource and verb.
    pub(crate) fn rights(&self) -> BTreeSet<(String, String)> {
        lock(&self.shared.rights).clone()
    }

    // What other clients do.

    /// Another client makes a Job.
    pub(crate) fn put_job(&self, job: Value) {
        self.cluster().create_job(job).unwrap();
    }

    /// Another client deletes a Job; `waits` for its pods, as `kubectl delete --cascade=foreground` does.
    pub(crate) fn delete_job(&self, name: &str, waits: bool) {
        self.cluster().delete_job(name, waits);
    }

    // What the cluster does.

    /// Whether pods run as soon as they are made.
    pub(crate) fn runs_pods(&self, runs: bool) {
        self.cluster().runs_pods = runs;
    }

    /// Whether pods that are told to go are gone at once; else when a test says so.
    pub(crate) fn ends_pods(&self, ends: bool) {
        self.cluster().ends_pods = ends;
    }

    /// The last pod of a Job, to be told what happens to it.
    pub(crate) fn pod(&self, job: &str) -> PodHandle<'_> {
        let pods = self.pods_of(job);
        let pod = pods
            .last()
            .unwrap_or_else(|| panic!("job {job} has no pod"));
        PodHandle {
            server: self,
            name: store::name(pod).to_owned(),
        }
    }

    /// A Job has taken too long: its pods are told to go, and then it is failed.
    pub(crate) fn deadline(&self, job: &str) {
        self.cluster().deadline(job);
    }

    // What goes wrong.

    /// The next requests that fit get another answer.
    pub(crate) fn fault(&self, fault: Fault) {
        lock(&self.shared.faults).push(fault);
    }

    /// A right that the client lacks from now on: `create`, `jobs`.
    pub(crate) fn forbid(&self, verb: &str, resource: &str) {
        lock(&self.shared.forbidden).push((verb.to_owned(), resource.to_owned()));
    }

    /// Forgets all versions but the last: watches and pages from before get 410.
    pub(crate) fn forget(&self) {
        self.cluster().store.forget();
    }

    /// Breaks all connections.
    pub(crate) fn cut(&self) {
        self.shared.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Takes no connections, or takes them again.
    pub(crate) fn away(&self, is_away: bool) {
        self.line.away(is_away);
        self.cut();
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        lock(&self.shared.cluster)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// How often a watch that asked for them gets a bookmark: often, so that tests need not wait.
const BOOKMARK_EVERY: Duration = Duration::from_millis(200);
/// Most objects of a page, whatever was asked for.
const PAGE: usize = 3;
