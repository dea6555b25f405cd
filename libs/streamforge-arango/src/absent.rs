//! Many new documents at once, each stored unless its key is there already.
//!
//! It can be done twice, so a batch whose answer was lost is sent again.

use std::ops::Range;

use http::Method;
use serde::Serialize;
use serde_json::Value;

use crate::{ArangoError, Collection, Fault, document::Written};

/// A document of many that the database does not take for its own sake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its position.
    pub index: usize,
    /// Why, for people.
    pub what: String,
}

impl Collection {
    /// Stores those documents, each with its key, whose key is not there yet, and leaves the others as they are.
    /// Returns those that the database refuses, in no order.
    ///
    /// # Errors
    /// If the database did not take them until the deadline, or never will.
    pub async fn insert_absent<T: Serialize>(
        &self,
        documents: &[(String, T)],
    ) -> Result<Vec<Refused>, ArangoError> {
        let written: Result<Vec<Value>, ArangoError> = documents
            .iter()
            .map(|(key, content)| Ok(Value::Object(Written::new(key, content)?.attributes)))
            .collect();
        let written = written?;
        let mut tries = self.database().retry.start();
        let mut refused = Vec::new();
        let mut parts: Vec<Range<usize>> = Vec::new();
        parts.push(0..written.len());
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.insert_part(&written[part.clone()], part.start).await {
                Ok(of_part) => {
                    tries.progress();
                    refused.extend(of_part);
                }
                Err(Fault::TooLarge(what) | Fault::Unreadable(what)) => match halves(&part) {
                    Some(halves) => parts.extend(halves),
                    None => refused.push(Refused {
                        index: part.start,
                        what: format!("the database refuses it with {what}"),
                    }),
                },
                Err(Fault::Other(error)) => {
                    tries.wait_alone(error).await?;
                    parts.push(part);
                }
            }
        }
        Ok(refused)
    }

    async fn insert_part(&self, documents: &[Value], first: usize) -> Result<Vec<Refused>, Fault> {
        let doing = format!("inserting into {}", self.name());
        let mut url = self.url(None);
        url.query_pairs_mut()
            .append_pair("overwriteMode", "ignore")
            .append_pair("silent", "false");
        let body = serde_json::to_vec(documents).expect("JSON values are JSON");
        let sent = self
            .database()
            .session
            .send(&doing, Method::POST, url, body.into());
        let reply = sent.await.map_err(Fault::Other)?;
        let mut refused = Vec::new();
        for (index, error) in (first..).zip(reply.to_each(&doing, documents.len())?) {
            match error {
                None => {}
                Some(error) if error.is_of_data() => refused.push(Refused {
                    index,
                    what: format!(
                        "the database refuses it with {}: {}",
                        error.number, error.message
                    ),
                }),
                // Those that were stored are left as they are when all are sent once more.
                Some(error) => return Err(Fault::Other(error.to_error(&doing))),
            }
        }
        Ok(refused)
    }
}

/// The two halves of a part; a single document has none.
fn halves(part: &Range<usize>) -> Option<[Range<usize>; 2]> {
    let middle = part.start + part.len() / 2;
    (part.len() > 1).then_some([part.start..middle, middle..part.end])
}
