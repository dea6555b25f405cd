//! Several collections with their indexes, made once and found later.

use crate::{Stack, specs};

#[tokio::test]
async fn several_collections_get_their_indexes_once() {
    let stack = Stack::start().await;
    stack.database.prepare(&specs()).await.unwrap();
    for (collection, expected) in [
        ("items", &["primary", "order", "expiry"][..]),
        ("others", &["primary"][..]),
    ] {
        assert_eq!(
            index_names(&stack, collection).await,
            expected,
            "{collection}"
        );
    }
}

#[tokio::test]
async fn an_index_that_is_another_one_is_an_error() {
    let stack = Stack::start().await;
    let mut changed = specs();
    changed[0].indexes[0].fields = &["number"];
    let error = stack.database.prepare(&changed).await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(
        error
            .to_string()
            .starts_with("making the index on number: the database answered 409 1207"),
        "{error}"
    );
}

async fn index_names(stack: &Stack, collection: &str) -> Vec<String> {
    let url = format!(
        "{}/_db/{}/_api/index?collection={collection}",
        stack.server.url(),
        crate::DATABASE
    );
    let answer = reqwest::Client::new()
        .get(url)
        .basic_auth("root", Some(crate::PASSWORD))
        .send()
        .await
        .unwrap();
    let body: serde_json::Value = answer.json().await.unwrap();
    body["indexes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|index| index["name"].as_str().unwrap().to_owned())
        .collect()
}
