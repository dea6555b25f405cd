//! `/_api/database`: listing, creating and deleting databases.
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    auth::{Grant, ROOT},
    catalog::{Database, SYSTEM_DATABASE, checked_name},
    error::{ApiError, Known},
    state::{AppState, PathParts, Session, blocking, parse_json},
    tables,
};

/// Longest name of a database, in bytes.
const MAX_NAME_BYTES: usize = 128;

fn result(code: StatusCode, result: Value) -> Response {
    let body = json!({"error": false, "code": code.as_u16(), "result": result});
    (code, Json(body)).into_response()
}

fn must_be_system(session: &Session) -> Result<(), ApiError> {
    if session.database == SYSTEM_DATABASE {
        return Ok(());
    }
    Err(Known::UseSystemDatabase.into())
}

/// `GET /_api/database`
pub(crate) async fn list(
    State(state): State<AppState>,
    session: Session,
) -> Result<Response, ApiError> {
    must_be_system(&session)?;
    let names: Vec<_> = state.store.catalog().databases.keys().cloned().collect();
    Ok(result(StatusCode::OK, json!(names)))
}

/// `GET /_api/database/user`
pub(crate) async fn accessible(State(state): State<AppState>, session: Session) -> Response {
    let catalog = state.store.catalog();
    let names: Vec<_> = catalog
        .databases
        .keys()
        .filter(|name| state.auth.grant(&session.user, name) != Grant::None)
        .collect();
    result(StatusCode::OK, json!(names))
}

/// `GET /_api/database/current`
pub(crate) async fn current(
    State(state): State<AppState>,
    session: Session,
) -> Result<Response, ApiError> {
    let name = session.database;
    let id = state.store.catalog().database(&name)?.id.to_string();
    let is_system = name == SYSTEM_DATABASE;
    // The path is gone from the newest ArangoDB, but arangors cannot do without.
    let current = json!({"id": id, "name": name, "isSystem": is_system, "path": ""});
    Ok(result(StatusCode::OK, current))
}

/// `POST /_api/database`
pub(crate) async fn create(
    State(state): State<AppState>,
    session: Session,
    body: Bytes,
) -> Result<Response, ApiError> {
    must_be_system(&session)?;
    session.may_manage()?;
    let body = parse_json(&body)?;
    let name = checked_name(body.get("name"), MAX_NAME_BYTES)?.to_owned();
    refuse_new_users(body.get("users"))?;
    blocking(state, move |state| {
        state.store.alter(|catalog, _| {
            if catalog.databases.contains_key(&name) {
                return Err(ApiError::about(Known::DuplicateName, &name));
            }
            let database = Database {
                id: state.store.tick(),
                collections: Default::default(),
            };
            catalog.databases.insert(name, database);
            Ok(())
        })
    })
    .await?;
    Ok(result(StatusCode::CREATED, json!(true)))
}

/// Root has access anyway; other users exist only as the server was started with them.
fn refuse_new_users(users: Option<&Value>) -> Result<(), ApiError> {
    let users = users.and_then(Value::as_array).into_iter().flatten();
    for user in users {
        let name = user.get("username").or_else(|| user.get("user"));
        if name.is_some_and(|name| name != ROOT) {
            return Err(ApiError::lacking("the option `users` for others than root"));
        }
    }
    Ok(())
}

/// `DELETE /_api/database/{name}`
pub(crate) async fn remove(
    State(state): State<AppState>,
    session: Session,
    path: PathParts,
) -> Result<Response, ApiError> {
    must_be_system(&session)?;
    session.may_manage()?;
    let name = path.name;
    if name == SYSTEM_DATABASE {
        return Err(Known::Forbidden.into());
    }
    blocking(state, move |state| {
        state.store.alter(|catalog, transaction| {
            let database = catalog.databases.remove(&name);
            let database = database.ok_or(Known::DatabaseNotFound)?;
            for collection in database.collections.values() {
                tables::delete(transaction, collection)?;
            }
            Ok(())
        })
    })
    .await?;
    Ok(result(StatusCode::OK, json!(true)))
}
