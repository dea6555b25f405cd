//! Jobs of Kubernetes: makes them, follows them and their pods, ends them.
//!
//! Nothing here decides what a Job's end means; nothing here reads the environment, except what kube itself looks at to
//! find its cluster.

mod client;
mod identity;
mod job;
mod log;
mod overrides;
mod refusal;
mod sources;
mod status;
mod watch;

use std::{future::Future, time::Duration};

use async_trait::async_trait;
use k8s_openapi::{
    api::{
        authorization::v1::{
            ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
        },
        batch::v1::Job,
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, LogParams, PostParams, Preconditions},
};
use streamforge_utils::protocol::TimestampMs;

pub(crate) use self::identity::is_label_value;
pub use self::{
    client::{client, config},
    job::{JobSettings, SecretKey, job},
    overrides::{Additions, InvalidOverrides, Overrides, PullPolicy},
    sources::PerTarget,
};
use self::{identity::Identity, watch::Watched};
use super::{JobSpec, JobStatus, LaunchError, Launched, Launcher};

/// How often it is looked whether Jobs were read.
const CHECK_EVERY: Duration = Duration::from_millis(50);
/// Most bytes of a log: its newest.
const LOG_BYTES: usize = 256 * 1024;

/// What an installation sets.
#[derive(Debug, Clone, PartialEq)]
pub struct KubernetesSettings {
    /// Where the Jobs are made; None is that of the kubeconfig's context, or that of queue-manager's own pod.
    pub namespace: Option<String>,
    /// What they have in common.
    pub job: JobSettings,
    /// How long a request may take, its retries included.
    pub request_timeout: Duration,
    /// How long a watch may be broken before what is known counts as unknown.
    pub stale_after: Duration,
}

impl Default for KubernetesSettings {
    fn default() -> Self {
        Self {
            namespace: None,
            job: JobSettings::default(),
            request_timeout: Duration::from_secs(10),
            stale_after: Duration::from_secs(60),
        }
    }
}

/// Makes Jobs in one namespace.
pub struct KubernetesLauncher {
    client: Client,
    namespace: String,
    jobs: Api<Job>,
    pods: Api<Pod>,
    settings: KubernetesSettings,
    watched: Watched,
}

impl KubernetesLauncher {
    /// Begins to follow Jobs and pods; until they are read for the first time, [`Launcher::jobs`] is unavailable. Must be
    /// called on a runtime. For `client` see [`client()`] and [`config`].
    pub fn new(client: Client, settings: KubernetesSettings) -> Self {
        let namespace = settings
            .namespace
            .clone()
            .unwrap_or_else(|| client.default_namespace().to_owned());
        let selector = identity::selector(&settings.job.instance);
        Self {
            jobs: Api::namespaced(client.clone(), &namespace),
            pods: Api::namespaced(client.clone(), &namespace),
            watched: Watched::start(
                &client,
                &namespace,
                &selector,
                settings.job.installation.clone(),
                settings.stale_after,
            ),
            client,
            namespace,
            settings,
        }
    }

