//! Every kind of Job that is made: hardened, and as the schemas of Kubernetes want it.
//!
//! `STREAMFORGE_JOBS` names a folder into which they are written, for `ci/k8s-jobs.py`.

use std::path::PathBuf;

use k8s_openapi::api::batch::v1::Job;
use queue_manager::launcher::{
    JobSpec,
    kubernetes::{JobSettings, Overrides, PerTarget, SecretKey, job},
};

use super::spec;

const OVERRIDES: &str = "
all:
  imagePullSecrets: [{name: registry}]
  imagePullPolicy: IfNotPresent
  tolerations: [{key: streamforge, operator: Exists, effect: NoSchedule}]
  nodeSelector: {kubernetes.io/arch: amd64}
  priorityClassName: batch
  serviceAccountName: streamforge-worker
  labels: {team: data}
  annotations: {sidecar.istio.io/inject: 'false'}
  affinity:
    nodeAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 1
          preference: {matchExpressions: [{key: disk, operator: In, values: [ssd]}]}
targets:
  arango-candles:
    resources: {requests: {cpu: 250m, memory: 96Mi}, limits: {cpu: '1', memory: 192Mi}}
    tolerations: [{key: writers, operator: Equal, value: 'yes', effect: NoExecute, tolerationSeconds: 60}]
";

/// Each with its name.
fn variants() -> Vec<(String, Job)> {
    let plain = JobSettings::default();
    let full = JobSettings {
        instance: "streamforge staging/eu".to_owned(),
        config_map: PerTarget::of_all("kafka"),
        secret: PerTarget {
            own: [("arango-candles".to_owned(), "writer".to_owned())].into(),
            ..PerTarget::of_all("kafka")
        },
        kafka_ca: Some(SecretKey {
            secret: "kafka-cluster-ca-cert".to_owned(),
            key: "ca.crt".to_owned(),
        }),
        arango_ca: Some(SecretKey {
            secret: "arango-ca".to_owned(),
            key: "tls.crt".to_owned(),
        }),
        on_worker_nodes: true,
        run_as: None,
        overrides: Overrides::parse(OVERRIDES).unwrap(),
        ..JobSettings::default()
    };
    let mut variants = Vec::new();
    for target in ["loader-api-candles", "arango-candles", "dummy-service"] {
        for (settings, said) in [(&plain, "plain"), (&full, "full")] {
            for deadline in [None, spec().deadline] {
                let longest = said == "full" && deadline.is_none();
                let queue_id = format!("wf-{}", "x".repeat(125));
                let spec = JobSpec {
                    name: format!("job-{target}-btcusdt-abc123"),
                    queue_id: if longest {
                        queue_id.parse().unwrap()
                    } else {
                        spec().queue_id
                    },
                    target: target.to_owned(),
                    telemetry_id: format!("{target}__abc123"),
                    deadline,
                    ..spec()
                };
                let limit = if deadline.is_some() {
                    "deadline"
                } else {
                    "endless"
                };
                variants.push((format!("{target}-{said}-{limit}"), job(&spec, settings)));
            }
        }
    }
    variants
}

#[test]
fn every_job_is_hardened() {
    for (name, job) in variants() {
        let spec = job.spec.clone().unwrap();
        assert_eq!(spec.backoff_limit, Some(2), "{name}");
        assert_eq!(spec.ttl_seconds_after_finished, Some(3600), "{name}");
        assert_eq!(
            spec.pod_replacement_policy.as_deref(),
            Some("Failed"),
            "{name}"
        );
        let pod = spec.template.spec.unwrap();
        assert_eq!(pod.restart_policy.as_deref(), Some("Never"), "{name}");
        assert_eq!(pod.automount_service_account_token, Some(false), "{name}");
        assert_eq!(pod.enable_service_links, Some(false), "{name}");
        assert!(pod.termination_grace_period_seconds >= Some(30), "{name}");
        let security = pod.security_context.unwrap();
        assert_eq!(security.run_as_non_root, Some(true), "{name}");
        assert_eq!(
            security.seccomp_profile.unwrap().type_,
            "RuntimeDefault",
            "{name}"
        );
        for container in pod.containers {
            let security = container.security_context.unwrap();
            assert_eq!(security.allow_privilege_escalation, Some(false), "{name}");
            assert_eq!(security.read_only_root_filesystem, Some(true), "{name}");
            let dropped = security.capabilities.unwrap().drop.unwrap();
            assert_eq!(dropped, ["ALL"], "{name}");
            let resources = container.resources.unwrap();
            assert!(resources.limits.unwrap().contains_key("memory"), "{name}");
        }
        for labels in [job.metadata.labels, spec.template.metadata.unwrap().labels] {
            for (key, value) in labels.unwrap() {
                let is_legal = value.len() <= 63
                    && value
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
                assert!(is_legal, "{name}: {key}={value}");
            }
        }
    }
}

#[test]
fn every_job_can_be_checked_by_others() {
    let own = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("STREAMFORGE_JOBS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| own.path().to_owned());
    let variants = variants();
    for (name, job) in &variants {
        // As it is sent.
        let text = serde_json::to_string_pretty(job).unwrap();
        assert_eq!(&serde_json::from_str::<Job>(&text).unwrap(), job);
        std::fs::write(folder.join(format!("{name}.json")), text).unwrap();
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), variants.len());
}

#[test]
fn each_target_gets_the_secrets_that_it_reads_and_no_others() {
    for (name, job) in variants() {
        let pod = job.spec.unwrap().template.spec.unwrap();
        let worker = &pod.containers[0];
        let whole = worker.env_from.iter().flatten();
        assert!(
            whole.clone().all(|source| source.secret_ref.is_none()),
            "{name}"
        );
        let secrets = worker.env.iter().flatten().filter_map(|variable| {
            let source = variable.value_from.as_ref()?.secret_key_ref.as_ref()?;
            assert_eq!(source.key, variable.name);
            Some((variable.name.as_str(), source))
        });
        let secrets: std::collections::BTreeMap<_, _> = secrets.collect();
        if name.contains("plain") {
            assert!(secrets.is_empty(), "{name}");
            continue;
        }
        let is_writer = name.starts_with("arango-candles");
        let expected = if is_writer { "writer" } else { "kafka" };
        assert!(
            secrets.values().all(|source| source.name == expected),
            "{name}"
        );
        assert!(
            secrets.contains_key("KAFKA_PASSWORD"),
            "{name}: {secrets:?}"
        );
        let of_database = secrets.keys().any(|key| key.starts_with("ARANGO_"));
        assert_eq!(of_database, is_writer, "{name}");
        if is_writer {
            assert_eq!(secrets["ARANGO_PASSWORD"].optional, None, "it is needed");
            let url = secrets["ARANGO_URL"].optional;
            assert_eq!(url, Some(true), "it may stand in the ConfigMap");
        }
    }
}
