//! The sections of the configuration that are queue-manager's own.

use std::path::PathBuf;

use loader_api_candles::config::ApiUrl;
use serde::Deserialize;
use streamforge_utils::config::{Faults, Seconds, Section, TopicName, Variable, Within};

use super::values::{Images, KubernetesName, LabelValue, Listen, NamePerTarget, SecretKey};

/// `LAUNCHER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LauncherKind {
    /// Jobs of a cluster.
    Kubernetes,
    /// Processes on this machine.
    Process,
}

/// How it is asked.
#[derive(Debug, Clone, Deserialize)]
pub struct ApiConfig {
    /// Where the API listens; a port of 0 takes any. Read from `API_LISTEN`.
    pub api_listen: Listen,
    /// Tokens and what each may do; needed unless the address is of loopback. Read from `API_TOKENS_FILE`.
    pub api_tokens_file: Option<PathBuf>,
    /// Longest body of a request. A pipeline at its limits is below 256 KiB with usual values. Read from `API_MAX_BODY_BYTES`.
    pub api_max_body_bytes: Within<1_024, 16_777_216>,
    /// Time for an answer. Longer than a launch waits for Kafka and the cluster, shorter than proxies wait (60 s). Read from `API_TIMEOUT_SECS`.
    pub api_timeout_secs: Seconds,
    /// Requests that are worked on at a time; others wait. 64 bodies at their limit are 16 MiB. Read from `API_MAX_IN_FLIGHT`.
    pub api_max_in_flight: Within<1, 10_000>,
    /// Connections that are open at a time, those of streams included; others wait. Read from `API_MAX_CONNECTIONS`.
    pub api_max_connections: Within<16, 65_535>,
    /// Certificate of the API, with the chain to its CA; the key of it is needed too. Read from `API_TLS_CERT_PATH`.
    pub api_tls_cert_path: Option<PathBuf>,
    /// Its key. Read from `API_TLS_KEY_PATH`.
    pub api_tls_key_path: Option<PathBuf>,
    /// Where health and metrics are served instead, so that clients of the API can't keep probes out. Read from
    /// `HEALTH_LISTEN`.
    pub health_listen: Option<Listen>,
}

impl Section for ApiConfig {
    const VARIABLES: &'static [Variable] = &[
        Variable::optional("API_LISTEN", "an address with a port", "127.0.0.1:8080")
            .default("127.0.0.1:8080")
            .means("where the API is served; beyond loopback only with API_TOKENS_FILE"),
        Variable::optional(
            "API_TOKENS_FILE",
            "the path of a file",
            "/etc/streamforge/tokens",
        )
        .otherwise("no tokens, on loopback only")
        .means("the bearer tokens; without it everyone on this machine may do everything"),
        Variable::optional(
            "API_MAX_BODY_BYTES",
            "a whole number from 1024 to 16777216",
            "262144",
        )
        .default("262144")
        .means("longest body of a request"),
        Variable::optional("API_TIMEOUT_SECS", "seconds, more than 0", "30")
            .default("30")
            .means("time for an answer"),
        Variable::optional("API_MAX_IN_FLIGHT", "a whole number from 1 to 10000", "64")
            .default("64")
            .means("requests that are worked on at a time"),
        Variable::optional(
            "API_MAX_CONNECTIONS",
            "a whole number from 16 to 65535",
            "1024",
        )
        .default("1024")
        .means("open connections at a time, those of streams included; the rest waits"),
        Variable::optional("API_TLS_CERT_PATH", "the path of a PEM file", "/etc/streamforge/tls/tls.crt")
            .otherwise("no TLS")
            .means("certificate of the API with its chain, read again when it changes; needs API_TLS_KEY_PATH"),
        Variable::optional("API_TLS_KEY_PATH", "the path of a PEM file", "/etc/streamforge/tls/tls.key")
            .otherwise("no TLS")
            .means("key of API_TLS_CERT_PATH"),
        Variable::optional("HEALTH_LISTEN", "an address with a port", "0.0.0.0:8000")
            .otherwise("API_LISTEN")
            .means("where /health/* and /metrics are served, and then no longer at API_LISTEN"),
    ];

    fn check(&self, faults: &mut Faults) {
        match (&self.api_tls_cert_path, &self.api_tls_key_path) {
            (Some(_), None) => {
                let expected = "the path of a PEM file, as API_TLS_CERT_PATH is set";
                faults.missing("API_TLS_KEY_PATH", expected);
            }
            (None, Some(_)) => {
                let expected = "the path of a PEM file, as API_TLS_KEY_PATH is set";
                faults.missing("API_TLS_CERT_PATH", expected);
            }
            _ => {}
        }
        if self.api_tokens_file.is_none() && !self.api_listen.is_loopback() {
            let expected = "the path of a file with tokens, as API_LISTEN is not of loopback";
            faults.missing("API_TOKENS_FILE", expected);
        }
    }
}

