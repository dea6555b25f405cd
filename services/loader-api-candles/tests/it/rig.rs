//! A broker, an exchange and a loader between them; and what is in the topic afterwards.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use loader_api_candles::{config::Config, metrics::IN_FLIGHT, worker};
use rdkafka::{
    Message,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    message::OwnedMessage,
    producer::{FutureProducer, FutureRecord},
};
use serde_json::Value;
use streamforge_devstack::{
    exchange::{Builder, Clock, Exchange},
    kafka::Broker,
};
use streamforge_utils::{
    config::Vars,
    kafka::{client_config, headers, producer_config},
    protocol::{
        EOS, Event, Interval, Marker, QueueId, SEQ, TimestampMs, WorkflowKind, data_topic,
        new_queue_id,
    },
    shutdown::StopSignal,
    telemetry::Progress,
    worker::{Failure, Outcome, WorkerContext},
};
use tokio::{sync::mpsc, task::JoinHandle};

/// When it is on the exchange, unless a test says otherwise.
pub(crate) const NOW: &str = "2024-10-01T12:00:30Z";

/// Nothing in these tests takes this long.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn at(text: &str) -> TimestampMs {
    text.parse().unwrap()
}

/// Waits until `reached` is true.
pub(crate) async fn until(mut reached: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(LIMIT, async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    waited.await.expect("it gets so far");
}

pub(crate) struct Rig {
    pub(crate) kafka: Broker,
    pub(crate) exchange: Exchange,
    pub(crate) queue_id: QueueId,
    /// The data topic.
    pub(crate) topic: String,
    /// Pause before the exchange is asked again for what it does not have.
    pub(crate) confirm_after: Duration,
    vars: Vars,
}

/// A load that is running.
pub(crate) struct Running {
    pub(crate) stop: StopSignal,
    pub(crate) progress: Progress,
    registry: prometheus::Registry,
    task: JoinHandle<Result<Outcome, Failure>>,
}

/// How a load ended.
pub(crate) struct Ended {
    pub(crate) result: Result<Outcome, Failure>,
    pub(crate) progress: Progress,
}

impl Rig {
    /// A load of one-minute candles of BTCUSDT, with `changes` to its variables, from an exchange that `exchange` sets
    /// up.
    pub(crate) async fn new(
        exchange: impl FnOnce(Builder) -> Builder,
        changes: &[(&str, &str)],
    ) -> Self {
        Self::on(Broker::start().unwrap(), exchange, changes).await
    }

    /// The same on a broker that may be taken down.
    pub(crate) async fn with_broker_alone(
        exchange: impl FnOnce(Builder) -> Builder,
        changes: &[(&str, &str)],
    ) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ci/kafka.sh");
        Self::on(Broker::alone(&script).await.unwrap(), exchange, changes).await
    }

    async fn on(
        kafka: Broker,
        exchange: impl FnOnce(Builder) -> Builder,
        changes: &[(&str, &str)],
    ) -> Self {
        let kind = WorkflowKind::ApiCandles(Interval::Minute1);
        let queue_id = new_queue_id(&"BTCUSDT".parse().unwrap(), kind, TimestampMs::now());
        let topic = data_topic(&queue_id);
        let builder = Exchange::builder().clock(Clock::starting_at(at(NOW)));
        let exchange = exchange(builder).start().await.unwrap();
        let mut vars = kafka.vars().unwrap();
        for (name, value) in [
            ("QUEUE_ID", queue_id.as_str()),
            ("SYMBOL", "BTCUSDT"),
            ("TYPE", "api_candles_1m"),
            ("TIME_RANGE", "2024-08-01:2024-08-03"),
            ("KAFKA_TOPIC", &topic),
            ("BINANCE_API_URL", exchange.url().as_str()),
            ("RETRY_DEADLINE_SECS", "20"),
        ]
        .iter()
        .chain(changes)
        {
            vars.insert((*name).to_owned(), (*value).to_owned());
        }
        Self {
            kafka,
            exchange,
            queue_id,
            topic,
            confirm_after: Duration::from_millis(50),
            vars,
        }
    }

    /// With a data topic of so many partitions, all of them in use unless a test says otherwise: the mock can't be
    /// asked for one.
    pub(crate) async fn topic(mut self, partitions: i32) -> Self {
        let in_use = self.vars.entry("TOPIC_PARTITIONS".to_owned());
        in_use.or_insert(partitions.to_string());
        self.create_topic(partitions).await;
        self
    }

    /// With a data topic of one partition and these settings; `None` on the mock, whose topics have none.
    pub(crate) async fn topic_with(self, settings: &[(&str, &str)]) -> Option<Self> {
        if !self.kafka.is_real() {
            eprintln!("NOT RUN: this test needs a real broker: run ci/kafka.sh start");
            return None;
        }
        let new = NewTopic::new(&self.topic, 1, TopicReplication::Fixed(1));
        let new = settings
            .iter()
            .fold(new, |new, (name, value)| new.set(name, value));
        let admin = self.admin();
        let made = admin.create_topics([&new], &AdminOptions::new()).await;
        made.unwrap()[0].as_ref().unwrap();
        Some(self)
    }

    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        let config = self.kafka.config().unwrap();
        client_config(&config, "test").create().unwrap()
    }

    pub(crate) async fn create_topic(&self, partitions: i32) {
        let made = self.kafka.create_topic(&self.topic, partitions);
        made.await.unwrap();
    }

    /// Waits until `enough` of this workflow's events so far, and gives them.
    pub(crate) async fn events(&self, enough: impl FnMut(&[Event]) -> bool) -> Vec<Event> {
        let events = self
            .kafka
            .events_of(self.queue_id.as_str(), "queue-events", LIMIT, enough);
        events.await.unwrap()
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.vars.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn vars(&self) -> &Vars {
        &self.vars
    }

    pub(crate) fn start(&self) -> Running {
        let mut config = Config::from_vars(&self.vars).unwrap();
        config.confirm_after = self.confirm_after;
        let (stop, progress) = (StopSignal::new(), Progress::default());
        let context = WorkerContext {
            stop: stop.clone(),
            progress: progress.clone(),
            commands: mpsc::channel(1).1,
        };
        let registry = prometheus::Registry::new();
        let task = tokio::spawn(worker::body(config, registry.clone(), context));
        Running {
            stop,
            progress,
            registry,
            task,
        }
    }

    pub(crate) async fn run(&self) -> Ended {
        self.start().ended().await
    }

    /// What is in the data topic.
    pub(crate) async fn contents(&self) -> Contents {
        let messages = self.kafka.read_topic(&self.topic).await.unwrap();
        Contents::of(messages)
    }

    /// What the exchange has of `interval`, as the JSON objects that the topic should hold, by open time.
    pub(crate) fn expected(&self, interval: Interval, start: &str, end: &str) -> Vec<Value> {
        let klines = self
            .exchange
            .final_klines("BTCUSDT", interval, at(start), at(end))
            .unwrap();
        klines.iter().map(|kline| candle(interval, kline)).collect()
    }

    /// Puts messages into the data topic, as they are.
    pub(crate) async fn fill<'a>(&self, messages: impl IntoIterator<Item = &'a OwnedMessage>) {
        let producer: FutureProducer =
            producer_config(&self.kafka.config().unwrap(), "test", 64 * 1_024)
                // As a loader does: the mock keeps 5 MiB of a partition.
                .set("compression.type", "zstd")
                .create()
                .unwrap();
        let mut sent = Vec::new();
        for message in messages {
            let mut record =
                FutureRecord::<[u8], [u8]>::to(&self.topic).partition(message.partition());
            record.key = message.key();
            record.payload = message.payload();
            record.headers = message.headers().cloned();
            sent.push(
                producer
                    .send_result(record)
                    .unwrap_or_else(|(error, _)| panic!("{error}")),
            );
        }
        for delivery in sent {
            delivery
                .await
                .unwrap()
                .unwrap_or_else(|(error, _)| panic!("{error}"));
        }
    }
}

