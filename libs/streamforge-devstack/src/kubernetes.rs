//! A small API server of Kubernetes, with real HTTP on loopback, for tests of what launches Jobs and stands above that.
//!
//! It keeps Jobs, pods, ConfigMaps, Secrets of one namespace and nodes, with versions, selectors, pages, watches, bookmarks
//! and the errors that a real one gives (404, 409, 410, 429, 403). Beside it stands the part of a cluster that acts on
//! them: a controller that makes and replaces pods by the Job's own policies, a scheduler that knows labels of nodes, and
//! a garbage collector. It checks nothing that a schema checks; that is ci/k8s-jobs.py's job.
//!
//! Pods of a cluster without a [`Node`] do what a test tells them ([`ApiServer::pod`]). A node runs them as processes of
//! this machine; it works beside a real API server, too.

mod answers;
mod controller;
mod line;
mod listing;
mod node;
mod objects;
mod scheduler;
mod store;
mod told;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use serde_json::Value;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::task::AbortOnDropHandle;

use self::{
    controller::Cluster,
    store::{JOBS, PODS},
};
pub use self::{
    line::Line,
    node::{Node, NodeSettings},
    told::PodHandle,
};

/// The only namespace that there is.
pub const NAMESPACE: &str = "streamforge";

/// A running server. It ends when this is dropped.
pub struct ApiServer {
    shared: Arc<Shared>,
    line: Line,
    inner: SocketAddr,
    _tasks: [AbortOnDropHandle<()>; 3],
}

/// What the routes and the handle share.
struct Shared {
    cluster: Mutex<Cluster>,
    faults: Mutex<Vec<Fault>>,
    requests: Mutex<Vec<String>>,
    rights: Mutex<BTreeSet<(String, String)>>,
    forbidden: Mutex<Vec<(String, String)>>,
    /// Cuts all connections of clients when it changes; set once there is a way for them.
    cut: OnceLock<watch::Sender<u64>>,
}

/// How some requests are answered instead of what is right.
#[derive(Debug, Clone)]
pub struct Fault {
    /// `GET`, `POST`, `DELETE`.
    pub method: &'static str,
    /// What its path and query contain.
    pub path: &'static str,
    /// How many requests.
    pub times: usize,
    /// How.
    pub answer: Answer,
}

/// What a [`Fault`] does.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// This code, with `Retry-After` in seconds.
    Status(u16, Option<u64>),
    /// None, ever.
    Silence,
    /// It is done, and all connections break before the answer is sent.
    DoneAndLost,
}

