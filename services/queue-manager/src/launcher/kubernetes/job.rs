//! What a Job looks like: a [`JobSpec`] and the installation's settings become a typed, hardened `batch/v1` Job. Pure.
//!
//! Connections and passwords come from ConfigMaps and Secrets by name; none of their values ever stands in a Job.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::{
        batch::v1::{
            Job, JobSpec as BatchJobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
            PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
        },
        core::v1::{
            Capabilities, Container, ContainerPort, EnvFromSource, EnvVar, HTTPGetAction,
            KeyToPath, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
            SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString,
    },
};

use super::{
    identity::{Identity, installation_label, labels},
    overrides::{Additions, Overrides},
    sources::{self, PerTarget},
};
use crate::launcher::JobSpec;

/// The container of a worker's pod in Jobs of older releases; now it is named after its target.
pub(super) const OLD_CONTAINER: &str = "worker";
/// By which Kueue knows the queue of a Job.
const QUEUE_NAME: &str = "kueue.x-k8s.io/queue-name";
/// Exit codes that no retry can mend: `EX_SOFTWARE` and `EX_CONFIG`, docs/protocol.md.
pub(super) const FINAL_EXIT_CODES: [i32; 2] = [70, 78];
/// Pods that may fail and be replaced. Evicted ones are free.
const BACKOFF_LIMIT: i32 = 2;
/// Seconds for which an ended Job and its logs stay.
const TTL_SECS: i32 = 3600;
const DEFAULT_METRICS_PORT: u16 = 8000;
/// The file of a container that Kubernetes keeps in the pod's status. A worker writes its last event there.
const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";
/// Between the end of a worker's grace and SIGKILL: its last event is tried for 5 s more.
const AFTER_GRACE: Duration = Duration::from_secs(10);
/// Shortest time between SIGTERM and SIGKILL.
const SHORTEST_TERMINATION: Duration = Duration::from_secs(30);

/// What the Jobs of one installation have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSettings {
    /// Tells installations in one namespace apart: label `app.kubernetes.io/instance`, by which Jobs are found again.
    pub instance: String,
    /// The id of the installation, of which its database has the same. Jobs of others are not touched.
    pub installation: Option<String>,
    /// The queue of Kueue that admits the Jobs: label `kueue.x-k8s.io/queue-name` of each, and not of its pods.
    pub queue_name: Option<String>,
    /// ConfigMap whose keys become variables of a worker: brokers, URLs.
    pub config_map: PerTarget,
    /// Secret of which a worker gets the keys that its target reads: users, passwords.
    pub secret: PerTarget,
    /// CAs that sign the brokers; with Strimzi `kafka-cluster-ca-cert` and `ca.crt`. Sets `KAFKA_CA_PATH`.
    pub kafka_ca: Option<SecretKey>,
    /// CAs that sign the database. Sets `ARANGO_CA_PATH`.
    pub arango_ca: Option<SecretKey>,
    /// Whether workers run on nodes with the label `streamforge-worker: "true"` only.
    pub on_worker_nodes: bool,
    /// User and group of the process; None leaves them to the image and the cluster, which must not choose root.
    pub run_as: Option<i64>,
    /// How long a worker may take to end in order: its `SHUTDOWN_GRACE_SECS`, unless its own environment sets it.
    pub shutdown_grace: Duration,
    /// What the operator adds.
    pub overrides: Overrides,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            instance: "streamforge".to_owned(),
            installation: None,
            queue_name: None,
            config_map: PerTarget::default(),
            secret: PerTarget::default(),
            kafka_ca: None,
            arango_ca: None,
            on_worker_nodes: false,
            run_as: Some(65532),
            shutdown_grace: Duration::from_secs(25),
            overrides: Overrides::default(),
        }
    }
}

/// One key of a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretKey {
    /// Name of the Secret.
    pub secret: String,
    /// Its key.
    pub key: String,
}