/// The exchange, which is asked for nothing but its symbols.
#[derive(Debug, Clone, Deserialize)]
pub struct ExchangeConfig {
    /// Base URL of its API. Read from `BINANCE_API_URL`.
    pub binance_api_url: ApiUrl,
}

impl Section for ExchangeConfig {
    const VARIABLES: &'static [Variable] = &[Variable::optional(
        "BINANCE_API_URL",
        "an http or https URL without user, query and fragment",
        "https://api.binance.com",
    )
    .default("https://api.binance.com")
    // What is no URL may hold a password all the same.
    .secret()
    .means("base URL of the exchange's API, which is asked whether it has a symbol")];
}

/// How it launches.
#[derive(Debug, Clone, Deserialize)]
pub struct JobsConfig {
    /// What runs the workers. Read from `LAUNCHER`.
    pub launcher: LauncherKind,
    /// Where processes leave logs and exit codes; needed by `process`. Read from `JOBS_DIR`.
    pub jobs_dir: Option<PathBuf>,
    /// The program that runs a worker; None: `streamforge` beside queue-manager. Read from `WORKER_PROGRAM`.
    pub worker_program: Option<PathBuf>,
    /// What processes are given in common, as `NAME=value` lines; None: the connections of queue-manager itself. Read from
    /// `WORKER_ENV_FILE`.
    pub worker_env_file: Option<PathBuf>,
    /// Whether processes end with queue-manager, when it is told to end. Read from `STOP_JOBS_AT_EXIT`.
    pub stop_jobs_at_exit: bool,
    /// Whether it is told to end when its stdin ends: whoever started it holds the other end of a pipe, and is gone then.
    /// Read from `END_WITH_STDIN`.
    pub end_with_stdin: bool,
    /// Where Jobs are made; None: where queue-manager itself runs. Read from `K8S_NAMESPACE`.
    pub k8s_namespace: Option<KubernetesName>,
    /// Tells installations in one namespace apart: each takes for its own, and deletes if its database does not know them,
    /// the Jobs of its instance only. Read from `K8S_INSTANCE`.
    pub k8s_instance: LabelValue,
    /// Kueue's local queue that admits Jobs. Read from `K8S_QUEUE_NAME`.
    pub k8s_queue_name: Option<KubernetesName>,
    /// Environment of workers. Read from `K8S_CONFIG_MAP`.
    pub k8s_config_map: NamePerTarget,
    /// Passwords of workers, of which each gets those that its target reads. Read from `K8S_SECRET`.
    pub k8s_secret: NamePerTarget,
    /// Secret and key of the CAs that sign the brokers. Read from `K8S_KAFKA_CA`.
    pub k8s_kafka_ca: Option<SecretKey>,
    /// Secret and key of the CAs that sign the database. Read from `K8S_ARANGO_CA`.
    pub k8s_arango_ca: Option<SecretKey>,
    /// Whether Jobs run on marked nodes only. Read from `K8S_NODE_SELECTOR`.
    pub k8s_node_selector: bool,
    /// Tolerations, pull secrets and resources by target. Read from `K8S_OVERRIDES_FILE`.
    pub k8s_overrides_file: Option<PathBuf>,
}

