//! Finding topics and reading them by offset.

use std::time::Duration;

use rdkafka::message::Message;
use streamforge_devstack::kafka::Broker;
use streamforge_utils::{
    config::{KafkaConfig, Reader},
    kafka::{TopicReader, TopicSpec, Topics, Watermarks},
    protocol::data_topic,
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
    let mut offsets = Vec::new();
    reader
        .scan(&topic, 0, 1, 4, |message| offsets.push(message.offset()))
        .await
        .unwrap();
    assert_eq!(offsets, [1, 2, 3]);
    let committed = reader.committed(&topic, &[0]).await.unwrap();
    assert_eq!(
        (committed[0].offset, committed[0].metadata.as_str()),
        (None, "")
    );
}
