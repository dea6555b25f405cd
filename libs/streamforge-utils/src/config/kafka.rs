//! How to reach the brokers.

use std::{net::IpAddr, path::PathBuf};

use secrecy::SecretString;
use serde::Deserialize;

use super::{Faults, Section, Variable, checked};

/// `KAFKA_SECURITY_PROTOCOL`, in librdkafka's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SecurityProtocol {
    /// Neither encryption nor a user.
    #[serde(rename = "PLAINTEXT")]
    Plaintext,
    /// TLS, no user.
    #[serde(rename = "SSL")]
    Ssl,
    /// A user, no encryption.
    #[serde(rename = "SASL_PLAINTEXT")]
    SaslPlaintext,
    /// A user over TLS.
    #[serde(rename = "SASL_SSL")]
    SaslSsl,
}

impl SecurityProtocol {
    /// The text that librdkafka takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    fn has_user(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

/// `KAFKA_SASL_MECHANISM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SaslMechanism {
    /// The password itself is sent.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Salted challenge and response, SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Salted challenge and response, SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl SaslMechanism {
    /// The text that librdkafka takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// How to reach the brokers, and the few client settings that an operator may need.
#[derive(Debug, Clone, Deserialize)]
pub struct KafkaConfig {
    /// `host:port`, several with commas. Read from `KAFKA_BOOTSTRAP_SERVERS`.
    #[serde(
        rename = "kafka_bootstrap_servers",
        deserialize_with = "checked::servers"
    )]
    pub bootstrap_servers: String,
    /// SASL user; with it the connection is `SASL_SSL`. Read from `KAFKA_USER`.
    #[serde(rename = "kafka_user")]
    pub user: Option<String>,
    /// Its password. Read from `KAFKA_PASSWORD`.
    #[serde(rename = "kafka_password")]
    pub password: Option<SecretString>,
    /// PEM file of the CAs that sign the brokers; default: the system's. Read from `KAFKA_CA_PATH` or `CA_PATH`.
    #[serde(rename = "kafka_ca_path")]
    pub ca_path: Option<PathBuf>,
    /// Overrides what follows from the user. Read from `KAFKA_SECURITY_PROTOCOL`.
    #[serde(rename = "kafka_security_protocol")]
    pub security_protocol_override: Option<SecurityProtocol>,
    /// Read from `KAFKA_SASL_MECHANISM`, default SCRAM-SHA-512.
    #[serde(rename = "kafka_sasl_mechanism")]
    pub sasl_mechanism: SaslMechanism,
    /// Silence after which a group takes a member for dead, in ms. Read from `KAFKA_SESSION_TIMEOUT_MS`.
    #[serde(
        rename = "kafka_session_timeout_ms",
        deserialize_with = "checked::session_timeout"
    )]
    pub session_timeout_ms: u32,
    /// How long a broker may hold a fetch that has nothing to give, in ms. Read from `KAFKA_FETCH_WAIT_MAX_MS`.
    #[serde(
        rename = "kafka_fetch_wait_max_ms",
        deserialize_with = "checked::fetch_wait"
    )]
    pub fetch_wait_max_ms: u32,
    /// Whether the brokers can look up offsets by time. Read from `KAFKA_OFFSETS_FOR_TIMES`.
    #[serde(rename = "kafka_offsets_for_times")]
    pub offsets_for_times: bool,
    /// Whether the brokers can make and delete topics, and tell their settings, when asked. Read from `KAFKA_TOPIC_ADMIN`.
    #[serde(rename = "kafka_topic_admin")]
    pub topic_admin: bool,
}

impl KafkaConfig {
    /// What was asked for, else `SASL_SSL` with a user, `SSL` with a CA, `PLAINTEXT` without either.
    pub fn security_protocol(&self) -> SecurityProtocol {
        self.security_protocol_override
            .unwrap_or(match (&self.user, &self.ca_path) {
                (Some(_), _) => SecurityProtocol::SaslSsl,
                (None, Some(_)) => SecurityProtocol::Ssl,
                (None, None) => SecurityProtocol::Plaintext,
            })
    }

    fn is_local(&self) -> bool {
        self.bootstrap_servers.split(',').all(|server| {
            let server = server.trim();
            let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
            is_loopback(host)
        })
    }
}

/// Whether a host name or address is of this machine alone.
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

impl Section for KafkaConfig {
    const VARIABLES: &'static [Variable] = &[
        Variable::required("KAFKA_BOOTSTRAP_SERVERS", "host:port, several with commas", "kafka:9092")
            .means("the brokers to ask first"),
        Variable::optional("KAFKA_USER", "a SASL user", "user-streamforge")
            .means("SASL user; given, the connection is SASL SCRAM-SHA-512 over TLS"),
        Variable::optional("KAFKA_PASSWORD", "the password of KAFKA_USER", "x").secret().means("its password"),
        Variable::optional("KAFKA_CA_PATH", "the path of a PEM file", "/etc/kafka/ca.crt")
            .alias("CA_PATH")
            .otherwise("the system's")
            .means("CAs that sign the brokers"),
        Variable::optional("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL", "SASL_SSL")
            .otherwise("derived")
            .means("overrides what follows from user and CA"),
        Variable::optional("KAFKA_SASL_MECHANISM", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", "SCRAM-SHA-512")
            .default("SCRAM-SHA-512")
            .means("how the password is proved"),
        // A member that was killed keeps its partitions this long. Brokers allow 6 s to 30 min by default.
        Variable::optional("KAFKA_SESSION_TIMEOUT_MS", "milliseconds from 1 to 300000", "10000")
            .default("10000")
            .means("silence after which a consumer group takes a member for dead"),
        Variable::optional("KAFKA_FETCH_WAIT_MAX_MS", "milliseconds from 0 to 300000", "500")
            .default("500")
            .means("how long a broker may hold a fetch that has nothing to give"),
        Variable::optional("KAFKA_OFFSETS_FOR_TIMES", "true or false", "true")
            .default("true")
            .means("false if the broker can't look up offsets by time: commands are then read from the beginning"),
        Variable::optional("KAFKA_TOPIC_ADMIN", "true or false", "true")
            .default("true")
            .means("false if the broker can't make and delete topics when asked: somebody else does"),
    ];

    fn check(&self, faults: &mut Faults) {
        match (&self.user, &self.password) {
            (Some(_), None) => faults.missing("KAFKA_PASSWORD", "the password of KAFKA_USER"),
            (None, Some(_)) => {
                faults.missing("KAFKA_USER", "the user that KAFKA_PASSWORD belongs to")
            }
            _ => {}
        }
        let protocol = self.security_protocol();
        if protocol.has_user() && self.user.is_none() {
            faults.missing(
                "KAFKA_USER",
                "a user, as KAFKA_SECURITY_PROTOCOL asks for one",
            );
        }
        if self.user.is_some() && !protocol.has_user() {
            faults.wrong(
                "KAFKA_SECURITY_PROTOCOL",
                protocol.as_str(),
                "SASL_SSL, as KAFKA_USER is given",
            );
        }
        if self.password.is_some() && self.user.is_some() && !protocol.has_tls() && !self.is_local()
        {
            faults.wrong(
                "KAFKA_SECURITY_PROTOCOL",
                protocol.as_str(),
                "SASL_SSL: a password goes without TLS to loopback addresses only",
            );
        }
        if let Some(path) = self.ca_path.as_ref().filter(|path| !path.is_file()) {
            faults.wrong(
                "KAFKA_CA_PATH",
                &path.display().to_string(),
                "the path of a file that exists",
            );
        }
    }
}
