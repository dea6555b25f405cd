//! Follows Jobs and pods: what the API server has, as far as it was heard of, and whether that can be relied on.
//!
//! A watch that ends is taken up where it ended. After an error all is listed again, so that from then on it is known to be
//! complete; that also mends versions that the server has forgotten (410). What a Job means is `status`'s job.

use std::{
    collections::HashMap,
    fmt::Debug,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::StreamExt;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        reflector::{Store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use streamforge_utils::protocol::TimestampMs;
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{
    identity::{self, Identity},
    refusal, status,
};
use crate::launcher::{JobStatus, LaunchError};

/// A watch is asked for anew after this: one whose connection died is noticed by then.
pub(super) const WATCH_FOR: Duration = Duration::from_secs(60);
/// Longest pause between two tries to watch again.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A Job that was made and has not been heard of for so long, over a watch that is well, is not there any more.
const HEARD_OF_WITHIN: Duration = Duration::from_secs(30);

/// Jobs and pods as they were last heard of.
pub(super) struct Watched {
    jobs: Store<Job>,
    pods: Store<Pod>,
    shared: Arc<Shared>,
    /// What was seen of Jobs before.
    memory: Mutex<status::Memory>,
    installation: Option<String>,
    stale_after: Duration,
    _tasks: [AbortOnDropHandle<()>; 2],
}

/// What the tasks that follow write.
struct Shared {
    /// Raised at each change.
    changes: watch::Sender<u64>,
    /// The number of changes that [`Watched::jobs`] has shown.
    shown: Mutex<u64>,
    jobs: Mutex<Health>,
    pods: Mutex<Health>,
    /// Jobs that were made here and not heard of yet, by uid.
    made: Mutex<HashMap<String, (Job, Instant)>>,
}

/// Whether what is known of one kind is complete and current.
#[derive(Default)]
struct Health {
    is_complete: bool,
    /// Since when it is not heard of, and why.
    broken: Option<(Instant, LaunchError)>,
}

impl Watched {
    /// Begins to follow what `selector` finds.
    pub(super) fn start(
        client: &Client,
        namespace: &str,
        selector: &str,
        installation: Option<String>,
        stale_after: Duration,
    ) -> Self {
        let shared = Arc::new(Shared {
            changes: watch::Sender::new(0),
            shown: Mutex::default(),
            jobs: Mutex::default(),
            pods: Mutex::default(),
            made: Mutex::default(),
        });
        let (job_writer, pod_writer) = (Writer::default(), Writer::default());
        Self {
            jobs: job_writer.as_reader(),
            pods: pod_writer.as_reader(),
            memory: Mutex::default(),
            installation,
            stale_after,
            _tasks: [
                AbortOnDropHandle::new(tokio::spawn(follow(
                    Api::namespaced(client.clone(), namespace),
                    selector.to_owned(),
                    job_writer,
                    Arc::clone(&shared),
                ))),
                AbortOnDropHandle::new(tokio::spawn(follow(
                    Api::namespaced(client.clone(), namespace),
                    selector.to_owned(),
                    pod_writer,
                    Arc::clone(&shared),
                ))),
            ],
            shared,
        }
    }

    /// All Jobs with their pods.
    pub(super) fn jobs(&self, now: TimestampMs) -> Result<Vec<JobStatus>, LaunchError> {
        // First: what is broken is a change too, and must not be told again and again.
        *lock(&self.shared.shown) = *self.shared.changes.borrow();
        self.check()?;
        let mut jobs = self.jobs.state();
        jobs.extend(self.made_and_unheard(&jobs));
        let mut pods = self.pods.state();
        jobs.retain(|job| self.other(&job.metadata).is_none());
        pods.retain(|pod| self.other(&pod.metadata).is_none());
        Ok(status::join(&jobs, &pods, &mut lock(&self.memory), now))
    }

    fn other<'a>(&self, metadata: &'a ObjectMeta) -> Option<&'a str> {
        identity::other_installation(metadata, self.installation.as_deref())
    }

    /// A Job of another installation, and which that is.
    pub(super) fn of_others(&self) -> Option<(String, String)> {
        let jobs = self.jobs.state();
        jobs.iter().find_map(|job| {
            let other = self.other(&job.metadata)?;
            Some((job.name_any(), other.to_owned()))
        })
    }

    /// What is known may be relied on.
    pub(super) fn check(&self) -> Result<(), LaunchError> {
        for (what, health) in [("Jobs", &self.shared.jobs), ("pods", &self.shared.pods)] {
            let health = lock(health);
            match &health.broken {
                Some((since, error))
                    if !health.is_complete || since.elapsed() >= self.stale_after =>
                {
                    return Err(error.clone());
                }
                None if !health.is_complete => {
                    return Err(LaunchError::Unavailable(format!(
                        "the {what} there are have not been read yet"
                    )));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Comes back when there is something that [`Watched::jobs`] has not shown.
    pub(super) async fn changed(&self) {
        let shown = *lock(&self.shared.shown);
        // The sender lives as long as this.
        let _ = self
            .shared
            .changes
            .subscribe()
            .wait_for(|&change| change != shown)
            .await;
    }

    /// The uid of the Job of this name that was last shown.
    pub(super) fn uid(&self, name: &str) -> Option<String> {
        let made = lock(&self.shared.made);
        let mut made = made.values().map(|(job, _)| job);
        made.find(|job| job.name_any() == name)
            .and_then(ResourceExt::uid)
            .or_else(|| {
                let is_it =
                    |job: &Job| job.name_any() == name && self.other(&job.metadata).is_none();
                self.jobs.find(is_it)?.uid()
            })
    }

    /// A pod that still runs although the Job of this name that made it is gone.
    pub(super) fn leftover(&self, name: &str) -> Option<Arc<Pod>> {
        let is_left = |pod: &Pod| {
            status::owner(pod).is_some_and(|(owner, uid)| {
                owner == name
                    && self
                        .jobs
                        .find(|job| job.uid().as_deref() == Some(uid))
                        .is_none()
            })
        };
        self.pods
            .find(|pod| status::is_alive(pod) && is_left(pod))
            .filter(|pod| {
                let uid = status::owner(pod).map(|(_, uid)| uid);
                uid.is_none_or(|uid| !lock(&self.shared.made).contains_key(uid))
            })
    }

    /// A Job was made: it is there, whether or not it has been heard of.
    pub(super) fn made(&self, job: Job) {
        if let Some(uid) = job.uid() {
            lock(&self.shared.made).insert(uid, (job, Instant::now()));
            self.shared.tell();
        }
    }

    fn made_and_unheard(&self, heard: &[Arc<Job>]) -> Vec<Arc<Job>> {
        let is_well = lock(&self.shared.jobs).broken.is_none();
        let mut made = lock(&self.shared.made);
        made.retain(|_, (_, at)| !is_well || at.elapsed() < HEARD_OF_WITHIN);
        made.iter()
            .filter(|(uid, _)| !heard.iter().any(|job| job.uid().as_ref() == Some(uid)))
            .map(|(_, (job, _))| Arc::new(job.clone()))
            .collect()
    }
}

impl Shared {
    fn tell(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn broke(&self, health: &Mutex<Health>, error: LaunchError) {
        let mut health = lock(health);
        let since = match &health.broken {
            Some((since, _)) => *since,
            None => {
                tracing::warn!(%error, "Jobs or pods are not heard of");
                Instant::now()
            }
        };
        health.broken = Some((since, error));
    }
}

/// The two kinds that are followed.
trait Followed:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    const WHAT: &'static str;
    fn health(shared: &Shared) -> &Mutex<Health>;
    /// Drops what nobody asks for: there may be thousands.
    fn trim(&mut self);
    fn heard(_event: &Event<Self>, _init: Instant, _shared: &Shared) {}
}

impl Followed for Job {
    const WHAT: &'static str = "watch Jobs";

    fn health(shared: &Shared) -> &Mutex<Health> {
        &shared.jobs
    }

    fn trim(&mut self) {
        self.metadata.managed_fields = None;
        if let Some(spec) = &mut self.spec {
            spec.template = k8s_openapi::api::core::v1::PodTemplateSpec::default();
        }
    }

    fn heard(event: &Event<Self>, init: Instant, shared: &Shared) {
        match event {
            Event::Apply(job) | Event::InitApply(job) | Event::Delete(job) => {
                if let Some(uid) = job.uid() {
                    lock(&shared.made).remove(&uid);
                }
                if Identity::read(&job.metadata).is_none() {
                    tracing::warn!(job = %job.name_any(), "A Job has our labels and not our annotations, it is ignored");
                }
            }
            // What was made before the list began and is not in it, is gone.
            Event::InitDone => lock(&shared.made).retain(|_, (_, at)| *at >= init),
            Event::Init => {}
        }
    }
}

impl Followed for Pod {
    const WHAT: &'static str = "watch pods";

    fn health(shared: &Shared) -> &Mutex<Health> {
        &shared.pods
    }

    fn trim(&mut self) {
        self.metadata.managed_fields = None;
        if let Some(spec) = &mut self.spec {
            let node_name = spec.node_name.take();
            *spec = k8s_openapi::api::core::v1::PodSpec {
                node_name,
                ..Default::default()
            };
        }
    }
}

/// Follows one kind for ever.
async fn follow<K: Followed>(
    api: Api<K>,
    selector: String,
    mut writer: Writer<K>,
    shared: Arc<Shared>,
) {
    let seconds = u32::try_from(WATCH_FOR.as_secs()).unwrap_or(u32::MAX);
    let config = watcher::Config::default()
        .labels(&selector)
        .timeout(seconds);
    let pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times();
    let mut pause = pauses.build();
    loop {
        let begun = Instant::now();
        let error = follow_once(&api, &config, &mut writer, &shared).await;
        let asked = error.as_ref().and_then(|error| match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => refusal::asks_to_wait(error),
            watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => None,
        });
        let error = classify::<K>(error);
        shared.broke(K::health(&shared), error);
        shared.tell();
        if begun.elapsed() > WATCH_FOR {
            pause = pauses.build();
        }
        let pause = pause.next().unwrap_or(LONGEST_PAUSE);
        let asked = asked.unwrap_or_default().min(WATCH_FOR);
        tokio::time::sleep(pause.max(asked)).await;
    }
}

/// Lists and watches until there is an error.
async fn follow_once<K: Followed>(
    api: &Api<K>,
    config: &watcher::Config,
    writer: &mut Writer<K>,
    shared: &Shared,
) -> Option<watcher::Error> {
    let mut events = pin!(watcher(api.clone(), config.clone()));
    let mut init = Instant::now();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event.modify(K::trim),
            Err(error) => return Some(error),
        };
        if matches!(event, Event::Init) {
            init = Instant::now();
        }
        K::heard(&event, init, shared);
        writer.apply_watcher_event(&event);
        match event {
            Event::Init | Event::InitApply(_) => {}
            Event::InitDone => {
                *lock(K::health(shared)) = Health {
                    is_complete: true,
                    broken: None,
                };
                shared.tell();
            }
            Event::Apply(_) | Event::Delete(_) => shared.tell(),
        }
    }
    None
}

fn classify<K: Followed>(error: Option<watcher::Error>) -> LaunchError {
    match error {
        Some(
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error),
        ) => refusal::sort(K::WHAT, &error),
        Some(watcher::Error::WatchError(status)) => refusal::of_status(K::WHAT, &status),
        Some(error @ watcher::Error::NoResourceVersion) => {
            LaunchError::Unavailable(format!("can't {}: {error}", K::WHAT))
        }
        None => LaunchError::Unavailable(format!("can't {}: the watch ended", K::WHAT)),
    }
}

/// A panic elsewhere leaves these maps and flags whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
