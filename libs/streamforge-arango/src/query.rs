//! AQL queries: their text is fixed when the program is built, and every value is bound.

use http::{Method, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json, value::RawValue};

use crate::{ArangoError, Database, Reply, RetryKind, database::bad_answer};

/// Rows of one answer. A queue's document has a few KiB, so an answer stays below some MiB.
const BATCH_ROWS: usize = 1000;
const CURSOR_NOT_FOUND: u32 = 1600;

/// A query. Its text is made of literals only, so that nothing that was read can become a part of it.
#[derive(Debug, Clone)]
pub struct Query {
    text: String,
    bound: Map<String, Value>,
}

/// Some rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// In the query's order.
    pub rows: Vec<T>,
    /// Whether there are more behind them.
    pub has_more: bool,
}

#[derive(Deserialize)]
struct Answer {
    result: Vec<Box<RawValue>>,
    #[serde(rename = "hasMore")]
    has_more: bool,
    id: Option<String>,
    extra: Option<Extra>,
}

#[derive(Deserialize)]
struct Extra {
    stats: Option<Statistics>,
}

#[derive(Deserialize)]
struct Statistics {
    #[serde(rename = "writesExecuted", default)]
    writes_executed: u64,
}

impl Query {
    /// Begins a query.
    pub fn new(text: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            bound: Map::new(),
        }
    }

    /// Appends a line.
    pub fn then(mut self, text: &'static str) -> Self {
        self.text.push('\n');
        self.text.push_str(text);
        self
    }

    /// Gives `@name` a value; a collection's is `@@name` in the text and `@name` here.
    pub fn bind(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.bound.insert(name.to_owned(), value.into());
        self
    }

    /// Every row, asked for once.
    pub(crate) async fn rows<T: DeserializeOwned>(
        &self,
        database: &Database,
        doing: &str,
    ) -> Result<Vec<T>, ArangoError> {
        let mut rows = Vec::new();
        let mut answer = self.begin(database, doing).await?;
        loop {
            for row in &answer.result {
                let row = serde_json::from_str(row.get()).map_err(|error| {
                    ArangoError::Permanent(format!("{doing}: a row of the answer: {error}"))
                })?;
                rows.push(row);
            }
            match answer.id {
                Some(id) if answer.has_more => answer = next(database, doing, &id).await?,
                _ => return Ok(rows),
            }
        }
    }

    /// How many documents it changed.
    pub(crate) async fn execute(
        &self,
        database: &Database,
        doing: &str,
    ) -> Result<u64, ArangoError> {
        let answer = self.begin(database, doing).await?;
        let statistics = answer.extra.and_then(|extra| extra.stats);
        Ok(statistics.map_or(0, |statistics| statistics.writes_executed))
    }

    async fn begin(&self, database: &Database, doing: &str) -> Result<Answer, ArangoError> {
        let body = json!({
            "query": self.text,
            "bindVars": self.bound,
            "batchSize": BATCH_ROWS,
        });
        let url = database.url(&["cursor"]);
        let body = body.to_string().into();
        let reply = database.session.send(doing, Method::POST, url, body);
        understand(doing, &reply.await?, StatusCode::CREATED)
    }
}

async fn next(database: &Database, doing: &str, id: &str) -> Result<Answer, ArangoError> {
    let url = database.url(&["cursor", id]);
    let reply = database
        .session
        .send(doing, Method::POST, url, bytes::Bytes::new());
    let reply = reply.await?;
    if reply.error().is_some_and(|e| e.number == CURSOR_NOT_FOUND) {
        let what = format!("{doing}: the database has forgotten the rest of the answer");
        return Err(ArangoError::unavailable(RetryKind::ServerError, what));
    }
    understand(doing, &reply, StatusCode::OK)
}

fn understand(doing: &str, reply: &Reply, expected: StatusCode) -> Result<Answer, ArangoError> {
    match serde_json::from_slice::<Answer>(&reply.body) {
        Ok(answer) if reply.status == expected && (!answer.has_more || answer.id.is_some()) => {
            Ok(answer)
        }
        _ if reply.status.is_success() => Err(bad_answer(doing, reply)),
        _ => Err(reply.to_error(doing)),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn an_answer_that_is_none_is_never_an_empty_result() {
        for body in [
            "{}",
            "[]",
            "",
            "<html>",
            r#"{"result":[]}"#,
            r#"{"result":[],"hasMore":true}"#,
        ] {
            let error = understand("listing", &reply(201, body), StatusCode::CREATED).err();
            let kind = match error.unwrap() {
                ArangoError::Unavailable { kind, .. } => kind,
                other => panic!("{other}"),
            };
            assert_eq!(kind, RetryKind::BadAnswer, "{body}");
        }
        let empty = reply(201, r#"{"result":[],"hasMore":false}"#);
        let rows = understand("listing", &empty, StatusCode::CREATED);
        assert!(rows.unwrap().result.is_empty());
    }

    #[test]
    fn a_query_that_is_not_taken_is_not_asked_again() {
        let body = r#"{"error":true,"errorNum":1501,"errorMessage":"syntax error"}"#;
        let error = understand("listing", &reply(400, body), StatusCode::CREATED).err();
        assert!(matches!(error, Some(ArangoError::Permanent(_))));
    }
}