impl ApiServer {
    /// On free ports of loopback. Pods wait until a test tells them what to do, and end by themselves when told to go;
    /// with a node, that does it.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            cluster: Mutex::default(),
            faults: Mutex::default(),
            requests: Mutex::default(),
            rights: Mutex::default(),
            forbidden: Mutex::default(),
            cut: OnceLock::new(),
        });
        let routes = answers::router(&shared);
        let (inner, inner_task) = serve(routes.clone()).await?;
        let (outer, outer_task) = serve(answers::interfered(routes, &shared)).await?;
        let line = Line::start(outer).await?;
        shared.cut.get_or_init(|| line.cuts());
        let ticking = tokio::spawn(tick(Arc::clone(&shared)));
        Ok(Self {
            shared,
            line,
            inner,
            _tasks: [inner_task, outer_task, AbortOnDropHandle::new(ticking)],
        })
    }

    /// Where clients find it. All that goes wrong goes wrong here.
    pub fn url(&self) -> String {
        format!("http://{}", self.line.address)
    }

    /// Where the cluster's own parts find it: nothing goes wrong, and nothing is noted.
    pub fn inner_url(&self) -> String {
        format!("http://{}", self.inner)
    }

    // What there is.

    /// A Job as it is stored.
    pub fn job(&self, name: &str) -> Option<Value> {
        self.cluster().store.get(JOBS, name).cloned()
    }

    /// The pods of a Job, the oldest first.
    pub fn pods_of(&self, job: &str) -> Vec<Value> {
        self.cluster().pods_of_name(job)
    }

    /// What was asked, each as `METHOD path?query`.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.requests).clone()
    }

    /// The rights that this took: resource and verb.
    pub fn rights(&self) -> BTreeSet<(String, String)> {
        lock(&self.shared.rights).clone()
    }

    // What other clients do.

    /// Another client makes a Job; false if its name is taken.
    pub fn put_job(&self, job: Value) -> bool {
        self.cluster().create_job(job).is_ok()
    }

    /// Another client deletes a Job; `waits` for its pods, as `kubectl delete --cascade=foreground` does.
    pub fn delete_job(&self, name: &str, waits: bool) {
        self.cluster().delete_job(name, waits);
    }

    // What the cluster does.

    /// Whether pods run as soon as they are made.
    pub fn runs_pods(&self, runs: bool) {
        self.cluster().runs_pods = runs;
    }

    /// Whether Jobs are suspended as they are made, as by Kueue; [`Self::resume`] admits one.
    pub fn suspends_jobs(&self, suspends: bool) {
        self.cluster().suspends_jobs = suspends;
    }

    /// Admits a Job.
    pub fn resume(&self, job: &str) {
        let mut cluster = self.cluster();
        cluster.store.change(JOBS, job, |job| {
            job["spec"]["suspend"] = serde_json::json!(false)
        });
        cluster.reconcile(job);
    }

    /// Whether pods that are told to go are gone at once; else when a test says so.
    pub fn ends_pods(&self, ends: bool) {
        self.cluster().ends_pods = ends;
    }

    /// How long a Job waits before its next pod, once one has ended: a real one for 10 s, and twice as long each time.
    pub fn replaces_pods_after(&self, pause: Duration) {
        self.cluster().pause = pause;
    }

    /// The last pod of a Job, to be told what happens to it.
    ///
    /// # Panics
    /// It has none.
    pub fn pod(&self, job: &str) -> PodHandle<'_> {
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
    pub fn deadline(&self, job: &str) {
        self.cluster().deadline(job);
    }

    // What goes wrong.

    /// The next requests that fit get another answer.
    pub fn fault(&self, fault: Fault) {
        lock(&self.shared.faults).push(fault);
    }

    /// How many requests are still to get another answer.
    pub fn pending_faults(&self) -> usize {
        let faults = lock(&self.shared.faults);
        faults
            .iter()
            .fold(0, |sum, fault| fault.times.saturating_add(sum))
    }

    /// A right that the client lacks from now on: `create`, `jobs`.
    pub fn forbid(&self, verb: &str, resource: &str) {
        lock(&self.shared.forbidden).push((verb.to_owned(), resource.to_owned()));
    }

    /// Forgets all versions but the last: watches and pages from before get 410.
    pub fn forget(&self) {
        self.cluster().store.forget();
    }

    /// Breaks all connections.
    pub fn cut(&self) {
        self.line.cut();
    }

    /// Takes no connections, or takes them again.
    pub fn away(&self, is_away: bool) {
        self.line.away(is_away);
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        lock(&self.shared.cluster)
    }
}

/// What happens by time alone.
async fn tick(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        lock(&shared.cluster).tick();
    }
}

/// On a free port, until the handle is dropped.
async fn serve(routes: axum::Router) -> std::io::Result<(SocketAddr, AbortOnDropHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "The API server of Kubernetes has ended");
        }
    });
    Ok((address, AbortOnDropHandle::new(task)))
}

/// A panic elsewhere leaves what is behind it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// How often a watch that asked for them gets a bookmark: often, so that tests need not wait.
const BOOKMARK_EVERY: Duration = Duration::from_millis(200);
/// Most objects of a page, whatever was asked for.
const PAGE: usize = 3;
