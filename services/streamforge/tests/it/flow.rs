//! One workflow over a dev stack of its own, and what is true of it in the end.

use std::{collections::BTreeMap, path::Path, time::Duration};

use rdkafka::message::{Message, OwnedMessage};
use serde_json::Value;
use streamforge_devstack::{
    arango::ArangoServer,
    exchange::{Builder, Exchange, Fault, Latency},
    kafka::{Broker, read_topic, wait_for_events},
};
use streamforge_utils::{
    config::Vars,
    kafka::headers,
    protocol::{
        Candle, Command, CommandKind, Event, EventKind, Interval, QueueId, Symbol, TimeRange,
        TimestampMs, WorkflowKind, collection_name, data_topic, dead_letter_topic, new_queue_id,
        telemetry_id,
    },
};
use tempfile::TempDir;

use crate::process::{LIMIT, Worker};

pub(crate) const LOADER: &str = "loader-api-candles";
pub(crate) const WRITER: &str = "arango-candles";
pub(crate) const DATABASE: &str = "streamforge";
pub(crate) const PASSWORD: &str = "correct horse";

/// What is loaded, and over how many partitions.
pub(crate) struct Plan {
    pub(crate) symbol: &'static str,
    pub(crate) interval: Interval,
    pub(crate) range: &'static str,
    pub(crate) partitions: i32,
    pub(crate) exchange: Builder,
    pub(crate) stalls: bool,
}

impl Plan {
    /// 4,320 candles of a minute: three days, five pages.
    pub(crate) fn three_days() -> Self {
        Self {
            symbol: "BTCUSDT",
            interval: Interval::Minute1,
            range: "2024-08-01:2024-08-03",
            partitions: 1,
            exchange: Exchange::builder().seed(7),
            stalls: false,
        }
    }

    /// The same, a page in 0.7 s, so that there is time to do something while it goes on.
    pub(crate) fn slow_three_days() -> Self {
        let latency = Latency::fixed(Duration::from_millis(700));
        Self {
            exchange: Exchange::builder().seed(7).latency(latency),
            ..Self::three_days()
        }
    }

    /// Two weeks at that pace, 21 pages: for what takes some seconds itself, as stopping a real broker does.
    pub(crate) fn slow_two_weeks() -> Self {
        Self {
            range: "2024-08-01:2024-08-14",
            ..Self::slow_three_days()
        }
    }

    /// A week, eleven pages, so slowly that what is done meanwhile can take its time, until [`Flow::hurry`].
    pub(crate) fn crawling_week() -> Self {
        Self {
            range: "2024-08-01:2024-08-07",
            exchange: Exchange::builder().seed(7).latency(CRAWL),
            ..Self::three_days()
        }
    }

    /// Three days, and the exchange does not answer when it is asked for the third page for the first time: so two
    /// pages are published, and the loader is in mid-load until something is done to it.
    pub(crate) fn stalled_three_days() -> Self {
        Self {
            stalls: true,
            ..Self::three_days()
        }
    }
}

/// How long an answer takes that is in no hurry.
pub(crate) const CRAWL: Latency = Latency {
    fixed: Duration::from_secs(2),
    jitter: Duration::ZERO,
};
/// The request that is not answered where a plan stalls: the first one looks for the first candle that the exchange has.
const STALLED_REQUEST: u64 = 4;

pub(crate) struct Flow {
    pub(crate) kafka: Broker,
    pub(crate) arango: ArangoServer,
    pub(crate) exchange: Exchange,
    pub(crate) queue_id: QueueId,
    pub(crate) topic: String,
    pub(crate) collection: String,
    pub(crate) plan: Plan,
    started_at: i64,
    logs: TempDir,
}

impl Flow {
    pub(crate) async fn start(plan: Plan) -> Self {
        let flow = Self::start_without_topic(plan).await;
        flow.create_topic().await;
        flow
    }

    pub(crate) async fn start_without_topic(plan: Plan) -> Self {
        Self::start_on(Broker::start().unwrap(), plan).await
    }

