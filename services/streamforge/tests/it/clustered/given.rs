//! Kafka, ArangoDB and an exchange that pods of a cluster elsewhere reach, in place of those of the dev stack.
//!
//! What they hold can't be looked into as far as the dev stack's: a workflow is complete when as many candles are stored
//! as its range has.

use streamforge_devstack::kafka::publish;
use streamforge_utils::{
    config::{KafkaConfig, Reader, Vars, process_vars},
    protocol::TimeRange,
};

use crate::flow::{Flow, Plan};

/// Names the file that says where they are.
const FILE: &str = "STREAMFORGE_CLUSTER_ENV";

pub(super) struct Given {
    vars: Vars,
}

impl Given {
    pub(super) fn find() -> Option<Self> {
        let path = process_vars().remove(FILE).filter(|it| !it.is_empty())?;
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        let vars = lines
            .flat_map(|line| shlex::split(line).unwrap_or_default())
            .filter_map(|word| {
                let (name, value) = word.split_once('=')?;
                Some((name.to_owned(), value.to_owned()))
            })
            .collect();
        Some(Self { vars })
    }

    /// A longer range: nothing there is slow for the sake of a test.
    pub(super) fn plan(plan: Plan) -> Plan {
        Plan {
            range: "2024-01-01:2024-06-30",
            ..plan
        }
    }

    /// Where they are, for workers and queue-manager.
    pub(super) fn connections(&self) -> Vars {
        self.of(&["KAFKA_", "ARANGO_", "BINANCE_API_URL"])
    }

    /// What queue-manager has to know besides.
    pub(super) fn images(&self) -> Vars {
        self.of(&["IMAGE_", "TOPIC_", "QUEUE_"])
    }

    fn of(&self, beginnings: &[&str]) -> Vars {
        let is_one = |name: &str| beginnings.iter().any(|it| name.starts_with(it));
        let vars = self.vars.iter();
        vars.filter(|(name, _)| is_one(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    pub(super) async fn publish(&self, topic: &str, payload: &str) {
        let vars = self.connections();
        let mut reader = Reader::new(&vars);
        let kafka = reader.section::<KafkaConfig>();
        reader.finish().unwrap();
        publish(&kafka.unwrap(), topic, Some(0), "BTCUSDT", payload, &[])
            .await
            .unwrap();
    }

    /// Each minute of the range is stored.
    pub(super) async fn assert_complete(&self, flow: &Flow) {
        let value = |name: &str| self.vars.get(name).cloned().unwrap_or_default();
        let url = format!(
            "{}/_db/{}/_api/collection/{}/count",
            value("ARANGO_URL"),
            value("ARANGO_DB"),
            flow.collection
        );
        let asked = reqwest::Client::new()
            .get(url)
            .basic_auth(value("ARANGO_USER"), Some(value("ARANGO_PASSWORD")))
            .send();
        let answer: serde_json::Value = asked.await.unwrap().json().await.unwrap();
        let range: TimeRange = flow.plan.range.parse().unwrap();
        let minutes = (range.end().as_millis() - range.start().as_millis()) / 60_000;
        assert_eq!(answer["count"].as_i64(), Some(minutes), "{answer}");
    }
}
