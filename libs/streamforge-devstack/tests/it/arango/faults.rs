//! Faults: what the client sees, and what is written all the same.
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use streamforge_devstack::arango::{Fault, FaultScope};

use super::Root;

const DOCUMENT: &str = "/_api/document/c";

/// Posts a document with this key; `None` if the connection ended without an answer.
async fn post(root: &Root, key: &str) -> Option<(u16, i64)> {
    let request = root
        .request(Method::POST, DOCUMENT)
        .body(json!({"_key": key}).to_string());
    match request.send().await {
        Ok(response) => Some(super::reply(response).await.error()),
        Err(error) => {
            assert!(
                error.is_request() && !error.is_timeout() && !error.is_connect(),
                "{error:?}"
            );
            None
        }
    }
}

fn is_stored(root: &Root, key: &str) -> bool {
    !root.stored(key).is_null()
}

#[tokio::test]
async fn a_busy_server_recovers_after_so_many_requests() {
    let root = Root::start().await;
    root.server.faults().next(Fault::Unavailable, 2);
    assert_eq!(post(&root, "k").await, Some((503, 21003)));
    assert_eq!(root.server.faults().pending(), 1);
    assert_eq!(root.get("/_api/version").await.status, 200);
    assert_eq!(post(&root, "k").await, Some((503, 21003)));
    assert!(!is_stored(&root, "k"));
    assert_eq!(post(&root, "k").await, Some((202, 0)));
}

#[tokio::test]
async fn a_busy_server_stays_so_until_told() {
    let root = Root::start().await;
    root.server.faults().always(Fault::Unavailable);
    for _ in 0..3 {
        assert_eq!(post(&root, "k").await, Some((503, 21003)));
    }
    root.server.faults().clear();
    assert_eq!(post(&root, "k").await, Some((202, 0)));
}

#[tokio::test]
async fn a_proxy_answers_in_plain_text() {
    let root = Root::start().await;
    root.server.faults().next(Fault::UnavailablePlainText, 1);
    let reply = root.post(DOCUMENT, json!({})).await;
    assert_eq!(reply.status, 503);
    assert!(
        reply
            .header("content-type")
            .unwrap()
            .starts_with("text/plain")
    );
    assert_eq!(reply.body, json!("Service Unavailable\n"));
}

#[tokio::test]
async fn any_error_can_be_asked_for() {
    let root = Root::start().await;
    for (num, status) in [
        (1429, 503),
        (28, 500),
        (1200, 409),
        (1004, 403),
        (1203, 404),
        (21004, 412),
    ] {
        let message = "asked for".to_owned();
        root.server.faults().next(Fault::Error { num, message }, 1);
        assert_eq!(post(&root, "k").await, Some((status, num.into())));
    }
}

#[tokio::test]
async fn a_connection_is_dropped_before_or_after_the_write() {
    let root = Root::start().await;
    root.server.faults().next(Fault::DropBeforeWrite, 1);
    root.server.faults().next(Fault::DropAfterWrite, 1);
    assert_eq!(post(&root, "before").await, None);
    assert!(!is_stored(&root, "before"));
    assert_eq!(post(&root, "after").await, None);
    assert!(is_stored(&root, "after"));
    assert_eq!(post(&root, "after").await, Some((409, 1210)));
    assert_eq!(root.server.counters().documents_written, 1);
}

#[tokio::test]
async fn some_documents_of_a_batch_can_be_refused() {
    let root = Root::start().await;
    root.server
        .faults()
        .reject_keys(1620, |key| key.ends_with('3'));
    let documents: Vec<_> = (0..10).map(|i| json!({"_key": format!("k{i}")})).collect();
    let reply = root
        .post(&format!("{DOCUMENT}?silent=true"), json!(documents))
        .await;
    let refused =
        json!({"error": true, "errorNum": 1620, "errorMessage": "refused by a fault: k3"});
    assert_eq!((reply.status.as_u16(), reply.body), (202, json!([refused])));
    assert_eq!(reply.headers["x-arango-error-codes"], r#"{"1620":1}"#);
    assert_eq!(root.server.documents("_system", "c").unwrap().len(), 9);
    assert_eq!(post(&root, "k13").await, Some((400, 1620)));
    let imported = root
        .call(
            Method::POST,
            "/_api/import?collection=c&type=list",
            "[{\"_key\":\"x3\"}]",
        )
        .await;
    assert_eq!(imported.body["errors"], 1);
}

#[tokio::test]
async fn a_slow_server_answers_late() {
    let root = Root::start().await;
    let delay = Duration::from_millis(200);
    root.server.faults().delay(delay);
    let start = Instant::now();
    assert_eq!(post(&root, "k").await, Some((202, 0)));
    assert!(start.elapsed() >= delay);
    let hasty = root
        .request(Method::POST, DOCUMENT)
        .body("{}")
        .timeout(Duration::from_millis(20));
    assert!(hasty.send().await.unwrap_err().is_timeout());
}

#[tokio::test]
async fn everything_can_be_hit() {
    let root = Root::start().await;
    root.server.faults().scope(FaultScope::Everything);
    root.server.faults().next(Fault::Unavailable, 3);
    let login = json!({"username": "root", "password": super::PASSWORD});
    assert_eq!(
        root.get("/_admin/server/availability").await.error(),
        (503, 21003)
    );
    assert_eq!(
        root.post("/_open/auth", login.clone()).await.error(),
        (503, 21003)
    );
    assert_eq!(root.get("/_api/document/c/k").await.error(), (503, 21003));
    assert_eq!(root.post("/_open/auth", login).await.status, 200);
}

#[tokio::test]
async fn requests_are_counted() {
    let root = Root::start().await;
    let before = root.server.counters();
    root.post(DOCUMENT, json!([{"_key": "a"}, {"_key": "b"}, 7]))
        .await;
    root.post(
        &format!("{DOCUMENT}?overwriteMode=ignore"),
        json!({"_key": "a"}),
    )
    .await;
    root.delete("/_api/document/c/a").await;
    let after = root.server.counters();
    assert_eq!(after.requests - before.requests, 3);
    assert_eq!(after.documents_written - before.documents_written, 3);
}