    /// On this broker, without a topic.
    pub(crate) async fn start_on(kafka: Broker, plan: Plan) -> Self {
        let kind = WorkflowKind::ApiCandles(plan.interval);
        let symbol: Symbol = plan.symbol.parse().unwrap();
        let range: TimeRange = plan.range.parse().unwrap();
        let queue_id = new_queue_id(&symbol, kind, TimestampMs::now());
        let exchange = plan.exchange.clone().start().await.unwrap();
        if plan.stalls {
            exchange.handle().fail_nth(STALLED_REQUEST, Fault::Hang);
        }
        Self {
            kafka,
            arango: ArangoServer::builder()
                .root_password(PASSWORD)
                .in_memory()
                .start()
                .await
                .unwrap(),
            exchange,
            topic: data_topic(&queue_id),
            collection: collection_name(&symbol, kind, range.start()),
            queue_id,
            plan,
            started_at: TimestampMs::now().as_millis() / 1_000,
            logs: TempDir::new().unwrap(),
        }
    }

    /// From now on the exchange answers at once.
    pub(crate) fn hurry(&self) {
        self.exchange.handle().set_latency(Latency::default());
    }

    pub(crate) async fn create_topic(&self) {
        self.kafka
            .create_data_topic(&self.topic, self.plan.partitions)
            .await
            .unwrap();
    }

    /// What every worker of this workflow has in its environment.
    pub(crate) fn vars(&self, service: &str, changes: &[(&str, &str)]) -> Vars {
        let mut vars = self.kafka.vars().unwrap();
        let id = telemetry_id(service, &self.queue_id, 1);
        let (kind, started_at) = (
            WorkflowKind::ApiCandles(self.plan.interval).to_string(),
            self.started_at.to_string(),
        );
        let partitions = self.plan.partitions.to_string();
        let partition_key = if self.plan.partitions > 1 {
            "record"
        } else {
            "symbol"
        };
        let (exchange, arango) = (self.exchange.url().to_string(), self.arango.url());
        let ours = [
            ("QUEUE_ID", self.queue_id.as_str()),
            ("SYMBOL", self.plan.symbol),
            ("TYPE", &kind),
            ("KAFKA_TOPIC", &self.topic),
            ("TELEMETRY_PRODUCER_ID", &id),
            ("QUEUE_STARTED_AT", &started_at),
            ("METRICS_PORT", "0"),
            ("PROGRESS_INTERVAL_SECS", "0.1"),
            ("RETRY_DEADLINE_SECS", "20"),
            ("LOG_FORMAT", "text"),
            (
                "LOG_LEVEL",
                "info,arango_candles=debug,loader_api_candles=debug,streamforge_utils=debug",
            ),
        ];
        let loaders = [
            ("TIME_RANGE", self.plan.range),
            ("BINANCE_API_URL", &exchange),
            ("TOPIC_PARTITIONS", &partitions),
            ("PARTITION_KEY", partition_key),
            // One page after the other, so that it is known what is there in mid-load.
            ("FETCH_IN_FLIGHT", "1"),
        ];
        let writers = [
            ("COLLECTION_NAME", self.collection.as_str()),
            ("ARANGO_URL", &arango),
            ("ARANGO_DB", DATABASE),
            ("ARANGO_USER", "root"),
            ("ARANGO_PASSWORD", PASSWORD),
        ];
        let own: &[(&str, &str)] = if service == LOADER {
            &loaders
        } else {
            &writers
        };
        for (name, value) in ours.iter().chain(own).chain(changes) {
            vars.insert((*name).to_owned(), (*value).to_owned());
        }
        vars
    }

    pub(crate) fn loader(&self) -> Worker {
        self.worker(LOADER, &[])
    }

    pub(crate) fn writer(&self) -> Worker {
        self.worker(WRITER, &[])
    }

    pub(crate) fn worker(&self, service: &'static str, changes: &[(&str, &str)]) -> Worker {
        Worker::start(service, &self.vars(service, changes), self.logs.path())
    }

