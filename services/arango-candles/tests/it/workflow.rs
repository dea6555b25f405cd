//! One workflow for one test: its topic, its collection, and what a loader would publish.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::ExitCode,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rdkafka::{
    message::OwnedMessage,
    producer::{FutureProducer, FutureRecord},
};
use serde_json::Value;
use streamforge_devstack::{
    arango::{ArangoBuilder, ArangoServer},
    kafka::Broker,
};
use streamforge_utils::{
    config::Vars,
    kafka::{self, headers},
    protocol::{
        Command, EOS, Event, EventKind, Interval, QueueId, SEQ, TimestampMs, WorkflowKind,
        data_topic, dead_letter_topic, new_queue_id,
    },
    worker::block_on,
};

pub(crate) const COLLECTION: &str = "btcusdt_api_candles_1m_2024_08_01";
const DATABASE: &str = "streamforge";
const PASSWORD: &str = "correct horse";
const FIRST_OPEN_TIME: u64 = 1_722_470_400_000;
/// Nothing takes longer, the 3 s of the broker's first rebalance included.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

pub(crate) struct Workflow {
    pub(crate) kafka: Broker,
    pub(crate) arango: ArangoServer,
    pub(crate) queue_id: QueueId,
    pub(crate) topic: String,
    producer: FutureProducer,
    changes: Vars,
}

impl Workflow {
    /// With a topic of one partition.
    pub(crate) async fn new() -> Self {
        Self::with_partitions(1).await
    }

    pub(crate) async fn with_partitions(partitions: i32) -> Self {
        let workflow = Self::without_topic(|builder| builder).await;
        workflow.create_topic(partitions).await;
        workflow
    }

