//! Reading back through a query: filter, order, limit and batches.
use serde_json::{Value, json};

use super::Root;

const ALL: &str =
    "FOR d IN @@c FILTER d.open_time >= @start AND d.open_time < @end SORT d.open_time RETURN d";

/// Documents whose keys ascend while their `open_time` descends from 9 to 0, and one without.
async fn with_documents() -> Root {
    let root = Root::start().await;
    let mut documents: Vec<_> = (0..10)
        .map(|i| json!({"_key": format!("k{i}"), "open_time": 9 - i}))
        .collect();
    documents.push(json!({"_key": "none"}));
    root.post("/_api/document/c", json!(documents)).await;
    root
}

async fn keys(root: &Root, query: &str, variables: Value) -> String {
    let reply = root
        .post(
            "/_api/cursor",
            json!({"query": query, "bindVars": variables}),
        )
        .await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    keys_of(&reply.body)
}

fn keys_of(body: &Value) -> String {
    let documents = body["result"].as_array().unwrap();
    let keys: Vec<_> = documents
        .iter()
        .map(|document| document["_key"].as_str().unwrap())
        .collect();
    keys.join(" ")
}

#[tokio::test]
async fn attributes_can_be_kept() {
    let root = with_documents().await;
    let query = "FOR d IN c FILTER d._key IN @keys SORT d._key RETURN KEEP(d, @names)";
    let variables = json!({"keys": ["k9", "none"], "names": ["_rev", "open_time", "absent"]});
    let body = json!({"query": query, "bindVars": variables});
    let reply = root.post("/_api/cursor", body).await;
    let rows = reply.body["result"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["open_time"]), (2, &json!(0)));
    assert_eq!(rows[0].as_object().unwrap().len(), 2, "{rows:?}");
    assert_eq!(rows[1].as_object().unwrap().len(), 1, "{rows:?}");
    assert!(rows[1]["_rev"].is_string());
}

#[tokio::test]
async fn queries_filter_sort_and_limit() {
    let root = with_documents().await;
    let c = || json!({"@c": "c"});
    for (query, variables, expected) in [
        (ALL, json!({"@c": "c", "start": 2, "end": 5}), "k7 k6 k5"),
        (ALL, json!({"@c": "c", "start": 20, "end": 50}), ""),
        (
            "FOR d IN @@c RETURN d",
            c(),
            "k0 k1 k2 k3 k4 k5 k6 k7 k8 k9 none",
        ),
        (
            "FOR d IN c SORT d._key DESC LIMIT 2 RETURN d",
            json!({}),
            "none k9",
        ),
        // An absent attribute is null, and null is below every number.
        (
            "FOR d IN @@c FILTER d.open_time < 2 SORT d.open_time RETURN d",
            c(),
            "none k9 k8",
        ),
        (
            "FOR d IN @@c SORT d.open_time DESC LIMIT 1, 2 RETURN d",
            c(),
            "k1 k2",
        ),
        ("FOR d IN @@c FILTER d.open_time == 3 RETURN d", c(), "k6"),
        (
            "FOR d IN @@c FILTER d._key >= @k LIMIT 1 RETURN d",
            json!({"@c": "c", "k": "k5"}),
            "k5",
        ),
        (
            "FOR d IN @@c FILTER d.open_time IN @list OR d._key == @k SORT d.open_time DESC RETURN d",
            json!({"@c": "c", "list": [2, 4, 40], "k": "none"}),
            "k5 k7 none",
        ),
        (
            "FOR d IN @@c FILTER d.open_time NOT IN @list AND d.open_time != 5 SORT d.open_time, d._key RETURN d",
            json!({"@c": "c", "list": [0, 1, 2, 3, null]}),
            "k5 k3 k2 k1 k0",
        ),
    ] {
        assert_eq!(keys(&root, query, variables).await, expected, "{query}");
    }
}

#[tokio::test]
async fn an_index_that_has_the_order_is_read_only_as_far_as_needed() {
    let root = with_documents().await;
    let index = json!({"type": "persistent", "fields": ["open_time"], "name": "by_time"});
    root.post("/_api/index?collection=c", index).await;
    let newest = "FOR d IN c SORT d.open_time DESC LIMIT 2 RETURN d";
    let query = json!({ "query": newest });
    let reply = root.post("/_api/cursor", query.clone()).await.body;
    assert_eq!(keys_of(&reply), "k0 k1");
    let statistics = &reply["extra"]["stats"];
    assert_eq!(
        (&statistics["scannedIndex"], &statistics["scannedFull"]),
        (&json!(2), &json!(0))
    );
    // The index follows what is written.
    root.delete("/_api/document/c/k0").await;
    root.patch("/_api/document/c/k9", json!({"open_time": 100}))
        .await;
    assert_eq!(keys(&root, newest, json!({})).await, "k9 k1");
    root.delete("/_api/index/c/by_time").await;
    let reply = root.post("/_api/cursor", query).await.body;
    assert_eq!(keys_of(&reply), "k9 k1");
    assert_eq!(reply["extra"]["stats"]["scannedIndex"], 0);
}