impl Running {
    pub(crate) async fn ended(self) -> Ended {
        self.ended_within(LIMIT).await
    }

    pub(crate) async fn ended_within(self, limit: Duration) -> Ended {
        let result = tokio::time::timeout(limit, self.task).await;
        Ended {
            result: result
                .expect("the load ends")
                .expect("the load does not panic"),
            progress: self.progress,
        }
    }

    /// Waits until so many records are acknowledged.
    pub(crate) async fn published(&self, least: u64) {
        until(|| self.progress.counts().written >= least).await;
    }

    /// Waits until so many records wait for their acknowledgement, and none has come for a while: what a broker said before
    /// it went away may be on its way still.
    pub(crate) async fn queued(&self, least: u64) {
        const QUIET: Duration = Duration::from_millis(300);
        let (mut written, mut since) = (0, Instant::now());
        until(|| {
            let now = self.progress.counts().written;
            if now != written {
                (written, since) = (now, Instant::now());
            }
            self.in_flight() >= least && since.elapsed() >= QUIET
        })
        .await;
    }

    /// Waits until every record of a load of so many is queued.
    pub(crate) async fn all_queued(&self, all: u64) {
        until(|| self.progress.counts().written + self.in_flight() == all).await;
    }

    /// What a counter of this process says.
    pub(crate) fn counter(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        family.map_or(0.0, |family| {
            family.get_metric()[0].get_counter().get_value()
        })
    }

