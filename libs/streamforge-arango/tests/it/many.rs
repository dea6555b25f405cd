//! Many documents in one request, each with a result of its own.

use serde_json::{Value, json};
use streamforge_arango::{DocumentError, Revision};
use streamforge_devstack::arango::{Fault, FaultScope};

use crate::Stack;

/// Inserts documents, and gives them back with other contents and their revisions.
async fn changed(stack: &Stack, count: usize) -> Vec<(String, Revision, Value)> {
    let keys: Vec<String> = (0..count).map(|number| format!("k{number}")).collect();
    let documents: Vec<(String, Value)> = keys
        .iter()
        .map(|key| (key.clone(), json!({"v": 1})))
        .collect();
    stack.items.insert_absent(&documents).await.unwrap();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = stack.items.get_many::<Value>(&names).await.unwrap();
    let found = found.into_iter().map(|found| found.unwrap().unwrap());
    found
        .map(|found| (found.key, found.revision, json!({"v": 2})))
        .collect()
}

fn values(stack: &Stack) -> Vec<i64> {
    let stored = stack.server.documents(crate::DATABASE, "items").unwrap();
    stored
        .values()
        .map(|stored| stored["v"].as_i64().unwrap())
        .collect()
}

#[tokio::test]
async fn documents_are_read_in_the_order_that_was_asked_for() {
    let stack = Stack::start().await;
    changed(&stack, 450).await;
    stack.server.faults().scope(FaultScope::Everything);
    stack.server.faults().next(Fault::DropAfterWrite, 2);
    let mut keys: Vec<String> = (0..450).rev().map(|number| format!("k{number}")).collect();
    keys[7] = "absent".to_owned();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = stack.items.get_many::<Value>(&names).await.unwrap();
    assert_eq!(found.len(), keys.len());
    for (at, (found, key)) in found.iter().zip(&keys).enumerate() {
        let found = found
            .as_ref()
            .map(|found| found.as_ref().unwrap().key.as_str());
        assert_eq!(found, (at != 7).then_some(key.as_str()));
    }
}

#[tokio::test]
async fn each_replaced_document_has_its_own_result() {
    let stack = Stack::start().await;
    let mut documents = changed(&stack, 250).await;
    let (key, revision, _) = &documents[3];
    stack
        .items
        .replace(key, revision, &json!({"v": 7}))
        .await
        .unwrap();
    stack.items.remove("k240", None).await.unwrap();
    documents[5].0 = "not a key".to_owned();
    let results = stack.items.replace_many(&documents).await.unwrap();
    assert_eq!(results.len(), 250);
    for (at, result) in results.iter().enumerate() {
        let is_expected = match at {
            3 => matches!(result, Err(DocumentError::Conflict(_))),
            5 => matches!(result, Err(DocumentError::Database(_))),
            240 => matches!(result, Err(DocumentError::NotFound(_))),
            _ => result.is_ok(),
        };
        assert!(is_expected, "{at}: {result:?}");
    }
    let last = stack.items.get::<Value>("k249").await.unwrap();
    assert_eq!(last.revision, *results[249].as_ref().unwrap());
}

#[tokio::test]
async fn replacements_whose_answer_was_lost_are_known_as_ones_own() {
    let stack = Stack::start().await;
    let documents = changed(&stack, 20).await;
    let (key, revision, _) = &documents[3];
    stack
        .items
        .replace(key, revision, &json!({"v": 7}))
        .await
        .unwrap();
    stack.server.faults().next(Fault::DropAfterWrite, 1);
    let results = stack.items.replace_many(&documents).await.unwrap();
    assert_eq!(stack.server.faults().pending(), 0);
    for (at, result) in results.iter().enumerate() {
        assert_eq!(result.is_ok(), at != 3, "{at}: {result:?}");
    }
    assert_eq!(values(&stack).iter().filter(|v| **v == 2).count(), 19);
}

#[tokio::test]
async fn what_is_too_large_together_is_replaced_one_by_one() {
    let stack = Stack::start_with(|builder| builder.body_limit_bytes(3_000)).await;
    let mut documents = changed(&stack, 20).await;
    documents[4].2 = json!({"v": 2, "padding": "x".repeat(4_000)});
    let results = stack.items.replace_many(&documents).await.unwrap();
    for (at, result) in results.iter().enumerate() {
        assert_eq!(result.is_ok(), at != 4, "{at}: {result:?}");
    }
}