#[tokio::test]
async fn a_query_removes_what_it_finds() {
    let root = with_documents().await;
    let query = "FOR d IN @@c FILTER d.open_time < @end AND d.open_time != @none REMOVE d IN @@c";
    let variables = json!({"@c": "c", "end": 7, "none": null});
    let query = json!({"query": query, "bindVars": variables});
    let written = root.server.counters().documents_written;
    let removed = root.post("/_api/cursor", query.clone()).await;
    assert_eq!(removed.status, 201);
    assert_eq!(
        (&removed.body["result"], &removed.body["hasMore"]),
        (&json!([]), &json!(false))
    );
    assert_eq!(removed.body["extra"]["stats"]["writesExecuted"], 7);
    assert_eq!(root.server.counters().documents_written, written + 7);
    let left = keys(&root, "FOR d IN c RETURN d", json!({})).await;
    assert_eq!(left, "k0 k1 k2 none");
    let again = root.post("/_api/cursor", query).await;
    assert_eq!(again.body["extra"]["stats"]["writesExecuted"], 0);
}

#[tokio::test]
async fn a_short_result_needs_no_cursor() {
    let root = with_documents().await;
    let query = json!({"query": "FOR d IN c FILTER d.open_time > 4 LIMIT 2 RETURN d", "count": true, "options": {"fullCount": true}});
    let mut body = root.post("/_api/cursor", query).await.body;
    assert_eq!(body["result"].take().as_array().unwrap().len(), 2);
    assert!(body["extra"]["stats"]["executionTime"].take().is_f64());
    let statistics = json!({
        "writesExecuted": 0, "writesIgnored": 0, "scannedFull": 11, "scannedIndex": 0, "filtered": 6, "fullCount": 5,
        "httpRequests": 0, "executionTime": null, "peakMemoryUsage": 0,
    });
    assert_eq!(
        body,
        json!({
            "result": null, "hasMore": false, "count": 2, "cached": false,
            "extra": {"warnings": [], "stats": statistics}, "error": false, "code": 201,
        })
    );
}

#[tokio::test]
async fn batches_follow_each_other_from_one_snapshot() {
    let root = with_documents().await;
    let query = json!({"query": "FOR d IN c RETURN d", "batchSize": 4, "count": true, "options": {"stream": false}});
    let first = root.post("/_api/cursor", query.clone()).await.body;
    assert_eq!(
        (keys_of(&first), &first["hasMore"]),
        ("k0 k1 k2 k3".to_owned(), &json!(true))
    );
    assert_eq!(
        (&first["nextBatchId"], &first["count"]),
        (&json!("2"), &json!(11))
    );
    let id = first["id"].as_str().unwrap();
    assert!(id.chars().all(|c| c.is_ascii_digit()));

    // What happens meanwhile does not show.
    root.delete("/_api/document/c/k4").await;
    root.delete("/_api/collection/c").await;
    let second = root.put(&format!("/_api/cursor/{id}"), json!(null)).await;
    assert_eq!(
        (second.status.as_u16(), keys_of(&second.body)),
        (200, "k4 k5 k6 k7".to_owned())
    );
    assert_eq!(second.body["code"], 200);
    let third = root
        .post(&format!("/_api/cursor/{id}/3"), json!(null))
        .await
        .body;
    assert_eq!(keys_of(&third), "k8 k9 none");
    assert_eq!(
        (&third["hasMore"], third.get("id"), third.get("nextBatchId")),
        (&json!(false), None, None)
    );
    for path in [format!("/_api/cursor/{id}"), format!("/_api/cursor/{id}/4")] {
        assert_eq!(root.post(&path, json!(null)).await.error(), (404, 1600));
    }
}

#[tokio::test]
async fn cursors_are_deleted_and_stay_in_their_database() {
    let root = with_documents().await;
    let query = json!({"query": "FOR d IN c RETURN d", "batchSize": 1});
    let id = root.post("/_api/cursor", query).await.body["id"]
        .as_str()
        .unwrap()
        .to_owned();
    root.post("/_api/database", json!({"name": "d"})).await;
    assert_eq!(
        root.put(&format!("/_db/d/_api/cursor/{id}"), json!(null))
            .await
            .error(),
        (404, 1600)
    );
    assert_eq!(
        root.delete(&format!("/_db/d/_api/cursor/{id}"))
            .await
            .error(),
        (404, 1600)
    );
    assert_eq!(
        root.post(&format!("/_api/cursor/{id}/1"), json!(null))
            .await
            .error(),
        (404, 1600)
    );
    let deleted = root.delete(&format!("/_api/cursor/{id}")).await;
    assert_eq!(deleted.status, 202);
    assert_eq!(deleted.body, json!({"id": id, "error": false, "code": 202}));
    assert_eq!(
        root.put(&format!("/_api/cursor/{id}"), json!(null))
            .await
            .error(),
        (404, 1600)
    );
}

#[tokio::test]
async fn a_batch_can_be_asked_for_again() {
    let root = with_documents().await;
    let query = json!({"query": "FOR d IN c LIMIT 4 RETURN d", "batchSize": 2, "options": {"allowRetry": true}});
    let first = root.post("/_api/cursor", query).await.body;
    let id = first["id"].as_str().unwrap();
    for (batch, expected) in [(1, "k0 k1"), (1, "k0 k1"), (2, "k2 k3"), (2, "k2 k3")] {
        let reply = root
            .post(&format!("/_api/cursor/{id}/{batch}"), json!(null))
            .await;
        assert_eq!(keys_of(&reply.body), expected, "{batch}");
    }
    assert_eq!(
        root.post(&format!("/_api/cursor/{id}/1"), json!(null))
            .await
            .error(),
        (404, 1600)
    );
    assert_eq!(
        root.put(&format!("/_api/cursor/{id}"), json!(null))
            .await
            .error(),
        (404, 1600)
    );
    assert_eq!(root.delete(&format!("/_api/cursor/{id}")).await.status, 202);
}
