//! The API over HTTP: every route, each mounted once, and what surrounds them.
//!
//! From outside to inside: id, log and metrics; refusal of foreign pages; the audit; a net for panics; then, but for
//! health, metrics and the documentation, the token; and for what is no stream, time and number of requests.

mod docs;
mod health;
mod queues;
mod refusals;
mod starts;
mod streams;

use std::{any::Any, sync::Arc};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRef},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use prometheus::Registry;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    audit,
    auth::{self, Access},
    error::ApiError,
    limits::{self, Limits},
    live::Hub,
    metrics::ApiMetrics,
    observe, origin,
    readiness::Readiness,
    service::Service,
};
pub use docs::openapi;

/// What the routes work with. Clones share it.
#[derive(Clone)]
pub struct Api {
    /// What they call.
    pub service: Arc<Service>,
    /// Tells of changes; somebody has to [`Hub::run`] it.
    pub hub: Arc<Hub>,
    /// Who may ask.
    pub access: Arc<Access>,
    /// What one request may take.
    pub limits: Limits,
    /// Whether this replica can do its work.
    pub readiness: Readiness,
    /// Counts requests.
    pub metrics: Arc<ApiMetrics>,
    /// All metrics.
    pub registry: Registry,
}

macro_rules! parts_of_the_api {
    ($($field:ident: $kind:ty),*) => {$(
        impl FromRef<Api> for $kind {
            fn from_ref(api: &Api) -> Self {
                api.$field.clone()
            }
        }
    )*};
}
parts_of_the_api!(service: Arc<Service>, hub: Arc<Hub>, readiness: Readiness, registry: Registry);

/// All routes, ready to be served by one listener.
pub fn router(api: Api) -> Router {
    let routes = documented(Some(&api)).merge(health_routes());
    surrounded(api, routes)
}

/// The routes without health and metrics, and those alone, each for a listener of its own.
pub fn routers(api: Api) -> (Router, Router) {
    let health = health_routes()
        .split_for_parts()
        .0
        .fallback(|| async { ApiError::NoRoute })
        .method_not_allowed_fallback(|| async { ApiError::NoMethod })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(
            Arc::clone(&api.metrics),
            observe::observe,
        ))
        .with_state(api.clone());
    let routes = documented(Some(&api));
    (surrounded(api, routes), health)
}

fn surrounded(api: Api, routes: OpenApiRouter<Api>) -> Router {
    let (documented, openapi) = routes.split_for_parts();
    let docs = docs::router(openapi);
    let limits = api.limits.clone();
    documented
        .merge(docs)
        .fallback(|| async { ApiError::NoRoute })
        .method_not_allowed_fallback(|| async { ApiError::NoMethod })
        .layer(DefaultBodyLimit::max(limits.body_bytes))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(audit::write))
        .layer(from_fn_with_state(
            Arc::clone(&api.access),
            origin::refuse_foreign_pages,
        ))
        .layer(from_fn_with_state(
            Arc::clone(&api.metrics),
            observe::observe,
        ))
        .with_state(api)
}

/// The API's routes that the OpenAPI document tells of; without an `api` for the document only.
fn documented(api: Option<&Api>) -> OpenApiRouter<Api> {
    let mut bounded = OpenApiRouter::new()
        .routes(routes!(starts::start_pipeline))
        .routes(routes!(starts::start))
        .routes(routes!(starts::start_test_flow))
        .routes(routes!(queues::stop))
        .routes(routes!(queues::list))
        .routes(routes!(queues::list_too))
        .routes(routes!(queues::show, queues::remove))
        .routes(routes!(queues::events))
        .routes(routes!(queues::logs))
        .routes(routes!(starts::retry));
    let mut streams = OpenApiRouter::new()
        .routes(routes!(streams::web_socket))
        .routes(routes!(streams::server_sent_events));
    if let Some(api) = api {
        let authorize = from_fn_with_state(Arc::clone(&api.access), auth::authorize);
        bounded = bounded
            .layer(from_fn_with_state(api.limits.clone(), limits::bound))
            .layer(authorize.clone());
        streams = streams.layer(authorize);
    }
    OpenApiRouter::with_openapi(docs::description())
        .merge(bounded)
        .merge(streams)
}

fn health_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::startup))
        .routes(routes!(health::metrics))
}

/// The document without a server.
fn document() -> OpenApi {
    documented(None).merge(health_routes()).into_openapi()
}

fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let text = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied());
    ApiError::Internal(format!("a panic: {}", text.unwrap_or("without a text"))).into_response()
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http::StatusCode;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_answer_and_its_text_stays_here() {
        let app: Router = Router::new()
            .route("/", get(|| async { panic!("at db.internal") as () }))
            .layer(CatchPanicLayer::custom(panicked));
        let request = http::Request::<axum::body::Body>::default();
        let response = app.oneshot(request).await.expect("it can't fail");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await;
        let body = String::from_utf8(body.unwrap().to_vec()).unwrap();
        assert!(body.contains("an internal error"), "{body}");
        assert!(!body.contains("db.internal"), "{body}");
    }
}
