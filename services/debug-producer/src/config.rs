//! How to reach Kafka, from the environment: the same variables that the workers have.

use serde::Deserialize;
use streamforge_utils::config::{
    ConfigError, Faults, KafkaConfig, Reader, Section, TopicName, Variable, Vars,
};
use tracing_subscriber::filter::Targets;

/// Where commands go and events come from.
#[derive(Debug, Clone, Deserialize)]
pub struct TopicsConfig {
    /// Read from `QUEUE_CONTROL_TOPIC`, default `queue-control`.
    pub queue_control_topic: TopicName,
    /// Read from `QUEUE_EVENTS_TOPIC`, default `queue-events`.
    pub queue_events_topic: TopicName,
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
    ];
}

/// What is logged beside what is said anyway.
#[derive(Debug, Clone, Deserialize)]
pub struct LogConfig {
    /// Level or directives of the Kafka client's own log, to stderr. Read from `LOG_LEVEL`, default `off`.
    pub log_level: String,
}

impl Section for LogConfig {
    const VARIABLES: &'static [Variable] = &[Variable::optional(
        "LOG_LEVEL",
        "off, error, warn, info, debug, trace or tracing directives",
        "debug",
    )
    .default("off")
    .means("how much of the Kafka client's own log goes to stderr")];

    fn check(&self, faults: &mut Faults) {
        if self.log_level.parse::<Targets>().is_err() {
            faults.wrong("LOG_LEVEL", &self.log_level, Self::VARIABLES[0].expected);
        }
    }
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Config {
    /// The brokers.
    pub kafka: KafkaConfig,
    /// The topics.
    pub topics: TopicsConfig,
    /// The log.
    pub log: LogConfig,
}

/// Every variable.
pub const VARIABLES: &[&[Variable]] = &[
    KafkaConfig::VARIABLES,
    TopicsConfig::VARIABLES,
    LogConfig::VARIABLES,
];

impl Config {
    /// Reads it from `vars`; `bootstrap_servers`, a flag, wins over the variable.
    ///
    /// # Errors
    /// All that is missing, malformed or contradicts something else.
    pub fn from_vars(vars: &Vars, bootstrap_servers: Option<&str>) -> Result<Self, ConfigError> {
        let mut vars = vars.clone();
        if let Some(servers) = bootstrap_servers {
            vars.insert("KAFKA_BOOTSTRAP_SERVERS".to_owned(), servers.to_owned());
        }
        let mut reader = Reader::new(&vars);
        let sections = (reader.section(), reader.section(), reader.section());
        reader.finish()?;
        let (Some(kafka), Some(topics), Some(log)) = sections else {
            unreachable!("a section that could not be read is a fault");
        };
        Ok(Self { kafka, topics, log })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> Vars {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let bad = vars(&[
            ("QUEUE_EVENTS_TOPIC", "a b"),
            ("LOG_LEVEL", "a=b=c"),
            ("KAFKA_PASSWORD", "hunter2"),
        ]);
        let said = Config::from_vars(&bad, Some("nowhere"))
            .unwrap_err()
            .to_string();
        for name in ["KAFKA_BOOTSTRAP_SERVERS", "QUEUE_EVENTS_TOPIC", "LOG_LEVEL"] {
            assert!(said.contains(name), "{said}");
        }
        assert!(!said.contains("hunter2"), "{said}");
    }

    #[test]
    fn the_flag_wins_over_the_variable() {
        let given = vars(&[("KAFKA_BOOTSTRAP_SERVERS", "a:1")]);
        let config = Config::from_vars(&given, Some("b:2")).unwrap();
        assert_eq!(config.kafka.bootstrap_servers, "b:2");
        assert_eq!(config.topics.queue_control_topic.as_str(), "queue-control");
    }

    #[test]
    fn no_password_in_a_debug_print() {
        let given = vars(&[
            ("KAFKA_BOOTSTRAP_SERVERS", "a:1"),
            ("KAFKA_USER", "me"),
            ("KAFKA_PASSWORD", "hunter2"),
        ]);
        let config = Config::from_vars(&given, None).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn the_documented_environment_is_a_good_one_and_has_every_variable() {
        let mut documented = Vars::new();
        for line in include_str!("../.env.example").lines() {
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
            let name = variable.name;
            assert!(
                documented.contains_key(name),
                "{name} is missing in .env.example"
            );
            assert!(
                include_str!("../README.md").contains(&format!("`{name}`")),
                "{name} is missing in README.md"
            );
            assert!(
                crate::cli::VARIABLES_HELP.contains(name),
                "{name} is missing in --help"
            );
        }
        // A path that only exists where it is mounted.
        documented.remove("KAFKA_CA_PATH");
        Config::from_vars(&documented, None).unwrap();
    }
}
