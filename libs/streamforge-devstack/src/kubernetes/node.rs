//! A node: takes the pods that are scheduled to it and runs each as a process of this machine, as a kubelet does with
//! containers. It speaks to the API server as any client, so that it works beside a real one too.
//!
//! What it does: the environment (`envFrom` too), mounted Secrets, logs, exit codes, the last lines of a log, SIGTERM and
//! the grace, phases and conditions, its own heartbeat. What it lacks: isolation. Pods share network, disk and user;
//! `METRICS_PORT` is 0 in every pod, so that they don't take each other's ports, and probes are not asked.

mod environment;
pub(super) mod logs;
mod pod;
mod status;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::watcher::{self, Event, watcher},
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::lock;

/// A node that says nothing for 40 s counts as lost.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Between two tries after the API server did not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// How a node is made.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Its name.
    pub name: String,
    /// Labels, by which pods choose it.
    pub labels: BTreeMap<String, String>,
    /// What runs a worker: the program `streamforge`.
    pub program: PathBuf,
    /// What stands before the target in the name of an image, and behind it. Other images can't be pulled.
    pub images: (String, String),
    /// Where logs and mounted Secrets are.
    pub folder: PathBuf,
    /// Certificate and key, to serve logs over TLS: a real API server wants that, and this one can't do it.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// A node that is up. Its processes are killed when this is dropped.
pub struct Node {
    own: Arc<Own>,
    _tasks: [AbortOnDropHandle<()>; 3],
}

/// What the parts of a node share.
struct Own {
    client: Client,
    settings: NodeSettings,
    /// By uid.
    pods: Mutex<HashMap<String, Running>>,
}

/// A pod that this node has taken.
struct Running {
    name: String,
    orders: mpsc::UnboundedSender<Order>,
    /// Raised once it is over.
    over: watch::Receiver<bool>,
    _task: AbortOnDropHandle<()>,
}

/// What becomes of a pod, besides what its process does.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    /// It is told to go: SIGTERM now, SIGKILL after so many seconds.
    Go(i64),
    /// The node is short of something.
    Evict(String),
    /// It is gone from the API server.
    Forget,
}

impl Node {
    /// Registers it, and takes pods from then on.
    ///
    /// # Errors
    /// The API server does not take it.
    pub async fn start(client: Client, settings: NodeSettings) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&settings.folder)
            .with_context(|| format!("can't make {}", settings.folder.display()))?;
        let (port, serving) = logs::serve(settings.folder.clone(), settings.tls.clone()).await?;
        let own = Arc::new(Own {
            client,
            settings,
            pods: Mutex::default(),
        });
        own.register(port).await?;
        Ok(Self {
            _tasks: [
                serving,
                AbortOnDropHandle::new(tokio::spawn(beat(Arc::clone(&own), port))),
                AbortOnDropHandle::new(tokio::spawn(follow(Arc::clone(&own)))),
            ],
            own,
        })
    }

    /// Ends a pod as a node does that is short of something.
    pub fn evict(&self, pod: &str, message: &str) {
        let pods = lock(&self.own.pods);
        for running in pods.values().filter(|running| running.name == pod) {
            // One that has just ended can't be evicted any more.
            let _ = running.orders.send(Order::Evict(message.to_owned()));
        }
    }

    /// Leaves in order: what runs is killed, and the node is taken from the cluster.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn leave(self) -> anyhow::Result<()> {
        let Self { own, _tasks } = self;
        drop(_tasks);
        lock(&own.pods).clear();
        let nodes: Api<NodeObject> = Api::all(own.client.clone());
        nodes
            .delete(&own.settings.name, &DeleteParams::default())
            .await?;
        Ok(())
    }
}

impl Own {
    async fn register(&self, port: u16) -> anyhow::Result<()> {
        let nodes: Api<NodeObject> = Api::all(self.client.clone());
        let name = &self.settings.name;
        let mut labels = self.settings.labels.clone();
        labels.insert("kubernetes.io/hostname".to_owned(), name.clone());
        let node: NodeObject = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels},
        }))?;
        match nodes.create(&PostParams::default(), &node).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error).context("can't register a node"),
        }
        let status = status::node(port);
        nodes
            .patch_status(name, &PatchParams::default(), &Patch::Strategic(status))
            .await
            .context("can't say that a node is ready")?;
        Ok(())
    }

    /// Takes a pod, or passes on what is new of it.
    fn heard(self: &Arc<Self>, pod: &Pod) {
        let Some(uid) = pod.uid() else { return };
        let mut pods = lock(&self.pods);
        pods.retain(|_, running| !*running.over.borrow());
        match pods.get(&uid) {
            Some(running) => {
                if pod.metadata.deletion_timestamp.is_some() {
                    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
                    let _ = running.orders.send(Order::Go(grace));
                }
            }
            None => {
                let (orders, received) = mpsc::unbounded_channel();
                let (over, seen) = watch::channel(false);
                let life = pod::live(Arc::clone(self), pod.clone(), received);
                let task = tokio::spawn(async move {
                    life.await;
                    over.send_replace(true);
                });
                pods.insert(
                    uid,
                    Running {
                        name: pod.name_any(),
                        orders,
                        over: seen,
                        _task: AbortOnDropHandle::new(task),
                    },
                );
            }
        }
    }

    fn forget(&self, uid: &str) {
        if let Some(running) = lock(&self.pods).get(uid) {
            let _ = running.orders.send(Order::Forget);
        }
    }

    /// Says something of a pod until the API server takes it, or the pod is not there any more.
    async fn say(&self, pod: &Pod, status: &Value) {
        let pods = self.api(pod);
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": status});
        let (name, params, patch) = (
            pod.name_any(),
            PatchParams::default(),
            Patch::Strategic(patch),
        );
        loop {
            match pods.patch_status(&name, &params, &patch).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => {
                    tracing::debug!(%status, pod = %pod.name_any(), "Nothing to say of a pod");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, pod = %pod.name_any(), "Can't say what a pod does");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Takes a pod that was told to go from the API server, now that it is over.
    async fn remove(&self, pod: &Pod) {
        let mut params = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        params.preconditions = Some(kube::api::Preconditions {
            uid: pod.uid(),
            resource_version: None,
        });
        loop {
            match self.api(pod).delete(&pod.name_any(), &params).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
                Err(error) => {
                    tracing::warn!(%error, pod = %pod.name_any(), "Can't remove a pod");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default())
    }

    /// The target of an image that this node has.
    fn target<'a>(&self, image: &'a str) -> Option<&'a str> {
        let (before, behind) = &self.settings.images;
        image
            .strip_prefix(before.as_str())?
            .strip_suffix(behind.as_str())
    }
}

/// Says that it lives, for as long as it does.
async fn beat(own: Arc<Own>, port: u16) {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        if let Err(error) = own.register(port).await {
            tracing::warn!(%error, "The API server has not heard of this node");
        }
    }
}

/// Takes the pods that are scheduled to it, for ever.
async fn follow(own: Arc<Own>) {
    let pods: Api<Pod> = Api::all(own.client.clone());
    let mine = format!("spec.nodeName={}", own.settings.name);
    let mut events = pin!(watcher(pods, watcher::Config::default().fields(&mine)));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => own.heard(&pod),
            Ok(Event::Delete(pod)) => own.forget(&pod.uid().unwrap_or_default()),
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => {
                tracing::warn!(%error, "A node does not hear of its pods");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
