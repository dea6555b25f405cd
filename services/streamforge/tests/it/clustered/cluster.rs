//! The cluster: one of the dev stack, or a real one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod, Secret},
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams, PostParams},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use streamforge_devstack::kubernetes::{ApiServer, Line, NAMESPACE, Node, NodeSettings};
use streamforge_utils::config::process_vars;
use tokio::sync::Mutex;

use crate::process::LIMIT;

/// Names the namespace of a real cluster, which `KUBECONFIG` finds with every right in it.
const REAL_NAMESPACE: &str = "STREAMFORGE_CLUSTER_NAMESPACE";
/// A kubeconfig for queue-manager itself, with the rights of k8s/queue-manager.
const REAL_MANAGER: &str = "STREAMFORGE_CLUSTER_MANAGER";
/// What common environment and passwords are called.
pub(super) const WORKER: &str = "streamforge-worker";
/// The brokers' CA, where there is one.
pub(super) const CA: &str = "streamforge-kafka-ca";

pub(super) struct Cluster {
    client: Client,
    pub(super) namespace: String,
    /// For queue-manager.
    pub(super) kubeconfig: PathBuf,
    stand_in: Option<StandIn>,
    /// queue-manager's way to a real API server.
    line: Option<Line>,
    /// Two tests in one namespace would take each other's Jobs for their own.
    _alone: Option<tokio::sync::MutexGuard<'static, ()>>,
}

struct StandIn {
    server: ApiServer,
    node: Mutex<Option<Node>>,
    dir: PathBuf,
}

static ALONE: Mutex<()> = Mutex::const_new(());

impl Cluster {
    pub(super) async fn start(dir: &Path) -> Self {
        match process_vars().get(REAL_NAMESPACE) {
            Some(namespace) if !namespace.is_empty() => Self::real(namespace, dir).await,
            _ => Self::stand_in(dir).await,
        }
    }

    async fn real(namespace: &str, dir: &Path) -> Self {
        let vars = process_vars();
        let given = vars
            .get(REAL_MANAGER)
            .unwrap_or_else(|| panic!("{REAL_MANAGER} is missing: use ci/test-cluster.sh"));
        let given = std::fs::read_to_string(given).unwrap();
        let server = given
            .lines()
            .find_map(|line| line.trim().strip_prefix("server: "))
            .unwrap();
        let url: url::Url = server.parse().unwrap();
        let place = url.socket_addrs(|| None).unwrap();
        let line = Line::start(place[0]).await.unwrap();
        // Its certificate is for the name that it has.
        let mut through = format!("https://{}", line.address());
        if !given.contains("tls-server-name: ") {
            let name = url.host_str().unwrap();
            through.push_str(&format!("\n      tls-server-name: {name}"));
        }
        let kubeconfig = dir.join("kubeconfig");
        std::fs::write(&kubeconfig, given.replace(server, &through)).unwrap();
        Self {
            _alone: Some(ALONE.lock().await),
            client: Client::try_default().await.unwrap(),
            namespace: namespace.to_owned(),
            kubeconfig,
            stand_in: None,
            line: Some(line),
        }
    }

