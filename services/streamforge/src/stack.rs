//! The broker, the database and the exchange of `demo` and `up`, in this process, and how other processes reach them.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use rand::{RngExt, distr::Alphanumeric};
use serde::{Deserialize, de::DeserializeOwned};
use streamforge_devstack::{
    arango::{ArangoServer, OpenError, StartError},
    exchange::Exchange,
    kafka::{ApacheKafka, Broker, MockKafka},
};
use streamforge_utils::{
    config::Vars,
    kafka::Topics,
    protocol::{QueueId, Symbol, TimestampMs},
};
use url::Url;

use crate::source::Source;

const DATABASE: &str = "streamforge";
const USER: &str = "root";
const CONTROL_TOPIC: &str = "queue-control";

/// A partition of the mock broker keeps about 63,000 compressed candles. Half of that leaves room for batches that
/// compress worse: 67 partitions were filled with 29,700 each before anything was read, and nothing was dropped.
pub(crate) const CANDLES_PER_PARTITION: u32 = 30_000;

/// How long the database may take to answer a question.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A stack that runs. It ends when this is dropped; [`Stack::stop`] also brings the store to disk.
pub(crate) struct Stack {
    pub(crate) kafka: Broker,
    kafka_vars: Vars,
    /// Of the user that people are, where that is another than the workers'.
    operator_kafka_vars: Option<Vars>,
    manager_kafka_vars: Vars,
    arango: ArangoServer,
    arango_password: String,
    /// None if the exchange is the real one.
    exchange: Option<Exchange>,
    api_url: Url,
    pub(crate) started: TimestampMs,
    http: reqwest::Client,
}

/// The broker of our own in this process, or the one whose folder is `dir`, once that answers.
async fn broker(dir: Option<&Path>) -> anyhow::Result<Broker> {
    let Some(dir) = dir else {
        return Ok(Broker::Mock(
            MockKafka::start().context("start the broker")?,
        ));
    };
    let broker = Broker::Apache(ApacheKafka::running(dir)?);
    let topics = Topics::new(&broker.config()?, "streamforge-up")?;
    let answer = tokio::time::timeout(ANSWER_LIMIT, topics.partitions(CONTROL_TOPIC)).await;
    let there = answer
        .ok()
        .transpose()
        .with_context(|| format!("ask the Kafka of {}", dir.display()))?;
    match there {
        Some(Some(_)) => Ok(broker),
        Some(None) => bail!(
            "the Kafka of {} has no topic {CONTROL_TOPIC}",
            dir.display()
        ),
        None => bail!(
            "the Kafka of {} does not answer; ci/kafka.sh status --dir {} says more",
            dir.display(),
            dir.display()
        ),
    }
}

/// Why the database does not start; of a folder that is taken, by whom, which its store can't know.
fn cannot_start(error: StartError, data: Option<&Path>) -> anyhow::Error {
    if let (StartError::Store(OpenError::Store(source)), Some(folder)) = (&error, data)
        && matches!(**source, redb::Error::DatabaseAlreadyOpen)
    {
        return anyhow::anyhow!("{} is used by another demo or dev stack", folder.display());
    }
    anyhow::Error::from(error).context("start the database")
}

/// Where queue-manager keeps its workflows.
const WORKFLOWS: &str = "streamforge-queue_state";

#[derive(Deserialize)]
struct Count {
    count: u64,
}

/// Of a workflow of queue-manager.
#[derive(Deserialize)]
struct Asked {
    partitions: i32,
}

