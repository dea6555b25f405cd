//! The ArangoDB stand-in over HTTP: every route, every error it can give, and its faults.
//!
//! What other people's clients make of it is in `arango_clients`.
use reqwest::{
    Method, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Value, json};
use streamforge_devstack::arango::{ArangoBuilder, ArangoServer};

mod access;
mod cursors;
mod documents;
mod errors;
mod faults;
mod import;
mod management;
mod storage;

pub(crate) const PASSWORD: &str = "secret";

/// A server with the collection `c` in `_system`, and a client who is root.
struct Root {
    server: ArangoServer,
    http: reqwest::Client,
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Reply {
    /// The HTTP status and the `errorNum`, 0 if there is none.
    fn error(&self) -> (u16, i64) {
        let num = self.body["errorNum"].as_i64().unwrap_or(0);
        (self.status.as_u16(), num)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Root {
    async fn start() -> Self {
        Self::start_with(ArangoServer::builder()).await
    }

    async fn start_with(builder: ArangoBuilder) -> Self {
        let server = builder.root_password(PASSWORD).start().await.unwrap();
        let http = reqwest::Client::new();
        let root = Self { server, http };
        let created = root.post("/_api/collection", json!({"name": "c"})).await;
        assert!(
            matches!(created.error(), (200, 0) | (409, 1207)),
            "{}",
            created.body
        );
        root
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.server.url());
        let request = self.http.request(method, url);
        request.basic_auth("root", Some(PASSWORD))
    }

    async fn call(&self, method: Method, path: &str, body: impl Into<String>) -> Reply {
        self.call_with(method, path, body, &[]).await
    }

    async fn call_with(
        &self,
        method: Method,
        path: &str,
        body: impl Into<String>,
        headers: &[(&'static str, &str)],
    ) -> Reply {
        let headers = headers.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value).unwrap();
            (HeaderName::from_static(name), value)
        });
        let request = self.request(method, path).headers(headers.collect());
        reply(request.body(body.into()).send().await.unwrap()).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, "").await
    }

    async fn delete(&self, path: &str) -> Reply {
        self.call(Method::DELETE, path, "").await
    }

    async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Method::POST, path, body.to_string()).await
    }

    async fn put(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PUT, path, body.to_string()).await
    }

    async fn patch(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PATCH, path, body.to_string()).await
    }

    /// What is stored under a key of `c`; null if nothing is.
    fn stored(&self, key: &str) -> Value {
        let documents = self.server.documents("_system", "c").unwrap();
        documents.get(key).cloned().unwrap_or(Value::Null)
    }
}

async fn reply(response: reqwest::Response) -> Reply {
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = match text.as_str() {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
    };
    Reply {
        status,
        headers,
        body,
    }
}

/// The value with every revision and generated number replaced by what it is.
fn steady(mut value: Value) -> Value {
    const REVISIONS: [&str; 2] = ["_rev", "_oldRev"];
    match &mut value {
        Value::Object(attributes) => {
            for (name, inner) in attributes.iter_mut() {
                *inner = match inner.take() {
                    Value::String(_) if REVISIONS.contains(&name.as_str()) => json!("REV"),
                    Value::String(text) if name == "id" => {
                        json!(text.replace(char::is_numeric, ""))
                    }
                    other => steady(other),
                };
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| *item = steady(item.take())),
        _ => {}
    }
    value
}
