//! Which states were written since.

use std::collections::BTreeMap;

use queue_manager::store::{Excerpt, Mark, StoreError};
use serde::{Deserialize, Serialize};
use streamforge_utils::protocol::{QueueId, TimestampMs};

use super::{queue_id, replica, server};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    queue_id: QueueId,
    writes: u32,
}

impl Excerpt for State {}

#[tokio::test]
async fn every_write_of_every_replica_is_found_behind_a_mark() {
    let server = server().await;
    let (one, other) = (replica(&server).await, replica(&server).await);
    let begin = Mark::at(TimestampMs::now());
    for number in 0..7 {
        let state = State {
            queue_id: queue_id(number),
            writes: 1,
        };
        let store = if number % 2 == 0 { &one } else { &other };
        let workflows = store.workflows::<State>();
        workflows.insert(&state.queue_id, &state).await.unwrap();
    }
    let again = |state: &mut State| {
        state.writes += 1;
        true
    };
    let (workflows, id) = (other.workflows::<State>(), queue_id(3));
    workflows.update(&id, again).await.unwrap();
    // Page by page, each from the last one's end.
    let changes = one.changes::<State>();
    let (mut mark, mut found) = (begin.clone(), BTreeMap::new());
    loop {
        let (rows, next) = changes.since(&mark, 3).await.unwrap();
        for row in rows {
            mark = Mark::of(&row).unwrap();
            let state = row.content;
            assert_eq!(found.insert(state.queue_id, state.writes), None);
        }
        if next.is_none() {
            break;
        }
    }
    let expected = (0..7).map(|number| (queue_id(number), if number == 3 { 2 } else { 1 }));
    assert_eq!(found, expected.collect());
    assert!(changes.since(&mark, 3).await.unwrap().0.is_empty());
    let (all, _) = changes.since(&mark.earlier(60_000), 100).await.unwrap();
    assert_eq!(all.len(), 7);
}

#[tokio::test]
async fn only_an_unchanged_state_is_taken_back() {
    let server = server().await;
    let store = replica(&server).await;
    let workflows = store.workflows::<State>();
    let state = State {
        queue_id: queue_id(1),
        writes: 1,
    };
    let id = &state.queue_id;
    let first = workflows.insert(id, &state).await.unwrap();
    let second = workflows.replace(id, &first, &state).await.unwrap();
    let refused = workflows.remove_unchanged(id, &first).await;
    assert!(
        matches!(refused, Err(StoreError::Conflict(_))),
        "{refused:?}"
    );
    workflows.remove_unchanged(id, &second).await.unwrap();
    let gone = workflows.get(id).await;
    assert!(matches!(gone, Err(StoreError::NotFound(_))));
}
