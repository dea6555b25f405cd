//! Finding topics and reading them by offset.

use std::time::Duration;

use rdkafka::{
    Timestamp,
    message::{BorrowedMessage, Message},
    producer::{FutureProducer, FutureRecord},
};
use streamforge_devstack::kafka::Broker;
use streamforge_utils::{
    config::{KafkaConfig, Reader},
    kafka::{TopicReader, TopicSettings, TopicSpec, Topics, Watermarks, data_producer_config},
    protocol::{TimestampMs, data_topic},
};

use crate::probe::queue_id;

/// A broker, how a worker uses it, and a topic that is not there yet.
fn start() -> (Broker, KafkaConfig, String) {
    let kafka = Broker::start().unwrap();
    let config = Reader::new(&kafka.vars().unwrap()).section().unwrap();
    (kafka, config, data_topic(&queue_id()))
}

#[tokio::test]
async fn looking_for_a_topic_does_not_make_it() {
    let (kafka, config, topic) = start();
    let topics = Topics::new(&config, "test").unwrap();
    for _ in 0..2 {
        assert_eq!(topics.partitions(&topic).await.unwrap(), None);
    }
    kafka.create_topic(&topic, 3).await.unwrap();
    assert_eq!(topics.partitions(&topic).await.unwrap(), Some(3));
    let spec = TopicSpec {
        name: topic.clone(),
        partitions: 9,
        replication: None,
        retention_hours: 1,
    };
    assert_eq!(
        topics.ensure(&spec, Duration::from_secs(5)).await.unwrap(),
        3,
        "what is there is taken as it is"
    );
}

#[tokio::test]
async fn a_topic_is_deleted_or_it_is_said_that_it_can_not_be() {
    let (kafka, _, topic) = start();
    kafka.create_topic(&topic, 1).await.unwrap();
    // Workers have no right to.
    let vars = kafka.manager_vars().unwrap();
    let topics = Topics::new(&Reader::new(&vars).section().unwrap(), "test").unwrap();
    if kafka.is_real() {
        assert!(topics.delete(&topic).await.unwrap());
        assert!(!topics.delete(&topic).await.unwrap(), "it is gone");
    } else {
        let error = topics.delete(&topic).await.unwrap_err();
        assert!(error.is_permanent(), "{error}");
        assert_eq!(topics.partitions(&topic).await.unwrap(), Some(1));
    }
}

#[tokio::test]
async fn more_replicas_than_brokers_are_refused_once_that_stands() {
    let (kafka, config, name) = start();
    if !kafka.is_real() {
        eprintln!("NOT RUN: this test needs a real broker: run ci/kafka.sh start");
        return;
    }
    let topics = Topics::new(&config, "test").unwrap();
    let spec = TopicSpec {
        name,
        partitions: 1,
        replication: Some(3),
        retention_hours: 1,
    };
    let hasty = topics.ensure(&spec, Duration::from_secs(2)).await;
    let error = hasty.unwrap_err();
    assert!(!error.is_permanent(), "brokers may be starting: {error}");
    let patient = topics.ensure(&spec, Duration::from_secs(60)).await;
    let error = patient.unwrap_err();
    assert!(error.is_permanent(), "{error}");
    assert!(error.to_string().contains(&spec.name), "{error}");
}