impl Stack {
    /// Starts everything. The exchange has `symbols` if its candles are generated, those that it has by default if
    /// there are none. The store of the database is in memory, or in `data`. The broker is one in this process, or the
    /// Apache Kafka that `ci/kafka.sh` runs in the folder `kafka`.
    ///
    /// # Errors
    /// Something of it can't start.
    pub(crate) async fn start(
        source: &Source,
        symbols: &[Symbol],
        data: Option<&Path>,
        kafka: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let kafka = broker(kafka).await?;
        let kafka_vars = kafka.vars()?;
        let operator_kafka_vars = match kafka.is_real() {
            true => Some(kafka.operator_vars()?),
            false => None,
        };
        let arango_password: String = rand::rng()
            .sample_iter(Alphanumeric)
            .take(24)
            .map(char::from)
            .collect();
        let arango = ArangoServer::builder().root_password(arango_password.as_str());
        let arango = match data {
            Some(folder) => arango.in_folder(folder),
            None => arango.in_memory(),
        };
        let arango = arango
            .start()
            .await
            .map_err(|error| cannot_start(error, data))?;
        let exchange = match source {
            Source::Live(_) => None,
            Source::Replay(recording) => Some(Exchange::builder().recording(recording.clone())),
            Source::Generated(seed) if symbols.is_empty() => Some(Exchange::builder().seed(*seed)),
            Source::Generated(seed) => {
                let symbols = symbols.iter().map(Symbol::as_str);
                Some(Exchange::builder().seed(*seed).symbols(symbols))
            }
        };
        let exchange = match exchange {
            Some(exchange) => Some(exchange.start().await.context("start the exchange")?),
            None => None,
        };
        let api_url = match (source, &exchange) {
            (_, Some(exchange)) => exchange.url().clone(),
            (Source::Live(url), _) => url.clone(),
            _ => unreachable!("an exchange that is not live was started above"),
        };
        // A proxy is for the world outside; the database is on loopback.
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER_LIMIT)
            .build()?;
        Ok(Self {
            manager_kafka_vars: kafka.manager_vars()?,
            kafka,
            kafka_vars,
            operator_kafka_vars,
            arango,
            arango_password,
            exchange,
            api_url,
            started: TimestampMs::now(),
            http,
        })
    }

    /// Where everything is, for people.
    pub(crate) fn places(&self) -> String {
        format!(
            "{} on {}, ArangoDB on {}, {} on {}",
            if self.kafka.is_real() {
                "Apache Kafka with TLS and users"
            } else {
                "Kafka"
            },
            self.kafka_vars["KAFKA_BOOTSTRAP_SERVERS"],
            self.arango.url(),
            if self.exchange.is_some() {
                "a stand-in of the exchange"
            } else {
                "the exchange"
            },
            self.api_url
        )
    }

    /// What a worker needs to use this stack, the passwords of this one stack included.
    pub(crate) fn vars(&self) -> Vars {
        self.with_rest(self.kafka_vars.clone())
    }

    /// What a person needs to command workers and to watch them, where that is another user than the workers'.
    pub(crate) fn operator_vars(&self) -> Option<Vars> {
        let vars = self.operator_kafka_vars.clone()?;
        Some(self.with_rest(vars))
    }

    /// What queue-manager needs, which on a real broker is a user of its own.
    pub(crate) fn manager_vars(&self) -> Vars {
        let mut vars = self.manager_kafka_vars.clone();
        if !self.kafka.is_real() {
            let most = CANDLES_PER_PARTITION.to_string();
            vars.insert("TOPIC_PARTITION_RECORDS".to_owned(), most);
        }
        self.with_rest(vars)
    }

    fn with_rest(&self, mut vars: Vars) -> Vars {
        vars.extend(
            [
                ("ARANGO_URL", self.arango.url()),
                ("ARANGO_DB", DATABASE.to_owned()),
                ("ARANGO_USER", USER.to_owned()),
                ("ARANGO_PASSWORD", self.arango_password.clone()),
                ("BINANCE_API_URL", self.api_url.to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        vars
    }

    /// A command that shows the newest candles of a collection, for a shell with [`Stack::vars`].
    pub(crate) fn example(&self, collection: &str) -> String {
        format!(
            "curl -s -u \"$ARANGO_USER:$ARANGO_PASSWORD\" \"$ARANGO_URL/_db/$ARANGO_DB/_api/cursor\" \\\n  \
             -d '{{\"query\": \"FOR d IN {collection} SORT d.open_time DESC LIMIT 3 RETURN d\"}}'\n"
        )
    }

    /// How many partitions a workflow of queue-manager has asked for; None if it is none of those. The database knows it
    /// before any of its workers is started, and whether or not queue-manager lives.
    ///
    /// # Errors
    /// The database does not say.
    pub(crate) async fn partitions_of(&self, queue_id: &QueueId) -> anyhow::Result<Option<i32>> {
        let place = format!("_db/{DATABASE}/_api/document/{WORKFLOWS}/{queue_id}");
        let asked: Option<Asked> = self.read(&place).await?;
        Ok(asked.map(|asked| asked.partitions))
    }

    /// How many documents a collection has, asked over HTTP as anyone would; 0 if it is not there.
    ///
    /// # Errors
    /// The database does not say.
    pub(crate) async fn count(&self, collection: &str) -> anyhow::Result<u64> {
        let place = format!("_db/{DATABASE}/_api/collection/{collection}/count");
        let count: Option<Count> = self.read(&place).await?;
        Ok(count.map_or(0, |count| count.count))
    }

    /// Asks the database; None if that is not there.
    async fn read<T: DeserializeOwned>(&self, place: &str) -> anyhow::Result<Option<T>> {
        let answer = self
            .http
            .get(format!("{}/{place}", self.arango.url()))
            .basic_auth(USER, Some(&self.arango_password))
            .send()
            .await?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(answer.error_for_status()?.json().await?))
    }

    /// Stops everything; what the database holds is on disk if it has a folder.
    pub(crate) async fn stop(self) {
        if let Some(exchange) = self.exchange {
            exchange.stop().await;
        }
        self.arango.stop().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_in_use_is_told_of_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source::Generated(7);
        let first = Stack::start(&source, &[], Some(folder.path()), None)
            .await
            .unwrap();
        let second = Stack::start(&source, &[], Some(folder.path()), None).await;
        let error = format!("{:#}", second.err().unwrap());
        let folder = folder.path().display();
        assert_eq!(
            error,
            format!("{folder} is used by another demo or dev stack")
        );
        first.stop().await;
    }
}
