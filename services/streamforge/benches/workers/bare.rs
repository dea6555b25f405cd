//! Bare librdkafka, in a process of its own: a consumer that only counts, a producer that only sends.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Read, Write},
    path::Path,
    time::{Duration, Instant},
};

use arango_candles::consume;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    producer::{BaseProducer, BaseRecord, Producer},
    types::RDKafkaErrorCode,
};
use serde::{Deserialize, Serialize};
use streamforge_utils::{
    config::{KafkaConfig, Reader, process_vars},
    kafka::{self, FetchSizes, headers},
    protocol::SEQ,
};

/// How long anything may take that is waited for.
const LIMIT: Duration = Duration::from_secs(30);
/// Records between two looks at what became of them.
const LOOK: u64 = 1_000;

/// What was read or written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Moved {
    pub(crate) records: u64,
    /// Of their values.
    pub(crate) bytes: u64,
    /// From the first one to the last.
    pub(crate) seconds: f64,
}

/// The broker that the environment names.
fn broker() -> KafkaConfig {
    Reader::new(&process_vars()).section().unwrap()
}

/// Reads a topic from beginning to end: with the sizes of `fetch`, as a writer reads, or with librdkafka's defaults.
pub(crate) fn consume(topic: &str, group: &str, fetch: Option<FetchSizes>) -> Moved {
    let broker = broker();
    let config = match fetch {
        Some(fetch) => consume::client_config(&broker, "bench", group, fetch),
        None => default_consumer(&broker, group),
    };
    read(&config, topic, |_| {})
}

fn default_consumer(broker: &KafkaConfig, group: &str) -> ClientConfig {
    let mut config = kafka::client_config(broker, "bench");
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true");
    config
}

/// Reads a topic from beginning to end.
fn read(config: &ClientConfig, topic: &str, mut each: impl FnMut(&dyn Bytes)) -> Moved {
    let consumer: BaseConsumer = config.create().unwrap();
    let found = consumer.fetch_metadata(Some(topic), LIMIT).unwrap();
    let mut list = TopicPartitionList::new();
    for partition in found.topics()[0].partitions() {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning)
            .unwrap();
    }
    let mut open = list.count();
    consumer.assign(&list).unwrap();
    let (mut records, mut bytes, mut span) = (0, 0, None);
    while open > 0 {
        match consumer.poll(LIMIT) {
            Some(Ok(message)) => {
                records += 1;
                bytes += message.payload_len() as u64;
                let now = Instant::now();
                span = Some((span.map_or(now, |(first, _)| first), now));
                each(&message);
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => panic!("reading {topic}: {error}"),
            None => panic!("reading {topic}: nothing came for {LIMIT:?}"),
        }
    }
    Moved {
        records,
        bytes,
        seconds: span.map_or(0.0, |(first, last)| (last - first).as_secs_f64()),
    }
}

/// A record as it is kept in a file.
trait Bytes {
    /// Whether it was one: a marker is not kept.
    fn write_to(&self, file: &mut dyn Write) -> bool;
}

impl<M: Message> Bytes for M {
    fn write_to(&self, file: &mut dyn Write) -> bool {
        let Some(seq) = headers::get(self, SEQ) else {
            return false;
        };
        file.write_all(&self.partition().to_le_bytes()).unwrap();
        for part in [self.key().unwrap(), self.payload().unwrap(), seq.as_bytes()] {
            let length = u32::try_from(part.len()).unwrap();
            file.write_all(&length.to_le_bytes()).unwrap();
            file.write_all(part).unwrap();
        }
        true
    }
}

/// Writes the records of a topic to a file, for [`produce`].
pub(crate) fn dump(broker: &KafkaConfig, topic: &str, path: &Path) -> Moved {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let config = default_consumer(broker, "bench-dump");
    let mut markers = 0;
    let moved = read(&config, topic, |message| {
        markers += u64::from(!message.write_to(&mut file));
    });
    file.flush().unwrap();
    Moved {
        records: moved.records - markers,
        ..moved
    }
}

/// The next record of the file.
#[derive(Default)]
struct Record {
    partition: i32,
    key: Vec<u8>,
    value: Vec<u8>,
    seq: Vec<u8>,
}

impl Record {
    /// Whether there was one.
    fn read_from(&mut self, file: &mut impl Read) -> bool {
        let mut number = [0; 4];
        if file.read_exact(&mut number).is_err() {
            return false;
        }
        self.partition = i32::from_le_bytes(number);
        for part in [&mut self.key, &mut self.value, &mut self.seq] {
            file.read_exact(&mut number).unwrap();
            part.resize(u32::from_le_bytes(number) as usize, 0);
            file.read_exact(part).unwrap();
        }
        true
    }
}

/// Publishes the records of a file, with the headers that a loader gives them: with a loader's settings, or with
/// librdkafka's defaults and zstd.
pub(crate) fn produce(topic: &str, path: &Path, with_our_settings: bool) -> Moved {
    let broker = broker();
    let mut config = if with_our_settings {
        let queue = kafka::DATA_PRODUCER_QUEUE_KIB;
        kafka::data_producer_config(&broker, "bench", queue)
    } else {
        kafka::client_config(&broker, "bench")
    };
    config.set("compression.type", "zstd");
    let producer: BaseProducer = config.create().unwrap();
    let mut file = BufReader::new(File::open(path).unwrap());
    let mut record = Record::default();
    let begun = Instant::now();
    let (mut records, mut bytes) = (0, 0);
    while record.read_from(&mut file) {
        let seq = std::str::from_utf8(&record.seq).unwrap();
        let mut next = BaseRecord::to(topic)
            .partition(record.partition)
            .key(&record.key)
            .payload(&record.value)
            .headers(headers::with(&[(SEQ, seq)]));
        while let Err((error, same)) = producer.send(next) {
            let KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) = error else {
                panic!("writing {topic}: {error}");
            };
            producer.poll(Duration::from_millis(10));
            next = same;
        }
        records += 1;
        bytes += record.value.len() as u64;
        if records % LOOK == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(LIMIT).unwrap();
    Moved {
        records,
        bytes,
        seconds: begun.elapsed().as_secs_f64(),
    }
}