#[tokio::test]
async fn a_topic_is_waited_for() {
    let (kafka, config, topic) = start();
    let topics = Topics::new(&config, "test").unwrap();
    let name = topic.clone();
    let waiting = tokio::spawn(async move { topics.wait_for(&name, Duration::from_secs(5)).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    kafka.create_topic(&topic, 2).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn no_broker_is_an_error_after_the_deadline() {
    let (_kafka, config, topic) = start();
    let config = KafkaConfig {
        bootstrap_servers: "127.0.0.1:1".to_owned(),
        ..config
    };
    let topics = Topics::new(&config, "test").unwrap();
    let error = topics
        .wait_for(&topic, Duration::from_millis(500))
        .await
        .unwrap_err();
    assert!(!error.is_permanent());
    assert!(
        error
            .to_string()
            .starts_with(&format!("looking for topic {topic:?} failed")),
        "{error}"
    );
}

#[tokio::test]
async fn reads_by_offset() {
    let (kafka, config, topic) = start();
    kafka.create_topic(&topic, 1).await.unwrap();
    let reader = TopicReader::new(&config, "test", "wf-test").unwrap();
    assert_eq!(
        reader.watermarks(&topic, 0).await.unwrap(),
        Watermarks { low: 0, high: 0 }
    );
    assert!(
        reader.message_at(&topic, 0, 0).await.unwrap().is_none(),
        "an empty partition has no message"
    );
    for number in 0..5 {
        kafka
            .publish(&topic, Some(0), "key", &number.to_string(), &[("n", "1")])
            .await
            .unwrap();
    }
    assert_eq!(reader.watermarks(&topic, 0).await.unwrap().high, 5);
    let message = reader.message_at(&topic, 0, 3).await.unwrap().unwrap();
    assert_eq!((message.offset(), message.payload()), (3, Some(&b"3"[..])));
    assert!(reader.message_at(&topic, 0, 5).await.unwrap().is_none());
    let messages = reader.messages(&topic, 0, (1, 4)).await.unwrap();
    let offsets: Vec<i64> = messages.iter().map(Message::offset).collect();
    assert_eq!(offsets, [1, 2, 3]);
    let number = |message: &BorrowedMessage<'_>| {
        let text = std::str::from_utf8(message.payload()?).ok()?;
        text.parse::<u32>().ok().filter(|number| *number < 2)
    };
    let last = reader.find_last(&topic, 0, (0, 5), number).await.unwrap();
    assert_eq!(last, Some(1), "those after it are passed over");
    let first = reader.find_first(&topic, 0, (1, 5), number).await.unwrap();
    assert_eq!(first, Some(1));
    let none = reader.find_last(&topic, 0, (2, 5), number).await.unwrap();
    assert_eq!(none, None);
    let committed = reader.committed(&topic, &[0]).await.unwrap();
    assert_eq!(
        (committed[0].offset, committed[0].metadata.as_str()),
        (None, "")
    );
}

/// A message that is fetched before its partition has a queue of its own would be missing.
#[tokio::test]
async fn the_first_messages_of_every_partition_are_read() {
    let (kafka, config, topic) = start();
    kafka.create_topic(&topic, 3).await.unwrap();
    for number in 0..30 {
        let (partition, text) = (number % 3, number.to_string());
        let sent = kafka.publish(&topic, Some(partition), "key", &text, &[]);
        sent.await.unwrap();
    }
    for _ in 0..10 {
        let reader = TopicReader::new(&config, "test", "wf-test").unwrap();
        for partition in 0..3 {
            let read = reader.messages(&topic, partition, (0, 10)).await.unwrap();
            let offsets: Vec<i64> = read.iter().map(Message::offset).collect();
            assert_eq!(offsets, (0..10).collect::<Vec<_>>(), "{partition}");
        }
    }
}

/// Both were taken as they were until topics had the broker's time: the first was deleted by retention within seconds, the
/// second refused for good.
#[tokio::test]
async fn a_wrong_clock_of_a_producer_neither_loses_records_nor_has_them_refused() {
    let (kafka, config, name) = start();
    if !kafka.is_real() {
        eprintln!("NOT RUN: this test needs a real broker: run ci/kafka.sh start");
        return;
    }
    let topics = Topics::new(&config, "test").unwrap();
    let spec = TopicSpec {
        name: name.clone(),
        partitions: 1,
        replication: None,
        retention_hours: 1,
    };
    topics.ensure(&spec, Duration::from_secs(20)).await.unwrap();
    let settings = topics.check_settings(&name).await.unwrap();
    assert_eq!(
        (
            settings.cleanup_policy.as_str(),
            settings.timestamp_type.as_str()
        ),
        ("delete", "LogAppendTime")
    );
    let now = TimestampMs::now().as_millis();
    let producer: FutureProducer = data_producer_config(&config, "test", 1_024)
        .create()
        .unwrap();
    for hours in [-8 * 24, 2] {
        let record = FutureRecord::to(&name)
            .key("key")
            .payload("value")
            .partition(0)
            .timestamp(now + hours * 3_600_000);
        let sent = producer.send(record, Duration::from_secs(20)).await;
        sent.unwrap_or_else(|(error, _)| panic!("{hours} h: {error}"));
    }
    // Retention is looked at every 0.5 s.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let reader = TopicReader::new(&config, "test", "wf-test").unwrap();
    let ends = reader.watermarks(&name, 0).await.unwrap();
    assert_eq!(ends, Watermarks { low: 0, high: 2 });
    for message in reader.messages(&name, 0, (0, 2)).await.unwrap() {
        let Timestamp::LogAppendTime(at) = message.timestamp() else {
            panic!("{:?}", message.timestamp());
        };
        assert!(
            (now..now + 600_000).contains(&at),
            "{at} is not about {now}"
        );
    }
}

#[tokio::test]
async fn settings_that_can_not_be_looked_up_are_taken_for_the_defaults() {
    let (kafka, config, name) = start();
    kafka.create_topic(&name, 1).await.unwrap();
    if kafka.is_real() {
        eprintln!("NOT RUN: this test needs a broker that does not know DescribeConfigs");
        return;
    }
    let begun = std::time::Instant::now();
    let topics = Topics::new(&config, "test").unwrap();
    let settings = topics.check_settings(&name).await.unwrap();
    assert_eq!(settings, TopicSettings::default());
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(5),
        "it is refused at once, and took {took:?}"
    );
}
