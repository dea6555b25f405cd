//! Events of many workers: at a rate, and as many at once as there can be.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

use queue_manager::state::Workflow;
use rdkafka::{
    Offset, TopicPartitionList,
    config::FromClientConfig,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::Value;
use streamforge_utils::{
    kafka::{client_config, consumer_config},
    latency::Latencies,
    protocol::EventKind,
};

use crate::{
    ask,
    fill::event,
    report::Row,
    stage::{Stage, TOPIC},
};

/// Between two handfuls of events.
const TICK: Duration = Duration::from_millis(10);
/// Between two looks at what became of them.
const LOOK: Duration = Duration::from_millis(50);

/// A worker for whom events are sent.
struct Voice {
    workflow: usize,
    part: usize,
    instance: String,
    seq: u64,
}

pub(crate) struct Traffic<'a> {
    stage: &'a Stage,
    workflows: Vec<Workflow>,
    voices: Vec<Voice>,
    producer: BaseProducer,
    /// Whose turn it is.
    next: usize,
    sent: u64,
}

impl<'a> Traffic<'a> {
    pub(crate) async fn new(stage: &'a Stage, workflows: Vec<Workflow>) -> Self {
        let config = stage.broker.config().unwrap();
        let mut producer = client_config(&config, "bench");
        producer
            .set("linger.ms", "5")
            .set("queue.buffering.max.messages", "1000000");
        let producer = BaseProducer::from_config(&producer).unwrap();
        let parts = |(workflow, it): (usize, &Workflow)| {
            (0..it.parts.len()).map(move |part| Voice {
                workflow,
                part,
                instance: uuid::Uuid::now_v7().to_string(),
                seq: 0,
            })
        };
        let voices = workflows.iter().enumerate().flat_map(parts).collect();
        let mut traffic = Self {
            stage,
            workflows,
            voices,
            producer,
            next: 0,
            sent: 0,
        };
        for _ in 0..traffic.voices.len() {
            traffic.say(EventKind::Started);
        }
        traffic.flush();
        let sent = traffic.sent;
        stage
            .until("all have started", || async { heard(stage).await >= sent })
            .await;
        traffic
    }

    /// The next worker says something.
    fn say(&mut self, kind: EventKind) {
        let voice = &mut self.voices[self.next];
        voice.seq += 1;
        let workflow = &self.workflows[voice.workflow];
        let said = event(workflow, voice.part, &voice.instance, voice.seq, kind);
        let said = serde_json::to_vec(&said).unwrap();
        let key = workflow.queue_id.as_str();
        self.producer
            .send(BaseRecord::to(TOPIC).key(key).payload(&said))
            .unwrap_or_else(|(error, _)| panic!("an event was not sent: {error}"));
        self.next = (self.next + 1) % self.voices.len();
        self.sent += 1;
    }

    fn flush(&self) {
        self.producer.flush(Duration::from_secs(60)).unwrap();
    }

