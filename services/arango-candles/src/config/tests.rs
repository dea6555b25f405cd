//! Every way in which the writer's own variables can be wrong.

use streamforge_arango::AuthMode;

use super::*;

const GOOD: &[(&str, &str)] = &[
    ("QUEUE_ID", "wf-btcusdt-api_candles_1m-20240801-abc123"),
    ("SYMBOL", "BTCUSDT"),
    ("TYPE", "api_candles_1m"),
    ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
    (
        "KAFKA_TOPIC",
        "wf-btcusdt-api_candles_1m-20240801-abc123-data",
    ),
    ("COLLECTION_NAME", "btcusdt_api_candles_1m_2024_08_01"),
    ("ARANGO_URL", "http://127.0.0.1:8529"),
    ("ARANGO_DB", "streamforge"),
    ("ARANGO_USER", "writer"),
    ("ARANGO_PASSWORD", "hunter2"),
];

fn read(changes: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let vars: Vars = GOOD
        .iter()
        .chain(changes)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::from_vars(&vars)
}

/// The one fault of a good configuration with these changes.
fn fault(changes: &[(&str, &str)]) -> String {
    let error = read(changes).unwrap_err();
    let faults: Vec<String> = error.faults().collect();
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults[0].clone()
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = read(&[]).unwrap();
    let writer = &config.writer;
    assert_eq!(writer.overwrite_mode, OverwriteMode::Replace);
    assert!(!writer.wait_for_sync);
    assert_eq!(writer.max_rejected, 1000);
    assert_eq!(
        (writer.batch_max_records, writer.batch_max_bytes),
        (1000, 1 << 20)
    );
    assert_eq!(config.arango.auth, AuthMode::Jwt);
    assert_eq!(config.interval, Interval::Minute1);
    assert_eq!(
        config.group_id(),
        "wf-btcusdt-api_candles_1m-20240801-abc123-arango-candles-btcusdt_api_candles_1m_2024_08_01"
    );
}

#[test]
fn each_required_variable_is_missed_alone_and_blank_is_missing() {
    for name in [
        "KAFKA_TOPIC",
        "COLLECTION_NAME",
        "ARANGO_URL",
        "ARANGO_DB",
        "ARANGO_USER",
        "ARANGO_PASSWORD",
    ] {
        let fault = fault(&[(name, "  ")]);
        assert!(
            fault.starts_with(&format!("{name} is missing; expected ")),
            "{fault}"
        );
    }
}

#[test]
fn all_faults_of_all_sections_are_named_at_once() {
    let error = read(&[
        ("SYMBOL", "btc"),
        ("BATCH_MAX_RECORDS", "many"),
        ("ARANGO_OVERWRITE_MODE", "upsert"),
        ("ARANGO_URL", "arangodb"),
        ("ARANGO_AUTH", "digest"),
        ("METRICS_PORT", "-1"),
    ])
    .unwrap_err()
    .to_string();
    for name in [
        "SYMBOL",
        "BATCH_MAX_RECORDS",
        "ARANGO_OVERWRITE_MODE",
        "ARANGO_URL",
        "ARANGO_AUTH",
        "METRICS_PORT",
    ] {
        assert!(
            error.contains(&format!("\n  {name} is ")),
            "{name} in {error}"
        );
    }
}

#[test]
fn only_candles_of_the_past_are_written() {
    for kind in [
        "api_trades",
        "ws_candles_1m",
        "ws_trades",
        "ws_orderbook",
        "dummy",
    ] {
        let fault = fault(&[("TYPE", kind)]);
        assert!(
            fault.contains(kind) && fault.contains("api_candles_<interval>"),
            "{fault}"
        );
    }
}

#[test]
fn names_that_the_database_would_refuse_are_refused_here() {
    for wrong in ["1inch", "_system_like", "with space", "ü", &"c".repeat(257)] {
        let fault = fault(&[("COLLECTION_NAME", wrong)]);
        assert!(fault.starts_with("COLLECTION_NAME"), "{fault}");
    }
    let topic = fault(&[("KAFKA_TOPIC", "a topic")]);
    assert!(topic.starts_with("KAFKA_TOPIC"), "{topic}");
}

#[test]
fn numbers_out_of_range_say_what_is_in_range() {
    for (name, wrong, expected) in [
        ("BATCH_MAX_RECORDS", "0", "1 to 100000"),
        ("BATCH_MAX_BYTES", "10", "1024 to 12582912"),
        ("BATCH_LINGER_MS", "60001", "0 to 60000"),
        ("ARANGO_IN_FLIGHT", "65", "1 to 64"),
        ("MAX_REJECTED", "-1", "a whole number"),
    ] {
        let fault = fault(&[(name, wrong)]);
        assert!(
            fault.starts_with(name) && fault.contains(expected),
            "{fault}"
        );
    }
}

#[test]
fn what_is_held_in_memory_is_bounded() {
    for (bytes, in_flight, fits) in [
        ("12582912", "1", true),
        ("3145728", "4", true),
        ("3145729", "4", false),
        ("1048576", "12", true),
        ("1048576", "13", false),
        ("12582912", "64", false),
    ] {
        let changes = [("BATCH_MAX_BYTES", bytes), ("ARANGO_IN_FLIGHT", in_flight)];
        assert_eq!(read(&changes).is_ok(), fits, "{bytes} {in_flight}");
        if !fits {
            let fault = fault(&changes);
            assert!(
                fault.starts_with("BATCH_MAX_BYTES x ARANGO_IN_FLIGHT")
                    && fault.contains(&format!("{bytes} x {in_flight}"))
                    && fault.contains("at most 12582912"),
                "{fault}"
            );
        }
    }
}

#[test]
fn conflict_is_refused_with_a_reason() {
    let fault = fault(&[("ARANGO_OVERWRITE_MODE", "conflict")]);
    assert!(
        fault.contains("sent again after a broken connection"),
        "{fault}"
    );
}

#[test]
fn debug_shows_no_password() {
    let config = read(&[]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn collections_of_queue_manager_and_of_the_database_are_refused() {
    for reserved in [
        "queue_state",
        "telemetry",
        "lease",
        "idempotency",
        "streamforge-queue_state",
        "streamforge-anything",
        "_users",
        "_x",
    ] {
        let fault = fault(&[("COLLECTION_NAME", reserved)]);
        assert!(
            fault.starts_with("COLLECTION_NAME is ") && fault.contains(reserved),
            "{fault}"
        );
    }
    for good in [
        "lease_1",
        "queue_states",
        "streamforge_api_candles_1m_2024_08_01",
        "c_1inch",
    ] {
        read(&[("COLLECTION_NAME", good)]).unwrap();
    }
}
