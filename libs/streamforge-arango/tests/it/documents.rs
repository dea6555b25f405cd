//! Single documents: what each refusal means, and whose write it was when an answer got lost.

use std::time::Duration;

use serde_json::{Value, json};
use streamforge_arango::{ArangoError, DocumentError, RetryKind};
use streamforge_devstack::arango::{Fault, FaultScope};

use crate::{Stack, database};

#[tokio::test]
async fn a_document_is_inserted_read_replaced_and_removed() {
    let stack = Stack::start().await;
    let items = &stack.items;
    let first = items.insert("a", &json!({"v": 1})).await.unwrap();
    let read = items.get::<Value>("a").await.unwrap();
    assert_eq!((&read.revision, read.key.as_str()), (&first, "a"));
    assert_eq!(read.content["v"], 1);
    let second = items.replace("a", &first, &json!({"v": 2})).await.unwrap();
    assert_ne!(first, second);
    let conflict = items.remove("a", Some(&first)).await.unwrap_err();
    assert!(
        matches!(conflict, DocumentError::Conflict(_)),
        "{conflict:?}"
    );
    items.remove("a", Some(&second)).await.unwrap();
    let gone = items.get::<Value>("a").await.unwrap_err();
    assert_eq!(gone.to_string(), "no document \"items/a\"");
}

#[tokio::test]
async fn refusals_say_what_comes_next() {
    let stack = Stack::start().await;
    let items = &stack.items;
    let first = items.insert("a", &json!({})).await.unwrap();
    items.replace("a", &first, &json!({})).await.unwrap();
    let again = items.insert("a", &json!({})).await.unwrap_err();
    assert!(matches!(again, DocumentError::AlreadyThere(_)), "{again:?}");
    let late = items.replace("a", &first, &json!({})).await.unwrap_err();
    assert!(matches!(late, DocumentError::Conflict(_)), "{late:?}");
    let absent = items.replace("b", &first, &json!({})).await.unwrap_err();
    assert!(matches!(absent, DocumentError::NotFound(_)), "{absent:?}");
    let absent = items.remove("b", None).await.unwrap_err();
    assert!(matches!(absent, DocumentError::NotFound(_)), "{absent:?}");
    let key = items.insert("a b", &json!({})).await.unwrap_err();
    assert!(
        matches!(key, DocumentError::Database(ArangoError::Permanent(_))),
        "{key:?}"
    );
    let nowhere = stack.database.collection("absent");
    let nowhere = nowhere.get::<Value>("a").await.unwrap_err();
    assert!(
        matches!(nowhere, DocumentError::Database(ArangoError::Permanent(_))),
        "{nowhere:?}"
    );
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_known_as_ones_own() {
    let stack = Stack::start().await;
    let (items, faults) = (&stack.items, stack.server.faults());
    faults.next(Fault::DropAfterWrite, 1);
    let first = items.insert("a", &json!({"v": 1})).await.unwrap();
    faults.next(Fault::DropAfterWrite, 1);
    let second = items.replace("a", &first, &json!({"v": 2})).await.unwrap();
    assert_eq!(items.get::<Value>("a").await.unwrap().revision, second);
    faults.next(Fault::DropAfterWrite, 1);
    items.remove("a", Some(&second)).await.unwrap();
    assert_eq!(faults.pending(), 0);
    assert_eq!(stack.server.counters().documents_written, 3);
}

#[tokio::test]
async fn a_write_of_somebody_else_is_not_taken_for_ones_own() {
    let stack = Stack::start().await;
    let (items, faults) = (&stack.items, stack.server.faults());
    let first = items.insert("a", &json!({"v": 1})).await.unwrap();
    items.replace("a", &first, &json!({"v": 2})).await.unwrap();
    // The very same content, by another write.
    faults.next(Fault::DropBeforeWrite, 1);
    let again = items.insert("a", &json!({"v": 2})).await.unwrap_err();
    assert!(matches!(again, DocumentError::AlreadyThere(_)), "{again:?}");
    faults.next(Fault::DropBeforeWrite, 1);
    let late = items.replace("a", &first, &json!({"v": 2})).await;
    assert!(matches!(late, Err(DocumentError::Conflict(_))), "{late:?}");
}

#[tokio::test]
async fn what_can_pass_is_waited_for() {
    let stack = Stack::start().await;
    let (items, faults) = (&stack.items, stack.server.faults());
    faults.scope(FaultScope::Everything);
    let conflict = Fault::Error {
        num: 1200,
        message: "write-write conflict".to_owned(),
    };
    faults.next(Fault::UnavailablePlainText, 2);
    faults.next(conflict, 1);
    let revision = items.insert("a", &json!({})).await.unwrap();
    faults.next(Fault::DropBeforeWrite, 2);
    assert_eq!(items.get::<Value>("a").await.unwrap().revision, revision);
    faults.next(Fault::Unavailable, 2);
    items.remove("a", None).await.unwrap();
    assert_eq!(faults.pending(), 0);
}

#[tokio::test]
async fn what_does_not_pass_is_given_up_at_the_deadline() {
    let stack = Stack::start().await;
    let database = database(&stack.server, Duration::from_millis(400));
    stack.server.faults().scope(FaultScope::Everything);
    stack.server.faults().always(Fault::Unavailable);
    let error = database.collection("items").get::<Value>("a").await;
    let DocumentError::Database(ArangoError::Unavailable { kind, what }) = error.unwrap_err()
    else {
        panic!("it can pass");
    };
    assert_eq!(kind, RetryKind::Overload);
    assert!(
        what.starts_with("gave up after trying for 0.4 s: "),
        "{what}"
    );
    database.check().await.unwrap_err();
    stack.server.faults().clear();
    database.check().await.unwrap();
}

#[tokio::test]
async fn of_many_only_those_that_are_absent_are_stored() {
    let stack = Stack::start_with(|builder| builder.body_limit_bytes(2_000)).await;
    let (items, faults) = (&stack.items, stack.server.faults());
    items.insert("k3", &json!({"v": "old"})).await.unwrap();
    let mut documents: Vec<(String, Value)> = (0..50)
        .map(|number| (format!("k{number}"), json!({"v": number})))
        .collect();
    documents[7].0 = "not a key".to_owned();
    documents[40].1 = json!({"v": "x".repeat(3_000)});
    faults.next(Fault::DropAfterWrite, 1);
    let refused = items.insert_absent(&documents).await.unwrap();
    let mut positions: Vec<usize> = refused.iter().map(|refused| refused.index).collect();
    positions.sort_unstable();
    assert_eq!(positions, [7, 40], "{refused:?}");
    let stored = stack.server.documents(crate::DATABASE, "items").unwrap();
    assert_eq!(stored.len(), 48);
    assert_eq!(stored["k3"]["v"], "old");
    assert!(items.insert_absent::<Value>(&[]).await.unwrap().is_empty());
}
