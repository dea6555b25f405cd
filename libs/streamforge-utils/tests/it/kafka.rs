//! Finding topics and reading them by offset.

use std::time::Duration;

use rdkafka::message::Message;
use streamforge_devstack::kafka::MockKafka;
use streamforge_utils::kafka::{TopicReader, TopicSpec, Topics, Watermarks};

const TOPIC: &str = "wf-test-data";

#[tokio::test]
async fn looking_for_a_topic_does_not_make_it() {
    let kafka = MockKafka::start().unwrap();
    let topics = Topics::new(&kafka.config(), "test").unwrap();
    for _ in 0..2 {
        assert_eq!(topics.partitions(TOPIC).await.unwrap(), None);
    }
    kafka.create_topic(TOPIC, 3).unwrap();
    assert_eq!(topics.partitions(TOPIC).await.unwrap(), Some(3));
    let spec = TopicSpec {
        name: TOPIC.to_owned(),
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

/// Apache Kafka deletes them: services/queue-manager has the test.
#[tokio::test]
async fn a_broker_that_can_not_delete_topics_says_so() {
    let kafka = MockKafka::start().unwrap();
    kafka.create_topic(TOPIC, 1).unwrap();
    let topics = Topics::new(&kafka.config(), "test").unwrap();
    let error = topics.delete(TOPIC).await.unwrap_err();
    assert!(error.is_permanent(), "{error}");
    assert_eq!(topics.partitions(TOPIC).await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_topic_is_waited_for() {
    let kafka = MockKafka::start().unwrap();
    let topics = Topics::new(&kafka.config(), "test").unwrap();
    let waiting = tokio::spawn(async move { topics.wait_for(TOPIC, Duration::from_secs(5)).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    kafka.create_topic(TOPIC, 2).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn no_broker_is_an_error_after_the_deadline() {
    let mut vars = MockKafka::start().unwrap().vars();
    vars.insert(
        "KAFKA_BOOTSTRAP_SERVERS".to_owned(),
        "127.0.0.1:1".to_owned(),
    );
    let config = streamforge_utils::config::Reader::new(&vars)
        .section()
        .unwrap();
    let topics = Topics::new(&config, "test").unwrap();
    let error = topics
        .wait_for(TOPIC, Duration::from_millis(500))
        .await
        .unwrap_err();
    assert!(!error.is_permanent());
    assert!(
        error
            .to_string()
            .starts_with("looking for topic \"wf-test-data\" failed"),
        "{error}"
    );
}

#[tokio::test]
async fn reads_by_offset() {
    let kafka = MockKafka::start().unwrap();
    kafka.create_topic(TOPIC, 1).unwrap();
    let reader = TopicReader::new(&kafka.config(), "test", "test").unwrap();
    assert_eq!(
        reader.watermarks(TOPIC, 0).await.unwrap(),
        Watermarks { low: 0, high: 0 }
    );
    assert!(
        reader.message_at(TOPIC, 0, 0).await.unwrap().is_none(),
        "an empty partition has no message"
    );
    for number in 0..5 {
        kafka
            .publish(TOPIC, Some(0), "key", &number.to_string(), &[("n", "1")])
            .await
            .unwrap();
    }
    assert_eq!(reader.watermarks(TOPIC, 0).await.unwrap().high, 5);
    let message = reader.message_at(TOPIC, 0, 3).await.unwrap().unwrap();
    assert_eq!((message.offset(), message.payload()), (3, Some(&b"3"[..])));
    assert!(reader.message_at(TOPIC, 0, 5).await.unwrap().is_none());
    let mut offsets = Vec::new();
    reader
        .scan(TOPIC, 0, 1, 4, |message| offsets.push(message.offset()))
        .await
        .unwrap();
    assert_eq!(offsets, [1, 2, 3]);
    let committed = reader.committed(TOPIC, &[0]).await.unwrap();
    assert_eq!(
        (committed[0].offset, committed[0].metadata.as_str()),
        (None, "")
    );
}