    async fn stand_in(dir: &Path) -> Self {
        let server = ApiServer::start().await.unwrap();
        server.replaces_pods_after(Duration::from_secs(2));
        let mut config = Config::new(server.inner_url().parse().unwrap());
        config.default_namespace = NAMESPACE.to_owned();
        let client = Client::try_from(config).unwrap();
        let kubeconfig = dir.join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "stand-in",
            "clusters": [{"name": "stand-in", "cluster": {"server": server.url()}}],
            "users": [{"name": "queue-manager", "user": {}}],
            "contexts": [{"name": "stand-in", "context": {
                "cluster": "stand-in", "user": "queue-manager", "namespace": NAMESPACE,
            }}],
        });
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        let stand_in = StandIn {
            server,
            node: Mutex::new(None),
            dir: dir.join("node"),
        };
        stand_in.add_node(&client, "node-1").await;
        Self {
            client,
            namespace: NAMESPACE.to_owned(),
            kubeconfig,
            stand_in: Some(stand_in),
            line: None,
            _alone: None,
        }
    }

    /// The dev stack's API server, for what no other can be told to do.
    pub(super) fn server(&self, what: &str) -> Option<&ApiServer> {
        let server = self.stand_in.as_ref().map(|stand_in| &stand_in.server);
        if server.is_none() {
            eprintln!("NOT RUN: {what}: only the dev stack's cluster can be told to do that");
        }
        server
    }

    /// Takes the API server away from queue-manager, or gives it back.
    pub(super) fn away(&self, is_away: bool) {
        match (&self.stand_in, &self.line) {
            (Some(stand_in), _) => stand_in.server.away(is_away),
            (None, Some(line)) => line.away(is_away),
            (None, None) => unreachable!("there is a way to each cluster"),
        }
    }

    /// What workers are given in common. The passwords among it come into a Secret.
    pub(super) async fn put_environment(&self, vars: &BTreeMap<String, String>, ca: Option<&str>) {
        self.remove_environment().await;
        let is_secret = |name: &str| name.contains("PASSWORD");
        let named = |name: &str| kube::core::ObjectMeta {
            name: Some(name.to_owned()),
            ..Default::default()
        };
        let of = |secret: bool| -> BTreeMap<String, String> {
            vars.iter()
                .filter(|(name, _)| is_secret(name) == secret)
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        };
        let map = ConfigMap {
            metadata: named(WORKER),
            data: Some(of(false)),
            ..ConfigMap::default()
        };
        let params = PostParams::default();
        self.api::<ConfigMap>().create(&params, &map).await.unwrap();
        let mut secrets = vec![(WORKER, of(true))];
        if let Some(ca) = ca {
            secrets.push((CA, [("ca.crt".to_owned(), ca.to_owned())].into()));
        }
        for (name, values) in secrets {
            let secret = Secret {
                metadata: named(name),
                string_data: Some(values),
                ..Secret::default()
            };
            self.api::<Secret>().create(&params, &secret).await.unwrap();
        }
    }

    pub(super) async fn remove_environment(&self) {
        let params = DeleteParams::default();
        // There may be none.
        let _ = self.api::<ConfigMap>().delete(WORKER, &params).await;
        for name in [WORKER, CA] {
            let _ = self.api::<Secret>().delete(name, &params).await;
        }
    }

    pub(super) async fn jobs(&self, queue_id: &str) -> Vec<Job> {
        let ours = ListParams::default().labels(&format!("app=streamforge,queue_id={queue_id}"));
        self.api::<Job>().list(&ours).await.unwrap().items
    }

    pub(super) async fn pods(&self, queue_id: &str) -> Vec<Pod> {
        let ours = ListParams::default().labels(&format!("app=streamforge,queue_id={queue_id}"));
        self.api::<Pod>().list(&ours).await.unwrap().items
    }

    /// The pod of a service that runs.
    pub(super) async fn pod(&self, queue_id: &str, service: &str) -> Pod {
        let waiting = async {
            loop {
                let pods = self.pods(queue_id).await;
                let found = pods.into_iter().find(|pod| {
                    let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
                    pod.name_any().contains(service)
                        && phase.as_deref() == Some("Running")
                        && pod.metadata.deletion_timestamp.is_none()
                });
                if let Some(pod) = found {
                    return pod;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let found = tokio::time::timeout(LIMIT, waiting).await;
        found.unwrap_or_else(|_| panic!("no pod of {service} runs within {LIMIT:?}"))
    }

    /// Waits until the only pod that a service ever had has ended with this code, and its Job is failed.
    pub(super) async fn ended_once_with(&self, queue_id: &str, service: &str, code: i32) {
        let has_failed = |job: &Job| {
            let conditions = job.status.as_ref().and_then(|it| it.conditions.as_ref());
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|it| it.type_ == "Failed" && it.status == "True")
        };
        let ends = |pod: &Pod| {
            let status = pod.status.as_ref()?.container_statuses.as_ref()?;
            let state = status.first()?.state.as_ref()?.terminated.as_ref()?;
            Some(state.exit_code)
        };
        let waiting = async {
            loop {
                let (mut jobs, mut pods) = (self.jobs(queue_id).await, self.pods(queue_id).await);
                jobs.retain(|job| job.name_any().contains(service));
                pods.retain(|pod| pod.name_any().contains(service));
                assert!(pods.len() <= 1, "{pods:#?}");
                if jobs.iter().any(has_failed) && pods.iter().all(|pod| ends(pod) == Some(code)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let ended = tokio::time::timeout(LIMIT, waiting).await;
        assert!(ended.is_ok(), "{:#?}", self.pods(queue_id).await);
    }

    /// Kills the process of a pod, as when memory is short. False where it is not on this machine.
    pub(super) fn kill(&self, pod: &Pod) -> bool {
        let host = format!("HOSTNAME={}", pod.name_any());
        let is_it = |environment: &[u8]| {
            environment
                .split(|byte| *byte == 0)
                .any(|it| it == host.as_bytes())
        };
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            if std::fs::read(entry.path().join("environ")).is_ok_and(|text| is_it(&text)) {
                kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
                return true;
            }
        }
        eprintln!("NOT RUN: killing the process of a pod: it is not on this machine");
        false
    }

    /// As `kubectl drain` does it.
    pub(super) async fn drain(&self, pod: &Pod) {
        let params = EvictParams::default();
        self.api::<Pod>()
            .evict(&pod.name_any(), &params)
            .await
            .unwrap();
    }

    /// The node is short of memory.
    pub(super) async fn evict(&self, pod: &Pod) {
        match &self.stand_in {
            Some(stand_in) => {
                let node = stand_in.node.lock().await;
                node.as_ref()
                    .unwrap()
                    .evict(&pod.name_any(), "The node was low on resource: memory.");
            }
            None => {
                eprintln!("NOT RUN: eviction for want of memory: only the dev stack's node does it")
            }
        }
    }

    /// The only node goes down with all that runs there, and another one comes up. False where that is not ours to do.
    pub(super) async fn replace_node(&self) -> bool {
        let Some(stand_in) = &self.stand_in else {
            eprintln!("NOT RUN: a node that is gone: only the dev stack's may be taken away");
            return false;
        };
        let node = stand_in.node.lock().await.take();
        node.unwrap().leave().await.unwrap();
        stand_in.add_node(&self.client, "node-2").await;
        true
    }

    /// As somebody does with `kubectl delete job`.
    pub(super) async fn delete_job(&self, name: &str) {
        let params = DeleteParams::background();
        self.api::<Job>().delete(name, &params).await.unwrap();
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

impl StandIn {
    async fn add_node(&self, client: &Client, name: &str) {
        let settings = NodeSettings {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            program: PathBuf::from(env!("CARGO_BIN_EXE_streamforge")),
            images: (
                "streamforge/".to_owned(),
                format!(":{}", env!("CARGO_PKG_VERSION")),
            ),
            folder: self.dir.join(name),
            tls: None,
        };
        let node = Node::start(client.clone(), settings).await.unwrap();
        *self.node.lock().await = Some(node);
    }
}

/// All that a Job or pod says, as text.
pub(super) fn text(object: &impl serde::Serialize) -> String {
    serde_json::to_value(object)
        .unwrap_or(Value::Null)
        .to_string()
}