impl Section for JobsConfig {
    const VARIABLES: &'static [Variable] = &[
        Variable::optional("LAUNCHER", "kubernetes or process", "kubernetes")
            .default("kubernetes")
            .means("what runs workers: Jobs of a cluster, or processes on this machine"),
        Variable::optional(
            "JOBS_DIR",
            "the path of a folder",
            "/var/lib/streamforge/jobs",
        )
        .means("where processes have their logs and exit codes, a folder for each database; needed with LAUNCHER=process"),
        Variable::optional(
            "WORKER_PROGRAM",
            "the path of a program",
            "/usr/local/bin/streamforge",
        )
        .otherwise("streamforge beside queue-manager")
        .means("the program that runs workers, with LAUNCHER=process"),
        Variable::optional(
            "WORKER_ENV_FILE",
            "the path of a file",
            "/etc/streamforge/worker.env",
        )
        .otherwise("queue-manager's own connections")
        .means(
            "connections and passwords of processes, NAME=value lines, readable by its owner only",
        ),
        Variable::optional("STOP_JOBS_AT_EXIT", "true or false", "false")
            .default("false")
            .means("true: processes end with queue-manager when it is told to end"),
        Variable::optional("END_WITH_STDIN", "true or false", "false")
            .default("false")
            .means("true: it is told to end when its stdin ends, as when whoever started it is gone"),
        Variable::optional(
            "K8S_NAMESPACE",
            "a name of a-z 0-9 - with up to 63",
            "streamforge",
        )
        .otherwise("its own")
        .means("where Jobs are made"),
        Variable::optional(
            "K8S_INSTANCE",
            "1 to 63 of a-z A-Z 0-9 - _ . with a letter or digit at both ends",
            "streamforge-staging",
        )
        .default("streamforge")
        .means("label app.kubernetes.io/instance of its Jobs: another one for each database in a namespace"),
        Variable::optional(
            "K8S_QUEUE_NAME",
            "a name of a-z 0-9 - with up to 63",
            "streamforge",
        )
        .otherwise("none")
        .means("label kueue.x-k8s.io/queue-name of its Jobs: the queue of Kueue that admits them"),
        Variable::optional(
            "K8S_CONFIG_MAP",
            "a name of a-z 0-9 - with up to 63, or a list of target=name with commas",
            "streamforge-worker",
        )
        .default("streamforge-worker")
        .means("ConfigMap with the connections of workers, target=name for a target with one of its own"),
        Variable::optional(
            "K8S_SECRET",
            "a name of a-z 0-9 - with up to 63, or a list of target=name with commas",
            "streamforge-worker",
        )
        .default("streamforge-worker")
        .means("Secret of which each worker gets the keys that its target reads, target=name for a target with one of its own"),
        Variable::optional(
            "K8S_KAFKA_CA",
            "a Secret and its key, as name/key",
            "kafka-cluster-ca-cert/ca.crt",
        )
        .otherwise("the image's")
        .means("CAs that sign the brokers, mounted into workers"),
        Variable::optional(
            "K8S_ARANGO_CA",
            "a Secret and its key, as name/key",
            "arangodb-ca/ca.crt",
        )
        .otherwise("the image's")
        .means("CAs that sign the database, mounted into workers"),
        Variable::optional("K8S_NODE_SELECTOR", "true or false", "true")
            .default("false")
            .means("true: only on nodes with the label streamforge-worker=true"),
        Variable::optional(
            "K8S_OVERRIDES_FILE",
            "the path of a YAML file",
            "/etc/streamforge/jobs.yaml",
        )
        .otherwise("nothing more")
        .means("what Jobs get beside their own: tolerations, pull secrets, resources per target"),
    ];

    fn check(&self, faults: &mut Faults) {
        if self.launcher == LauncherKind::Process && self.jobs_dir.is_none() {
            faults.missing("JOBS_DIR", "the path of a folder, as LAUNCHER is process");
        }
    }
}

/// What it launches.
#[derive(Debug, Clone, Deserialize)]
pub struct ImagesConfig {
    /// Goes before the target in the name of an image. Read from `IMAGE_REGISTRY`.
    pub image_registry: String,
    /// Goes behind it; by default this version, so that all parts are of one. Read from `IMAGE_TAG`.
    pub image_tag: String,
    /// Images that a request may name; None: none. Read from `IMAGES_ALLOWED`.
    pub images_allowed: Option<Images>,
    /// Flows in place of those that come with the program. Read from `TEST_FLOWS_FILE`.
    pub test_flows_file: Option<PathBuf>,
}

