//! How routes refuse, for their description. What really refuses is [`crate::error::ApiError`].

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses,
    openapi::{Content, Ref, RefOr, Response, ResponseBuilder},
};

/// The form of every refusal; routes that answer 404 bring it into the document.
const FORM: &str = "Envelope_ErrorDetails";

/// How any route that needs a token may refuse.
pub(super) struct Refusals;

/// How a route that changes something may refuse beside that.
pub(super) struct RefusedChanges;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        described(&[
            ("401", "A token is needed"),
            (
                "403",
                "The token may only read, or a page of another site asks",
            ),
            (
                "422",
                "Fields are wrong, each is named; or the key was used for another request",
            ),
            ("500", "An error that the log has more of"),
            (
                "503",
                "Too many requests, or something that is needed is away; Retry-After says when to ask again",
            ),
        ])
    }
}

impl IntoResponses for RefusedChanges {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        described(&[
            ("400", "The body is no JSON"),
            ("409", "The state, the key, or somebody else is in the way"),
            ("413", "The body is too large"),
            ("415", "The body is not said to be JSON"),
        ])
    }
}

fn described(table: &[(&str, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let response = |description: &str| {
        let content = Content::new(Some(Ref::from_schema_name(FORM)));
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/json", content);
        RefOr::T(response.build())
    };
    table
        .iter()
        .map(|(code, description)| ((*code).to_owned(), response(description)))
        .collect()
}
