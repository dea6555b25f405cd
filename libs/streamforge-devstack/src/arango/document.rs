//! `/_api/document`: one document by its key, and arrays of them.
//!
//! This file turns requests into calls of [`super::write`]; the shape of the answers is in [`respond`].
use axum::{
    extract::State,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::Value;

use super::{
    error::{ApiError, Known},
    record::Record,
    state::{AppState, PathParts, Query, Session, blocking, header_text, parse_json},
    tables::Snapshot,
    write::{Batch, Change, OverwriteMode, Slot, WriteOptions, selected_key},
};

mod respond;

use respond::Answer;

type Outcome = Result<Response, ApiError>;

/// Parameters of ArangoDB that change what a write does and that this server does not know.
const LACKING: [&str; 2] = ["isRestore", "isSynchronousReplication"];

fn options(query: &Query, headers: &HeaderMap) -> Result<WriteOptions, ApiError> {
    query.refuse(&LACKING)?;
    let replaces = query.flag("overwrite", false);
    let overwrite_mode = match query.get("overwriteMode") {
        Some("conflict") => OverwriteMode::Conflict,
        Some("ignore") => OverwriteMode::Ignore,
        Some("update") => OverwriteMode::Update,
        Some("replace") => OverwriteMode::Replace,
        // An unknown mode counts as none.
        _ if replaces => OverwriteMode::Replace,
        _ => OverwriteMode::Conflict,
    };
    Ok(WriteOptions {
        overwrite_mode,
        return_new: query.flag("returnNew", false),
        return_old: query.flag("returnOld", false),
        keep_null: query.flag("keepNull", true),
        merge_objects: query.flag("mergeObjects", true),
        ignore_revs: query.flag("ignoreRevs", true),
        if_match: header_text(headers, "if-match").map(str::to_owned),
        version_attribute: query
            .get("versionAttribute")
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
    })
}

/// What a write request is made of, whatever its method.
struct WriteRequest {
    state: AppState,
    session: Session,
    path: PathParts,
    query: Query,
    options: WriteOptions,
}

impl WriteRequest {
    fn new(
        state: AppState,
        session: Session,
        path: PathParts,
        query: Query,
        headers: &HeaderMap,
    ) -> Result<Self, ApiError> {
        session.may_write()?;
        let options = options(&query, headers)?;
        Ok(Self {
            state,
            session,
            path,
            query,
            options,
        })
    }

    /// Parses the body and writes what `work` makes of it, in one transaction.
    async fn run(
        self,
        removes: bool,
        body: Bytes,
        work: impl FnOnce(&mut Batch<'_, '_>, &str, Value) -> Result<Slots, ApiError> + Send + 'static,
    ) -> Outcome {
        let wait_for_sync = self.query.flag("waitForSync", false);
        let silent = self.query.flag("silent", false);
        let Self {
            state,
            session,
            path,
            options,
            ..
        } = self;
        blocking(state, move |state| {
            let store = &state.store;
            // The collection's absence is reported before the body's faults.
            let collection = store.collection(&session.database, &path.collection)?;
            let body = match body.as_ref() {
                [] if removes => Value::Null,
                bytes => parse_json(bytes)?,
            };
            let rejection = state.faults.rejection();
            let database = &session.database;
            let slots = store.write(
                database,
                &path.collection,
                wait_for_sync,
                |found, documents| {
                    let mut batch = Batch {
                        store,
                        collection: &found.name,
                        documents,
                        options: &options,
                        rejection: rejection.as_ref(),
                    };
                    work(&mut batch, &path.key, body)
                },
            )?;
            state.tallies.add_written(slots.stored());
            let answer = Answer {
                database,
                collection: &collection.name,
                silent,
                status: written_status(removes, wait_for_sync || collection.wait_for_sync),
            };
            match slots {
                Slots::One(slot) => answer.single(*slot),
                Slots::Many(slots) => answer.array(&slots),
            }
        })
        .await
    }
}

/// What a write came to: one document's outcome, or those of an array in its order.
enum Slots {
    One(Box<Slot>),
    Many(Vec<Slot>),
}

impl Slots {
    fn one(slot: Slot) -> Self {
        Self::One(Box::new(slot))
    }

    fn stored(&self) -> usize {
        let is_stored = |slot: &Slot| slot.as_ref().is_ok_and(|written| written.stored);
        match self {
            Self::One(slot) => usize::from(is_stored(slot)),
            Self::Many(slots) => slots.iter().filter(|slot| is_stored(slot)).count(),
        }
    }
}

fn written_status(removes: bool, synced: bool) -> StatusCode {
    match (removes, synced) {
        (_, false) => StatusCode::ACCEPTED,
        (true, true) => StatusCode::OK,
        (false, true) => StatusCode::CREATED,
    }
}

/// `POST /_api/document/{collection}`: one document or an array.
pub(crate) async fn insert(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
    query: Query,
    headers: HeaderMap,
    body: Bytes,
) -> Outcome {
    let request = WriteRequest::new(state, session, path, query, &headers)?;
    let work = |batch: &mut Batch<'_, '_>, _: &str, body| match body {
        Value::Array(documents) => many(documents, |document| batch.insert(document)),
        document => Ok(Slots::one(batch.insert(document)?)),
    };
    request.run(false, body, work).await
}

fn many(
    items: Vec<Value>,
    write: impl FnMut(Value) -> Result<Slot, ApiError>,
) -> Result<Slots, ApiError> {
    let slots: Result<Vec<Slot>, ApiError> = items.into_iter().map(write).collect();
    Ok(Slots::Many(slots?))
}

fn must_be_array(body: Value) -> Result<Vec<Value>, ApiError> {
    match body {
        Value::Array(items) => Ok(items),
        _ => Err(ApiError::about(
            Known::HttpBadParameter,
            "an array is needed",
        )),
    }
}

/// `PUT /_api/document/{collection}`: replaces the documents of an array, or with `onlyget` reads them.
pub(crate) async fn replace_many(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
    query: Query,
    headers: HeaderMap,
    body: Bytes,
) -> Outcome {
    if query.flag("onlyget", false) {
        return read_many(state, session, path, body).await;
    }
    let request = WriteRequest::new(state, session, path, query, &headers)?;
    request.modify_many(Change::Replace, body).await
}

/// `PATCH /_api/document/{collection}`: merges the documents of an array into those that are there.
pub(crate) async fn update_many(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
    query: Query,
    headers: HeaderMap,
    body: Bytes,
) -> Outcome {
    let request = WriteRequest::new(state, session, path, query, &headers)?;
    request.modify_many(Change::Update, body).await
}

/// `DELETE /_api/document/{collection}`: an array of keys, ids or objects.
pub(crate) async fn remove_many(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
    query: Query,
    headers: HeaderMap,
    body: Bytes,
) -> Outcome {
    let request = WriteRequest::new(state, session, path, query, &headers)?;
    let work = |batch: &mut Batch<'_, '_>, _: &str, body| {
        many(must_be_array(body)?, |selector| batch.remove(&selector))
    };
    request.run(true, body, work).await
}

/// `PUT /_api/document/{collection}/{key}`
pub(crate) async fn replace(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
    query: Query,
    headers: HeaderMap,
    body: Bytes,
) -> Outcome {
    let request = WriteRequest::new(state, session, path, query, &headers)?;
    request.modify_one(Change::Replace, body).await
}

/// `PATCH /_api/document/{collection}/{key}`
pub(crate) async fn update(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
    query: Query,
    headers: HeaderMap,
    body: Bytes,
) -> Outcome {
    let request = WriteRequest::new(state, session, path, query, &headers)?;
    request.modify_one(Change::Update, body).await
}

impl WriteRequest {
    async fn modify_many(self, change: Change, body: Bytes) -> Outcome {
        let work = move |batch: &mut Batch<'_, '_>, _: &str, body| {
            many(must_be_array(body)?, |document| {
                batch.modify(change, None, document)
            })
        };
        self.run(false, body, work).await
    }

    async fn modify_one(self, change: Change, body: Bytes) -> Outcome {
        let work = move |batch: &mut Batch<'_, '_>, key: &str, body| {
            Ok(Slots::one(batch.modify(change, Some(key), body)?))
        };
        self.run(false, body, work).await
    }
}

/// `DELETE /_api/document/{collection}/{key}`
pub(crate) async fn remove(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
    query: Query,
    headers: HeaderMap,
) -> Outcome {
    let request = WriteRequest::new(state, session, path, query, &headers)?;
    let work =
        |batch: &mut Batch<'_, '_>, key: &str, _| Ok(Slots::one(batch.remove(&Value::from(key))?));
    request.run(true, Bytes::new(), work).await
}

/// `GET` and `HEAD /_api/document/{collection}/{key}`
pub(crate) async fn read(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
    headers: HeaderMap,
) -> Outcome {
    blocking(state, move |state| {
        let (collection, documents) = state.store.read(&session.database, &path.collection)?;
        let stored = documents.get(path.key.as_str())?;
        let stored = stored.ok_or(Known::DocumentNotFound)?;
        let record = Record::decode(stored.value());
        let is_named =
            |name| header_text(&headers, name).map(|tag| record.revision.is_named_by(tag));
        if is_named("if-match") == Some(false) {
            return Err(ApiError::conflict(
                &collection.name,
                &path.key,
                record.revision,
            ));
        }
        let etag = [(header::ETAG, record.revision.etag())];
        if is_named("if-none-match") == Some(true) {
            return Ok((StatusCode::NOT_MODIFIED, etag).into_response());
        }
        let text = record.render(&collection.name, &path.key)?;
        Ok((etag, respond::json_text(StatusCode::OK, text)).into_response())
    })
    .await
}

/// `PUT /_api/document/{collection}?onlyget=true`
async fn read_many(state: AppState, session: Session, path: PathParts, body: Bytes) -> Outcome {
    blocking(state, move |state| {
        let (collection, documents) = state.store.read(&session.database, &path.collection)?;
        let selectors = must_be_array(parse_json(&body)?)?;
        let slots: Result<Vec<_>, ApiError> = selectors
            .iter()
            .map(|selector| read_one(&documents, &collection.name, selector))
            .collect();
        Ok(respond::array_of_texts(&slots?))
    })
    .await
}

fn read_one(
    documents: &Snapshot,
    collection: &str,
    selector: &Value,
) -> Result<Result<String, ApiError>, ApiError> {
    let key = match selected_key(selector) {
        Ok(key) => key,
        Err(error) => return Ok(Err(error)),
    };
    Ok(match documents.get(key.as_str())? {
        Some(stored) => Ok(Record::decode(stored.value()).render(collection, &key)?),
        None => Err(Known::DocumentNotFound.into()),
    })
}

/// `/_api/document` without a collection.
pub(crate) async fn collection_missing() -> ApiError {
    Known::CollectionParameterMissing.into()
}

/// More path segments than a collection and a key.
pub(crate) async fn superfluous_suffix(method: Method) -> ApiError {
    ApiError::about(
        Known::SuperfluousSuffices,
        format!("{method} takes /_api/document/<collection>/<key>"),
    )
}
