//! Several brokers of our own, and what can be done to one of them.

use std::{path::Path, time::Duration};

use rdkafka::consumer::{BaseConsumer, Consumer};
use streamforge_utils::kafka::client_config;

use super::{ApacheKafka, ApacheKafkaError, run};

/// How long a question may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Until a broker that is started again answers, in seconds: it waits until it is missed, and may have no controller yet.
const START_LIMIT: &str = "180";

/// What is done to one of several brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerAction {
    /// Ends it as a crash does.
    Kill,
    /// Starts it again, with what it had.
    Start,
    /// Stops it in order and starts it again.
    Restart,
    /// Stops its process: connections stay, and nothing is answered.
    Freeze,
    /// Continues it after [`BrokerAction::Freeze`].
    Thaw,
}

impl BrokerAction {
    /// The verb of `ci/kafka.sh`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
        }
    }
}

impl ApacheKafka {
    /// Starts `count` brokers of our own, 3 or more, in the folder `dir`, which must not be there yet; replication is 3.
    /// They end with this process at the latest.
    ///
    /// # Errors
    /// They do not start; the script says why.
    pub async fn start_several(
        script: &Path,
        dir: &Path,
        count: u32,
    ) -> Result<Self, ApacheKafkaError> {
        let (own, count) = (std::process::id().to_string(), count.to_string());
        run(
            script,
            dir,
            &["start", "--brokers", &count, "--while", &own],
        )
        .await?;
        let mut kafka = Self::running(dir)?;
        kafka.script = Some(script.to_owned());
        Ok(kafka)
    }

    /// Does something to the broker `number`, counted from 1. The future needs nothing of this value.
    pub fn act(
        &self,
        action: BrokerAction,
        number: u32,
    ) -> impl Future<Output = Result<(), ApacheKafkaError>> + Send + use<> {
        let (script, dir) = (self.script().map(Path::to_owned), self.dir.clone());
        async move {
            let number = number.to_string();
            let words = [
                action.as_str(),
                "--broker",
                &number,
                "--timeout",
                START_LIMIT,
            ];
            run(&script?, &dir, &words).await
        }
    }

    /// The broker that leads a partition, as the others see it; `None` if there is none at the moment.
    ///
    /// # Errors
    /// No broker answers.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<Option<u32>, ApacheKafkaError> {
        let client: BaseConsumer = client_config(&self.config()?, "devstack").create()?;
        let metadata = client.fetch_metadata(Some(topic), LIMIT)?;
        let mut partitions = metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions());
        let found = partitions.find(|found| found.id() == partition);
        Ok(found.and_then(|found| u32::try_from(found.leader()).ok()))
    }
}
