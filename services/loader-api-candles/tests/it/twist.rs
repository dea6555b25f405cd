//! An exchange that misbehaves: a proxy before an honest one that changes questions and answers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use serde_json::Value;
use streamforge_devstack::exchange::Exchange;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use url::Url;

/// A request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    /// How many requests of this path there were so far, from 1.
    pub(crate) nth: usize,
}

impl Asked {
    pub(crate) fn is_klines(&self) -> bool {
        self.path == "/api/v3/klines"
    }

    pub(crate) fn start(&self) -> Option<i64> {
        Some(self.query.get("startTime")?.parse().unwrap())
    }

    pub(crate) fn end(&self) -> Option<i64> {
        Some(self.query.get("endTime")?.parse().unwrap())
    }

    pub(crate) fn limit(&self) -> usize {
        self.query["limit"].parse().unwrap()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Code and reason.
    pub(crate) status: String,
    /// Lines with their ends.
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn new(status: &str, headers: &str, body: &str) -> Self {
        Self {
            status: status.to_owned(),
            headers: headers.to_owned(),
            body: body.to_owned(),
        }
    }

    /// The same with its klines changed.
    pub(crate) fn rows(mut self, change: impl FnOnce(&mut Vec<Vec<Value>>)) -> Self {
        let mut rows: Vec<Vec<Value>> = serde_json::from_str(&self.body).unwrap();
        change(&mut rows);
        self.body = serde_json::to_string(&rows).unwrap();
        self
    }
}

/// A running proxy. Every request is kept.
pub(crate) struct Twisted {
    pub(crate) url: Url,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Twisted {
    /// What was asked for under `path`.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|it| it.path == path).cloned().collect()
    }

    pub(crate) fn klines(&self) -> Vec<Asked> {
        self.asked("/api/v3/klines")
    }
}

/// Passes on what `rewrite` makes of a query, and answers what `twist` makes of the honest answer.
pub(crate) async fn twisted(
    exchange: &Exchange,
    rewrite: impl Fn(&mut Asked) + Send + Sync + 'static,
    twist: impl Fn(&Asked, Answer) -> Answer + Send + Sync + 'static,
) -> Twisted {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let (honest, kept) = (exchange.url().clone(), Arc::clone(&asked));
    let way = Arc::new((rewrite, twist));
    tokio::spawn(async move {
        let http = reqwest::Client::new();
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let (http, honest, kept) = (http.clone(), honest.clone(), Arc::clone(&kept));
            let way = Arc::clone(&way);
            tokio::spawn(async move {
                let mut connection = connection;
                let Some(came) = read(&mut connection, &kept).await else {
                    return;
                };
                let mut sent = came.clone();
                (way.0)(&mut sent);
                let url = honest.join(&sent.path).unwrap();
                let answer = http.get(url).query(&sent.query).send().await.unwrap();
                let used = answer.headers().get("x-mbx-used-weight-1m").cloned();
                let used = used.map_or("0".to_owned(), |used| used.to_str().unwrap().to_owned());
                let answer = Answer {
                    status: answer.status().to_string(),
                    headers: format!("x-mbx-used-weight-1m: {used}\r\n"),
                    body: answer.text().await.unwrap(),
                };
                let Answer {
                    status,
                    headers,
                    body,
                } = (way.1)(&came, answer);
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
                );
                // Who was stopped does not read it.
                let _ = connection.write_all(answer.as_bytes()).await;
            });
        }
    });
    Twisted {
        url: url.parse().unwrap(),
        asked,
    }
}

async fn read(connection: &mut TcpStream, kept: &Mutex<Vec<Asked>>) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1)?;
    let url = Url::parse("http://proxy").unwrap().join(target).unwrap();
    let mut kept = kept.lock().unwrap();
    let path = url.path().to_owned();
    let asked = Asked {
        at: Instant::now(),
        nth: kept.iter().filter(|it| it.path == path).count() + 1,
        query: url.query_pairs().into_owned().collect(),
        path,
    };
    kept.push(asked.clone());
    Some(asked)
}
