//! The history of a workflow.

use std::time::Duration;

use queue_manager::store::{Cursor, NewEvent, StoreError, StoredEvent, Telemetry};
use serde_json::json;
use streamforge_devstack::arango::{ArangoServer, Fault};
use streamforge_utils::protocol::TimestampMs;

use super::{DATABASE, NOW, queue_id, replica, server};

const RETENTION: Duration = Duration::from_secs(3600);

fn event(workflow: usize, partition: i32, offset: i64) -> NewEvent {
    NewEvent {
        queue_id: queue_id(workflow),
        partition,
        offset,
        event: json!({"event": "loading", "seq": offset, "message": "1440 of 44640"}),
    }
}

async fn telemetry(server: &ArangoServer) -> Telemetry {
    replica(server).await.telemetry(RETENTION)
}

async fn history(telemetry: &Telemetry, workflow: usize, size: usize) -> Vec<(i32, i64)> {
    let (mut rows, mut after) = (Vec::new(), None::<Cursor>);
    let queue_id = queue_id(workflow);
    loop {
        let page = telemetry.list(&queue_id, after.as_ref(), size);
        let page = page.await.unwrap();
        rows.extend(page.rows.iter().map(|row| (row.partition, row.offset)));
        match page.next {
            Some(next) => after = Some(next.to_string().parse().unwrap()),
            None => return rows,
        }
    }
}

#[tokio::test]
async fn an_event_that_comes_again_is_stored_once() {
    let server = server().await;
    let (one, two) = (telemetry(&server).await, telemetry(&server).await);
    let events: Vec<NewEvent> = (0..1_200).map(|offset| event(1, 0, offset)).collect();
    server.faults().next(Fault::DropAfterWrite, 1);
    assert!(one.insert(&events, NOW).await.unwrap().is_empty());
    let later = TimestampMs(NOW.as_millis() + 5_000);
    let again = two.insert(&events[600..], later).await.unwrap();
    assert!(again.is_empty());
    assert_eq!(
        server
            .documents(DATABASE, "streamforge-telemetry")
            .unwrap()
            .len(),
        1_200
    );
    let last = Cursor::Event {
        partition: 0,
        offset: 1_198,
    };
    let last = two.list(&queue_id(1), Some(&last), 10).await.unwrap();
    let stored = StoredEvent {
        queue_id: queue_id(1),
        partition: 0,
        offset: 1_199,
        stored_at: NOW,
        expires_at: 1_722_474_000,
        event: events[1_199].event.clone(),
    };
    assert_eq!((last.rows, last.next), (vec![stored], None));
}

#[tokio::test]
async fn a_history_is_read_in_order_and_forgotten_alone() {
    let server = server().await;
    let telemetry = telemetry(&server).await;
    let mut expected = Vec::new();
    let mut events = Vec::new();
    for partition in 0..3 {
        for offset in 0..20 {
            let workflow = (offset % 2) as usize;
            events.push(event(workflow, partition, offset));
            if workflow == 1 {
                expected.push((partition, offset));
            }
        }
    }
    events.reverse();
    telemetry.insert(&events, NOW).await.unwrap();
    for size in [1, 7, 30, 100] {
        assert_eq!(history(&telemetry, 1, size).await, expected, "{size}");
    }
    assert_eq!(telemetry.remove(&queue_id(0)).await.unwrap(), 30);
    assert_eq!(telemetry.remove(&queue_id(0)).await.unwrap(), 0);
    assert!(history(&telemetry, 0, 10).await.is_empty());
    assert_eq!(history(&telemetry, 1, 100).await, expected);
}

#[tokio::test]
async fn an_event_that_the_database_refuses_does_not_hold_up_the_others() {
    let server = server().await;
    let telemetry = telemetry(&server).await;
    server.faults().reject_keys(1620, |key| key.ends_with(":7"));
    let events: Vec<NewEvent> = (0..10).map(|offset| event(1, 0, offset)).collect();
    let refused = telemetry.insert(&events, NOW).await.unwrap();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].index, 7);
    assert!(refused[0].what.contains("1620"), "{refused:?}");
    assert_eq!(history(&telemetry, 1, 100).await.len(), 9);
}

#[tokio::test]
async fn a_cursor_of_another_list_is_refused() {
    let server = server().await;
    let other = Cursor::Workflow {
        created_at: NOW,
        queue_id: queue_id(1),
    };
    let telemetry = telemetry(&server).await;
    let refused = telemetry.list(&queue_id(1), Some(&other), 10).await;
    assert!(matches!(refused, Err(StoreError::BadCursor)));
}

#[tokio::test]
async fn what_is_old_enough_is_forgotten_by_the_database() {
    let builder = streamforge_devstack::arango::ArangoServer::builder();
    let builder = builder.root_password(super::PASSWORD);
    let builder = builder.ttl_interval(Duration::from_millis(50));
    let server = builder.start().await.unwrap();
    let telemetry = telemetry(&server).await;
    telemetry.insert(&[event(1, 0, 0)], NOW).await.unwrap();
    let now = TimestampMs::now();
    telemetry.insert(&[event(1, 0, 1)], now).await.unwrap();
    let forgotten = tokio::time::timeout(Duration::from_secs(20), async {
        while history(&telemetry, 1, 10).await != [(0, 1)] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    forgotten.await.unwrap();
}
