//! Logging in, grants, and what every answer carries.
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use streamforge_devstack::arango::{ArangoServer, Grant};

use super::{PASSWORD, Root, reply};

#[tokio::test]
async fn every_answer_says_that_it_is_arangodb() {
    let root = Root::start().await;
    for path in [
        "/",
        "/_api/version",
        "/_api/nothing",
        "/_api/document/c/absent",
    ] {
        let reply = root.get(path).await;
        assert_eq!(reply.header("server"), Some("ArangoDB"), "{path}");
        assert_eq!(
            reply.header("x-arango-queue-time-seconds"),
            Some("0.000000"),
            "{path}"
        );
    }
    let stranger = reqwest::get(format!("{}/_api/version", root.server.url()))
        .await
        .unwrap();
    assert_eq!(stranger.headers()["server"], "ArangoDB");
}

#[tokio::test]
async fn a_token_is_as_good_as_a_password_until_it_expires() {
    let builder = ArangoServer::builder().jwt_lifetime(Duration::from_secs(2));
    let root = Root::start_with(builder).await;
    let url = root.server.url();
    let login = root
        .post(
            "/_open/auth",
            json!({"username": "root", "password": PASSWORD}),
        )
        .await;
    assert_eq!(login.status, 200);
    let token = login.body["jwt"].as_str().unwrap();
    let version = async |scheme: &str| {
        let request = root.http.get(format!("{url}/_api/version"));
        let response = request
            .header("authorization", format!("{scheme} {token}"))
            .send();
        reply(response.await.unwrap()).await
    };
    for scheme in ["bearer", "Bearer"] {
        let reply = version(scheme).await;
        assert_eq!(reply.status, 200);
        assert_eq!(
            reply.body,
            json!({"server": "arango", "license": "community", "version": "3.12.4"})
        );
    }
    let expired = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let reply = version("bearer").await;
            if reply.status != 200 {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert_eq!(expired.await.unwrap().error(), (401, 11));
}

#[tokio::test]
async fn wrong_credentials_are_refused() {
    let root = Root::start().await;
    for (body, error) in [
        (r#"{"username":"root","password":"wrong"}"#, (401, 401)),
        (r#"{"username":"nobody","password":"secret"}"#, (401, 401)),
        (r#"{"username":"root"}"#, (400, 400)),
        ("[]", (400, 400)),
        ("not json", (400, 400)),
    ] {
        let reply = root.call(Method::POST, "/_open/auth", body).await;
        assert_eq!(reply.error(), error, "{body}");
    }
    let http = &root.http;
    let url = format!("{}/_api/version", root.server.url());
    for request in [
        http.get(&url),
        http.get(&url).basic_auth("root", Some("wrong")),
        http.get(&url).bearer_auth("forged"),
    ] {
        let reply = reply(request.send().await.unwrap()).await;
        assert_eq!(reply.error(), (401, 11));
        let message = "not authorized to execute this request";
        assert_eq!(
            reply.body,
            json!({"error": true, "code": 401, "errorNum": 11, "errorMessage": message})
        );
        assert_eq!(reply.headers.get_all("www-authenticate").iter().count(), 2);
    }
}

#[tokio::test]
async fn only_the_open_paths_need_no_login() {
    let root = Root::start().await;
    for (path, status) in [
        ("/", 200),
        ("/_admin/server/availability", 200),
        ("/_api/version", 401),
        ("/_api/nothing", 401),
        ("/_db/nothing/_api/version", 401),
    ] {
        let url = format!("{}{path}", root.server.url());
        assert_eq!(reqwest::get(url).await.unwrap().status(), status, "{path}");
    }
}

const NEW_DATABASE: &str = r#"{"name":"new"}"#;
const NEW_COLLECTION: &str = r#"{"name":"c2"}"#;

/// Who asks what, and the HTTP status and `errorNum` of the answer.
type GrantCase = (&'static str, Method, &'static str, &'static str, (u16, i64));

const GRANT_CASES: [GrantCase; 16] = [
    // Access is checked before existence.
    (
        "writer",
        Method::POST,
        "/_api/database",
        NEW_DATABASE,
        (401, 11),
    ),
    (
        "writer",
        Method::GET,
        "/_db/unknown/_api/version",
        "",
        (401, 11),
    ),
    (
        "writer",
        Method::POST,
        "/_db/d/_api/document/c",
        "{}",
        (202, 0),
    ),
    (
        "writer",
        Method::POST,
        "/_db/d/_api/collection",
        NEW_COLLECTION,
        (200, 0),
    ),
    (
        "writer",
        Method::POST,
        "/_db/d/_api/database",
        NEW_DATABASE,
        (403, 1230),
    ),
    (
        "reader",
        Method::POST,
        "/_api/database",
        NEW_DATABASE,
        (403, 11),
    ),
    (
        "reader",
        Method::POST,
        "/_db/d/_api/document/c",
        "{}",
        (403, 1004),
    ),
    (
        "reader",
        Method::POST,
        "/_db/d/_api/import?collection=c",
        "{}",
        (403, 1004),
    ),
    (
        "reader",
        Method::POST,
        "/_db/d/_api/collection",
        NEW_COLLECTION,
        (403, 11),
    ),
    (
        "reader",
        Method::DELETE,
        "/_db/d/_api/collection/c",
        "",
        (403, 11),
    ),
    (
        "reader",
        Method::GET,
        "/_db/d/_api/collection/c",
        "",
        (200, 0),
    ),
    (
        "maker",
        Method::POST,
        "/_api/database",
        NEW_DATABASE,
        (201, 0),
    ),
    (
        "maker",
        Method::POST,
        "/_db/new/_api/collection",
        NEW_COLLECTION,
        (200, 0),
    ),
    (
        "maker",
        Method::GET,
        "/_db/unknown/_api/version",
        "",
        (404, 1228),
    ),
    (
        "reader",
        Method::POST,
        "/_db/d/_api/cursor",
        r#"{"query":"FOR d IN c REMOVE d IN c"}"#,
        (403, 1004),
    ),
    (
        "maker",
        Method::GET,
        "/_api/user/root/database",
        "",
        (403, 11),
    ),
];

#[tokio::test]
async fn grants_limit_what_a_user_may_do() {
    let builder = ArangoServer::builder()
        .user("writer", "w", &[("d", Grant::ReadWrite)])
        .user(
            "reader",
            "r",
            &[("d", Grant::ReadOnly), ("_system", Grant::ReadOnly)],
        )
        .user(
            "maker",
            "m",
            &[("_system", Grant::ReadWrite), ("*", Grant::ReadWrite)],
        );
    let root = Root::start_with(builder).await;
    root.post("/_api/database", json!({"name": "d"})).await;
    root.post("/_db/d/_api/collection", json!({"name": "c"}))
        .await;

    for (user, method, path, body, error) in GRANT_CASES {
        let url = format!("{}{path}", root.server.url());
        let request = root
            .http
            .request(method.clone(), url)
            .basic_auth(user, Some(&user[..1]));
        let reply = reply(request.body(body).send().await.unwrap()).await;
        assert_eq!(
            reply.error(),
            error,
            "{user} {method} {path}: {}",
            reply.body
        );
    }

    let own = root
        .http
        .get(format!("{}/_api/user/writer/database", root.server.url()));
    let own = reply(own.basic_auth("writer", Some("w")).send().await.unwrap()).await;
    assert_eq!(own.body["result"], json!({"d": "rw"}));
    let all = root.get("/_api/user/root/database").await;
    assert_eq!(
        all.body["result"],
        json!({"_system": "rw", "d": "rw", "new": "rw"})
    );
    assert_eq!(
        root.get("/_api/user/nobody/database").await.error(),
        (404, 1703)
    );
}
