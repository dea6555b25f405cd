//! `/_api/collection`: listing, creating, describing, emptying and deleting collections.
use axum::{Json, extract::State};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    catalog::{Collection, checked_name},
    error::{ApiError, Known},
    state::{AppState, PathParts, Query, Session, blocking, parse_json},
    tables,
};

/// Longest name of a collection, in bytes.
const MAX_NAME_BYTES: usize = 256;

type Answer = Result<Json<Value>, ApiError>;

/// Wraps what is told of a collection as a successful answer.
fn success(mut description: Value) -> Json<Value> {
    description["error"] = json!(false);
    description["code"] = json!(200);
    Json(description)
}

fn basic(collection: &Collection) -> Value {
    json!({
        "id": collection.id.to_string(),
        "name": collection.name,
        "status": 3,
        "type": 2,
        "isSystem": false,
        "globallyUniqueId": format!("h{:X}/{}", collection.id, collection.id),
    })
}

fn full(collection: &Collection) -> Value {
    let mut description = basic(collection);
    let properties = json!({
        "statusString": "loaded",
        "waitForSync": collection.wait_for_sync,
        "keyOptions": {"allowUserKeys": true, "type": "traditional", "lastValue": 0},
        "schema": null,
        "computedValues": null,
        "cacheEnabled": collection.cache_enabled,
        "syncByRevision": true,
        "writeConcern": 1,
        "internalValidatorType": 0,
    });
    if let (Some(target), Value::Object(properties)) = (description.as_object_mut(), properties) {
        target.extend(properties);
    }
    description
}

/// `GET /_api/collection`. There are no system collections, so `excludeSystem` changes nothing.
pub(crate) async fn list(State(state): State<AppState>, session: Session) -> Answer {
    let catalog = state.store.catalog();
    let collections = catalog.database(&session.database)?.collections.values();
    let result: Vec<_> = collections.map(basic).collect();
    Ok(success(json!({"result": result})))
}

/// `POST /_api/collection`
pub(crate) async fn create(State(state): State<AppState>, session: Session, body: Bytes) -> Answer {
    session.may_manage()?;
    let Value::Object(options) = parse_json(&body)? else {
        return Err(ApiError::about(Known::CorruptedJson, "an object is needed"));
    };
    let name = checked_name(options.get("name"), MAX_NAME_BYTES)?.to_owned();
    refuse_lacking(&options)?;
    let flag = |name| options.get(name).and_then(Value::as_bool).unwrap_or(false);
    let (wait_for_sync, cache_enabled) = (flag("waitForSync"), flag("cacheEnabled"));
    let created = blocking(state, move |state| {
        state.store.alter(|catalog, transaction| {
            if catalog.collection(&session.database, &name).is_ok() {
                return Err(ApiError::about(Known::DuplicateName, &name));
            }
            let collection = Collection {
                wait_for_sync,
                cache_enabled,
                ..Collection::new(state.store.tick(), &name)
            };
            tables::create(transaction, &collection)?;
            let database = catalog.databases.get_mut(&session.database);
            let database = database.ok_or(Known::DatabaseNotFound)?;
            database.collections.insert(name, collection.clone());
            Ok(collection)
        })
    })
    .await?;
    Ok(success(full(&created)))
}

/// 501 for what a collection of ArangoDB can be and one of this server cannot.
fn refuse_lacking(options: &Map<String, Value>) -> Result<(), ApiError> {
    let is_set = |name: &str| options.get(name).is_some_and(|value| !value.is_null());
    if options.get("type").is_some_and(|kind| kind != 2) {
        return Err(ApiError::lacking("edge collections"));
    }
    if options.get("isSystem") == Some(&json!(true)) {
        return Err(ApiError::lacking("system collections"));
    }
    for name in ["schema", "computedValues"] {
        if is_set(name) {
            return Err(ApiError::lacking(format!("the option `{name}`")));
        }
    }
    let key_options = options.get("keyOptions").unwrap_or(&Value::Null);
    if key_options.get("allowUserKeys") == Some(&json!(false)) {
        return Err(ApiError::lacking("the key option `allowUserKeys: false`"));
    }
    match key_options.get("type") {
        None | Some(Value::Null) => Ok(()),
        Some(kind) if kind == "traditional" => Ok(()),
        Some(kind) => Err(ApiError::lacking(format!("the key generator {kind}"))),
    }
}

/// `GET /_api/collection/{collection}`
pub(crate) async fn info(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
) -> Answer {
    let collection = state
        .store
        .collection(&session.database, &path.collection)?;
    Ok(success(basic(&collection)))
}

/// `GET /_api/collection/{collection}/properties`
pub(crate) async fn properties(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
) -> Answer {
    let collection = state
        .store
        .collection(&session.database, &path.collection)?;
    Ok(success(full(&collection)))
}

/// `PUT /_api/collection/{collection}/properties`
pub(crate) async fn change_properties(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
    body: Bytes,
) -> Answer {
    session.may_manage()?;
    let Value::Object(options) = parse_json(&body)? else {
        return Err(ApiError::about(Known::CorruptedJson, "an object is needed"));
    };
    refuse_lacking(&options)?;
    let changed = blocking(state, move |state| {
        state.store.alter(|catalog, _| {
            let collection = catalog.collection_mut(&session.database, &path.collection)?;
            let flag = |name| options.get(name).and_then(Value::as_bool);
            collection.wait_for_sync = flag("waitForSync").unwrap_or(collection.wait_for_sync);
            collection.cache_enabled = flag("cacheEnabled").unwrap_or(collection.cache_enabled);
            Ok(collection.clone())
        })
    })
    .await?;
    Ok(success(full(&changed)))
}

/// `GET /_api/collection/{collection}/count`
pub(crate) async fn count(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
    query: Query,
) -> Answer {
    query.refuse(&["details"])?;
    blocking(state, move |state| {
        let (collection, documents) = state.store.read(&session.database, &path.collection)?;
        let mut description = full(&collection);
        description["count"] = json!(documents.len()?);
        Ok(success(description))
    })
    .await
}

/// `PUT /_api/collection/{collection}/truncate`
pub(crate) async fn truncate(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
) -> Answer {
    session.may_write()?;
    blocking(state, move |state| {
        state.store.alter(|catalog, transaction| {
            let collection = catalog.collection(&session.database, &path.collection)?;
            tables::delete(transaction, collection)?;
            tables::create(transaction, collection)?;
            Ok(success(basic(collection)))
        })
    })
    .await
}

/// `DELETE /_api/collection/{collection}`
pub(crate) async fn remove(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
) -> Answer {
    session.may_manage()?;
    blocking(state, move |state| {
        state.store.alter(|catalog, transaction| {
            let found = catalog.collection(&session.database, &path.collection)?;
            tables::delete(transaction, found)?;
            let (id, name) = (found.id, found.name.clone());
            if let Some(database) = catalog.databases.get_mut(&session.database) {
                database.collections.remove(&name);
            }
            Ok(success(json!({"id": id.to_string()})))
        })
    })
    .await
}