    fn in_flight(&self) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == IN_FLIGHT);
        family.map_or(0, |family| {
            family.get_metric()[0].get_gauge().get_value() as u64
        })
    }

    /// Ends it as `kill -9` would: nothing is flushed.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

impl Ended {
    pub(crate) fn done(self) -> Progress {
        assert_eq!(
            self.result
                .unwrap_or_else(|failure| panic!("{}", failure.message())),
            Outcome::Done
        );
        self.progress
    }

    pub(crate) fn failure(self) -> Failure {
        self.result.expect_err("the load fails")
    }
}

/// A kline of the exchange as a record. Numbers are compared as the doubles that they denote.
fn candle(interval: Interval, kline: &[Value]) -> Value {
    let number =
        |column: usize| -> Value { serde_json::from_str(kline[column].as_str().unwrap()).unwrap() };
    serde_json::json!({
        "_key": format!("BTCUSDT_{interval}_{}", kline[0]),
        "symbol": "BTCUSDT",
        "interval": interval.as_str(),
        "open_time": kline[0],
        "close_time": kline[6],
        "open": number(1),
        "high": number(2),
        "low": number(3),
        "close": number(4),
        "volume": number(5),
        "quote_asset_volume": number(7),
        "number_of_trades": kline[8],
        "taker_buy_base_asset_volume": number(9),
        "taker_buy_quote_asset_volume": number(10),
        "exchange": "binance",
    })
}

/// What a data topic holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) messages: Vec<OwnedMessage>,
    /// Of each partition.
    pub(crate) markers: BTreeMap<i32, Vec<Marker>>,
    /// All records, by open time.
    pub(crate) records: Vec<Value>,
    /// Messages that no loader wrote.
    pub(crate) foreign: usize,
    /// Dead letters that were put back.
    pub(crate) replayed: usize,
}

impl Contents {
    /// Also checks what must hold in every partition at all times: records numbered from 1 without a hole or a
    /// repetition, in the order of their open times.
    fn of(messages: Vec<OwnedMessage>) -> Self {
        let mut contents = Self::default();
        let mut last: BTreeMap<i32, (u64, i64)> = BTreeMap::new();
        for message in &messages {
            if headers::is_replayed(message) {
                contents.replayed += 1;
                continue;
            }
            let payload = message.payload().unwrap();
            assert_eq!(headers::get(message, "streamforge-schema"), Some("1"));
            if headers::get(message, EOS).is_some() {
                let marker = serde_json::from_slice(payload).unwrap();
                contents
                    .markers
                    .entry(message.partition())
                    .or_default()
                    .push(marker);
                continue;
            }
            let Some(seq) = headers::get(message, SEQ) else {
                contents.foreign += 1;
                continue;
            };
            let record: Value = serde_json::from_slice(payload).unwrap();
            let seq: u64 = seq.parse().unwrap();
            let open_time = record["open_time"].as_i64().unwrap();
            let before = last.insert(message.partition(), (seq, open_time));
            let (last_seq, last_open) = before.unwrap_or((0, i64::MIN));
            assert_eq!(seq, last_seq + 1, "partition {}", message.partition());
            assert!(open_time > last_open, "partition {}", message.partition());
            contents.records.push(record);
        }
        contents
            .records
            .sort_by_key(|record| record["open_time"].as_i64());
        contents.messages = messages;
        contents
    }
}
