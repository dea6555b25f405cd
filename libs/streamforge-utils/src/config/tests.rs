//! Every way in which an environment can be wrong.

use super::*;

fn vars(pairs: &[(&str, &str)]) -> Vars {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

const GOOD: &[(&str, &str)] = &[
    ("QUEUE_ID", "wf-btcusdt-api_candles_1m-20240801-abc123"),
    ("SYMBOL", "BTCUSDT"),
    ("TYPE", "api_candles_1m"),
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092"),
];

fn with(changes: &[(&str, &str)]) -> Vars {
    let mut all = vars(GOOD);
    all.extend(vars(changes));
    all
}

fn read(vars: &Vars) -> Result<(KafkaConfig, QueueConfig, OpsConfig), ConfigError> {
    let mut reader = Reader::new(vars);
    let (kafka, queue, ops) = (reader.section(), reader.section(), reader.section());
    reader.finish()?;
    Ok((kafka.unwrap(), queue.unwrap(), ops.unwrap()))
}

fn faults(vars: &Vars) -> Vec<String> {
    read(vars).unwrap_err().faults().collect()
}

#[test]
fn defaults_are_those_of_the_contract() {
    let (kafka, queue, ops) = read(&vars(GOOD)).unwrap();
    assert_eq!(kafka.security_protocol(), SecurityProtocol::Plaintext);
    assert_eq!(kafka.sasl_mechanism, SaslMechanism::ScramSha512);
    assert_eq!(
        (queue.run, queue.queue_control_topic.as_str()),
        (1, "queue-control")
    );
    assert_eq!(queue.queue_events_topic, "queue-events");
    assert_eq!(queue.queue_started_at, None);
    assert!(
        queue
            .producer_id("arango-candles")
            .starts_with("arango-candles__")
    );
    assert_eq!((ops.metrics_port, ops.log_level.as_str()), (None, "info"));
    let seconds = [
        ops.progress_interval(),
        ops.retry_deadline(),
        ops.shutdown_grace(),
    ]
    .map(|it| it.as_secs());
    assert_eq!(seconds, [5, 300, 25]);
}

#[test]
fn all_faults_are_named_at_once() {
    let wrong = vars(&[
        ("QUEUE_ID", "queue 7"),
        ("TYPE", "api_candles_1H"),
        ("RUN", "0"),
        ("QUEUE_STARTED_AT", "1722500000000"),
        ("LOG_LEVEL", "loud=very"),
        ("METRICS_PORT", "80000"),
        ("LOG_FORMAT", "xml"),
        ("RETRY_DEADLINE_SECS", "-1"),
        ("KAFKA_SASL_MECHANISM", "GSSAPI"),
    ]);
    insta::assert_snapshot!(read(&wrong).unwrap_err().to_string());
}

#[test]
fn blank_is_absent() {
    assert_eq!(
        faults(&with(&[
            ("SYMBOL", "  "),
            ("RUN", ""),
            ("METRICS_PORT", "")
        ])),
        ["SYMBOL is missing; expected 2 to 20 of A-Z and 0-9, such as BTCUSDT"]
    );
}

#[test]
fn every_required_variable_is_missed_and_every_variable_can_be_malformed() {
    for (name, _) in GOOD {
        let mut without = vars(GOOD);
        without.remove(*name);
        let found = faults(&without);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(&format!("{name} is missing; expected ")),
            "{found:?}"
        );
    }
    for (name, bad) in [
        ("QUEUE_ID", "*"),
        ("SYMBOL", "btcusdt"),
        ("TYPE", "candles"),
        ("RUN", "0"),
        ("RUN", "-1"),
        ("INTERVAL", "1H"),
        ("QUEUE_STARTED_AT", "yesterday"),
        ("QUEUE_STARTED_AT", "-5"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092,:1"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("KAFKA_CA_PATH", "/nowhere/ca.crt"),
        ("KAFKA_SESSION_TIMEOUT_MS", "0"),
        ("KAFKA_FETCH_WAIT_MAX_MS", "soon"),
        ("KAFKA_OFFSETS_FOR_TIMES", "perhaps"),
        ("KAFKA_TOPIC_ADMIN", "no"),
        ("METRICS_PORT", "http"),
        ("LOG_LEVEL", "loud=very"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "yaml"),
        ("PROGRESS_INTERVAL_SECS", "0"),
        ("RETRY_DEADLINE_SECS", "NaN"),
        ("SHUTDOWN_GRACE_SECS", "1e99"),
    ] {
        let found = faults(&with(&[(name, bad)]));
        assert_eq!(found.len(), 1, "{name}={bad} gave {found:?}");
        assert!(
            found[0].starts_with(name) && found[0].contains("expected "),
            "{name}={bad} gave {found:?}"
        );
    }
}

#[test]
fn contradictions_are_faults() {
    for (changes, fault) in [
        (
            vec![("INTERVAL", "1h")],
            "INTERVAL is \"1h\"; expected 1m, as TYPE is api_candles_1m",
        ),
        (
            vec![("TYPE", "api_trades"), ("INTERVAL", "1m")],
            "INTERVAL is \"1m\"; expected nothing, as TYPE api_trades has no interval",
        ),
        (
            vec![("KAFKA_USER", "me")],
            "KAFKA_PASSWORD is missing; expected the password of KAFKA_USER",
        ),
        (
            vec![("KAFKA_PASSWORD", "x")],
            "KAFKA_USER is missing; expected the user that KAFKA_PASSWORD belongs to",
        ),
        (
            vec![("KAFKA_CA_PATH", "/a"), ("CA_PATH", "/b")],
            "KAFKA_CA_PATH is \"/a\" and CA_PATH, its other name, is \"/b\"; expected one of them",
        ),
    ] {
        let found = faults(&with(&changes));
        assert!(
            found.iter().any(|found| found == fault),
            "{changes:?} gave {found:?}"
        );
    }
}

#[test]
fn a_password_goes_without_tls_to_loopback_only() {
    let plain = |servers| {
        with(&[
            ("KAFKA_BOOTSTRAP_SERVERS", servers),
            ("KAFKA_USER", "me"),
            ("KAFKA_PASSWORD", "hunter2"),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ])
    };
    for local in ["127.0.0.1:9092", "localhost:9092,[::1]:9093"] {
        read(&plain(local)).unwrap();
    }
    for remote in ["kafka:9092", "127.0.0.1:9092,kafka:9092", "10.0.0.1:9092"] {
        let found = faults(&plain(remote));
        assert!(
            found[0].contains("a password goes without TLS to loopback addresses only"),
            "{found:?}"
        );
    }
}

#[test]
fn a_user_means_scram_over_tls() {
    let (kafka, ..) = read(&with(&[
        ("KAFKA_USER", "me"),
        ("KAFKA_PASSWORD", "hunter2"),
    ]))
    .unwrap();
    assert_eq!(kafka.security_protocol(), SecurityProtocol::SaslSsl);
    assert_eq!(kafka.sasl_mechanism, SaslMechanism::ScramSha512);
    assert!(
        !format!("{kafka:?}").contains("hunter2"),
        "a password is never printed"
    );
}

#[test]
fn only_exact_names_count() {
    let (_, queue, _) = read(&with(&[("run", "9"), ("Symbol", "ETHUSDT")])).unwrap();
    assert_eq!((queue.run, queue.symbol.as_str()), (1, "BTCUSDT"));
}
