//! Kafka clients as every part sets them up: security, bounds, logging, and what an error means.
//!
//! Bounds are set because librdkafka's defaults (64 MiB of prefetch, 1 GiB of producer queue) do not fit a worker
//! of 64 MiB. How data is produced and consumed is the services' own.

mod batch_producer;
mod context;
pub mod headers;
mod publish;
mod reader;
mod topics;

use rdkafka::{ClientConfig, config::RDKafkaLogLevel, error::KafkaError, types::RDKafkaErrorCode};
use secrecy::ExposeSecret;

pub use batch_producer::{BatchProducer, Receipts};
pub use context::KafkaContext;
pub use publish::{PublishError, Target};
pub use reader::{Committed, ReadError, Stretch, TopicReader, Visit, Watermarks};
pub use topics::{TopicError, TopicSettings, TopicSpec, Topics};

use crate::config::KafkaConfig;

/// What a data producer may hold that is not acknowledged yet, in KiB (16 MiB).
pub const DATA_PRODUCER_QUEUE_KIB: u32 = 16 * 1024;
/// The largest batch of records before compression, in bytes: about 600 candles. It bounds what compressing costs in
/// memory.
pub const DATA_BATCH_BYTES: u32 = 262_144;
/// librdkafka remarks at every start that this is experimental; [`KafkaContext`] leaves that out.
const GAPLESS: &str = "enable.gapless.guarantee";
/// How long a broker may take for an answer, and for a connection.
const SOCKET_TIMEOUT_MS: u32 = 12_000;
/// How often it is asked who leads a topic's partitions.
const METADATA_REFRESH_MS: &str = "5000";
/// Both for commands and events, in KiB.
pub const CONTROL_QUEUE_KIB: u32 = 256;

/// How much a consumer asks for at a time, and how much of it it keeps.
///
/// What is asked for is counted compressed, and librdkafka inflates whole answers: candles grow to five times as much,
/// those of a symbol without trades to twenty. What is kept is counted inflated, but is checked only before the next
/// request. So what bounds memory is what is asked for. Each broker is asked by a thread of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchSizes {
    /// Of one partition in one answer, compressed, in bytes; at least one batch comes in any case.
    pub partition_bytes: u32,
    /// Of all partitions in one answer, compressed, in bytes. librdkafka asks for no less than 1,000,000.
    pub response_bytes: u32,
    /// Kept records from which on nothing more is asked for, inflated, in KiB.
    pub queue_kib: u32,
}

impl FetchSizes {
    /// For records: measured, see docs/performance.md.
    pub const DATA: Self = Self {
        partition_bytes: 64 * 1024,
        response_bytes: 1024 * 1024,
        queue_kib: 1024,
    };

    /// As [`Self::DATA`], with another queue.
    pub const fn with_queue(queue_kib: u32) -> Self {
        Self {
            queue_kib,
            ..Self::DATA
        }
    }

    /// Sets them.
    pub fn apply(self, config: &mut ClientConfig) {
        config
            .set("fetch.message.max.bytes", self.partition_bytes.to_string())
            .set("fetch.max.bytes", self.response_bytes.to_string())
            .set("queued.max.messages.kbytes", self.queue_kib.to_string());
    }
}

/// What every client needs to reach the brokers. `client_id` names it in the broker's logs.
pub fn client_config(kafka: &KafkaConfig, client_id: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.bootstrap_servers)
        .set("client.id", client_id)
        .set("security.protocol", kafka.security_protocol().as_str())
        .set("socket.keepalive.enable", "true")
        // A broker that comes back is found again within this time (default 10 s).
        .set("reconnect.backoff.max.ms", "2000")
        // A frozen broker is given up after this time (default 60 s). More than the 9 s after which brokers miss one of
        // them, during which they hold back acknowledgements; long polls have time-outs of their own.
        .set("socket.timeout.ms", SOCKET_TIMEOUT_MS.to_string())
        .set(
            "socket.connection.setup.timeout.ms",
            SOCKET_TIMEOUT_MS.to_string(),
        )
        // A new leader is found within this time, also by who is waiting for the old one (default 5 minutes).
        .set("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS)
        .set_log_level(RDKafkaLogLevel::Warning);
    if let Some(path) = &kafka.ca_path {
        config.set("ssl.ca.location", path.to_string_lossy());
    }
    if let (Some(user), Some(password)) = (&kafka.user, &kafka.password) {
        config
            .set("sasl.mechanism", kafka.sasl_mechanism.as_str())
            .set("sasl.username", user)
            .set("sasl.password", password.expose_secret());
    }
    config
}

/// What a consumer needs besides: it never creates topics, commits nothing by itself, and a position that the
/// broker no longer has is an error, not a jump. It reads uncommitted records: StreamForge writes no transactions, and an
/// open one of another client would stop a consumer that waits for its end. It keeps `queue_kib` KiB of what it fetched,
/// and fetches as [`FetchSizes::DATA`] says.
pub fn consumer_config(
    kafka: &KafkaConfig,
    client_id: &str,
    group_id: &str,
    queue_kib: u32,
) -> ClientConfig {
    let mut config = client_config(kafka, client_id);
    config
        .set("group.id", group_id)
        .set("allow.auto.create.topics", "false")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_uncommitted")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", kafka.fetch_wait_max_ms.to_string())
        // What is asked behind a fetch is answered after it.
        .set(
            "socket.timeout.ms",
            kafka
                .fetch_wait_max_ms
                .saturating_add(SOCKET_TIMEOUT_MS)
                .min(300_000)
                .to_string(),
        )
        .set("session.timeout.ms", kafka.session_timeout_ms.to_string())
        .set(
            "heartbeat.interval.ms",
            (kafka.session_timeout_ms / 3).clamp(1, 3_000).to_string(),
        );
    FetchSizes::with_queue(queue_kib).apply(&mut config);
    config
}

