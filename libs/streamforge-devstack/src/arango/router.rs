//! Which path leads to which handler, and what happens around every request.
//!
//! From the outside in: the headers that every answer of ArangoDB has; the body, read whole and within
//! the limit; the faults; who is asking, and may they; the handler. What no route knows is answered
//! with 501 and its name.
use std::sync::atomic::Ordering;

use axum::{
    Json, Router,
    body::{Body, HttpBody as _},
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use futures::StreamExt as _;
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::{
    auth::{self, Grant},
    catalog::SYSTEM_DATABASE,
    collection, cursor, database, document,
    error::{ApiError, Known},
    faults::{self, Fault},
    import, index,
    state::{AppState, Query, Session, header_text},
};

/// The version whose behaviour this server shows.
pub(crate) const VERSION: &str = "3.12.4";

const QUEUE_TIME: &str = "x-arango-queue-time-seconds";

/// Reachable without logging in.
const OPEN_PATHS: [&str; 3] = ["/", "/_open/auth", "/_admin/server/availability"];

pub(crate) fn build(state: AppState) -> Router {
    let api = database_routes();
    Router::new()
        .route(
            "/",
            get(|| async { "StreamForge's development stand-in for ArangoDB\n" }),
        )
        .route("/_open/auth", post(auth::login))
        .merge(api.clone())
        .nest("/_db/{db}", api)
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_path)
        .layer(middleware::from_fn_with_state(
            AppState::clone(&state),
            check_access,
        ))
        .layer(middleware::from_fn_with_state(
            AppState::clone(&state),
            apply_faults,
        ))
        .layer(middleware::from_fn_with_state(
            AppState::clone(&state),
            read_body,
        ))
        .layer(middleware::from_fn_with_state(
            AppState::clone(&state),
            add_headers,
        ))
        .layer(DefaultBodyLimit::disable())
        .with_state(state)
}

/// The routes that exist below every database.
fn database_routes() -> Router<AppState> {
    let documents = post(document::insert)
        .put(document::replace_many)
        .patch(document::update_many)
        .delete(document::remove_many);
    let collections = get(collection::list).post(collection::create);
    let one_collection = get(collection::info).delete(collection::remove);
    Router::new()
        .route("/_api/version", get(version))
        .route("/_admin/version", get(version))
        .route("/_admin/server/availability", get(availability))
        .route("/_admin/server/role", get(role))
        .route("/_api/engine", get(engine))
        .route("/_api/database", get(database::list).post(database::create))
        .route("/_api/database/current", get(database::current))
        .route("/_api/database/user", get(database::accessible))
        .route(
            "/_api/database/{name}",
            axum::routing::delete(database::remove),
        )
        .route("/_api/user/{user}/database", get(auth::user_databases))
        .route("/_api/user/{user}/database/", get(auth::user_databases))
        .route("/_api/collection", collections.clone())
        .route("/_api/collection/", collections)
        .route("/_api/collection/{collection}", one_collection.clone())
        .route("/_api/collection/{collection}/", one_collection)
        .route(
            "/_api/collection/{collection}/count",
            get(collection::count),
        )
        .route(
            "/_api/collection/{collection}/properties",
            get(collection::properties).put(collection::change_properties),
        )
        .route(
            "/_api/collection/{collection}/truncate",
            put(collection::truncate),
        )
        .route(
            "/_api/document",
            axum::routing::any(document::collection_missing),
        )
        .route("/_api/document/{collection}", documents.clone())
        .route("/_api/document/{collection}/", documents)
        .route(
            "/_api/document/{collection}/{key}",
            get(document::read)
                .put(document::replace)
                .patch(document::update)
                .delete(document::remove),
        )
        .route(
            "/_api/document/{collection}/{key}/{*rest}",
            axum::routing::any(document::superfluous_suffix),
        )
        .route("/_api/import", post(import::import))
        .route("/_api/index", get(index::list).post(index::create))
        .route(
            "/_api/index/{collection}/{id}",
            get(index::info).delete(index::remove),
        )
        .route("/_api/cursor", post(cursor::create))
        .route(
            "/_api/cursor/{id}",
            put(cursor::next).post(cursor::next).delete(cursor::remove),
        )
        .route("/_api/cursor/{id}/{batch}", post(cursor::batch))
}

async fn version(query: Query) -> Json<serde_json::Value> {
    let mut body = json!({"server": "arango", "license": "community", "version": VERSION});
    if query.flag("details", false) {
        body["details"] = json!({"server-version": VERSION, "role": "SINGLE", "mode": "server"});
    }
    Json(body)
}

async fn availability() -> Json<serde_json::Value> {
    Json(json!({"error": false, "code": 200, "mode": "default"}))
}

async fn role() -> Json<serde_json::Value> {
    Json(json!({"error": false, "code": 200, "role": "SINGLE", "mode": "default"}))
}

async fn engine() -> Json<serde_json::Value> {
    Json(json!({"name": "rocksdb"}))
}

