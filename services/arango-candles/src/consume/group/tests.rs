//! Where reading begins after each change of the group.

use rdkafka::ClientConfig;
use streamforge_utils::kafka::FetchSizes;

use super::*;
use crate::partition::LOOK_BACK;

fn found(
    low: i64,
    high: i64,
    committed: Option<(i64, Option<CommitNote>)>,
) -> Result<(i32, Resume, i64), ConsumeError> {
    let found = Found {
        partition: 0,
        low,
        high,
        committed,
    };
    found.take_up("wf-x-data")
}

fn context(retry_deadline: Duration) -> (BaseConsumer<Context>, mpsc::UnboundedReceiver<Event>) {
    let (to_writer, events) = mpsc::unbounded_channel();
    let settings = Settings {
        topic: "wf-x-data".to_owned(),
        group_id: "wf-x".to_owned(),
        max_bytes_on_the_way: 1 << 20,
        retry_deadline,
        fetch: FetchSizes::DATA,
    };
    let context = Context::new(&settings, to_writer, Metrics::default());
    // Without a broker it connects to nothing.
    let config = ClientConfig::new().set("group.id", "wf-x").clone();
    (config.create_with_context(context).unwrap(), events)
}

#[tokio::test]
async fn a_commit_of_an_assignment_that_is_over_is_not_made() {
    let (consumer, _events) = context(Duration::from_secs(300));
    let context = consumer.context();
    context.assignment().generation = 3;
    for over in [1, 2] {
        assert!(context.commit_of(over, &consumer, &[]).is_none());
    }
    assert!(context.commit_of(3, &consumer, &[]).is_some());
}

/// Runs `insist` on a thread of its own, as in a rebalance; the answer is how often was tried.
async fn insist(
    consumer: BaseConsumer<Context>,
    succeeds_at: u32,
    error: RDKafkaErrorCode,
) -> (Result<(), ConsumeError>, u32) {
    let insisting = tokio::task::spawn_blocking(move || {
        let mut tried = 0;
        let result = consumer.context().insist(|| {
            tried += 1;
            if tried == succeeds_at {
                Ok(())
            } else {
                Err(KafkaError::OffsetFetch(error))
            }
        });
        (result, tried)
    });
    insisting.await.unwrap()
}

#[tokio::test]
async fn a_look_up_is_tried_again_until_the_deadline() {
    let passing = RDKafkaErrorCode::CoordinatorLoadInProgress;
    let (consumer, _events) = context(Duration::from_secs(300));
    let (result, tried) = insist(consumer, 3, passing).await;
    assert!(result.is_ok());
    assert_eq!(tried, 3);

    let (consumer, _events) = context(Duration::from_millis(500));
    let (result, tried) = insist(consumer, 0, passing).await;
    assert!(result.unwrap_err().is_retryable());
    assert!((2..=4).contains(&tried), "{tried}");

    let (consumer, _events) = context(Duration::from_secs(300));
    let (result, tried) = insist(consumer, 0, RDKafkaErrorCode::GroupAuthorizationFailed).await;
    assert!(!result.unwrap_err().is_retryable());
    assert_eq!(tried, 1);
}

#[tokio::test]
async fn a_look_up_ends_when_the_writer_is_gone() {
    let (consumer, events) = context(Duration::from_secs(300));
    drop(events);
    let (result, tried) = insist(consumer, 0, RDKafkaErrorCode::RequestTimedOut).await;
    assert!(result.is_err());
    assert_eq!(tried, 1);
}

#[test]
fn reading_starts_at_the_first_message_or_before_the_commit() {
    assert_eq!(
        found(3, 9, None).unwrap(),
        (0, Resume::AtFirst { low: 3 }, 3)
    );
    let note = Some(CommitNote::default());
    for (low, committed, note, start) in [
        (0, 5, note, 4),
        (5, 5, note, 5),
        (4, 5, note, 4),
        (0, 0, note, 0),
        (0, 9, note, 8),
        (0, 9, None, 0),
        (3, 9, None, 3),
        (0, 950, None, 950 - LOOK_BACK),
    ] {
        let (_, resume, from) = found(low, 1_000, Some((committed, note))).unwrap();
        assert_eq!(from, start);
        let offset = committed;
        assert_eq!(resume, Resume::AfterCommit { offset, note });
    }
}

#[test]
fn what_was_deleted_before_it_was_read_is_named() {
    assert_eq!(
        found(4212, 9000, Some((0, None))).unwrap_err().to_string(),
        "offsets 0 to 4211 of topic \"wf-x-data\" partition 0 were deleted before they were read"
    );
    let again = found(0, 10, Some((500, None))).unwrap_err();
    assert!(
        again
            .to_string()
            .ends_with("the topic was deleted and made again"),
        "{again}"
    );
    assert!(!again.is_retryable());
}
