//! Every error of ArangoDB's list that a request can provoke, and everything that is lacking.
use std::{io::Write as _, net::TcpStream};

use reqwest::Method;
use serde_json::json;
use streamforge_devstack::arango::ArangoServer;

use super::Root;

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

/// Sends each request and compares status and `errorNum`.
async fn assert_errors(root: &Root, cases: &[(Method, &str, &str, (u16, i64))]) {
    for (method, path, body, error) in cases {
        let reply = root.call(method.clone(), path, *body).await;
        assert_eq!(
            reply.error(),
            *error,
            "{method} {path} {body}: {}",
            reply.body
        );
        assert_eq!(reply.body["error"], true);
        assert_eq!(reply.body["code"], error.0);
        assert!(!reply.body["errorMessage"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn databases_and_collections() {
    let root = Root::start().await;
    root.post("/_api/database", json!({"name": "d"})).await;
    assert_errors(
        &root,
        &[
            (GET, "/_db/d/_api/database", "", (403, 1230)),
            (POST, "/_db/d/_api/database", r#"{"name":"e"}"#, (403, 1230)),
            (DELETE, "/_db/d/_api/database/d", "", (403, 1230)),
            (POST, "/_api/database", r#"{"name":"d"}"#, (409, 1207)),
            (POST, "/_api/database", r#"{"name":"1"}"#, (400, 1208)),
            (POST, "/_api/database", "{}", (400, 1208)),
            (POST, "/_api/database", "{", (400, 600)),
            (DELETE, "/_api/database/e", "", (404, 1228)),
            (DELETE, "/_api/database/_system", "", (403, 11)),
            (GET, "/_db/e/_api/collection", "", (404, 1228)),
            (POST, "/_api/collection", r#"{"name":"c"}"#, (409, 1207)),
            (POST, "/_api/collection", r#"{"name":""}"#, (400, 1208)),
            (POST, "/_api/collection", r#"{"name":"1"}"#, (400, 1208)),
            (POST, "/_api/collection", "{}", (400, 1208)),
            (POST, "/_api/collection", "", (400, 600)),
            (POST, "/_api/collection", "[]", (400, 600)),
            (GET, "/_api/collection/x", "", (404, 1203)),
            (GET, "/_api/collection/x/count", "", (404, 1203)),
            (GET, "/_api/collection/x/properties", "", (404, 1203)),
            (PUT, "/_api/collection/x/properties", "{}", (404, 1203)),
            (PUT, "/_api/collection/c/properties", "", (400, 600)),
            (PUT, "/_api/collection/x/truncate", "", (404, 1203)),
            (DELETE, "/_api/collection/x", "", (404, 1203)),
        ],
    )
    .await;
}

#[tokio::test]
async fn indexes() {
    let root = Root::start().await;
    let ttl = |field| json!({"type": "ttl", "fields": [field], "expireAfter": 1});
    root.post("/_api/index?collection=c", ttl("a")).await;
    let second_ttl = ttl("b").to_string();
    let taken = r#"{"type":"persistent","fields":["b"],"name":"n"}"#;
    root.call(
        POST,
        "/_api/index?collection=c",
        r#"{"type":"persistent","fields":["a"],"name":"n"}"#,
    )
    .await;
    let at = "/_api/index?collection=c";
    assert_errors(
        &root,
        &[
            (GET, "/_api/index", "", (400, 1204)),
            (GET, "/_api/index?collection=x", "", (404, 1203)),
            (POST, "/_api/index", "{}", (400, 1204)),
            (POST, "/_api/index?collection=x", "{}", (404, 1203)),
            (POST, at, "", (400, 600)),
            (POST, at, "{}", (400, 10)),
            (POST, at, r#"{"type":"persistent","fields":[]}"#, (400, 10)),
            (POST, at, r#"{"fields":["a"]}"#, (400, 10)),
            (POST, at, r#"{"type":"primary","fields":["a"]}"#, (400, 10)),
            (POST, at, r#"{"type":"ttl","fields":["a"]}"#, (400, 10)),
            (
                POST,
                at,
                r#"{"type":"ttl","fields":["a","b"],"expireAfter":1}"#,
                (400, 10),
            ),
            (
                POST,
                at,
                r#"{"type":"ttl","fields":["z"],"expireAfter":-1}"#,
                (400, 10),
            ),
            (
                POST,
                at,
                r#"{"type":"persistent","fields":["a"],"name":"1"}"#,
                (400, 1208),
            ),
            (POST, at, &second_ttl, (400, 10)),
            (POST, at, taken, (409, 1207)),
            (GET, "/_api/index/c/1", "", (404, 1212)),
            (GET, "/_api/index/x/0", "", (404, 1203)),
            (DELETE, "/_api/index/c/1", "", (404, 1212)),
            (DELETE, "/_api/index/c/0", "", (403, 11)),
            (DELETE, "/_api/index/c/primary", "", (403, 11)),
            (DELETE, "/_api/index/x/1", "", (404, 1203)),
        ],
    )
    .await;
}

#[tokio::test]
async fn documents() {
    let root = Root::start().await;
    root.post("/_api/document/c", json!({"_key": "k"})).await;
    let long_key = json!({"_key": "k".repeat(255)}).to_string();
    assert_errors(
        &root,
        &[
            (POST, "/_api/document/x", "{}", (404, 1203)),
            (POST, "/_api/document", "{}", (400, 1204)),
            (POST, "/_api/document/c", "", (400, 600)),
            (POST, "/_api/document/c", "{\"a\":", (400, 600)),
            (POST, "/_api/document/c", "{\"a\":1e999}", (400, 600)),
            (POST, "/_api/document/c", "7", (400, 1227)),
            (POST, "/_api/document/c", r#"{"_key":"k"}"#, (409, 1210)),
            (
                POST,
                "/_api/document/c?overwriteMode=conflict&overwrite=true",
                r#"{"_key":"k"}"#,
                (409, 1210),
            ),
            (
                POST,
                "/_api/document/c?overwriteMode=whatever",
                r#"{"_key":"k"}"#,
                (409, 1210),
            ),
            (POST, "/_api/document/c", r#"{"_key":""}"#, (400, 1221)),
            (POST, "/_api/document/c", r#"{"_key":7}"#, (400, 1221)),
            (POST, "/_api/document/c", r#"{"_key":null}"#, (400, 1221)),
            (POST, "/_api/document/c", r#"{"_key":"a b"}"#, (400, 1221)),
            (POST, "/_api/document/c", &long_key, (400, 1221)),
            (GET, "/_api/document/x/k", "", (404, 1203)),
            (GET, "/_api/document/c/absent", "", (404, 1202)),
            (GET, "/_api/document/c/k/more", "", (400, 601)),
            (PUT, "/_api/document/c/absent", "{}", (404, 1202)),
            (PUT, "/_api/document/c/k", "[]", (400, 1227)),
            (
                PUT,
                "/_api/document/c/k?ignoreRevs=false",
                r#"{"_rev":"old"}"#,
                (412, 1200),
            ),
            (PUT, "/_api/document/c", "{}", (400, 400)),
            (PUT, "/_api/document/c?onlyget=true", "{}", (400, 400)),
            (PUT, "/_api/document/c?onlyget=true", "nope", (400, 600)),
            (PUT, "/_api/document/x?onlyget=true", "[]", (404, 1203)),
            (PATCH, "/_api/document/c/absent", "{}", (404, 1202)),
            (PATCH, "/_api/document/c/k", "7", (400, 1227)),
            (PATCH, "/_api/document/c", "{}", (400, 400)),
            (DELETE, "/_api/document/c/absent", "", (404, 1202)),
            (DELETE, "/_api/document/c", "", (400, 400)),
            (DELETE, "/_api/document/x/k", "", (404, 1203)),
        ],
    )
    .await;
}

#[tokio::test]
async fn cursors() {
    let root = Root::start().await;
    let missing = r#"{"query":"FOR d IN c FILTER d.a == @x RETURN d"}"#;
    let undeclared = r#"{"query":"FOR d IN c RETURN d","bindVars":{"x":1}}"#;
    let not_a_name = r#"{"query":"FOR d IN @@c RETURN d","bindVars":{"@c":1}}"#;
    assert_errors(
        &root,
        &[
            (POST, "/_api/cursor", "", (400, 1502)),
            (POST, "/_api/cursor", "null", (400, 1502)),
            (POST, "/_api/cursor", "{", (400, 600)),
            (POST, "/_api/cursor", "[]", (400, 600)),
            (POST, "/_api/cursor", "{}", (400, 600)),
            (POST, "/_api/cursor", r#"{"query":""}"#, (400, 1502)),
            (POST, "/_api/cursor", r#"{"query":null}"#, (400, 1502)),
            (POST, "/_api/cursor", r#"{"query":"  "}"#, (400, 1501)),
            (
                POST,
                "/_api/cursor",
                r#"{"query":"FOR d IN x RETURN d"}"#,
                (404, 1203),
            ),
            (
                POST,
                "/_api/cursor",
                r#"{"query":"FOR d IN c RETURN d","batchSize":0}"#,
                (400, 10),
            ),
            (POST, "/_api/cursor", missing, (400, 1551)),
            (POST, "/_api/cursor", undeclared, (400, 1552)),
            (POST, "/_api/cursor", not_a_name, (400, 1553)),
            (PUT, "/_api/cursor/1", "", (404, 1600)),
            (POST, "/_api/cursor/1", "", (404, 1600)),
            (POST, "/_api/cursor/1/2", "", (404, 1600)),
            (PUT, "/_api/cursor/x", "", (404, 1600)),
            (DELETE, "/_api/cursor/1", "", (404, 1600)),
        ],
    )
    .await;
}

#[tokio::test]
async fn imports() {
    let root = Root::start().await;
    let at = "/_api/import?collection=c&type=";
    assert_errors(
        &root,
        &[
            (POST, "/_api/import?type=list", "[]", (400, 1204)),
            (
                POST,
                "/_api/import?collection=x&type=list",
                "[]",
                (404, 1203),
            ),
            (POST, &format!("{at}list"), "", (400, 400)),
            (POST, &format!("{at}list"), "{}", (400, 400)),
            (POST, &format!("{at}list"), "[", (400, 600)),
            (POST, &format!("{at}what"), "[]", (400, 10)),
            (
                POST,
                &format!("{at}list&complete=true"),
                r#"[{"_key":"a"},{"_key":"a"}]"#,
                (409, 1210),
            ),
        ],
    )
    .await;
    assert_eq!(root.stored("a"), json!(null));
}

/// Requests for what ArangoDB has and this server lacks, and what the answer must name.
const LACKING: [(Method, &str, &str, &str); 20] = [
    (GET, "/_api/gharial", "", "GET /_api/gharial"),
    (
        POST,
        "/_db/_system/_api/transaction/begin",
        "{}",
        "POST /_db/_system/_api/transaction/begin",
    ),
    (PATCH, "/_api/version", "{}", "PATCH /_api/version"),
    (
        POST,
        "/_api/database",
        r#"{"name":"d","users":[{"username":"ann"}]}"#,
        "`users`",
    ),
    (
        POST,
        "/_api/collection",
        r#"{"name":"e","type":3}"#,
        "edge collections",
    ),
    (
        POST,
        "/_api/collection",
        r#"{"name":"e","isSystem":true}"#,
        "system collections",
    ),
    (
        POST,
        "/_api/collection",
        r#"{"name":"e","schema":{"rule":{}}}"#,
        "`schema`",
    ),
    (
        POST,
        "/_api/collection",
        r#"{"name":"e","computedValues":[]}"#,
        "`computedValues`",
    ),
    (
        POST,
        "/_api/collection",
        r#"{"name":"e","keyOptions":{"type":"uuid"}}"#,
        "\"uuid\"",
    ),
    (
        POST,
        "/_api/collection",
        r#"{"name":"e","keyOptions":{"allowUserKeys":false}}"#,
        "`allowUserKeys: false`",
    ),
    (
        GET,
        "/_api/collection/c/count?details=true",
        "",
        "`details`",
    ),
    (
        GET,
        "/_api/index?collection=c&withStats=true",
        "",
        "`withStats`",
    ),
    (
        POST,
        "/_api/index?collection=c",
        r#"{"type":"geo","fields":["a"]}"#,
        "type geo",
    ),
    (
        POST,
        "/_api/index?collection=c",
        r#"{"type":"persistent","fields":["a"],"unique":true}"#,
        "unique indexes",
    ),
    (POST, "/_api/document/c?isRestore=true", "{}", "`isRestore`"),
    (
        POST,
        "/_api/import?collection=c&type=list&fromPrefix=x",
        "[]",
        "`fromPrefix`",
    ),
    (
        POST,
        "/_api/import?collection=c",
        "[\"a\"]\n[1]",
        "header line",
    ),
    (
        POST,
        "/_api/cursor",
        r#"{"query":"FOR d IN c RETURN d","options":{"profile":2}}"#,
        "`profile`",
    ),
    (
        POST,
        "/_api/cursor",
        r#"{"query":"FOR d IN c RETURN d","memoryLimit":1}"#,
        "`memoryLimit`",
    ),
    (
        POST,
        "/_api/cursor",
        r#"{"query":"RETURN 1"}"#,
        "AQL beyond",
    ),
];

#[tokio::test]
async fn what_is_lacking_is_named() {
    let root = Root::start().await;
    for (method, path, body, named) in LACKING {
        let reply = root.call(method, path, body).await;
        assert_eq!(reply.error(), (501, 9), "{path} {body}: {}", reply.body);
        let message = reply.body["errorMessage"].as_str().unwrap();
        assert!(message.contains(named), "{message}");
    }
    let headers = [
        ("x-arango-trx-id", "1"),
        ("x-arango-async", "store"),
        ("content-encoding", "gzip"),
        ("content-type", "application/x-velocypack"),
    ];
    for (name, value) in headers {
        let reply = root
            .call_with(POST, "/_api/document/c", "{}", &[(name, value)])
            .await;
        assert_eq!(reply.error(), (501, 9), "{name}");
    }
    assert_eq!(root.server.documents("_system", "c").unwrap().len(), 0);
}

#[tokio::test]
async fn chunked_bodies_are_refused() {
    let root = Root::start().await;
    let url = root.server.url();
    let exchange = move || {
        let mut stream = TcpStream::connect(url.trim_start_matches("http://"))?;
        let head = "POST /_api/document/c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
        stream.write_all(
            format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n").as_bytes(),
        )?;
        std::io::read_to_string(stream)
    };
    let answer = tokio::task::spawn_blocking(exchange)
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 501 "), "{answer}");
    assert!(answer.contains("lacks chunked request bodies"), "{answer}");
}

#[tokio::test]
async fn methods_that_do_not_exist_are_refused() {
    let root = Root::start().await;
    let method = Method::from_bytes(b"BREW").unwrap();
    assert_eq!(
        root.call(method, "/_api/version", "").await.error(),
        (405, 405)
    );
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_whole() {
    let root = Root::start_with(ArangoServer::builder().body_limit_bytes(100)).await;
    let document = |length: usize| json!({"_key": "k", "text": "x".repeat(length)}).to_string();
    for length in [100, 10_000_000] {
        let reply = root.call(POST, "/_api/document/c", document(length)).await;
        assert_eq!(
            (reply.status.as_u16(), reply.body),
            (413, json!(null)),
            "{length}"
        );
    }
    assert_eq!(root.stored("k"), json!(null));
    assert_eq!(
        root.call(POST, "/_api/document/c", document(10))
            .await
            .status,
        202
    );
}

#[tokio::test]
async fn a_request_that_would_wait_too_long_is_refused() {
    let root = Root::start().await;
    root.server.faults().queue_time_secs(3.0);
    for (accepted, error) in [
        ("2.5", (412, 21004)),
        ("3", (200, 0)),
        ("0", (200, 0)),
        ("x", (200, 0)),
    ] {
        let headers = [("x-arango-queue-time-seconds", accepted)];
        let reply = root.call_with(GET, "/_api/version", "", &headers).await;
        assert_eq!(reply.error(), error, "{accepted}");
        assert_eq!(
            reply.header("x-arango-queue-time-seconds"),
            Some("3.000000")
        );
    }
}
