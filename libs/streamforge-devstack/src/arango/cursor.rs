//! `/_api/cursor`: the one kind of query this server knows, its results handed out in batches.
//!
//! A cursor keeps the keys of its results and a snapshot of the collection, not the documents: what is
//! written meanwhile does not show, and a cursor over everything stays small.
use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    error::{ApiError, Known},
    record::Record,
    state::{AppState, PathParts, Session, Shared, blocking, parse_json},
    tables::Snapshot,
};

mod order;
mod query;

use query::{Query, Results};

const DEFAULT_BATCH_SIZE: usize = 1000;

/// How long an unused cursor lives if the client does not say, as in ArangoDB.
const DEFAULT_TTL: Duration = Duration::from_secs(30);

/// Options that change at most the speed, so that ignoring them is right.
const HARMLESS_OPTIONS: [&str; 9] = [
    "allowRetry",
    "fullCount",
    "stream",
    "failOnWarning",
    "fillBlockCache",
    "maxWarningCount",
    "optimizer",
    "satelliteSyncWait",
    "skipInaccessibleCollections",
];

/// The cursors that still have something to give.
#[derive(Default)]
pub(crate) struct Cursors(Mutex<HashMap<u64, Cursor>>);

struct Cursor {
    id: u64,
    database: String,
    collection: String,
    documents: Snapshot,
    /// The keys of all results, in their order.
    keys: Vec<String>,
    /// The attributes that are returned, if not all are.
    kept: Option<Vec<String>>,
    handed_out: usize,
    /// Number of the batch that comes next, from 1.
    next_batch: u64,
    /// The batch that was handed out last, for a client that asks again.
    last: Range<usize>,
    settings: Settings,
    statistics: Statistics,
    expires: Instant,
}

/// What the client asked for beside the query.
#[derive(Clone)]
struct Settings {
    batch_size: usize,
    count: bool,
    full_count: bool,
    allow_retry: bool,
    ttl: Duration,
}

#[derive(Clone, Copy)]
struct Statistics {
    scanned_full: usize,
    scanned_index: usize,
    matched: usize,
    removed: usize,
    execution_secs: f64,
}

impl Statistics {
    fn new(results: &Results, started: Instant) -> Self {
        Self {
            scanned_full: results.scanned_full,
            scanned_index: results.scanned_index,
            matched: results.matched,
            removed: 0,
            execution_secs: started.elapsed().as_secs_f64(),
        }
    }

    fn extra(&self, full_count: bool) -> Value {
        let scanned = self.scanned_full + self.scanned_index;
        let mut statistics = json!({
            "writesExecuted": self.removed,
            "writesIgnored": 0,
            "scannedFull": self.scanned_full,
            "scannedIndex": self.scanned_index,
            "filtered": scanned - self.matched,
            "httpRequests": 0,
            "executionTime": self.execution_secs,
            "peakMemoryUsage": 0,
        });
        if full_count {
            statistics["fullCount"] = json!(self.matched);
        }
        json!({"warnings": [], "stats": statistics})
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchAnswer {
    result: Vec<Box<RawValue>>,
    has_more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    cached: bool,
    extra: Value,
    error: bool,
    code: u16,
}

impl Cursors {
    fn live(&self) -> MutexGuard<'_, HashMap<u64, Cursor>> {
        let mut cursors = self
            .0
            .lock()
            .expect("nothing panics while it holds the cursors");
        let now = Instant::now();
        cursors.retain(|_, cursor| cursor.expires > now);
        cursors
    }

    /// Forgets all cursors, and with them their hold on the store.
    pub(crate) fn clear(&self) {
        self.live().clear();
    }
}

impl Cursor {
    fn is_exhausted(&self) -> bool {
        self.handed_out >= self.keys.len()
    }

    fn advance(&mut self) {
        let end = (self.handed_out + self.settings.batch_size).min(self.keys.len());
        self.last = self.handed_out..end;
        self.handed_out = end;
        self.next_batch += 1;
        self.expires = Instant::now() + self.settings.ttl;
    }

