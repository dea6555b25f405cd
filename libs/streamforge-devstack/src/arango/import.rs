//! `/_api/import`: many documents, as lines or as an array, with a tally for an answer.
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::{
    error::{ApiError, Known},
    state::{AppState, Query, Session, blocking, parse_json},
    write::{Batch, OverwriteMode, WriteOptions},
};

/// Parameters of ArangoDB's import that this server does not know.
const LACKING: [&str; 4] = [
    "fromPrefix",
    "toPrefix",
    "overwriteCollectionPrefix",
    "ignoreMissing",
];

#[derive(Default, Serialize)]
struct Tally {
    error: bool,
    created: usize,
    errors: usize,
    empty: usize,
    updated: usize,
    ignored: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Vec<String>>,
}

/// `POST /_api/import?collection=&type=`
pub(crate) async fn import(
    State(state): State<AppState>,
    session: Session,
    query: Query,
    body: Bytes,
) -> Result<Response, ApiError> {
    session.may_write()?;
    query.refuse(&LACKING)?;
    let collection = query.collection()?.to_owned();
    let options = WriteOptions {
        overwrite_mode: match query.get("onDuplicate") {
            Some("update") => OverwriteMode::Update,
            Some("replace") => OverwriteMode::Replace,
            Some("ignore") => OverwriteMode::Ignore,
            _ => OverwriteMode::Conflict,
        },
        ..WriteOptions::default()
    };
    let tally = blocking(state, move |state| {
        let store = &state.store;
        store.collection(&session.database, &collection)?;
        let format = Format::choose(query.get("type"), &body)?;
        let mut tally = Tally {
            details: query.flag("details", false).then(Vec::new),
            ..Tally::default()
        };
        let rejection = state.faults.rejection();
        let wait_for_sync = query.flag("waitForSync", false);
        store.write(
            &session.database,
            &collection,
            wait_for_sync,
            |found, documents| {
                if query.flag("overwrite", false) {
                    documents.clear()?;
                }
                let mut batch = Batch {
                    store,
                    collection: &found.name,
                    documents,
                    options: &options,
                    rejection: rejection.as_ref(),
                };
                let complete = query.flag("complete", false);
                let mut write =
                    |position, document| tally.write(&mut batch, complete, position, document);
                let empty = format.each_document(&body, &mut write)?;
                tally.empty = empty;
                Ok(())
            },
        )?;
        state.tallies.add_written(tally.created + tally.updated);
        Ok(tally)
    })
    .await?;
    Ok((StatusCode::CREATED, Json(tally)).into_response())
}

#[derive(Clone, Copy)]
enum Format {
    Lines,
    Array,
}

/// Takes the position of a document and the document, or why it could not be parsed.
type Sink<'a> = dyn FnMut(usize, Result<Value, ApiError>) -> Result<(), ApiError> + 'a;

impl Format {
    fn choose(name: Option<&str>, body: &[u8]) -> Result<Self, ApiError> {
        let format = match name {
            Some("documents") => Self::Lines,
            Some("list" | "array") => Self::Array,
            Some("auto") => match body.trim_ascii_start().first() {
                Some(b'[') => Self::Array,
                _ => Self::Lines,
            },
            None | Some("") => {
                return Err(ApiError::lacking(
                    "imports with a header line of attribute names",
                ));
            }
            Some(_) => return Err(ApiError::new(Known::BadParameter, "invalid type parameter")),
        };
        if body.is_empty() {
            return Err(ApiError::about(Known::HttpBadParameter, "expecting a body"));
        }
        Ok(format)
    }

    /// Hands over each document and returns the number of blank lines.
    fn each_document(self, body: &[u8], sink: &mut Sink<'_>) -> Result<usize, ApiError> {
        match self {
            Self::Array => {
                let Value::Array(documents) = parse_json(body)? else {
                    return Err(ApiError::about(
                        Known::HttpBadParameter,
                        "expecting a JSON array",
                    ));
                };
                for (position, document) in documents.into_iter().enumerate() {
                    sink(position, Ok(document))?;
                }
                Ok(0)
            }
            Self::Lines => {
                let body = body.strip_suffix(b"\n").unwrap_or(body);
                let mut empty = 0;
                for (position, line) in body.split(|byte| *byte == b'\n').enumerate() {
                    match line.trim_ascii() {
                        [] => empty += 1,
                        text => sink(position, parse_json(text))?,
                    }
                }
                Ok(empty)
            }
        }
    }
}

impl Tally {
    fn write(
        &mut self,
        batch: &mut Batch<'_, '_>,
        complete: bool,
        position: usize,
        document: Result<Value, ApiError>,
    ) -> Result<(), ApiError> {
        let slot = match document {
            Ok(document) => batch.insert(document)?,
            Err(error) => Err(error),
        };
        match slot {
            Ok(written) if !written.stored => self.ignored += 1,
            Ok(written) if written.old_revision.is_some() => self.updated += 1,
            Ok(_) => self.created += 1,
            // Gives up the transaction, so that nothing is stored.
            Err(error) if complete => return Err(error),
            Err(error) => {
                self.errors += 1;
                if let Some(details) = &mut self.details {
                    details.push(format!("at position {position}: {}", error.message));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_without_details_has_no_details() {
        assert_eq!(
            serde_json::to_value(Tally::default()).unwrap(),
            json!({"error": false, "created": 0, "errors": 0, "empty": 0, "updated": 0, "ignored": 0})
        );
    }
}
