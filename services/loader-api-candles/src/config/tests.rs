//! Every way in which the settings of a load can be wrong.

use super::*;

const GOOD: &[(&str, &str)] = &[
    ("QUEUE_ID", "wf-btcusdt-api_candles_1m-20240801-abc123"),
    ("SYMBOL", "BTCUSDT"),
    ("TYPE", "api_candles_1m"),
    ("TIME_RANGE", "2024-08-01:2024-08-31"),
    (
        "KAFKA_TOPIC",
        "wf-btcusdt-api_candles_1m-20240801-abc123-data",
    ),
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092"),
];

fn with(changes: &[(&str, &str)]) -> Vars {
    let pairs = GOOD.iter().chain(changes);
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn faults(vars: &Vars) -> Vec<String> {
    Config::from_vars(vars).unwrap_err().faults().collect()
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = Config::from_vars(&with(&[])).unwrap();
    assert_eq!(config.interval, Interval::Minute1);
    assert_eq!(
        config.source.binance_api_url.url().as_str(),
        "https://api.binance.com/"
    );
    assert_eq!(config.source.fetch_in_flight.get(), 4);
    let grace = config.source.candle_close_grace_secs.duration();
    assert_eq!((grace.as_secs(), config.confirm_after.as_secs()), (3, 2));
    let publish = config.publish;
    assert_eq!(
        (publish.topic_partitions.get(), publish.topic_replication),
        (1, None)
    );
    assert_eq!(publish.topic_retention_hours.get(), 168);
    assert_eq!(publish.partition_key, PartitionKey::Symbol);
    assert_eq!(publish.numbers, Numbers::Json);
}

#[test]
fn all_faults_of_all_sections_are_named_at_once() {
    let nothing = faults(&Vars::new());
    let missing: Vec<&str> = nothing
        .iter()
        .map(|fault| fault.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        missing,
        [
            "QUEUE_ID",
            "SYMBOL",
            "TYPE",
            "TIME_RANGE",
            "KAFKA_TOPIC",
            "KAFKA_BOOTSTRAP_SERVERS"
        ]
    );
    let wrong = faults(&with(&[
        ("TIME_RANGE", "2024-08-31:2024-08-01"),
        ("FETCH_IN_FLIGHT", "0"),
        ("NUMBERS", "float"),
        ("METRICS_PORT", "http"),
        ("TYPE", "ws_trades"),
    ]));
    assert_eq!(wrong.len(), 5, "{wrong:#?}");
}

#[test]
fn a_type_of_another_loader_is_named_beside_other_faults_of_its_section() {
    let found = faults(&with(&[("TYPE", "api_trades"), ("SYMBOL", "btc")]));
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("SYMBOL"), "{found:#?}");
    assert!(
        found[1].contains("all that loader-api-candles loads"),
        "{found:#?}"
    );
}

#[test]
fn each_bad_value_is_one_fault_with_what_was_found_and_what_is_expected() {
    for (name, bad, part) in [
        ("TYPE", "api_trades", "all that loader-api-candles loads"),
        ("TYPE", "dummy", "api_candles_<interval>"),
        ("TYPE", "ws_candles_1m", "api_candles_<interval>"),
        ("TYPE", "api_candles_1H", "unknown interval \"1H\""),
        ("INTERVAL", "1h", "expected 1m, as TYPE is api_candles_1m"),
        ("TIME_RANGE", "2024-08-02:2024-08-01", "reversed"),
        ("TIME_RANGE", "2024-08-01", "YYYY-MM-DD:YYYY-MM-DD"),
        ("TIME_RANGE", "yesterday:today", "no day"),
        ("BINANCE_API_URL", "ftp://api.binance.com", "http or https"),
        ("BINANCE_API_URL", "api.binance.com", "not shown"),
        (
            "BINANCE_API_URL",
            "https://api.binance.com?x=1",
            "without user, query",
        ),
        ("FETCH_IN_FLIGHT", "33", "from 1 to 32"),
        ("FETCH_IN_FLIGHT", "-1", "from 1 to 32"),
        ("FETCH_IN_FLIGHT", "many", "from 1 to 32"),
        ("CANDLE_CLOSE_GRACE_SECS", "-1", "from 0 to 600"),
        ("CANDLE_CLOSE_GRACE_SECS", "601", "from 0 to 600"),
        ("CANDLE_CLOSE_GRACE_SECS", "NaN", "from 0 to 600"),
        ("CANDLE_CLOSE_GRACE_SECS", "3s", "from 0 to 600"),
        ("KAFKA_TOPIC", "data topic", "the name of a topic"),
        ("KAFKA_TOPIC", "..", "the name of a topic"),
        ("TOPIC_PARTITIONS", "0", "from 1 to 1000"),
        ("TOPIC_PARTITIONS", "2.5", "from 1 to 1000"),
        ("TOPIC_REPLICATION", "40000", "from 1 to 32767"),
        ("TOPIC_RETENTION_HOURS", "0", "hours from 1"),
        ("TOPIC_RETENTION_HOURS", "for ever", "hours from 1"),
        ("PARTITION_KEY", "Symbol", "expected `symbol` or `record`"),
        ("NUMBERS", "float", "expected `json` or `string`"),
    ] {
        let found = faults(&with(&[(name, bad)]));
        assert_eq!(found.len(), 1, "{name}={bad} gave {found:#?}");
        assert!(
            found[0].starts_with(name) && found[0].contains("expected ") && found[0].contains(part),
            "{name}={bad} gave {found:#?}"
        );
    }
}

#[test]
fn no_password_is_shown() {
    for url in ["https://me:hunter2@example.org", "https://me:hunter2@:x"] {
        let found = faults(&with(&[("BINANCE_API_URL", url)])).join("\n");
        assert!(
            found.contains("BINANCE_API_URL") && !found.contains("hunter2"),
            "{found}"
        );
    }
    let config = Config::from_vars(&with(&[
        ("KAFKA_USER", "me"),
        ("KAFKA_PASSWORD", "hunter2"),
    ]))
    .unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn the_documented_environment_is_a_good_one_and_has_every_variable() {
    let text = include_str!("../../.env.example");
    let mut documented = Vars::new();
    for line in text.lines() {
        // Optional ones are commented out: `#NAME=value`; prose has a space after the #.
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some((name, value)) = line.split_once('=')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        {
            documented.insert(name.to_owned(), value.to_owned());
        }
    }
    for variable in VARIABLES.iter().copied().flatten() {
        assert!(
            documented.contains_key(variable.name),
            "{} is missing in .env.example",
            variable.name
        );
        assert!(
            include_str!("../../README.md").contains(&format!("`{}`", variable.name)),
            "{} is missing in README.md",
            variable.name
        );
    }
    // A path that only exists where it is mounted.
    documented.remove("KAFKA_CA_PATH");
    Config::from_vars(&documented).unwrap();
}
