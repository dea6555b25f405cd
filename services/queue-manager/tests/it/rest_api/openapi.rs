//! docs/openapi.json is what the code says, and nothing is served that it does not say.

use std::{fs, path::Path};

use queue_manager::routes::openapi;
use serde_json::Value;

fn document() -> String {
    let mut text = openapi().to_pretty_json().unwrap();
    text.push('\n');
    text
}

#[test]
fn the_document_in_docs_is_the_one_of_the_code() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let now = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openapi.json");
    let document = document();
    fs::write(&now, &document).unwrap();
    let is_current = fs::read_to_string(kept).is_ok_and(|kept| kept == document);
    assert!(
        is_current,
        "the API has changed; if that is meant: cp {} docs/openapi.json",
        now.display()
    );
}

/// Each mounted once, under the path that the contract has.
#[test]
fn the_routes_are_exactly_these() {
    let document: Value = serde_json::from_str(&document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut routes: Vec<String> = paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| format!("{method} {path}"))
        })
        .collect();
    routes.sort();
    let expected = [
        "delete /queues/{queue_id}",
        "get /health/live",
        "get /health/ready",
        "get /health/startup",
        "get /metrics",
        "get /queues",
        "get /queues/list",
        "get /queues/stream",
        "get /queues/{queue_id}",
        "get /queues/{queue_id}/events",
        "get /queues/{queue_id}/logs",
        "get /ws/queues",
        "post /queues/start",
        "post /queues/start-pipeline",
        "post /queues/start-test-flow",
        "post /queues/stop",
        "post /queues/{queue_id}/retry",
    ];
    assert_eq!(routes, expected);
    assert_eq!(document["openapi"], "3.1.0");
}