    /// Waits for an answer, for as long as a request may take.
    async fn ask<T>(
        &self,
        doing: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<Result<T, kube::Error>, LaunchError> {
        let limit = self.settings.request_timeout;
        match tokio::time::timeout(limit, request).await {
            Ok(answer) => Ok(answer),
            Err(_) => Err(LaunchError::Unavailable(format!(
                "can't {doing}, the API server did not answer within {} s",
                limit.as_secs_f32()
            ))),
        }
    }

    /// As [`Self::ask`], where every error is one.
    async fn get<T>(
        &self,
        doing: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, LaunchError> {
        self.ask(doing, request)
            .await?
            .map_err(|error| refusal::sort(doing, &error))
    }

    /// A Job of this name is there: is it the one that is to be made?
    fn is_same(&self, spec: &JobSpec, there: &Job) -> Result<Launched, LaunchError> {
        if there.metadata.deletion_timestamp.is_some() {
            return Err(LaunchError::Taken(format!(
                "Job {} is there and is being deleted",
                spec.name
            )));
        }
        if let Some(other) = self.other_installation(&there.metadata) {
            return Err(LaunchError::Taken(format!(
                "Job {} is there and is of installation {other}",
                spec.name
            )));
        }
        match Identity::read(&there.metadata) {
            Some(identity) if identity == Identity::of(spec) => Ok(Launched::AlreadyThere),
            Some(other) => Err(LaunchError::Taken(format!(
                "Job {} is there and is of {}, run {}, attempt {}, {}",
                spec.name, other.queue_id, other.run, other.attempt, other.telemetry_id
            ))),
            None => Err(LaunchError::Taken(format!(
                "Job {} is there and is none of ours",
                spec.name
            ))),
        }
    }

    fn other_installation<'a>(&self, metadata: &'a ObjectMeta) -> Option<&'a str> {
        identity::other_installation(metadata, self.settings.job.installation.as_deref())
    }

    /// Makes sure that the Jobs of this instance are of this installation, for as long as a request may take.
    ///
    /// # Errors
    /// One is of another, which has another database; the error says what to do. An API server that does not answer is
    /// no error: what it tells later is looked at then, and Jobs of others are never touched.
    pub async fn check_installation(&self) -> Result<(), LaunchError> {
        let read = async {
            while self.watched.check().is_err() {
                tokio::time::sleep(CHECK_EVERY).await;
            }
        };
        if tokio::time::timeout(self.settings.request_timeout, read)
            .await
            .is_err()
        {
            tracing::warn!(
                "Jobs were not read in time; it is not known whether all are of this installation"
            );
            return Ok(());
        }
        let Some((job, other)) = self.watched.of_others() else {
            return Ok(());
        };
        let own = self
            .settings
            .job
            .installation
            .as_deref()
            .unwrap_or_default();
        let instance = &self.settings.job.instance;
        Err(LaunchError::Refused(format!(
            "Job {job} of instance {instance} (K8S_INSTANCE) is of installation {other}, and the database is of {own}: \
             set another K8S_INSTANCE or another ARANGO_DB; if that installation is gone for good, delete its Jobs: \
             kubectl delete jobs -n {} -l streamforge/installation={other}",
            self.namespace
        )))
    }

    /// The Job's pods, the last one first.
    async fn pods_of(&self, name: &str) -> Result<Vec<Pod>, LaunchError> {
        let selector = format!("batch.kubernetes.io/job-name={name},app=streamforge");
        let doing = format!("list the pods of Job {name}");
        let params = ListParams::default().labels(&selector);
        let mut pods = self.get(&doing, self.pods.list(&params)).await?.items;
        pods.sort_by_key(|pod| {
            let made = pod.metadata.creation_timestamp.as_ref();
            (made.map(|at| at.0), pod.name_any())
        });
        pods.reverse();
        Ok(pods)
    }
}

