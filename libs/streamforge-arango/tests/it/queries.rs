//! Queries: all rows, one page, and changes.

use serde_json::{Value, json};
use streamforge_arango::{ArangoError, Document, Query};
use streamforge_devstack::arango::{Fault, FaultScope};

use crate::Stack;

const DOING: &str = "listing items";

async fn with_items(count: usize) -> Stack {
    let stack = Stack::start().await;
    let documents: Vec<(String, Value)> = (0..count)
        .map(|number| {
            (
                format!("k{number:05}"),
                json!({"group": "g", "number": number}),
            )
        })
        .collect();
    assert!(
        stack
            .items
            .insert_absent(&documents)
            .await
            .unwrap()
            .is_empty()
    );
    stack
}

fn listing() -> Query {
    Query::new("FOR d IN @@items FILTER d.group == @group SORT d.number")
        .bind("@items", "items")
        .bind("group", "g")
}

#[tokio::test]
async fn all_batches_are_read() {
    let stack = with_items(2_500).await;
    let query = listing().then("RETURN d");
    stack.server.faults().scope(FaultScope::Everything);
    stack.server.faults().next(Fault::DropAfterWrite, 1);
    let rows: Vec<Document<Value>> = stack.database.rows(DOING, &query).await.unwrap();
    assert_eq!(rows.len(), 2_500);
    assert!(
        rows.iter()
            .enumerate()
            .all(|(at, row)| row.content["number"] == at)
    );
    let none = listing().then("RETURN d").bind("group", "none");
    let none: Vec<Value> = stack.database.rows(DOING, &none).await.unwrap();
    assert!(none.is_empty());
}

#[tokio::test]
async fn a_page_says_whether_there_is_another() {
    let stack = with_items(5).await;
    for (size, rows, has_more) in [(4, 4, true), (5, 5, false), (6, 5, false)] {
        let query = listing().then("LIMIT @page_rows RETURN d");
        let page = stack
            .database
            .page::<Value>(DOING, query, size)
            .await
            .unwrap();
        assert_eq!((page.rows.len(), page.has_more), (rows, has_more), "{size}");
    }
}

#[tokio::test]
async fn a_query_that_is_wrong_is_not_asked_again() {
    let stack = with_items(0).await;
    let asked = stack.server.counters().requests;
    let query = Query::new("FOR d IN items FILTER d.a == @a RETURN d");
    let error = stack
        .database
        .rows::<Value>(DOING, &query)
        .await
        .unwrap_err();
    assert!(matches!(error, ArangoError::Permanent(_)), "{error}");
    assert!(error.to_string().contains("1551"), "{error}");
    assert_eq!(stack.server.counters().requests, asked + 1);
}
