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
        ("KAFKA_SESSION_TIMEOUT_MS", "400000"),
        ("KAFKA_FETCH_WAIT_MAX_MS", "soon"),
        ("KAFKA_FETCH_WAIT_MAX_MS", "300001"),
        ("TELEMETRY_PRODUCER_ID", "two\nlines"),
        ("QUEUE_CONTROL_TOPIC", "queue control"),
        ("QUEUE_EVENTS_TOPIC", "queue/events"),
        ("KAFKA_OFFSETS_FOR_TIMES", "perhaps"),
        ("KAFKA_TOPIC_ADMIN", "no"),
        ("METRICS_PORT", "http"),
        ("LOG_LEVEL", "loud=very"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "yaml"),
        ("PROGRESS_INTERVAL_SECS", "0"),
        ("RETRY_DEADLINE_SECS", "NaN"),
        ("RETRY_DEADLINE_SECS", "3000000"),
        ("RETRY_DEADLINE_SECS", "0.0001"),
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

#[test]
fn what_may_be_set_is_what_kafka_clients_take() {
    for changes in [
        [
            ("KAFKA_SESSION_TIMEOUT_MS", "1"),
            ("KAFKA_FETCH_WAIT_MAX_MS", "0"),
        ],
        [
            ("KAFKA_SESSION_TIMEOUT_MS", "300000"),
            ("KAFKA_FETCH_WAIT_MAX_MS", "300000"),
        ],
    ] {
        let (kafka, ..) = read(&with(&changes)).unwrap();
        let consumer = crate::kafka::consumer_config(&kafka, "test", "wf-test", 1024);
        consumer
            .create::<rdkafka::consumer::BaseConsumer>()
            .unwrap();
    }
    let (kafka, _, ops) = read(&with(&[("RETRY_DEADLINE_SECS", "2147483")])).unwrap();
    let timeout = ops.retry_deadline().as_millis().to_string();
    crate::kafka::producer_config(&kafka, "test", 1024)
        .set("message.timeout.ms", timeout)
        .create::<rdkafka::producer::BaseProducer>()
        .unwrap();
    let longest = "n".repeat(200);
    read(&with(&[("TELEMETRY_PRODUCER_ID", &longest)])).unwrap();
    let longer = "n".repeat(201);
    assert_eq!(
        faults(&with(&[("TELEMETRY_PRODUCER_ID", &longer)])).len(),
        1
    );
}

#[test]
fn a_password_loses_the_ends_of_lines_only() {
    use secrecy::ExposeSecret;

    let password = |given: &str| {
        let vars = with(&[("KAFKA_USER", " me\n"), ("KAFKA_PASSWORD", given)]);
        let (kafka, ..) = read(&vars).unwrap();
        assert_eq!(
            kafka.user.as_deref(),
            Some("me"),
            "only secrets keep their blanks"
        );
        kafka.password.unwrap().expose_secret().to_owned()
    };
    assert_eq!(password(" hunter 2 \r\n\n"), " hunter 2 ");
    assert_eq!(password("\thunter2\t"), "\thunter2\t");
    assert_eq!(password("\"hunter2\""), "\"hunter2\"");
    let blank = with(&[("KAFKA_USER", "me"), ("KAFKA_PASSWORD", " \n")]);
    assert_eq!(
        faults(&blank),
        ["KAFKA_PASSWORD is missing; expected the password of KAFKA_USER"]
    );
}

#[test]
fn quotes_and_byte_order_marks_are_named() {
    assert_eq!(
        faults(&with(&[("SYMBOL", "\"BTCUSDT\""), ("RUN", "0")])),
        [
            "SYMBOL is \"\\\"BTCUSDT\\\"\" with quotes around it; expected the value alone",
            "RUN is \"0\": too small; expected a whole number from 1",
        ]
    );
    for (name, value, around) in [
        ("KAFKA_USER", "'me'", "quotes around it"),
        (
            "KAFKA_BOOTSTRAP_SERVERS",
            "\u{feff}kafka:9092",
            "a byte order mark (U+FEFF)",
        ),
        (
            "KAFKA_PASSWORD",
            "\u{feff}hunter2",
            "a byte order mark (U+FEFF)",
        ),
    ] {
        let found = faults(&with(&[
            ("KAFKA_PASSWORD", "x"),
            ("KAFKA_USER", "me"),
            (name, value),
        ]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(name) && found[0].contains(around),
            "{found:?}"
        );
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
}

#[test]
fn a_value_of_any_length_makes_a_short_fault() {
    let long = "x".repeat(300_000);
    for name in [
        "QUEUE_ID",
        "INTERVAL",
        "LOG_LEVEL",
        "KAFKA_BOOTSTRAP_SERVERS",
        "LOG_FORMAT",
    ] {
        let error = read(&with(&[(name, &long)])).unwrap_err().to_string();
        assert!(error.contains(name), "{name}");
        assert!(error.chars().count() < 4_000, "{name}: {}", error.len());
    }
    let both = with(&[("KAFKA_CA_PATH", &long), ("CA_PATH", "/b")]);
    assert!(read(&both).unwrap_err().to_string().chars().count() < 4_000);
}
