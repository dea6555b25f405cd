//! The description of the API: `/openapi.json`, and pages that show it at `/docs`.

use axum::Router;
use utoipa::{
    Modify, OpenApi as _,
    openapi::{
        OpenApi,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_swagger_ui::SwaggerUi;

use super::Api;

/// What the document says beside its routes.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "StreamForge queue-manager",
        description = "Starts, watches, stops and heals whole workflows. A queue is one run of one pipeline: a loader, its writers, and the topic between them.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    modifiers(&Tokens),
    security(("token" = [])),
    tags(
        (name = "start", description = "Starting workflows"),
        (name = "queues", description = "Looking at workflows, stopping and removing them"),
        (name = "live", description = "Being told of changes"),
        (name = "health", description = "Whether this replica is well; needs no token")
    )
)]
struct Description;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, openapi: &mut OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some(
            "A token of API_TOKENS_FILE; without that file, on loopback, none is needed."
                .to_owned(),
        );
        openapi
            .components
            .get_or_insert_default()
            .add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

pub(super) fn description() -> OpenApi {
    Description::openapi()
}

/// The document of all routes, as `/openapi.json` serves it.
pub fn openapi() -> OpenApi {
    super::document()
}

pub(super) fn router(openapi: OpenApi) -> Router<Api> {
    // No validator: it would be asked over the internet.
    let config = utoipa_swagger_ui::Config::default().validator_url("none");
    SwaggerUi::new("/docs")
        .config(config)
        .url("/openapi.json", openapi)
        .into()
}
