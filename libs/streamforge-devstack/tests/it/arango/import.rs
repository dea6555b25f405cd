//! Imports: the formats, what duplicates become, and the tally.
use reqwest::Method;
use serde_json::{Value, json};

use super::Root;

fn tally(created: u64, errors: u64, empty: u64, updated: u64, ignored: u64) -> Value {
    json!({"error": false, "created": created, "errors": errors, "empty": empty, "updated": updated, "ignored": ignored})
}

async fn import(root: &Root, parameters: &str, body: &str) -> Value {
    let path = format!("/_api/import?collection=c&{parameters}");
    let reply = root.call(Method::POST, &path, body).await;
    assert_eq!(reply.status, 201, "{parameters}: {}", reply.body);
    reply.body
}

#[tokio::test]
async fn lines_and_arrays_are_imported() {
    let lines = "{\"_key\":\"a\"}\r\n\n{\"_key\":\"b\"}\nnot json\n7\n{\"_key\":\"a\"}\n";
    for kind in ["documents", "auto"] {
        let root = Root::start().await;
        assert_eq!(
            import(&root, &format!("type={kind}"), lines).await,
            tally(2, 3, 1, 0, 0),
            "{kind}"
        );
    }
    for kind in ["list", "array", "auto"] {
        let root = Root::start().await;
        let array = " [{\"_key\":\"a\"}, 7, {\"_key\":\"a\"}]";
        assert_eq!(
            import(&root, &format!("type={kind}"), array).await,
            tally(1, 2, 0, 0, 0),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn duplicates_become_what_was_asked_for() {
    for (mode, counted, stored) in [
        ("error", tally(1, 1, 0, 0, 0), json!({"_key": "a", "v": 1})),
        ("ignore", tally(1, 0, 0, 0, 1), json!({"_key": "a", "v": 1})),
        (
            "replace",
            tally(1, 0, 0, 1, 0),
            json!({"_key": "a", "w": 2}),
        ),
        (
            "update",
            tally(1, 0, 0, 1, 0),
            json!({"_key": "a", "v": 1, "w": 2}),
        ),
    ] {
        let root = Root::start().await;
        let list = r#"[{"_key":"a","v":1},{"_key":"a","w":2}]"#;
        assert_eq!(
            import(&root, &format!("type=list&onDuplicate={mode}"), list).await,
            counted,
            "{mode}"
        );
        assert_eq!(root.stored("a"), stored, "{mode}");
    }
}

#[tokio::test]
async fn overwriting_empties_the_collection_and_details_say_what_was_wrong() {
    let root = Root::start().await;
    root.post("/_api/document/c", json!({"_key": "old"})).await;
    let answer = import(
        &root,
        "type=list&overwrite=true&details=true",
        r#"[{"_key":"a"},{"_key":""}]"#,
    )
    .await;
    let mut expected = tally(1, 1, 0, 0, 0);
    expected["details"] = json!(["at position 1: illegal document key"]);
    assert_eq!(answer, expected);
    assert_eq!(
        root.server
            .documents("_system", "c")
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["a"]
    );
}