/// What a producer needs besides: idempotent, acknowledged by all replicas in sync, bounded.
pub fn producer_config(kafka: &KafkaConfig, client_id: &str, queue_kib: u32) -> ClientConfig {
    let mut config = client_config(kafka, client_id);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("queue.buffering.max.kbytes", queue_kib.to_string());
    config
}

/// What a producer of records needs besides: a batch that fails for good stops it, rather than letting later ones pass,
/// so a partition always holds a gapless prefix. Records are compressed, have no time-out of their own, and form batches
/// of up to [`DATA_BATCH_BYTES`].
pub fn data_producer_config(kafka: &KafkaConfig, client_id: &str, queue_kib: u32) -> ClientConfig {
    let mut config = producer_config(kafka, client_id, queue_kib);
    config
        .set(GAPLESS, "true")
        .set("message.timeout.ms", "0")
        .set("compression.type", "zstd")
        .set("batch.size", DATA_BATCH_BYTES.to_string());
    config
}

/// What no retry can mend: wrong credentials, missing rights, a topic or message that the broker refuses.
const PERMANENT: [RDKafkaErrorCode; 16] = [
    RDKafkaErrorCode::Authentication,
    RDKafkaErrorCode::SaslAuthenticationFailed,
    RDKafkaErrorCode::UnsupportedSASLMechanism,
    RDKafkaErrorCode::IllegalSASLState,
    RDKafkaErrorCode::TopicAuthorizationFailed,
    RDKafkaErrorCode::GroupAuthorizationFailed,
    RDKafkaErrorCode::ClusterAuthorizationFailed,
    RDKafkaErrorCode::InvalidTopic,
    RDKafkaErrorCode::InvalidPartitions,
    RDKafkaErrorCode::InvalidConfig,
    RDKafkaErrorCode::InvalidArgument,
    RDKafkaErrorCode::PolicyViolation,
    RDKafkaErrorCode::MessageSizeTooLarge,
    RDKafkaErrorCode::InvalidRecord,
    RDKafkaErrorCode::UnsupportedFeature,
    RDKafkaErrorCode::UnsupportedVersion,
];

/// Whether no retry can mend this: wrong credentials, missing rights, a topic or message that the broker refuses.
pub fn is_permanent(error: &KafkaError) -> bool {
    let code = match error {
        // Of these rdkafka itself gives none.
        KafkaError::AdminOp(code) => Some(*code),
        _ => error.rdkafka_error_code(),
    };
    code.is_some_and(|code| PERMANENT.contains(&code))
        || matches!(
            error,
            KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_)
        )
}

/// Whether a consumer that was assigned its place reads no further after this: the place is gone, or the topic.
pub fn is_lost_position(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let lost = [
        Code::AutoOffsetReset,
        Code::OffsetOutOfRange,
        Code::UnknownTopic,
        Code::UnknownTopicOrPartition,
        Code::UnknownPartition,
    ];
    error
        .rdkafka_error_code()
        .is_some_and(|code| lost.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Reader, Vars};

    fn kafka(pairs: &[(&str, &str)]) -> KafkaConfig {
        let vars: Vars = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Reader::new(&vars).section().unwrap()
    }

    #[test]
    fn plaintext_without_a_user() {
        let config = client_config(
            &kafka(&[("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")]),
            "test",
        );
        assert_eq!(config.get("security.protocol"), Some("PLAINTEXT"));
        assert_eq!(config.get("sasl.password"), None);
    }

    #[test]
    fn scram_over_tls_with_a_user() {
        let config = client_config(
            &kafka(&[
                ("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092"),
                ("KAFKA_USER", "me"),
                ("KAFKA_PASSWORD", "x"),
            ]),
            "test",
        );
        assert_eq!(config.get("security.protocol"), Some("SASL_SSL"));
        assert_eq!(config.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(config.get("sasl.username"), Some("me"));
    }

    #[test]
    fn a_consumer_does_not_wait_for_foreign_transactions() {
        let kafka = kafka(&[("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")]);
        let config = consumer_config(&kafka, "test", "wf-test", CONTROL_QUEUE_KIB);
        assert_eq!(config.get("isolation.level"), Some("read_uncommitted"));
    }

    #[test]
    fn a_larger_queue_asks_for_no_more_at_a_time() {
        let config = kafka(&[("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")]);
        for queue_kib in [64, 1024, 65_536] {
            let config = consumer_config(&config, "test", "wf-x", queue_kib);
            let bytes = |name| config.get(name).unwrap().parse::<u32>().unwrap();
            assert_eq!(bytes("queued.max.messages.kbytes"), queue_kib);
            // Inflated twentyfold, eight partitions of this are what a worker of 64 MiB has room for.
            assert!(bytes("fetch.message.max.bytes") <= 65_536);
            assert!(bytes("fetch.max.bytes") <= 1_048_576);
        }
    }

    #[test]
    fn a_wrong_password_is_permanent_and_a_missing_broker_is_not() {
        let error = |code| KafkaError::MessageConsumption(code);
        assert!(is_permanent(&error(
            RDKafkaErrorCode::SaslAuthenticationFailed
        )));
        assert!(is_permanent(&error(
            RDKafkaErrorCode::TopicAuthorizationFailed
        )));
        assert!(is_permanent(&KafkaError::AdminOp(
            RDKafkaErrorCode::TopicAuthorizationFailed
        )));
        assert!(!is_permanent(&error(RDKafkaErrorCode::AllBrokersDown)));
        assert!(!is_permanent(&error(
            RDKafkaErrorCode::BrokerTransportFailure
        )));
    }
}