impl Section for ImagesConfig {
    const VARIABLES: &'static [Variable] = &[
        Variable::optional(
            "IMAGE_REGISTRY",
            "what stands before /target:tag",
            "registry.example/streamforge",
        )
        .default("streamforge")
        .means("images are IMAGE_REGISTRY/target:IMAGE_TAG"),
        Variable::optional("IMAGE_TAG", "a tag", "0.1.0")
            .default(env!("CARGO_PKG_VERSION"))
            .means("see IMAGE_REGISTRY; by default the version of queue-manager"),
        Variable::optional(
            "IMAGES_ALLOWED",
            "images or prefixes with * behind them, several with commas",
            "registry.example/streamforge/*",
        )
        .otherwise("none")
        .means("images that a request may name"),
        Variable::optional(
            "TEST_FLOWS_FILE",
            "the path of a YAML file",
            "/etc/streamforge/test_flows.yaml",
        )
        .otherwise("those that come with it")
        .means("flows for start-test-flow"),
    ];

    fn check(&self, faults: &mut Faults) {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let registry = &self.image_registry;
        if !registry
            .bytes()
            .all(|byte| legal(byte) || b"/:".contains(&byte))
            || registry.ends_with('/')
        {
            let expected = "a-z A-Z 0-9 . _ - / :, without a / at the end";
            faults.wrong("IMAGE_REGISTRY", registry, expected);
        }
        if !self.image_tag.bytes().all(legal) || self.image_tag.len() > 128 {
            faults.wrong(
                "IMAGE_TAG",
                &self.image_tag,
                "up to 128 of a-z A-Z 0-9 . _ -",
            );
        }
    }
}

/// How it watches and heals, and how much it allows at a time.
#[derive(Debug, Clone, Deserialize)]
pub struct HealConfig {
    /// Workflows that run at a time, the rest waits. 50 are some 100 workers of 64 MiB: 6.4 GiB. Read from `MAX_WORKFLOWS`.
    pub max_workflows: Within<1, 100_000>,
    /// Loaders at a time for one exchange: they share its limit by address, and four use it up. Read from `MAX_LOADERS`.
    pub max_loaders: Within<1, 1_000>,
    /// New Jobs of a worker in a run, for Jobs that vanished; each has retries of its own. Read from `MAX_RELAUNCHES`.
    pub max_relaunches: Within<0, 100>,
    /// Silence of a worker after which it is `stalled`: six heartbeats. Read from `STALLED_AFTER_SECS`.
    pub stalled_after_secs: Seconds,
    /// Time for a worker to end after `stop`, before its Job is deleted. More than its own grace of 25 s and a wait for its pod. Read from `STOP_GRACE_SECS`.
    pub stop_grace_secs: Seconds,
    /// Longest time of a Job of the past: a day, in which years of minutes are loaded. Read from `JOB_DEADLINE_SECS`.
    pub job_deadline_secs: Seconds,
    /// How long topics of a finished workflow stay: a day to look at its dead letters. Read from `KEEP_TOPICS_SECS`.
    pub keep_topics_secs: Seconds,
    /// How long lifecycle events stay in the database: 30 days. Read from `KEEP_EVENTS_SECS`.
    pub keep_events_secs: Seconds,
    /// How long a replica that reconciles is believed without a sign of life; more than a pause of a busy database, and a wait that nobody minds. Read from `LEASE_SECS`.
    pub lease_secs: Seconds,
    /// How long a Job's container may fail to start: its image, a Secret. Read from `START_LIMIT_SECS`.
    pub start_limit_secs: Seconds,
    /// How long no pod of a Job may be made, as for want of quota. Read from `QUOTA_LIMIT_SECS`.
    pub quota_limit_secs: Seconds,
    /// How long no node may take a pod. Read from `SCHEDULE_LIMIT_SECS`.
    pub schedule_limit_secs: Seconds,
    /// Time between looks at Jobs when nothing tells of a change. Read from `RECONCILE_INTERVAL_SECS`.
    pub reconcile_interval_secs: Seconds,
}