    /// With a topic of one partition, on a broker that may be taken down.
    pub(crate) async fn with_broker_alone() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ci/kafka.sh");
        let kafka = Broker::alone(&script).await.unwrap();
        let workflow = Self::on(kafka, |builder| builder).await;
        workflow.create_topic(1).await;
        workflow
    }

    pub(crate) async fn with_database(build: impl FnOnce(ArangoBuilder) -> ArangoBuilder) -> Self {
        let workflow = Self::without_topic(build).await;
        workflow.create_topic(1).await;
        workflow
    }

    pub(crate) async fn without_topic(build: impl FnOnce(ArangoBuilder) -> ArangoBuilder) -> Self {
        Self::on(Broker::start().unwrap(), build).await
    }

    pub(crate) async fn on(
        kafka: Broker,
        build: impl FnOnce(ArangoBuilder) -> ArangoBuilder,
    ) -> Self {
        let kind = WorkflowKind::ApiCandles(Interval::Minute1);
        let queue_id = new_queue_id(&"BTCUSDT".parse().unwrap(), kind, TimestampMs::now());
        let builder = ArangoServer::builder().root_password(PASSWORD).in_memory();
        let arango = build(builder).start().await.unwrap();
        let producer = kafka::producer_config(&kafka.config().unwrap(), "loader", 16 * 1024)
            .set("linger.ms", "2")
            .create()
            .unwrap();
        Self {
            kafka,
            arango,
            topic: data_topic(&queue_id),
            queue_id,
            producer,
            changes: Vars::new(),
        }
    }

    pub(crate) async fn create_topic(&self, partitions: i32) {
        let made = self.kafka.create_data_topic(&self.topic, partitions);
        made.await.unwrap();
    }

    /// Sets a variable of the writers that are started from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.changes.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn vars(&self) -> Vars {
        let mut vars = self.kafka.vars().unwrap();
        let launched = TimestampMs::now().as_millis() / 1_000;
        for (name, value) in [
            ("QUEUE_ID", self.queue_id.as_str()),
            ("SYMBOL", "BTCUSDT"),
            ("TYPE", "api_candles_1m"),
            ("KAFKA_TOPIC", &self.topic),
            ("COLLECTION_NAME", COLLECTION),
            ("TELEMETRY_PRODUCER_ID", "arango-candles__abc123"),
            ("ARANGO_URL", &self.arango.url()),
            ("ARANGO_DB", DATABASE),
            ("ARANGO_USER", "root"),
            ("ARANGO_PASSWORD", PASSWORD),
            ("QUEUE_STARTED_AT", &launched.to_string()),
            ("METRICS_PORT", "0"),
            ("LOG_LEVEL", "off"),
            ("RETRY_DEADLINE_SECS", "20"),
            ("SHUTDOWN_GRACE_SECS", "10"),
            ("PROGRESS_INTERVAL_SECS", "0.2"),
        ] {
            vars.insert(name.to_owned(), value.to_owned());
        }
        vars.extend(self.changes.clone());
        vars
    }

    /// Starts a writer, as its binary does, on a runtime of its own.
    pub(crate) fn start(&self) -> Writer {
        let vars = self.vars();
        let args = std::iter::once("arango-candles".into());
        Writer {
            thread: std::thread::spawn(move || block_on(arango_candles::run(args, vars))),
        }
    }

    /// Publishes one message.
    pub(crate) async fn send(&self, partition: i32, payload: &str, headers: &[(&str, &str)]) {
        self.send_all(partition, [(payload.to_owned(), headers.to_vec())])
            .await;
    }

    /// Publishes one message, and leaves it to a later one to wait for both.
    pub(crate) fn send_soon(&self, partition: i32, payload: &str, more: &[(&str, &str)]) {
        let mut record = FutureRecord::to(&self.topic)
            .key("BTCUSDT")
            .payload(payload)
            .headers(headers::with(more));
        record.partition = Some(partition);
        drop(
            self.producer
                .send_result(record)
                .map_err(|(error, _)| error)
                .unwrap(),
        );
    }

    /// Publishes records that are too large for an ordinary producer, compressed.
    pub(crate) async fn send_large(
        &self,
        partition: i32,
        numbers: impl IntoIterator<Item = u64>,
        payload: &str,
    ) {
        let config = self.kafka.config().unwrap();
        let producer: FutureProducer = kafka::producer_config(&config, "loader", 64 * 1024)
            .set("message.max.bytes", "16000000")
            .set("compression.type", "zstd")
            .create()
            .unwrap();
        for seq in numbers {
            let mut record = FutureRecord::to(&self.topic)
                .key("BTCUSDT")
                .payload(payload)
                .headers(headers::with(&[(SEQ, &seq.to_string())]));
            record.partition = Some(partition);
            producer.send(record, LIMIT).await.unwrap();
        }
    }

    /// Gives the writers that are started from now on this port for their metrics, and returns it.
    pub(crate) fn set_metrics_port(&mut self) -> u16 {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = port.unwrap().port();
        self.set("METRICS_PORT", &port.to_string());
        port
    }

    async fn send_all(
        &self,
        partition: i32,
        messages: impl IntoIterator<Item = (String, Vec<(&str, &str)>)>,
    ) {
        let mut sent = Vec::new();
        for (payload, more) in messages {
            let mut record = FutureRecord::to(&self.topic)
                .key("BTCUSDT")
                .payload(&payload)
                .headers(headers::with(&more));
            record.partition = Some(partition);
            sent.push(
                self.producer
                    .send_result(record)
                    .map_err(|(error, _)| error)
                    .unwrap(),
            );
        }
        for sent in sent {
            sent.await.unwrap().unwrap();
        }
    }

    /// Publishes the candles with these numbers, as a loader would; their minutes go by their numbers.
    pub(crate) async fn publish(&self, partition: i32, numbers: impl IntoIterator<Item = u64>) {
        let numbers: Vec<(u64, String)> = numbers
            .into_iter()
            .map(|seq| (seq, seq.to_string()))
            .collect();
        let minute = |seq: u64| seq + 1_000_000 * u64::try_from(partition).unwrap();
        let messages = numbers
            .iter()
            .map(|(seq, text)| (candle(minute(*seq)), vec![(SEQ, text.as_str())]));
        self.send_all(partition, messages).await;
    }

    pub(crate) async fn finish(&self, partition: i32, last_seq: u64, partitions: i32) {
        self.mark(partition, last_seq, partitions, 1, "finished")
            .await;
    }

    pub(crate) async fn mark(
        &self,
        partition: i32,
        last_seq: u64,
        partitions: i32,
        run: u32,
        outcome: &str,
    ) {
        let marker = serde_json::json!({
            "queue_id": self.queue_id, "run": run, "producer": "loader-api-candles__abc123", "last_seq": last_seq,
            "first_open_time": null, "last_open_time": null, "partitions": partitions,
            "time_range": "2024-08-01:2024-08-01", "outcome": outcome,
        });
        self.send(partition, &marker.to_string(), &[(EOS, "1")])
            .await;
    }

    pub(crate) async fn command(&self, command: &str) {
        let command: Command = serde_json::from_str(command).unwrap();
        self.kafka.send_command(&command).await.unwrap();
    }

    pub(crate) fn documents(&self) -> BTreeMap<String, Value> {
        self.arango.documents(DATABASE, COLLECTION).unwrap()
    }

    /// Compares the collection, whose numbers are doubles, with the candles that have these minutes.
    pub(crate) fn assert_holds(&self, minutes: impl IntoIterator<Item = u64>) {
        let expected: BTreeMap<String, Value> = minutes
            .into_iter()
            .map(|minute| {
                (
                    key(minute),
                    as_doubles(serde_json::from_str(&candle(minute)).unwrap()),
                )
            })
            .collect();
        let found = self.documents();
        let found: BTreeMap<_, _> = found
            .into_iter()
            .map(|(key, document)| (key, as_doubles(document)))
            .collect();
        let missing: Vec<_> = expected
            .keys()
            .filter(|key| !found.contains_key(*key))
            .collect();
        assert!(missing.is_empty(), "{} missing: {missing:?}", missing.len());
        assert_eq!(found.len(), expected.len(), "too many documents");
        assert!(
            found == expected,
            "documents differ from what was published"
        );
    }

    pub(crate) async fn dead_letters(&self) -> Vec<OwnedMessage> {
        let letters = self.kafka.read_topic(&dead_letter_topic(&self.topic)).await;
        letters.unwrap()
    }

    /// Waits until `enough` of this workflow's events so far, and returns them.
    pub(crate) async fn events(&self, enough: impl FnMut(&[Event]) -> bool) -> Vec<Event> {
        let events = self
            .kafka
            .events_of(self.queue_id.as_str(), "queue-events", LIMIT, enough);
        events.await.unwrap()
    }

    /// The last event of the latest writer.
    pub(crate) async fn last_event(&self) -> Event {
        let events =
            self.events(|events| events.last().is_some_and(|event| event.event.is_terminal()));
        events.await.pop().unwrap()
    }

    /// Waits for what no event tells.
    pub(crate) async fn wait_until(&self, mut is_so: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            assert!(start.elapsed() < LIMIT, "it did not come to that");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a writer has reported this many records written.
    pub(crate) async fn wait_for_written(&self, written: u64) {
        self.events(|events| events.iter().any(|event| event.records.written >= written))
            .await;
    }

    /// Waits until a writer has joined the group, which takes 3 s and is over when it reports counts.
    pub(crate) async fn wait_for_message(&self, part: &str) {
        self.events(|events| {
            events
                .iter()
                .any(|event| event.event == EventKind::Loading && event.message.contains(part))
        })
        .await;
    }
}