    /// In the cgroup whose file of processes this is, if there is one.
    pub(crate) fn worker_in(
        &self,
        processes: Option<&Path>,
        service: &'static str,
        changes: &[(&str, &str)],
    ) -> Worker {
        let (vars, logs) = (self.vars(service, changes), self.logs.path());
        match processes {
            Some(processes) => Worker::start_in(processes, service, &vars, logs),
            None => Worker::start(service, &vars, logs),
        }
    }

    pub(crate) async fn send(&self, kind: CommandKind) {
        self.kafka
            .send_command(&Command::new(kind, self.queue_id.as_str()))
            .await
            .unwrap();
    }

    /// Waits until `enough` of this workflow's events so far, and gives them.
    pub(crate) async fn events(&self, mut enough: impl FnMut(&[Event]) -> bool) -> Vec<Event> {
        let mut ours = Vec::new();
        wait_for_events(&self.kafka.config().unwrap(), LIMIT, |events| {
            ours = events
                .iter()
                .filter(|event| event.queue_id == self.queue_id.as_str())
                .cloned()
                .collect();
            enough(&ours)
        })
        .await
        .unwrap();
        ours
    }

    /// Waits until a worker of `service` reports so many records, and where the plan stalls, until the load has.
    pub(crate) async fn until_written(&self, service: &str, records: u64) {
        let stalled = async {
            while self.plan.stalls && self.exchange.handle().counters().klines < STALLED_REQUEST {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, stalled).await.unwrap();
        self.events(|events| {
            events
                .iter()
                .any(|event| event.service == service && event.records.written >= records)
        })
        .await;
    }

    /// The last events of `service`, one an instance that has one.
    pub(crate) async fn endings(&self, service: &str) -> Vec<Event> {
        let events = self.events(|_| true).await;
        let mut endings: Vec<Event> = events
            .iter()
            .filter(|event| event.service == service && event.finished)
            .cloned()
            .collect();
        let instances: std::collections::BTreeSet<_> =
            endings.iter().map(|event| event.instance.clone()).collect();
        assert_eq!(
            instances.len(),
            endings.len(),
            "one ending an instance: {endings:#?}"
        );
        for ending in &endings {
            let of_instance = events
                .iter()
                .filter(|event| event.instance == ending.instance);
            assert_eq!(
                of_instance.map(|event| event.seq).max(),
                Some(ending.seq),
                "nothing follows the last event"
            );
        }
        endings.sort_by(|a, b| a.timestamp.total_cmp(&b.timestamp));
        endings
    }

    /// The only ending of `service`.
    pub(crate) async fn ending(&self, service: &str) -> Event {
        let mut endings = self.endings(service).await;
        assert_eq!(endings.len(), 1, "{endings:#?}");
        endings.remove(0)
    }

    /// All records of the topic by key; markers are left out. Checks that sequence numbers have no hole.
    pub(crate) async fn published(&self) -> BTreeMap<String, Value> {
        let mut records = BTreeMap::new();
        let mut last = BTreeMap::new();
        for message in read_topic(&self.kafka.config().unwrap(), &self.topic)
            .await
            .unwrap()
        {
            let Some(seq) = headers::get(&message, "streamforge-seq") else {
                continue;
            };
            let last = last.entry(message.partition()).or_insert(0_u64);
            *last += 1;
            assert_eq!(
                seq,
                last.to_string(),
                "sequence at offset {}",
                message.offset()
            );
            let payload = message.payload().unwrap();
            Candle::parse(payload).unwrap();
            let value: Value = serde_json::from_slice(payload).unwrap();
            let key = value["_key"].as_str().unwrap().to_owned();
            assert!(
                records.insert(key, value).is_none(),
                "a record was published twice"
            );
        }
        records
    }

    /// The markers of the topic, with their offsets' partitions.
    pub(crate) async fn markers(&self) -> Vec<Value> {
        let messages = read_topic(&self.kafka.config().unwrap(), &self.topic)
            .await
            .unwrap();
        let markers = messages
            .iter()
            .filter(|message| headers::get(*message, "streamforge-eos") == Some("1"));
        markers
            .map(|message| serde_json::from_slice(message.payload().unwrap()).unwrap())
            .collect()
    }

    /// How many messages the dead-letter topic has.
    pub(crate) async fn dead_letters(&self) -> Vec<OwnedMessage> {
        read_topic(
            &self.kafka.config().unwrap(),
            &dead_letter_topic(&self.topic),
        )
        .await
        .unwrap()
    }

    pub(crate) fn stored(&self) -> BTreeMap<String, Value> {
        self.arango.documents(DATABASE, &self.collection).unwrap()
    }

    /// What the exchange has of the range, by key, as records.
    pub(crate) fn source(&self) -> BTreeMap<String, Value> {
        let range: TimeRange = self.plan.range.parse().unwrap();
        let rows = self
            .exchange
            .final_klines(
                self.plan.symbol,
                self.plan.interval,
                range.start(),
                range.end(),
            )
            .unwrap();
        rows.iter().map(|row| self.record(row)).collect()
    }

    /// The record that a row of the exchange has to become.
    fn record(&self, row: &[Value]) -> (String, Value) {
        let number = |column: usize| -> Value {
            serde_json::from_str(row[column].as_str().unwrap()).unwrap()
        };
        let key = format!("{}_{}_{}", self.plan.symbol, self.plan.interval, row[0]);
        let record = serde_json::json!({
            "_key": key, "symbol": self.plan.symbol, "interval": self.plan.interval,
            "open_time": row[0], "close_time": row[6],
            "open": number(1), "high": number(2), "low": number(3), "close": number(4), "volume": number(5),
            "quote_asset_volume": number(7), "number_of_trades": row[8],
            "taker_buy_base_asset_volume": number(9), "taker_buy_quote_asset_volume": number(10),
            "exchange": "binance",
        });
        (key, record)
    }

    /// The load was completed: source, topic and collection are the same, key by key.
    pub(crate) async fn assert_complete(&self) {
        let (source, published) = (self.source(), self.published().await);
        assert_same("topic", &published, "source", &source);
        assert_same("collection", &self.stored(), "source", &source);
    }

    /// The collection is what was published, key by key, whatever the source has.
    pub(crate) async fn assert_stored_is_published(&self) {
        assert_same(
            "collection",
            &self.stored(),
            "topic",
            &self.published().await,
        );
    }

    /// Both workers say that all is done, with the numbers of the source.
    pub(crate) async fn assert_finished(&self) {
        let count = u64::try_from(self.source().len()).unwrap();
        for service in [LOADER, WRITER] {
            let ending = self.endings(service).await.pop().unwrap();
            assert_eq!(
                (ending.event, ending.records.written),
                (EventKind::Finished, count),
                "{ending:#?}"
            );
        }
    }
}

/// Compares as doubles, since that is what the database holds.
fn assert_same(
    name: &str,
    found: &BTreeMap<String, Value>,
    of: &str,
    expected: &BTreeMap<String, Value>,
) {
    let lacking: Vec<_> = expected
        .keys()
        .filter(|key| !found.contains_key(*key))
        .take(5)
        .collect();
    assert!(
        lacking.is_empty(),
        "{name} has {} of {} records of the {of}, and lacks {lacking:?}",
        found.len(),
        expected.len()
    );
    let extra: Vec<_> = found
        .keys()
        .filter(|key| !expected.contains_key(*key))
        .take(5)
        .collect();
    assert!(extra.is_empty(), "{name} has more than the {of}: {extra:?}");
    for (key, value) in expected {
        assert!(
            same_value(value, &found[key]),
            "{key} in {name} is {}, in {of} {value}",
            found[key]
        );
    }
}

fn same_value(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| {
                    other.get(key).is_some_and(|other| same_value(value, other))
                })
        }
        _ => one == other,
    }
}
