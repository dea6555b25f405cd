//! Every way in which the settings can be wrong.

use super::*;

const GOOD: &[(&str, &str)] = &[
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092"),
    ("ARANGO_URL", "https://arangodb:8529"),
    ("ARANGO_DB", "streamforge"),
    ("ARANGO_USER", "queue-manager"),
    ("ARANGO_PASSWORD", "hunter2"),
];

fn read(changes: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let pairs = GOOD.iter().chain(changes);
    let vars = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_vars(&vars.collect())
}

#[test]
fn defaults_are_good_and_reach_the_planner() {
    let config = read(&[]).unwrap();
    assert_eq!(
        config.api.api_listen.address().to_string(),
        "127.0.0.1:8080"
    );
    assert_eq!(config.jobs.launcher, LauncherKind::Kubernetes);
    assert_eq!(config.heal.job_deadline_secs.duration().as_secs(), 86_400);
    let planner = config.planner();
    assert_eq!(planner.image_tag, env!("CARGO_PKG_VERSION"));
    assert!(planner.images_allowed.is_empty());
    assert_eq!((planner.metrics_port, planner.retention_hours), (None, 168));
    let process = [
        ("LAUNCHER", "process"),
        ("JOBS_DIR", "/j"),
        ("WORKER_PROGRAM", "/w"),
    ];
    assert_eq!(read(&process).unwrap().planner().metrics_port, Some(0));
    let images = read(&[("IMAGES_ALLOWED", "a/*, b:1")])
        .unwrap()
        .planner()
        .images_allowed;
    assert_eq!(images, ["a/*", "b:1"]);
}

#[test]
fn a_workers_own_settings_are_none_of_ours() {
    read(&[
        ("METRICS_PORT", "http"),
        ("PROGRESS_INTERVAL_SECS", "often"),
    ])
    .unwrap();
    let ours: Vec<_> = OPS.iter().map(|variable| variable.name).collect();
    assert_eq!(ours, ["LOG_LEVEL", "LOG_FORMAT", "SHUTDOWN_GRACE_SECS"]);
}

#[test]
fn each_bad_value_is_one_fault() {
    // One more than a label holds.
    const LONG: &str = "0123456789012345678901234567890123456789012345678901234567890123";
    for (changes, name, part) in [
        (
            &[("API_LISTEN", "8080")][..],
            "API_LISTEN",
            "an address with a port",
        ),
        (
            &[("API_LISTEN", "0.0.0.0:80")],
            "API_TOKENS_FILE",
            "not of loopback",
        ),
        (
            &[("API_MAX_BODY_BYTES", "10")],
            "API_MAX_BODY_BYTES",
            "from 1024",
        ),
        (
            &[("API_TIMEOUT_SECS", "0")],
            "API_TIMEOUT_SECS",
            "more than 0",
        ),
        (
            &[("API_TLS_CERT_PATH", "/tls.crt")],
            "API_TLS_KEY_PATH",
            "as API_TLS_CERT_PATH is set",
        ),
        (
            &[("API_TLS_KEY_PATH", "/tls.key")],
            "API_TLS_CERT_PATH",
            "as API_TLS_KEY_PATH is set",
        ),
        (&[("LAUNCHER", "docker")], "LAUNCHER", "process"),
        (&[("K8S_KAFKA_CA", "ca.crt")], "K8S_KAFKA_CA", "name/key"),
        (
            &[("LAUNCHER", "process"), ("WORKER_PROGRAM", "/w")],
            "JOBS_DIR",
            "as LAUNCHER is process",
        ),
        (&[("K8S_NAMESPACE", "Prod")], "K8S_NAMESPACE", "a-z"),
        (&[("K8S_SECRET", "a_b")], "K8S_SECRET", "a-z"),
        (&[("K8S_SECRET", "a,b")], "K8S_SECRET", "target=name"),
        (&[("K8S_SECRET", "a,nobody=b")], "K8S_SECRET", "target=name"),
        (&[("K8S_CONFIG_MAP", "a b")], "K8S_CONFIG_MAP", "a-z"),
        (&[("K8S_INSTANCE", "a/b")], "K8S_INSTANCE", "1 to 63"),
        (&[("K8S_INSTANCE", "staging-")], "K8S_INSTANCE", "1 to 63"),
        (&[("K8S_INSTANCE", LONG)], "K8S_INSTANCE", "1 to 63"),
        (&[("IMAGE_REGISTRY", "a b")], "IMAGE_REGISTRY", "a-z"),
        (&[("IMAGE_TAG", "a/b")], "IMAGE_TAG", "up to 128"),
        (&[("IMAGES_ALLOWED", "a*b")], "IMAGES_ALLOWED", "prefixes"),
        (&[("MAX_WORKFLOWS", "0")], "MAX_WORKFLOWS", "from 1"),
        (&[("LEASE_SECS", "5")], "LEASE_SECS", "twice"),
        (
            &[("QUEUE_EVENTS_TOPIC", "a b")],
            "QUEUE_EVENTS_TOPIC",
            "name of a topic",
        ),
        (
            &[("ARANGO_URL", "http://arangodb:8529")],
            "ARANGO_URL",
            "TLS",
        ),
        (&[("LOG_FORMAT", "xml")], "LOG_FORMAT", "json"),
    ] {
        let error = read(changes).unwrap_err();
        let faults: Vec<_> = error.faults().collect();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(
            faults[0].starts_with(name) && faults[0].contains(part),
            "{faults:?}"
        );
    }
}

#[test]
fn no_password_is_shown() {
    let shown = format!("{:?}", read(&[]).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn the_documented_environment_is_a_good_one_and_has_every_variable() {
    let mut documented = Vars::new();
    for line in include_str!("../../.env.example").lines() {
        // Optional ones are commented out: `#NAME=value`; prose has a space after the #.
        let line = line.strip_prefix('#').unwrap_or(line);
        let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        if let Some((name, value)) = line.split_once('=')
            && name.bytes().all(is_name)
        {
            documented.insert(name.to_owned(), value.to_owned());
        }
    }
    for variable in VARIABLES.iter().copied().flatten() {
        let name = variable.name;
        assert!(
            documented.contains_key(name),
            "{name} is missing in .env.example"
        );
        let readme = include_str!("../../README.md");
        assert!(
            readme.contains(&format!("`{name}`")),
            "{name} is missing in README.md"
        );
    }
    // Paths that only exist where they are mounted.
    documented.remove("KAFKA_CA_PATH");
    documented.remove("ARANGO_CA_PATH");
    Config::from_vars(&documented).unwrap();
}