    /// So many a second: how far queue-manager is behind meanwhile, and how old what it shows is.
    pub(crate) async fn steady(&mut self, rate: u32, seconds: u32) -> Vec<Row> {
        let stage = self.stage;
        let before = self.sent;
        let voice = &self.voices[0];
        let watched = format!("/queues/{}", self.workflows[voice.workflow].queue_id);
        let part = voice.part;
        // When the first worker said what: position 0 is its event after those before.
        let (base, said_at) = (voice.seq, RefCell::new(Vec::<Instant>::new()));
        let (sent, is_over) = (Cell::new(before), Cell::new(false));
        let saying = async {
            let begun = Instant::now();
            let due = |at: Duration| (at.as_secs_f64() * f64::from(rate)) as u64;
            let all = u64::from(rate) * u64::from(seconds);
            while sent.get() - before < all {
                tokio::time::sleep(TICK).await;
                let now = due(begun.elapsed()).min(all);
                while self.sent - before < now {
                    if self.next == 0 {
                        said_at.borrow_mut().push(Instant::now());
                    }
                    self.say(EventKind::Loading);
                }
                sent.set(self.sent);
            }
            self.flush();
            is_over.set(true);
            f64::from(u32::try_from(all).unwrap()) / begun.elapsed().as_secs_f64()
        };
        let counting = async {
            let mut most = 0;
            while !is_over.get() {
                tokio::time::sleep(LOOK).await;
                let behind = sent.get().saturating_sub(heard(stage).await);
                most = most.max(behind);
            }
            most
        };
        let looking = async {
            let (mut ages, mut seen) = (Latencies::default(), 0);
            while !is_over.get() {
                tokio::time::sleep(LOOK).await;
                let shown = written(stage, &watched, part).await / 10;
                let shown = usize::try_from(shown.saturating_sub(base)).unwrap();
                let said = said_at.borrow();
                for at in &said[seen..shown.max(seen)] {
                    ages.record(at.elapsed());
                }
                seen = shown.max(seen);
            }
            ages.summary().unwrap()
        };
        let (rate, behind, ages) = tokio::join!(saying, counting, looking);
        let over = Instant::now();
        let sent = self.sent;
        stage
            .until("all was heard", || async { heard(stage).await >= sent })
            .await;
        vec![
            Row::new("events sent", rate, "/s"),
            Row::new("most events it was behind", behind as f64, "events"),
            Row::new(
                "after the last one",
                over.elapsed().as_secs_f64() * 1e3,
                "ms",
            ),
            Row::latency("from an event to the API's answer", ages),
        ]
    }

    /// So many that are there at once: how fast they are followed, beside a consumer that only reads.
    pub(crate) async fn backlog(&mut self, count: u32) -> Vec<Row> {
        let stage = self.stage;
        stage.freeze();
        for _ in 0..count {
            self.say(EventKind::Loading);
        }
        self.flush();
        stage.thaw();
        let begun = Instant::now();
        let sent = self.sent;
        stage
            .until("all was heard", || async { heard(stage).await >= sent })
            .await;
        let followed = f64::from(count) / begun.elapsed().as_secs_f64();
        let raw = self.bare();
        vec![Row::new("events followed, flat out", followed, "/s").beside(raw, "a bare consumer")]
    }

    /// Reads the whole topic and does nothing with it: messages a second.
    fn bare(&self) -> f64 {
        let config = self.stage.broker.config().unwrap();
        let consumer = consumer_config(&config, "bench", "queue-manager-bench-bare", 4 * 1024);
        let consumer: BaseConsumer = consumer.create().unwrap();
        let limit = Duration::from_secs(10);
        let found = consumer.fetch_metadata(Some(TOPIC), limit).unwrap();
        let mut places = TopicPartitionList::new();
        let mut left = 0;
        for partition in found.topics()[0].partitions() {
            let (low, high) = consumer
                .fetch_watermarks(TOPIC, partition.id(), limit)
                .unwrap();
            left += high - low;
            let place = places.add_partition_offset(TOPIC, partition.id(), Offset::Beginning);
            place.unwrap();
        }
        consumer.assign(&places).unwrap();
        let begun = Instant::now();
        let mut read = 0;
        while read < left {
            match consumer.poll(limit) {
                Some(Ok(_)) => read += 1,
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                other => panic!("reading the events failed: {other:?}"),
            }
        }
        read as f64 / begun.elapsed().as_secs_f64()
    }
}

/// Events that were taken in, by its metrics.
async fn heard(stage: &Stage) -> u64 {
    let metrics = ask::get(stage, "/metrics").await;
    let lines = metrics.lines();
    let counts = lines.filter(|line| line.starts_with("streamforge_manager_events_total{"));
    counts
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

/// What a worker has written, as the API shows it.
async fn written(stage: &Stage, path: &str, part: usize) -> u64 {
    let shown: Value = serde_json::from_str(&ask::get(stage, path).await).unwrap();
    let part = &shown["data"]["parts"][part];
    let written = part["progress"]["written"].as_u64();
    written.unwrap_or_else(|| panic!("no count in {part:#}"))
}