    /// The batch that was handed out last.
    fn answer(&self, status: StatusCode) -> Result<Response, ApiError> {
        let result: Result<Vec<_>, ApiError> = self.keys[self.last.clone()]
            .iter()
            .map(|key| {
                let stored = self.documents.get(key.as_str())?.ok_or(Known::Internal)?;
                let text = Record::decode(stored.value()).render(&self.collection, key)?;
                Ok(match &self.kept {
                    Some(names) => keep(&text, names)?,
                    None => RawValue::from_string(text)?,
                })
            })
            .collect();
        let has_more = !self.is_exhausted();
        let body = BatchAnswer {
            result: result?,
            has_more,
            id: (has_more || self.settings.allow_retry).then(|| self.id.to_string()),
            next_batch_id: has_more.then(|| self.next_batch.to_string()),
            count: self.settings.count.then_some(self.keys.len()),
            cached: false,
            extra: self.statistics.extra(self.settings.full_count),
            error: false,
            code: status.as_u16(),
        };
        Ok((status, Json(body)).into_response())
    }
}

/// A document with these attributes only, as far as it has them.
fn keep(text: &str, names: &[String]) -> Result<Box<RawValue>, serde_json::Error> {
    let mut attributes: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
    attributes.retain(|name, _| names.contains(name));
    serde_json::value::to_raw_value(&attributes)
}

/// `POST /_api/cursor`
pub(crate) async fn create(
    State(state): State<AppState>,
    session: Session,
    body: Bytes,
) -> Result<Response, ApiError> {
    if body.trim_ascii().is_empty() {
        return Err(Known::QueryEmpty.into());
    }
    let body = match parse_json(&body)? {
        Value::Object(body) => body,
        Value::Null => return Err(Known::QueryEmpty.into()),
        _ => return Err(ApiError::about(Known::CorruptedJson, "an object is needed")),
    };
    let settings = Settings::parse(&body)?;
    let query = parsed_query(&body)?;
    if query.removes {
        session.may_write()?;
        return blocking(state, move |state| {
            remove_found(state, &session.database, &query, &settings)
        })
        .await;
    }
    blocking(state, move |state| {
        let mut cursor = evaluate(state, &session.database, &query, settings)?;
        cursor.advance();
        let answer = cursor.answer(StatusCode::CREATED)?;
        if !cursor.is_exhausted() || cursor.settings.allow_retry {
            state.cursors.live().insert(cursor.id, cursor);
        }
        Ok(answer)
    })
    .await
}

fn parsed_query(body: &Map<String, Value>) -> Result<Query, ApiError> {
    let text = match body.get("query") {
        None => {
            return Err(ApiError::about(
                Known::CorruptedJson,
                "attribute 'query' is missing",
            ));
        }
        Some(Value::String(text)) if !text.is_empty() => text,
        Some(_) => return Err(Known::QueryEmpty.into()),
    };
    if text.trim().is_empty() {
        return Err(Known::QueryParse.into());
    }
    let no_variables = Map::new();
    let variables = match body.get("bindVars") {
        Some(Value::Object(variables)) => variables,
        _ => &no_variables,
    };
    Query::parse(text, variables)
}

impl Settings {
    fn parse(body: &Map<String, Value>) -> Result<Self, ApiError> {
        let no_options = Map::new();
        let options = body
            .get("options")
            .and_then(Value::as_object)
            .unwrap_or(&no_options);
        let is_on =
            |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && value != 0;
        let lacking = options
            .iter()
            .find(|(name, value)| is_on(value) && !HARMLESS_OPTIONS.contains(&name.as_str()));
        if let Some((name, _)) = lacking {
            return Err(ApiError::lacking(format!("the query option `{name}`")));
        }
        if body.get("memoryLimit").is_some_and(is_on) {
            return Err(ApiError::lacking("the query option `memoryLimit`"));
        }
        let batch_size = match body.get("batchSize").map(|size| (size, size.as_u64())) {
            None | Some((Value::Null, _)) => DEFAULT_BATCH_SIZE,
            Some((_, Some(size))) if size > 0 => usize::try_from(size).unwrap_or(usize::MAX),
            Some(_) => {
                return Err(ApiError::about(
                    Known::BadParameter,
                    "batchSize must be 1 or more",
                ));
            }
        };
        let ttl = body
            .get("ttl")
            .and_then(Value::as_f64)
            .filter(|ttl| *ttl > 0.0);
        let ttl = ttl.and_then(|secs| Duration::try_from_secs_f64(secs).ok());
        let flag = |map: &Map<String, Value>, name| map.get(name) == Some(&Value::Bool(true));
        Ok(Self {
            batch_size,
            count: flag(body, "count"),
            full_count: flag(options, "fullCount"),
            allow_retry: flag(options, "allowRetry"),
            ttl: ttl.unwrap_or(DEFAULT_TTL),
        })
    }
}

fn evaluate(
    state: &Shared,
    database: &str,
    query: &Query,
    settings: Settings,
) -> Result<Cursor, ApiError> {
    let started = Instant::now();
    let (collection, documents) = state.store.read(database, &query.collection)?;
    let results = query.run(&documents, settings.full_count)?;
    Ok(Cursor {
        id: state.store.tick(),
        database: database.to_owned(),
        collection: collection.name,
        documents,
        statistics: Statistics::new(&results, started),
        keys: results.keys,
        kept: query.kept.clone(),
        handed_out: 0,
        next_batch: 1,
        last: 0..0,
        expires: Instant::now() + settings.ttl,
        settings,
    })
}

/// Finds and removes in one transaction.
fn remove_found(
    state: &Shared,
    database: &str,
    query: &Query,
    settings: &Settings,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let statistics = state
        .store
        .write(database, &query.collection, false, |_, documents| {
            let results = query.run(documents, settings.full_count)?;
            for key in &results.keys {
                documents.remove(key)?;
            }
            Ok(Statistics {
                removed: results.keys.len(),
                ..Statistics::new(&results, started)
            })
        })?;
    state.tallies.add_written(statistics.removed);
    let body = BatchAnswer {
        result: Vec::new(),
        has_more: false,
        id: None,
        next_batch_id: None,
        count: settings.count.then_some(0),
        cached: false,
        extra: statistics.extra(settings.full_count),
        error: false,
        code: StatusCode::CREATED.as_u16(),
    };
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// `PUT` or `POST /_api/cursor/{id}`: the next batch.
pub(crate) async fn next(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
) -> Result<Response, ApiError> {
    blocking(state, move |state| {
        hand_out(state, &session, &path.id, None)
    })
    .await
}

/// `POST /_api/cursor/{id}/{batch}`: the next batch, or with `allowRetry` the last one again.
pub(crate) async fn batch(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
) -> Result<Response, ApiError> {
    blocking(state, move |state| {
        hand_out(state, &session, &path.id, Some(&path.batch))
    })
    .await
}

fn hand_out(
    state: &Shared,
    session: &Session,
    id: &str,
    batch: Option<&str>,
) -> Result<Response, ApiError> {
    let mut cursors = state.cursors.live();
    let (id, cursor) = id
        .parse()
        .ok()
        .and_then(|id: u64| Some((id, cursors.get_mut(&id)?)))
        .filter(|(_, cursor)| cursor.database == session.database)
        .ok_or(Known::CursorNotFound)?;
    let next_batch = cursor.next_batch;
    let again = match batch.map(str::parse::<u64>) {
        None => false,
        Some(Ok(number)) if number == next_batch => false,
        Some(Ok(number)) if number + 1 == next_batch && cursor.settings.allow_retry => true,
        Some(_) => return Err(Known::CursorNotFound.into()),
    };
    if !again {
        if cursor.is_exhausted() {
            return Err(Known::CursorNotFound.into());
        }
        cursor.advance();
    }
    let answer = cursor.answer(StatusCode::OK)?;
    if cursor.is_exhausted() && !cursor.settings.allow_retry {
        cursors.remove(&id);
    }
    Ok(answer)
}

/// `DELETE /_api/cursor/{id}`
pub(crate) async fn remove(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
) -> Result<Response, ApiError> {
    let mut cursors = state.cursors.live();
    let id: u64 = path.id.parse().map_err(|_| Known::CursorNotFound)?;
    if cursors
        .get(&id)
        .is_none_or(|cursor| cursor.database != session.database)
    {
        return Err(Known::CursorNotFound.into());
    }
    cursors.remove(&id);
    let body = json!({"id": path.id, "error": false, "code": 202});
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}