#[async_trait]
impl Launcher for KubernetesLauncher {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    async fn ready(&self) -> Result<(), LaunchError> {
        self.watched.check()?;
        let namespace = &self.namespace;
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(namespace.clone()),
                    group: Some("batch".to_owned()),
                    resource: Some("jobs".to_owned()),
                    verb: Some("create".to_owned()),
                    ..ResourceAttributes::default()
                }),
                non_resource_attributes: None,
            },
            ..SelfSubjectAccessReview::default()
        };
        let answer = self
            .get(
                "ask for the right to create Jobs",
                reviews.create(&PostParams::default(), &review),
            )
            .await?;
        let status = answer.status.unwrap_or_default();
        if status.allowed {
            return Ok(());
        }
        let reason = status.reason.filter(|reason| !reason.is_empty());
        Err(LaunchError::Refused(format!(
            "queue-manager has no right to create Jobs in namespace {namespace}{}",
            reason
                .map(|reason| format!(": {reason}"))
                .unwrap_or_default()
        )))
    }

    async fn launch(&self, spec: &JobSpec) -> Result<Launched, LaunchError> {
        if let Some(name) = spec.env.keys().find(|name| is_secret(name)) {
            return Err(LaunchError::Refused(format!(
                "{name} would stand in a Job for all to read, it belongs into a Secret"
            )));
        }
        if let Some(pod) = self.watched.leftover(&spec.name) {
            return Err(LaunchError::Taken(format!(
                "pod {} of an earlier Job {} still runs",
                pod.name_any(),
                spec.name
            )));
        }
        let doing = format!("create Job {}", spec.name);
        let job = job(spec, &self.settings.job);
        // What is there may go between the two questions; then the name is free.
        for _ in 0..2 {
            let error = match self
                .ask(&doing, self.jobs.create(&PostParams::default(), &job))
                .await?
            {
                Ok(made) => {
                    self.watched.made(made);
                    return Ok(Launched::New);
                }
                Err(error) => error,
            };
            if !matches!(&error, kube::Error::Api(status) if status.is_already_exists()) {
                return Err(refusal::sort(&doing, &error));
            }
            if let Some(there) = self.get(&doing, self.jobs.get_opt(&spec.name)).await? {
                return self.is_same(spec, &there);
            }
        }
        Err(LaunchError::Unavailable(format!(
            "can't {doing}, one of that name comes and goes"
        )))
    }

    async fn jobs(&self) -> Result<Vec<JobStatus>, LaunchError> {
        self.watched.jobs(TimestampMs::now())
    }

    async fn delete(&self, name: &str) -> Result<(), LaunchError> {
        let doing = format!("delete Job {name}");
        // The one that was shown, even if another one has taken its place since then.
        let uid = match self.watched.uid(name) {
            Some(uid) => Some(uid),
            None => self
                .get(&doing, self.jobs.get_opt(name))
                .await?
                .filter(|job| self.other_installation(&job.metadata).is_none())
                .and_then(|job| job.uid()),
        };
        let Some(uid) = uid else {
            return Ok(());
        };
        // In the foreground: the Job stays, and takes its name, until all its pods are gone.
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid),
                resource_version: None,
            }),
            ..DeleteParams::foreground()
        };
        match self.ask(&doing, self.jobs.delete(name, &params)).await? {
            Ok(_) => Ok(()),
            // Gone, or another one has its name.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(refusal::sort(&doing, &error)),
        }
    }

    async fn logs(&self, name: &str, lines: u32) -> Result<Option<String>, LaunchError> {
        for pod in self.pods_of(name).await? {
            let pod_name = pod.name_any();
            let doing = format!("read the log of pod {pod_name}");
            let params = LogParams {
                container: Some(status::container_name(&pod).to_owned()),
                // Without `limitBytes`, which would cut the newest lines.
                tail_lines: Some(lines.into()),
                previous: status::has_restarted(&pod),
                ..LogParams::default()
            };
            let reading = async {
                let stream = self.pods.log_stream(&pod_name, &params).await?;
                Ok(log::newest(stream, LOG_BYTES).await)
            };
            match self.ask(&doing, reading).await? {
                Ok(Ok(log)) => return Ok(Some(log)),
                Ok(Err(error)) => {
                    return Err(LaunchError::Unavailable(format!("can't {doing}: {error}")));
                }
                // The pod is gone, or its container was not started yet: the one before may have a log.
                Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404) => {}
                Err(error) => return Err(refusal::sort(&doing, &error)),
            }
        }
        Ok(None)
    }

    async fn changed(&self) {
        self.watched.changed().await;
    }
}

/// A variable whose value nobody may read. Whoever checks requests refuses it before; here it is the last line.
fn is_secret(name: &str) -> bool {
    ["PASSWORD", "SECRET", "TOKEN"]
        .iter()
        .any(|word| name.contains(word))
}