impl Section for HealConfig {
    const VARIABLES: &'static [Variable] = &[
        Variable::optional("MAX_WORKFLOWS", "a whole number from 1 to 100000", "50")
            .default("50")
            .means("workflows that run at a time, the rest waits in order"),
        Variable::optional("MAX_LOADERS", "a whole number from 1 to 1000", "4")
            .default("4")
            .means("loaders that run at a time for one exchange, the rest waits in order"),
        Variable::optional("MAX_RELAUNCHES", "a whole number from 0 to 100", "2")
            .default("2")
            .means("how often a Job that vanished is made again in one run"),
        Variable::optional("STALLED_AFTER_SECS", "seconds, more than 0", "60")
            .default("60")
            .means("silence or lack of progress after which a worker counts as stalled"),
        Variable::optional("STOP_GRACE_SECS", "seconds, more than 0", "120")
            .default("120")
            .means("time for a worker to end after a stop, then its Job is deleted"),
        Variable::optional("JOB_DEADLINE_SECS", "seconds, more than 0", "86400")
            .default("86400")
            .means("longest time of a Job that loads the past"),
        Variable::optional("KEEP_TOPICS_SECS", "seconds, more than 0", "86400")
            .default("86400")
            .means("time until the topics of a finished workflow are deleted"),
        Variable::optional("KEEP_EVENTS_SECS", "seconds, more than 0", "2592000")
            .default("2592000")
            .means("time until lifecycle events are deleted from the database"),
        Variable::optional("LEASE_SECS", "seconds, more than 0", "15")
            .default("15")
            .means("silence after which another replica takes over"),
        Variable::optional("START_LIMIT_SECS", "seconds, more than 0", "900")
            .default("900")
            .means("time for the container of a Job to start: its image, its Secrets"),
        Variable::optional("QUOTA_LIMIT_SECS", "seconds, more than 0", "3600")
            .default("3600")
            .means("time for a pod to be made, as for want of quota; a suspended Job waits without limit"),
        Variable::optional("SCHEDULE_LIMIT_SECS", "seconds, more than 0", "3600")
            .default("3600")
            .means("time for a node to take a pod"),
        Variable::optional("RECONCILE_INTERVAL_SECS", "seconds, more than 0", "5")
            .default("5")
            .means("time between looks at all Jobs, beside those that changes cause"),
    ];

    fn check(&self, faults: &mut Faults) {
        let lease = self.lease_secs.duration();
        if self.reconcile_interval_secs.duration() * 2 > lease {
            let found = lease.as_secs_f64().to_string();
            let expected =
                "at least twice RECONCILE_INTERVAL_SECS, or the lease runs out between two looks";
            faults.wrong("LEASE_SECS", &found, expected);
        }
    }
}

/// The topics: those of all workflows, and how one's own is made.
#[derive(Debug, Clone, Deserialize)]
pub struct TopicsConfig {
    /// Where commands go. Read from `QUEUE_CONTROL_TOPIC`.
    pub queue_control_topic: TopicName,
    /// Where events come from. Read from `QUEUE_EVENTS_TOPIC`.
    pub queue_events_topic: TopicName,
    /// Under which name it is kept how far events were read: one for all replicas over one database, and another for every
    /// other database. Read from `QUEUE_EVENTS_GROUP`.
    pub queue_events_group: TopicName,
    /// Replicas of data topics; None: the broker's default. Read from `TOPIC_REPLICATION`.
    pub topic_replication: Option<Within<1, 32_767>>,
    /// Hours until records of data topics are deleted: a week to notice and to load again. Read from `TOPIC_RETENTION_HOURS`.
    pub topic_retention_hours: Within<1, 876_000>,
    /// Records that a partition of a data topic can keep, for brokers of little memory; None: any number. Read from
    /// `TOPIC_PARTITION_RECORDS`.
    pub topic_partition_records: Option<Within<1, 1_000_000_000>>,
}

impl Section for TopicsConfig {
    const VARIABLES: &'static [Variable] = &[
        Variable::optional(
            "QUEUE_CONTROL_TOPIC",
            "the name of a topic",
            "queue-control",
        )
        .default("queue-control")
        .means("where commands go"),
        Variable::optional("QUEUE_EVENTS_TOPIC", "the name of a topic", "queue-events")
            .default("queue-events")
            .means("where events come from"),
        Variable::optional(
            "QUEUE_EVENTS_GROUP",
            "the name of a consumer group",
            "queue-manager",
        )
        .default("queue-manager")
        .means("consumer group that keeps how far events were read: one for each database; with the shipped rights it begins with queue-manager"),
        Variable::optional("TOPIC_REPLICATION", "a whole number from 1 to 32767", "3")
            .otherwise("the broker's")
            .means("replicas of data topics, unless a request says otherwise"),
        Variable::optional(
            "TOPIC_RETENTION_HOURS",
            "a whole number of hours from 1 to 876000",
            "168",
        )
        .default("168")
        .means("hours until records of data topics are deleted, unless a request says otherwise"),
        Variable::optional(
            "TOPIC_PARTITION_RECORDS",
            "a whole number from 1 to 1000000000",
            "30000",
        )
        .otherwise("any number")
        .means("records that a partition can keep: a loader of more gets more partitions, unless its request says how many"),
    ];
}
