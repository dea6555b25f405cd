//! Documents, one by one and in arrays: what is stored and what is answered.
use reqwest::Method;
use serde_json::{Value, json};

use super::{Root, steady};

const DOCUMENT: &str = "/_api/document/c";

#[tokio::test]
async fn a_document_is_created_read_and_removed() {
    let root = Root::start().await;
    let created = root
        .post(
            "/_api/document/c/?returnNew=1",
            json!({"_key": "k:1", "v": 1.50, "_rev": "mine"}),
        )
        .await;
    assert_eq!(created.status, 202);
    let rev = created.body["_rev"].as_str().unwrap();
    assert_eq!(
        created.body,
        json!({
            "_id": "c/k:1", "_key": "k:1", "_rev": rev,
            "new": {"_id": "c/k:1", "_key": "k:1", "_rev": rev, "v": 1.5},
        })
    );
    assert_eq!(created.header("etag"), Some(format!("\"{rev}\"").as_str()));
    assert_eq!(
        created.header("location"),
        Some("/_db/_system/_api/document/c/k:1")
    );

    let path = "/_api/document/c/k%3A1";
    let read = root.get(path).await;
    assert_eq!(
        (read.status.as_u16(), &read.body),
        (200, &created.body["new"])
    );
    assert_eq!(read.header("etag"), created.header("etag"));
    let head = root.call(Method::HEAD, path, "").await;
    assert_eq!(
        (head.status.as_u16(), head.header("etag")),
        (200, created.header("etag"))
    );
    assert_eq!(
        root.call(Method::HEAD, "/_api/document/c/x", "")
            .await
            .status,
        404
    );

    let removed = root.delete(&format!("{path}?returnOld=true")).await;
    assert_eq!(removed.status, 202);
    assert_eq!(
        removed.body,
        json!({"_id": "c/k:1", "_key": "k:1", "_rev": rev, "old": created.body["new"]})
    );
    assert_eq!(root.get(path).await.error(), (404, 1202));
}

#[tokio::test]
async fn numbers_are_doubles_or_64_bit_integers() {
    let root = Root::start().await;
    let sent = r#"{"_key":"k","a":64628.010000000001,"b":64640.00,"c":1722470400000,"d":18446744073709551616}"#;
    root.call(Method::POST, DOCUMENT, sent).await;
    let response = root
        .request(Method::GET, "/_api/document/c/k")
        .send()
        .await
        .unwrap();
    let text = response.text().await.unwrap();
    let end = r#""a":64628.01,"b":64640,"c":1722470400000,"d":1.8446744073709552e+19}"#;
    assert!(text.ends_with(end), "{text}");
}

