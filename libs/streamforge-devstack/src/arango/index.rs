//! `/_api/index`: the primary index, persistent indexes and time-to-live indexes.
//!
//! An index is built and kept with the documents ([`super::tables`]): queries use it where it fits, and a TTL index
//! removes documents ([`super::ttl`]). A unique one, which would have to refuse writes, is answered with 501.
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::{Map, Number, Value, json};

use super::{
    catalog::{Collection, Index, IndexKind, checked_name},
    error::{ApiError, Known},
    state::{AppState, PathParts, Query, Session, blocking, parse_json},
    tables,
};

/// Longest name of an index, in bytes.
const MAX_NAME_BYTES: usize = 256;

fn primary(collection: &Collection) -> Value {
    json!({
        "id": format!("{}/0", collection.name),
        "type": "primary",
        "name": "primary",
        "fields": ["_key"],
        "unique": true,
        "sparse": false,
        "selectivityEstimate": 1,
    })
}

fn describe(collection: &Collection, index: &Index) -> Value {
    let mut description = json!({
        "id": format!("{}/{}", collection.name, index.id),
        "name": index.name,
        "fields": index.fields,
        "unique": false,
    });
    let rest = match &index.kind {
        IndexKind::Persistent {
            sparse,
            deduplicate,
            estimates,
            cache_enabled,
            stored_values,
        } => {
            let mut rest = json!({
                "type": "persistent",
                "sparse": sparse,
                "deduplicate": deduplicate,
                "estimates": estimates,
                "cacheEnabled": cache_enabled,
            });
            if *estimates {
                rest["selectivityEstimate"] = json!(1);
            }
            if !stored_values.is_empty() {
                rest["storedValues"] = json!(stored_values);
            }
            rest
        }
        IndexKind::Ttl { expire_after } => json!({
            "type": "ttl",
            "sparse": true,
            "estimates": false,
            "expireAfter": expire_after,
        }),
    };
    if let (Some(target), Value::Object(rest)) = (description.as_object_mut(), rest) {
        target.extend(rest);
    }
    description
}

fn success(code: StatusCode, mut body: Value) -> Response {
    body["error"] = json!(false);
    body["code"] = json!(code.as_u16());
    (code, Json(body)).into_response()
}

/// `GET /_api/index?collection=`
pub(crate) async fn list(
    State(state): State<AppState>,
    session: Session,
    query: Query,
) -> Result<Response, ApiError> {
    query.refuse(&["withStats", "withHidden"])?;
    let collection = state
        .store
        .collection(&session.database, query.collection()?)?;
    let described = collection
        .indexes
        .iter()
        .map(|index| describe(&collection, index));
    let indexes: Vec<Value> = [primary(&collection)]
        .into_iter()
        .chain(described)
        .collect();
    let identifiers: Map<String, Value> = indexes
        .iter()
        .map(|index| {
            (
                index["id"].as_str().unwrap_or_default().to_owned(),
                index.clone(),
            )
        })
        .collect();
    let body = json!({"indexes": indexes, "identifiers": identifiers});
    Ok(success(StatusCode::OK, body))
}

/// `GET /_api/index/{collection}/{id}`; the id is the number or the name.
pub(crate) async fn info(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
) -> Result<Response, ApiError> {
    let collection = state
        .store
        .collection(&session.database, &path.collection)?;
    let description = if is_primary(&path.id) {
        primary(&collection)
    } else {
        let index = collection
            .indexes
            .iter()
            .find(|index| is_named(index, &path.id));
        describe(&collection, index.ok_or(Known::IndexNotFound)?)
    };
    Ok(success(StatusCode::OK, description))
}

/// `DELETE /_api/index/{collection}/{id}`; the id is the number or the name.
pub(crate) async fn remove(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
) -> Result<Response, ApiError> {
    session.may_manage()?;
    state
        .store
        .collection(&session.database, &path.collection)?;
    if is_primary(&path.id) {
        return Err(Known::Forbidden.into());
    }
    blocking(state, move |state| {
        state.store.alter(|catalog, transaction| {
            let collection = catalog.collection_mut(&session.database, &path.collection)?;
            let position = collection
                .indexes
                .iter()
                .position(|index| is_named(index, &path.id));
            let index = collection
                .indexes
                .remove(position.ok_or(Known::IndexNotFound)?);
            tables::delete_index(transaction, &index)?;
            let id = format!("{}/{}", collection.name, index.id);
            Ok(success(StatusCode::OK, json!({"id": id})))
        })
    })
    .await
}

fn is_primary(id: &str) -> bool {
    id == "0" || id == "primary"
}

