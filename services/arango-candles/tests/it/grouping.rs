//! A consumer group that gives no partitions, or none to this writer.

use std::{process::ExitCode, time::Duration};

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use streamforge_devstack::kafka::{Broker, MockKafka};
use streamforge_utils::protocol::{EventKind, InterruptReason};

use crate::workflow::Workflow;

const RETRYABLE: u8 = 1;

/// On a broker that answers all requests of this kind with this error.
async fn refused(requests: RDKafkaApiKey, error: RDKafkaRespErr) -> Workflow {
    let kafka = MockKafka::start().unwrap();
    kafka.refuse(requests, vec![error; 10_000]).unwrap();
    let workflow = Workflow::on(Broker::Mock(kafka), |builder| builder).await;
    workflow.create_topic(1).await;
    workflow.publish(0, 1..=10).await;
    workflow
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_gives_no_partitions_is_an_error_that_names_the_reason() {
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_GROUP_MAX_SIZE_REACHED,
        RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL, RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT,
    };
    let mut running = Vec::new();
    for (requests, error, reason) in [
        (
            RDKafkaApiKey::FindCoordinator,
            RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
            "the group's coordinator does not answer",
        ),
        (
            RDKafkaApiKey::JoinGroup,
            RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL,
            "Inconsistent group protocol",
        ),
        (
            RDKafkaApiKey::JoinGroup,
            RD_KAFKA_RESP_ERR_GROUP_MAX_SIZE_REACHED,
            "maximum size",
        ),
        (
            RDKafkaApiKey::JoinGroup,
            RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT,
            "session timeout",
        ),
    ] {
        let mut workflow = refused(requests, error).await;
        let writer = workflow.set("RETRY_DEADLINE_SECS", "8").start();
        running.push((workflow, writer, reason));
    }
    for (workflow, writer, reason) in running {
        assert_eq!(writer.ended().await, ExitCode::from(RETRYABLE), "{reason}");
        let last = workflow.last_event().await;
        assert_eq!(last.event, EventKind::Error);
        let message = last.error_message.unwrap();
        assert!(message.contains("gave no partitions for 8 s"), "{message}");
        assert!(message.contains(reason), "{reason} in {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_a_writer_whose_group_gives_no_partitions() {
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL;
    let mut workflow = refused(RDKafkaApiKey::JoinGroup, error).await;
    let writer = workflow.set("RETRY_DEADLINE_SECS", "300").start();
    workflow
        .wait_for_message("waiting for the consumer group")
        .await;
    let drain = format!(
        r#"{{"command":"stop","queue_id":"{}","payload":{{"drain":true}},"sent_at":1722500000.123}}"#,
        workflow.queue_id
    );
    workflow.command(&drain).await;
    assert_eq!(writer.ended().await, ExitCode::SUCCESS);
    let last = workflow.last_event().await;
    assert_eq!(last.event, EventKind::Interrupted);
    assert_eq!(last.reason, Some(InterruptReason::Stop));
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_waiting_for_the_topic_nor_an_empty_share_is_waiting_for_the_group() {
    let mut workflow = Workflow::without_topic(|builder| builder).await;
    let one = workflow.set("RETRY_DEADLINE_SECS", "6").start();
    let two = workflow
        .set("TELEMETRY_PRODUCER_ID", "arango-candles__abc123-2")
        .start();
    // No waiting, but longer than the deadline: first without a topic, then one of them without a partition.
    tokio::time::sleep(Duration::from_secs(9)).await;
    workflow.create_topic(1).await;
    workflow.publish(0, 1..=10).await;
    workflow.wait_for_written(10).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(one.is_running() && two.is_running());
    workflow.finish(0, 10, 1).await;
    assert_eq!(one.ended().await, ExitCode::SUCCESS);
    assert_eq!(two.ended().await, ExitCode::SUCCESS);
}