#[tokio::test]
async fn keys_are_generated_in_ascending_order() {
    let root = Root::start().await;
    let created = root.post(DOCUMENT, json!([{}, {}, {}])).await;
    let keys: Vec<u64> = created
        .body
        .as_array()
        .unwrap()
        .iter()
        .map(|slot| slot["_key"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(keys.is_sorted() && keys[0] < keys[2], "{keys:?}");
}

#[tokio::test]
async fn sync_shows_in_the_status() {
    let root = Root::start().await;
    root.post(
        "/_api/collection",
        json!({"name": "synced", "waitForSync": true}),
    )
    .await;
    for (method, path, status) in [
        (Method::POST, "/_api/document/c", 202),
        (Method::POST, "/_api/document/c?waitForSync=true", 201),
        (Method::POST, "/_api/document/synced", 201),
        (Method::PUT, "/_api/document/c/k", 202),
        (Method::PATCH, "/_api/document/synced/k", 201),
        (Method::DELETE, "/_api/document/c/k", 202),
        (Method::DELETE, "/_api/document/synced/k?waitForSync=1", 200),
    ] {
        let body = match method {
            Method::DELETE => String::new(),
            _ => format!(
                r#"{{"_key":"{}"}}"#,
                if status == 201 && path.contains("/c?") {
                    "s"
                } else {
                    "k"
                }
            ),
        };
        assert_eq!(
            root.call(method.clone(), path, body).await.status,
            status,
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn each_overwrite_mode_does_its_own() {
    for (mode, stored, answer) in [
        (
            "overwriteMode=ignore",
            json!({"_key": "k", "a": {"x": 1}, "b": 1}),
            json!({}),
        ),
        (
            "overwriteMode=replace&returnOld=true",
            json!({"_key": "k", "a": {"y": 2}, "b": null}),
            json!({"_oldRev": "REV", "old": {"_id": "c/k", "_key": "k", "_rev": "REV", "a": {"x": 1}, "b": 1}}),
        ),
        (
            "overwrite=true",
            json!({"_key": "k", "a": {"y": 2}, "b": null}),
            json!({"_oldRev": "REV"}),
        ),
        (
            "overwriteMode=update&returnNew=true",
            json!({"_key": "k", "a": {"x": 1, "y": 2}, "b": null}),
            json!({"_oldRev": "REV", "new": {"_id": "c/k", "_key": "k", "_rev": "REV", "a": {"x": 1, "y": 2}, "b": null}}),
        ),
        (
            "overwriteMode=update&keepNull=false",
            json!({"_key": "k", "a": {"x": 1, "y": 2}}),
            json!({"_oldRev": "REV"}),
        ),
        (
            "overwriteMode=update&mergeObjects=false",
            json!({"_key": "k", "a": {"y": 2}, "b": null}),
            json!({"_oldRev": "REV"}),
        ),
    ] {
        let root = Root::start().await;
        root.post(DOCUMENT, json!({"_key": "k", "a": {"x": 1}, "b": 1}))
            .await;
        let path = format!("{DOCUMENT}?{mode}");
        let reply = root
            .post(&path, json!({"_key": "k", "a": {"y": 2}, "b": null}))
            .await;
        assert_eq!(reply.status, 202, "{mode}: {}", reply.body);
        let mut expected = json!({"_id": "c/k", "_key": "k", "_rev": "REV"});
        expected
            .as_object_mut()
            .unwrap()
            .extend(answer.as_object().unwrap().clone());
        assert_eq!(steady(reply.body), expected, "{mode}");
        assert_eq!(root.stored("k"), stored, "{mode}");
        let new_key = root.post(&path, json!({"_key": "n", "b": null})).await;
        assert_eq!(new_key.body.get("_oldRev"), None, "{mode}");
        assert_eq!(root.stored("n"), json!({"_key": "n", "b": null}), "{mode}");
    }
}

#[tokio::test]
async fn put_replaces_and_patch_merges() {
    let root = Root::start().await;
    root.post(DOCUMENT, json!({"_key": "k", "a": 1, "o": {"x": 1}}))
        .await;
    let path = "/_api/document/c/k";
    root.patch(path, json!({"_key": "other", "o": {"y": 2}, "n": null}))
        .await;
    assert_eq!(
        root.stored("k"),
        json!({"_key": "k", "a": 1, "o": {"x": 1, "y": 2}, "n": null})
    );
    root.patch(
        &format!("{path}?keepNull=0&mergeObjects=0"),
        json!({"o": {"z": 3}, "n": null}),
    )
    .await;
    assert_eq!(
        root.stored("k"),
        json!({"_key": "k", "a": 1, "o": {"z": 3}})
    );
    let replaced = root
        .put(&format!("{path}?returnOld=1&returnNew=1"), json!({"b": 1}))
        .await;
    assert_eq!(
        steady(replaced.body),
        json!({
            "_id": "c/k", "_key": "k", "_rev": "REV", "_oldRev": "REV",
            "new": {"_id": "c/k", "_key": "k", "_rev": "REV", "b": 1},
            "old": {"_id": "c/k", "_key": "k", "_rev": "REV", "a": 1, "o": {"z": 3}},
        })
    );
    let silent = root.put(&format!("{path}?silent=true"), json!({})).await;
    assert_eq!((silent.status.as_u16(), silent.body), (202, json!({})));
    assert_eq!(root.stored("k"), json!({"_key": "k"}));
}

#[tokio::test]
async fn revisions_guard_a_document() {
    let root = Root::start().await;
    let path = "/_api/document/c/k";
    let first = root.post(DOCUMENT, json!({"_key": "k"})).await;
    let second = root.put(path, json!({})).await;
    let (old, current) = (
        first.header("etag").unwrap(),
        second.header("etag").unwrap(),
    );
    assert_ne!(old, current, "every write makes a new revision");
    assert_eq!(second.body["_oldRev"], first.body["_rev"]);

    for (method, body) in [
        (Method::PUT, "{}"),
        (Method::PATCH, "{}"),
        (Method::DELETE, ""),
        (Method::GET, ""),
    ] {
        let reply = root
            .call_with(method.clone(), path, body, &[("if-match", old)])
            .await;
        assert_eq!(reply.error(), (412, 1200), "{method}");
        assert_eq!(
            (&reply.body["_key"], &reply.body["_id"]),
            (&json!("k"), &json!("c/k"))
        );
        assert_eq!(reply.body["_rev"], second.body["_rev"]);
        assert_eq!(reply.header("etag"), Some(current));
    }
    let unquoted = current.trim_matches('"');
    let same = root
        .call_with(Method::GET, path, "", &[("if-none-match", unquoted)])
        .await;
    assert_eq!(
        (same.status.as_u16(), same.header("etag"), &same.body),
        (304, Some(current), &json!(null))
    );
    let other = root
        .call_with(Method::GET, path, "", &[("if-none-match", old)])
        .await;
    assert_eq!(other.status, 200);

    let mismatch = json!({"_rev": first.body["_rev"]});
    assert_eq!(
        root.put(&format!("{path}?ignoreRevs=false"), mismatch.clone())
            .await
            .error(),
        (412, 1200)
    );
    assert_eq!(root.put(path, mismatch).await.status, 202);
    let rev = root.get(path).await.body["_rev"].clone();
    assert_eq!(
        root.patch(&format!("{path}?ignoreRevs=false"), json!({"_rev": rev}))
            .await
            .status,
        202
    );
}

#[tokio::test]
async fn an_older_version_is_not_written() {
    let root = Root::start().await;
    let path = format!("{DOCUMENT}?overwriteMode=replace&versionAttribute=v");
    let first = root
        .post(&path, json!({"_key": "k", "v": 5, "a": 1}))
        .await
        .body;
    for version in [json!(4), json!(5), json!(5.9)] {
        let reply = root
            .post(&path, json!({"_key": "k", "v": version, "a": 2}))
            .await;
        assert_eq!(
            (&reply.body["_rev"], &reply.body["_oldRev"]),
            (&first["_rev"], &first["_rev"]),
            "{version}"
        );
        assert_eq!(root.stored("k")["a"], 1, "{version}");
    }
    for version in [json!(6), json!("x"), json!(null), json!(-1)] {
        root.post(DOCUMENT, json!({})).await;
        root.put("/_api/document/c/k", json!({"v": 5})).await;
        root.post(&path, json!({"_key": "k", "v": version, "a": 3}))
            .await;
        assert_eq!(root.stored("k")["a"], 3, "{version}");
    }
}

/// An entry of an array's answer that failed.
fn failed(num: i64, message: &str) -> Value {
    json!({"error": true, "errorNum": num, "errorMessage": message})
}

#[tokio::test]
async fn an_array_is_answered_entry_by_entry() {
    let root = Root::start().await;
    let documents =
        json!([{"_key": "a", "v": 1}, 7, {"_key": "a", "v": 2}, {"_key": "b/"}, {"_key": "c"}]);
    let reply = root.post(DOCUMENT, documents.clone()).await;
    assert_eq!(reply.status, 202);
    let duplicate = failed(
        1210,
        "unique constraint violated: in index primary of type primary over '_key'; conflicting key: a",
    );
    let errors = [
        failed(1227, "invalid document type"),
        duplicate,
        failed(1221, "illegal document key"),
    ];
    let good = |key: &str| json!({"_id": format!("c/{key}"), "_key": key, "_rev": "REV"});
    let [not_an_object, duplicate, bad_key] = &errors;
    assert_eq!(
        steady(reply.body.clone()),
        json!([good("a"), not_an_object, duplicate, bad_key, good("c")])
    );
    assert_eq!(
        reply.header("x-arango-error-codes"),
        Some(r#"{"1210":1,"1221":1,"1227":1}"#)
    );
    assert_eq!(root.stored("a")["v"], 1);
    assert_eq!(root.server.counters().documents_written, 2);

    // Silent answers hold the errors alone, or nothing at all.
    let silent = format!("{DOCUMENT}?silent=true&overwriteMode=replace");
    let reply = root.post(&silent, documents).await;
    assert_eq!(reply.body, json!([errors[0], errors[2]]));
    assert_eq!(
        reply.header("x-arango-error-codes"),
        Some(r#"{"1221":1,"1227":1}"#)
    );
    assert_eq!(root.stored("a")["v"], 2, "the last of a batch wins");
    let reply = root.post(&silent, json!([{"_key": "a"}])).await;
    assert_eq!(
        (&reply.body, reply.header("x-arango-error-codes")),
        (&json!({}), None)
    );
    assert_eq!(root.post(DOCUMENT, json!([])).await.body, json!([]));
}

#[tokio::test]
async fn arrays_are_replaced_updated_read_and_removed() {
    let root = Root::start().await;
    let created = root
        .post(
            DOCUMENT,
            json!([{"_key": "a", "v": 1}, {"_key": "b", "v": 1}]),
        )
        .await;
    let absent = failed(1202, "document not found");

    let reply = root
        .put(
            DOCUMENT,
            json!([{"_key": "a", "w": 2}, {"_key": "x"}, {"w": 1}, {"_key": 1}, 1]),
        )
        .await;
    assert_eq!(reply.status, 202);
    let numbers: Vec<_> = reply
        .body
        .as_array()
        .unwrap()
        .iter()
        .map(|slot| &slot["errorNum"])
        .collect();
    assert_eq!(json!(numbers), json!([null, 1202, 1205, 1221, 1227]));
    let reply = root
        .patch(
            &format!("{DOCUMENT}?returnNew=true"),
            json!([{"_id": "c/b", "w": 3}]),
        )
        .await;
    assert_eq!(reply.body[0]["new"]["v"], 1);
    assert_eq!(root.stored("a"), json!({"_key": "a", "w": 2}));
    assert_eq!(root.stored("b"), json!({"_key": "b", "v": 1, "w": 3}));

    let reply = root
        .put(
            &format!("{DOCUMENT}?onlyget=true"),
            json!(["a", {"_key": "b"}, "c/a", "x", 7]),
        )
        .await;
    assert_eq!(reply.status, 200);
    let full = |key: &str, rest: Value| {
        let mut document = json!({"_id": format!("c/{key}"), "_key": key, "_rev": "REV"});
        document
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        document
    };
    let (a, b) = (
        full("a", json!({"w": 2})),
        full("b", json!({"v": 1, "w": 3})),
    );
    assert_eq!(
        steady(reply.body.clone()),
        json!([a, b, a, absent, failed(1227, "invalid document type")])
    );
    assert_eq!(
        reply.header("x-arango-error-codes"),
        Some(r#"{"1202":1,"1227":1}"#)
    );

    let outdated = json!([{"_key": "a", "_rev": created.body[0]["_rev"]}]);
    let reply = root
        .call(
            Method::DELETE,
            &format!("{DOCUMENT}?ignoreRevs=false"),
            outdated.to_string(),
        )
        .await;
    assert_eq!(
        reply.body,
        json!([failed(1200, "conflict, _rev values do not match")])
    );
    let selectors = json!(["a", {"_key": "b"}, "x"]).to_string();
    let reply = root.call(Method::DELETE, DOCUMENT, selectors).await;
    assert_eq!(reply.status, 202);
    assert_eq!(
        (&reply.body[1]["_key"], &reply.body[2]),
        (&json!("b"), &absent)
    );
    assert!(root.server.documents("_system", "c").unwrap().is_empty());
}