async fn unknown_path(request: Request) -> ApiError {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    if !known.contains(request.method()) {
        return Known::MethodNotAllowed.into();
    }
    ApiError::lacking(format!("{} {}", request.method(), request.uri().path()))
}

async fn add_headers(State(state): State<AppState>, request: Request, next: Next) -> Response {
    state.tallies.requests.fetch_add(1, Ordering::Relaxed);
    let queue_time_secs = state.faults.reported_queue_time_secs();
    let accepted: f64 = header_text(request.headers(), QUEUE_TIME)
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0.0);
    let mut response = if accepted > 0.0 && queue_time_secs > accepted {
        ApiError::from(Known::QueueTimeViolated).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static("ArangoDB"));
    if let Ok(value) = HeaderValue::from_str(&format!("{queue_time_secs:.6}")) {
        headers.insert(QUEUE_TIME, value);
    }
    response
}

/// Reads the body before anything is decided, so that an early answer never meets a client which is
/// still sending, and so that a dropped connection was really the fault's doing.
async fn read_body(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let lacking = if parts.headers.contains_key(header::TRANSFER_ENCODING) {
        // ArangoDB itself needs a Content-Length.
        Some("chunked request bodies".to_owned())
    } else {
        let encoding = header_text(&parts.headers, "content-encoding");
        encoding
            .filter(|encoding| !encoding.eq_ignore_ascii_case("identity"))
            .map(|encoding| format!("request bodies with content-encoding {encoding}"))
            .or_else(|| lacking_header(&parts.headers))
    };
    if let Some(thing) = lacking {
        drain(body).await;
        return ApiError::lacking(thing).into_response();
    }
    let limit = state.body_limit_bytes;
    if body.size_hint().lower() > limit as u64 {
        drain(body).await;
        // Without a body, as the real server does it, which then closes the connection.
        return (
            StatusCode::PAYLOAD_TOO_LARGE,
            [(header::CONNECTION, "close")],
        )
            .into_response();
    }
    match axum::body::to_bytes(body, limit).await {
        Ok(bytes) => {
            next.run(Request::from_parts(parts, Body::from(bytes)))
                .await
        }
        // The client went away while it sent; nobody reads this answer.
        Err(error) => ApiError::about(Known::HttpBadParameter, error).into_response(),
    }
}

fn lacking_header(headers: &header::HeaderMap) -> Option<String> {
    let name = [
        "x-arango-async",
        "x-arango-trx-id",
        "x-http-method-override",
    ]
    .into_iter()
    .find(|name| headers.contains_key(*name));
    if let Some(name) = name {
        return Some(format!("the header `{name}`"));
    }
    let velocypack = ["content-type", "accept"].into_iter().find(|name| {
        header_text(headers, name)
            .is_some_and(|value| value.starts_with("application/x-velocypack"))
    });
    velocypack.map(|_| "VelocyPack".to_owned())
}

async fn drain(body: Body) {
    let mut chunks = body.into_data_stream();
    while let Some(Ok(_)) = chunks.next().await {}
}

async fn apply_faults(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (delay, fault) = state.faults.take(&request);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if let Some(answer) = fault.as_ref().and_then(Fault::answer) {
        return answer;
    }
    let response = next.run(request).await;
    match fault {
        Some(Fault::DropAfterWrite) => faults::dropped_connection(),
        _ => response,
    }
}

/// Lets through who is known and may see the database, and says so in a [`Session`].
async fn check_access(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if OPEN_PATHS.contains(&path) {
        return next.run(request).await;
    }
    let Some(user) = state.auth.authenticate(request.headers()) else {
        return auth::not_authorized();
    };
    let (database, path) = split_database(path);
    let grant = state.auth.grant(&user, &database);
    let about_oneself = path.starts_with(&format!("/_api/user/{user}/"));
    if grant == Grant::None && !about_oneself {
        return auth::not_authorized();
    }
    if !state.store.catalog().databases.contains_key(&database) {
        return ApiError::from(Known::DatabaseNotFound).into_response();
    }
    let session = Session {
        user,
        database,
        grant,
    };
    request.extensions_mut().insert(session);
    next.run(request).await
}

/// The database that a path is about, and the rest of the path.
fn split_database(path: &str) -> (String, &str) {
    let Some(rest) = path.strip_prefix("/_db/") else {
        return (SYSTEM_DATABASE.to_owned(), path);
    };
    let (name, rest) = rest
        .find('/')
        .map_or((rest, ""), |slash| rest.split_at(slash));
    (
        percent_decode_str(name).decode_utf8_lossy().into_owned(),
        rest,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_stands_in_the_path() {
        for (path, database, rest) in [
            ("/_api/version", "_system", "/_api/version"),
            ("/_db/candles/_api/version", "candles", "/_api/version"),
            ("/_db/m%C3%B6t%2Fr/_api/x", "möt/r", "/_api/x"),
            ("/_db/candles", "candles", ""),
        ] {
            assert_eq!(split_database(path), (database.to_owned(), rest));
        }
    }
}