fn is_named(index: &Index, id: &str) -> bool {
    index.name == id || index.id.to_string() == id
}

/// `POST /_api/index?collection=`
pub(crate) async fn create(
    State(state): State<AppState>,
    session: Session,
    query: Query,
    body: Bytes,
) -> Result<Response, ApiError> {
    session.may_manage()?;
    let collection = query.collection()?.to_owned();
    state.store.collection(&session.database, &collection)?;
    let wanted = Wanted::parse(&parse_json(&body)?)?;
    blocking(state, move |state| {
        state.store.alter(|catalog, transaction| {
            let collection = catalog.collection_mut(&session.database, &collection)?;
            let (index, is_new) = wanted.add_to(collection, state.store.tick())?;
            tables::create(transaction, collection)?;
            let mut description = describe(collection, &index);
            description["isNewlyCreated"] = json!(is_new);
            let code = if is_new {
                StatusCode::CREATED
            } else {
                StatusCode::OK
            };
            Ok(success(code, description))
        })
    })
    .await
}

/// What the body of a request asks for.
struct Wanted {
    name: Option<String>,
    fields: Vec<String>,
    kind: IndexKind,
}

fn bad(message: &str) -> ApiError {
    ApiError::new(Known::BadParameter, message)
}

impl Wanted {
    fn parse(body: &Value) -> Result<Self, ApiError> {
        let flag = |name: &str, default| body.get(name).and_then(Value::as_bool).unwrap_or(default);
        let fields = texts(body.get("fields"))?;
        if fields.is_empty() {
            return Err(bad("'fields' needs at least one attribute"));
        }
        let kind = match body.get("type").and_then(Value::as_str) {
            // The two old names mean the same in RocksDB.
            Some("persistent" | "hash" | "skiplist") => IndexKind::Persistent {
                sparse: flag("sparse", false),
                deduplicate: flag("deduplicate", true),
                estimates: flag("estimates", true),
                cache_enabled: flag("cacheEnabled", false),
                stored_values: match body.get("storedValues") {
                    None => Vec::new(),
                    values => texts(values)?,
                },
            },
            Some("ttl") => IndexKind::Ttl {
                expire_after: expire_after(body, &fields)?,
            },
            Some("primary" | "edge") => return Err(bad("indexes of this type cannot be created")),
            Some(other) => return Err(ApiError::lacking(format!("indexes of type {other}"))),
            None => return Err(bad("invalid index type")),
        };
        if flag("unique", false) {
            return Err(ApiError::lacking("unique indexes"));
        }
        let name = match body.get("name") {
            None | Some(Value::Null) => None,
            // arangors sends an empty name for none.
            Some(Value::String(name)) if name.is_empty() => None,
            name => Some(checked_name(name, MAX_NAME_BYTES)?.to_owned()),
        };
        Ok(Self { name, fields, kind })
    }

    /// Adds the index, or finds the equal one that is there. The flag says which.
    fn add_to(self, collection: &mut Collection, id: u64) -> Result<(Index, bool), ApiError> {
        let equal = |index: &&Index| index.fields == self.fields && index.kind == self.kind;
        if let Some(existing) = collection.indexes.iter().find(equal) {
            return Ok((existing.clone(), false));
        }
        let name = self.name.unwrap_or_else(|| format!("idx_{id}"));
        if collection.indexes.iter().any(|index| index.name == name) {
            return Err(ApiError::about(Known::DuplicateName, name));
        }
        let is_ttl = |kind: &IndexKind| matches!(kind, IndexKind::Ttl { .. });
        if is_ttl(&self.kind) && collection.indexes.iter().any(|index| is_ttl(&index.kind)) {
            return Err(bad("there can only be one ttl index per collection"));
        }
        let index = Index {
            id,
            name,
            fields: self.fields,
            kind: self.kind,
        };
        collection.indexes.push(index.clone());
        Ok((index, true))
    }
}

fn texts(value: Option<&Value>) -> Result<Vec<String>, ApiError> {
    let texts: Option<Vec<String>> = value.and_then(Value::as_array).and_then(|items| {
        let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
        texts.collect()
    });
    texts.ok_or_else(|| bad("an array of attribute names is needed"))
}

fn expire_after(body: &Value, fields: &[String]) -> Result<Number, ApiError> {
    if fields.len() != 1 {
        return Err(bad("a ttl index has exactly one attribute"));
    }
    match body.get("expireAfter") {
        Some(Value::Number(seconds)) if seconds.as_f64() >= Some(0.0) => Ok(seconds.clone()),
        _ => Err(bad("'expireAfter' must be a number of seconds, 0 or more")),
    }
}
