//! The shape of the answers of `/_api/document`.
use std::collections::BTreeMap;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::super::{
    error::ApiError,
    write::{Slot, Written},
};

/// Counts of the errors in an array's answer, by number, as a JSON object.
const ERROR_CODES: &str = "x-arango-error-codes";

/// What is left as it is in a path segment of the `Location` header.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b':');

/// A success as ArangoDB describes it.
#[derive(Serialize)]
struct Description<'a> {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_key")]
    key: &'a str,
    #[serde(rename = "_rev")]
    rev: String,
    #[serde(rename = "_oldRev", skip_serializing_if = "Option::is_none")]
    old_rev: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<&'a RawValue>,
}

/// How the answer to a write is put together.
pub(super) struct Answer<'a> {
    pub(super) database: &'a str,
    pub(super) collection: &'a str,
    pub(super) silent: bool,
    pub(super) status: StatusCode,
}

impl Answer<'_> {
    /// The answer to one document: its description, or the error as the whole request's.
    pub(super) fn single(&self, slot: Slot) -> Result<Response, ApiError> {
        let written = slot?;
        let text = match self.silent {
            true => "{}".to_owned(),
            false => serde_json::to_string(&self.describe(&written))?,
        };
        let location = format!(
            "/_db/{}/_api/document/{}/{}",
            utf8_percent_encode(self.database, SEGMENT),
            utf8_percent_encode(self.collection, SEGMENT),
            utf8_percent_encode(&written.key, SEGMENT),
        );
        let headers = [
            (header::ETAG, written.revision.etag()),
            (header::LOCATION, location),
        ];
        Ok((headers, json_text(self.status, text)).into_response())
    }

    /// The answer to an array: an entry for each document in its order, or, if silent, the errors
    /// alone, and `{}` if there are none.
    pub(super) fn array(&self, slots: &[Slot]) -> Result<Response, ApiError> {
        let errors = slots.iter().filter_map(|slot| slot.as_ref().err());
        let codes = error_codes(errors);
        if self.silent && codes.is_none() {
            return Ok(json_text(self.status, "{}".to_owned()));
        }
        let shown = slots.iter().filter(|slot| !self.silent || slot.is_err());
        let entries: Result<Vec<String>, serde_json::Error> = shown
            .map(|slot| match slot {
                Ok(written) => serde_json::to_string(&self.describe(written)),
                Err(error) => Ok(error.slot().to_string()),
            })
            .collect();
        let response = json_text(self.status, bracketed(&entries?));
        Ok(with_error_codes(response, codes))
    }

    fn describe<'w>(&self, written: &'w Written) -> Description<'w> {
        Description {
            id: format!("{}/{}", self.collection, written.key),
            key: &written.key,
            rev: written.revision.to_string(),
            old_rev: written.old_revision.map(|revision| revision.to_string()),
            new: written.new.as_deref(),
            old: written.old.as_deref(),
        }
    }
}

/// The answer to reading an array of documents, given as JSON text.
pub(super) fn array_of_texts(slots: &[Result<String, ApiError>]) -> Response {
    let codes = error_codes(slots.iter().filter_map(|slot| slot.as_ref().err()));
    let entries: Vec<String> = slots
        .iter()
        .map(|slot| match slot {
            Ok(text) => text.clone(),
            Err(error) => error.slot().to_string(),
        })
        .collect();
    with_error_codes(json_text(StatusCode::OK, bracketed(&entries)), codes)
}

fn bracketed(entries: &[String]) -> String {
    format!("[{}]", entries.join(","))
}

/// An answer whose body is JSON already.
pub(super) fn json_text(status: StatusCode, text: String) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json; charset=utf-8")],
        text,
    )
        .into_response()
}

fn error_codes<'a>(errors: impl Iterator<Item = &'a ApiError>) -> Option<String> {
    let mut counts = BTreeMap::<i32, usize>::new();
    for error in errors {
        *counts.entry(error.num).or_default() += 1;
    }
    let pairs: Vec<_> = counts
        .iter()
        .map(|(num, count)| format!("\"{num}\":{count}"))
        .collect();
    (!pairs.is_empty()).then(|| format!("{{{}}}", pairs.join(",")))
}

fn with_error_codes(mut response: Response, codes: Option<String>) -> Response {
    if let Some(value) = codes.and_then(|codes| HeaderValue::from_str(&codes).ok()) {
        response.headers_mut().insert(ERROR_CODES, value);
    }
    response
}