/// The Job of a worker.
pub fn job(spec: &JobSpec, settings: &JobSettings) -> Job {
    let additions = settings.overrides.for_target(&spec.target);
    let mut labels = labels(spec, &settings.instance);
    labels.extend(installation_label(settings.installation.as_deref()));
    labels.extend(additions.labels.clone());
    let mut annotations = Identity::of(spec).annotations();
    annotations.extend(additions.annotations.clone());
    let metadata = ObjectMeta {
        labels: Some(labels),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    };
    let mut own_labels = metadata.labels.clone();
    if let (Some(labels), Some(queue)) = (&mut own_labels, &settings.queue_name) {
        labels.insert(QUEUE_NAME.to_owned(), queue.clone());
    }
    Job {
        metadata: ObjectMeta {
            name: Some(spec.name.clone()),
            labels: own_labels,
            ..metadata.clone()
        },
        spec: Some(BatchJobSpec {
            backoff_limit: Some(BACKOFF_LIMIT),
            completions: Some(1),
            parallelism: Some(1),
            ttl_seconds_after_finished: Some(TTL_SECS),
            active_deadline_seconds: spec
                .deadline
                .map(|deadline| i64::try_from(deadline.as_secs().max(1)).unwrap_or(i64::MAX)),
            pod_failure_policy: Some(failure_policy(&spec.target)),
            // Two pods of one worker would write twice: the next one waits until the last is gone, not only told to go.
            pod_replacement_policy: Some("Failed".to_owned()),
            template: PodTemplateSpec {
                metadata: Some(metadata),
                spec: Some(pod(spec, settings, additions)),
            },
            ..BatchJobSpec::default()
        }),
        status: None,
    }
}

/// The first rule that fits counts: an exit code that is final is final on an evicted pod, too.
fn failure_policy(container: &str) -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![
            PodFailurePolicyRule {
                action: "FailJob".to_owned(),
                on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                    container_name: Some(container.to_owned()),
                    operator: "In".to_owned(),
                    values: FINAL_EXIT_CODES.to_vec(),
                }),
                on_pod_conditions: None,
            },
            PodFailurePolicyRule {
                action: "Ignore".to_owned(),
                on_exit_codes: None,
                on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                    type_: "DisruptionTarget".to_owned(),
                    status: "True".to_owned(),
                }]),
            },
        ],
    }
}

fn pod(spec: &JobSpec, settings: &JobSettings, additions: Additions) -> PodSpec {
    let environment = Environment::of(spec, settings);
    let mut node_selector = additions.node_selector;
    if settings.on_worker_nodes {
        node_selector.insert("streamforge-worker".to_owned(), "true".to_owned());
    }
    let (volumes, mounts): (Vec<_>, Vec<_>) = authorities(settings)
        .map(|(_, name, source)| authority(name, source))
        .unzip();
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(environment.termination_secs),
        automount_service_account_token: Some(false),
        // They would become variables, one set for each Service of the namespace.
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: settings.run_as,
            run_as_group: settings.run_as,
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        node_selector: none_if(node_selector.is_empty(), node_selector),
        affinity: additions.affinity,
        tolerations: none_if(additions.tolerations.is_empty(), additions.tolerations),
        image_pull_secrets: none_if(
            additions.image_pull_secrets.is_empty(),
            additions.image_pull_secrets,
        ),
        priority_class_name: additions.priority_class_name,
        service_account_name: additions.service_account_name,
        containers: vec![Container {
            name: spec.target.clone(),
            image: Some(spec.image.clone()),
            image_pull_policy: additions
                .image_pull_policy
                .map(|policy| format!("{policy:?}")),
            env: Some(environment.variables),
            env_from: none_if(environment.sources.is_empty(), environment.sources),
            ports: Some(vec![ContainerPort {
                name: Some("metrics".to_owned()),
                container_port: environment.port.into(),
                ..ContainerPort::default()
            }]),
            // A worker may wait for its broker before it says that it has started.
            startup_probe: Some(probe("startup", environment.port, 2, 150)),
            liveness_probe: Some(probe("live", environment.port, 10, 6)),
            readiness_probe: Some(probe("ready", environment.port, 10, 3)),
            resources: Some(additions.resources.unwrap_or_else(default_resources)),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                capabilities: Some(Capabilities {
                    drop: Some(vec!["ALL".to_owned()]),
                    add: None,
                }),
                read_only_root_filesystem: Some(true),
                run_as_non_root: Some(true),
                ..SecurityContext::default()
            }),
            termination_message_path: Some(TERMINATION_MESSAGE_PATH.to_owned()),
            // The last event stands in the pod's status or, of a worker that died without one, the last lines of its log:
            // why it ended is known also when its logs are gone.
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            volume_mounts: none_if(mounts.is_empty(), mounts),
            ..Container::default()
        }],
        volumes: none_if(volumes.is_empty(), volumes),
        ..PodSpec::default()
    }
}