/// A whole number may come back as `64640` or as `64640.0`: both are the same double.
fn as_doubles(document: Value) -> Value {
    let Value::Object(fields) = document else {
        return document;
    };
    let fields = fields.into_iter().map(|(name, value)| {
        let value = value.as_f64().map_or(value, Value::from);
        (name, value)
    });
    fields.collect()
}

/// A counter of the writer that serves its metrics at this port; `None` if it does not answer yet.
pub(crate) fn counter(port: u16, name: &str) -> Option<u64> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    connection.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    let line = answer.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// A writer that runs.
pub(crate) struct Writer {
    thread: JoinHandle<ExitCode>,
}

impl Writer {
    /// Waits for its exit code.
    pub(crate) async fn ended(self) -> ExitCode {
        let start = Instant::now();
        while !self.thread.is_finished() {
            assert!(start.elapsed() < LIMIT, "the writer did not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.thread.join().unwrap()
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }
}

pub(crate) fn key(minute: u64) -> String {
    format!("BTCUSDT_1m_{}", FIRST_OPEN_TIME + 60_000 * minute)
}

/// The candle that opens at this minute.
pub(crate) fn candle(minute: u64) -> String {
    let open_time = FIRST_OPEN_TIME + 60_000 * minute;
    let close_time = open_time + 59_999;
    format!(
        concat!(
            r#"{{"_key":"BTCUSDT_1m_{open_time}","symbol":"BTCUSDT","interval":"1m","open_time":{open_time},"#,
            r#""close_time":{close_time},"open":64628.01,"high":64640.00,"low":64600.00,"close":64610.43,"#,
            r#""volume":{minute}.34567000,"quote_asset_volume":797620.12345678,"number_of_trades":812,"#,
            r#""taker_buy_base_asset_volume":6.1,"taker_buy_quote_asset_volume":394211.5,"exchange":"binance"}}"#
        ),
        open_time = open_time,
        close_time = close_time,
        minute = minute
    )
}
