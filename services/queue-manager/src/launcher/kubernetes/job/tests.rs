use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::*;

fn spec(env: &[(&str, &str)]) -> JobSpec {
    JobSpec {
        name: "job-arango-candles-btcusdt-abc123".to_owned(),
        queue_id: "wf-btcusdt-api_candles_1m-20240801-abc123".parse().unwrap(),
        run: 1,
        attempt: 1,
        target: "arango-candles".to_owned(),
        telemetry_id: "arango-candles__abc123".to_owned(),
        image: "registry.example/arango-candles:0.1.0".to_owned(),
        env: env
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        deadline: None,
    }
}

fn pod_of(spec: &JobSpec, settings: &JobSettings) -> PodSpec {
    let job = job(spec, settings).spec.unwrap();
    job.template.spec.unwrap()
}

fn variables(container: &Container) -> BTreeMap<String, String> {
    let env = container.env.clone().unwrap();
    env.into_iter()
        .map(|variable| (variable.name, variable.value.unwrap()))
        .collect()
}

#[test]
fn probes_ask_where_the_worker_listens() {
    let cases = [
        (&[][..], 8000),
        (&[("METRICS_PORT", "9100")][..], 9100),
        (&[("METRICS_PORT", "0")][..], 8000),
        (&[("METRICS_PORT", "70000")][..], 8000),
    ];
    for (env, port) in cases {
        let pod = pod_of(&spec(env), &JobSettings::default());
        let worker = &pod.containers[0];
        assert_eq!(variables(worker)["METRICS_PORT"], port.to_string());
        for probe in [
            &worker.startup_probe,
            &worker.liveness_probe,
            &worker.readiness_probe,
        ] {
            let get = probe.as_ref().unwrap().http_get.as_ref().unwrap();
            assert_eq!(get.port, IntOrString::Int(port));
        }
    }
}

#[test]
fn a_worker_is_named_after_its_target() {
    let job = job(&spec(&[]), &JobSettings::default()).spec.unwrap();
    assert_eq!(
        job.template.spec.unwrap().containers[0].name,
        "arango-candles"
    );
    let rules = job.pod_failure_policy.unwrap().rules;
    let codes = rules[0].on_exit_codes.as_ref().unwrap();
    assert_eq!(codes.container_name.as_deref(), Some("arango-candles"));
}

#[test]
fn kueue_is_told_its_queue_by_the_job_alone() {
    let settings = JobSettings {
        queue_name: Some("night".to_owned()),
        ..JobSettings::default()
    };
    let job = job(&spec(&[]), &settings);
    let key = "kueue.x-k8s.io/queue-name";
    assert_eq!(job.metadata.labels.unwrap()[key], "night");
    let template = job.spec.unwrap().template.metadata.unwrap();
    assert!(!template.labels.unwrap().contains_key(key));
}

#[test]
fn a_pod_outlasts_the_grace_of_its_worker() {
    let cases = [
        (&[][..], 25, 35),
        (&[("SHUTDOWN_GRACE_SECS", "5")][..], 5, 30),
        (&[("SHUTDOWN_GRACE_SECS", "120")][..], 120, 130),
    ];
    for (env, grace, termination) in cases {
        let pod = pod_of(&spec(env), &JobSettings::default());
        assert_eq!(
            variables(&pod.containers[0])["SHUTDOWN_GRACE_SECS"],
            grace.to_string()
        );
        assert_eq!(pod.termination_grace_period_seconds, Some(termination));
    }
}

#[test]
fn a_dollar_in_a_value_stays_a_dollar() {
    let pod = pod_of(
        &spec(&[("COLLECTION_NAME", "a$(KAFKA_PASSWORD)$b")]),
        &JobSettings::default(),
    );
    assert_eq!(
        variables(&pod.containers[0])["COLLECTION_NAME"],
        "a$$(KAFKA_PASSWORD)$$b"
    );
}

#[test]
fn a_deadline_is_at_least_a_second() {
    let cases = [
        (None, None),
        (Some(Duration::from_millis(1)), Some(1)),
        (Some(Duration::from_secs(3600)), Some(3600)),
    ];
    for (deadline, expected) in cases {
        let spec = JobSpec {
            deadline,
            ..spec(&[])
        };
        let job = job(&spec, &JobSettings::default()).spec.unwrap();
        assert_eq!(job.active_deadline_seconds, expected);
    }
}

#[test]
fn an_operator_adds_and_does_not_loosen() {
    let overrides =
        "all: {nodeSelector: {streamforge-worker: 'false', disk: ssd}, labels: {team: data}}";
    let settings = JobSettings {
        on_worker_nodes: true,
        overrides: Overrides::parse(overrides).unwrap(),
        ..JobSettings::default()
    };
    let job = job(&spec(&[]), &settings);
    let template = job.spec.unwrap().template;
    assert_eq!(job.metadata.labels, template.metadata.unwrap().labels);
    assert_eq!(job.metadata.labels.unwrap()["team"], "data");
    let selector = template.spec.unwrap().node_selector.unwrap();
    assert_eq!(selector["streamforge-worker"], "true");
    assert_eq!(selector["disk"], "ssd");
}