/// A worker stays under 64 MiB; the limit leaves room for a peak.
fn default_resources() -> ResourceRequirements {
    let quantities = |list: &[(&str, &str)]| {
        list.iter()
            .map(|&(name, quantity)| (name.to_owned(), Quantity(quantity.to_owned())))
            .collect::<BTreeMap<_, _>>()
    };
    ResourceRequirements {
        requests: Some(quantities(&[("cpu", "100m"), ("memory", "64Mi")])),
        // None for the processor: a limit there makes a worker slow while its node idles.
        limits: Some(quantities(&[("memory", "128Mi")])),
        claims: None,
    }
}

fn probe(what: &str, port: u16, period_secs: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(format!("/health/{what}")),
            port: IntOrString::Int(port.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_secs),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Variable, name of the volume, and where it comes from, of each CA that is set.
fn authorities(
    settings: &JobSettings,
) -> impl Iterator<Item = (&'static str, &'static str, &SecretKey)> {
    [
        ("KAFKA_CA_PATH", "kafka-ca", settings.kafka_ca.as_ref()),
        ("ARANGO_CA_PATH", "arango-ca", settings.arango_ca.as_ref()),
    ]
    .into_iter()
    .filter_map(|(variable, name, source)| Some((variable, name, source?)))
}

fn authority(name: &str, source: &SecretKey) -> (Volume, VolumeMount) {
    let volume = Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(source.secret.clone()),
            // The certificate only: what else the Secret holds is none of a worker's business.
            items: Some(vec![KeyToPath {
                key: source.key.clone(),
                path: "ca.crt".to_owned(),
                mode: None,
            }]),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mount = VolumeMount {
        name: name.to_owned(),
        mount_path: authority_folder(name),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    (volume, mount)
}

fn authority_folder(name: &str) -> String {
    format!("/etc/streamforge/{name}")
}

/// What a worker is told, and what its pod must know of that.
struct Environment {
    variables: Vec<EnvVar>,
    sources: Vec<EnvFromSource>,
    port: u16,
    termination_secs: i64,
}

impl Environment {
    fn of(spec: &JobSpec, settings: &JobSettings) -> Self {
        let mut variables = spec.env.clone();
        for (variable, name, _) in authorities(settings) {
            variables.insert(
                variable.to_owned(),
                format!("{}/ca.crt", authority_folder(name)),
            );
        }
        // Said in any case, since what a ConfigMap says otherwise would not be known to the probes.
        let port = number(&variables, "METRICS_PORT")
            .and_then(|port| u16::try_from(port).ok())
            .filter(|&port| port > 0)
            .unwrap_or(DEFAULT_METRICS_PORT);
        variables.insert("METRICS_PORT".to_owned(), port.to_string());
        variables.insert(
            "TERMINATION_MESSAGE_PATH".to_owned(),
            TERMINATION_MESSAGE_PATH.to_owned(),
        );
        let grace = number(&variables, "SHUTDOWN_GRACE_SECS")
            .map_or(settings.shutdown_grace, Duration::from_secs);
        variables.insert(
            "SHUTDOWN_GRACE_SECS".to_owned(),
            grace.as_secs().to_string(),
        );
        let termination = (grace.saturating_add(AFTER_GRACE)).max(SHORTEST_TERMINATION);

        // What the workflow says counts before what a Secret has.
        let mut all = sources::of_secret(&spec.target, &settings.secret);
        all.retain(|variable| !variables.contains_key(&variable.name));
        let own = variables.into_iter().map(|(name, value)| EnvVar {
            name,
            // Kubernetes replaces $(NAME) by that variable's value, and $$ by $.
            value: Some(value.replace('$', "$$")),
            value_from: None,
        });
        all.extend(own);
        Self {
            sources: sources::config_map(&spec.target, &settings.config_map)
                .into_iter()
                .collect(),
            variables: all,
            port,
            termination_secs: i64::try_from(termination.as_secs()).unwrap_or(i64::MAX),
        }
    }
}

fn number(variables: &BTreeMap<String, String>, name: &str) -> Option<u64> {
    variables.get(name)?.trim().parse().ok()
}

fn none_if<T>(is_empty: bool, value: T) -> Option<T> {
    (!is_empty).then_some(value)
}

#[cfg(test)]
mod tests;
