//! What an answer of the server means for what the caller does next.
//!
//! Pure. What an error means is told by its `errorNum` first and by its status then ([`meaning`]): proxies before the
//! server answer with statuses of their own, in HTML.

mod meaning;

use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::{ArangoError, RetryKind, Revision};

/// Errors of a document for its own sake: no retry mends them, and the other documents are fine. The list of
/// ArangoDB's Kafka Connect sink, and 1227, "invalid document type".
const DATA_ERRORS: [u32; 27] = [
    1208, 1210, 1216, 1221, 1222, 1226, 1227, 1233, 1466, 1469, 1504, 1505, 1524, 1542, 1543, 1561,
    1562, 1563, 1569, 1572, 1578, 1593, 1594, 1620, 4001, 4003, 4010,
];
const CORRUPTED_JSON: u32 = 600;
/// How much of an answer that is no error of the server goes into a message.
const EXCERPT_CHARS: usize = 200;

/// An answer, whole.
#[derive(Debug)]
pub struct Reply {
    /// To be looked at first.
    pub status: StatusCode,
    /// As they came.
    pub headers: HeaderMap,
    /// As it came.
    pub body: Vec<u8>,
}

/// The body of an error.
#[derive(Debug, Clone, Deserialize)]
pub struct ErrorBody {
    #[serde(rename = "errorNum")]
    /// `errorNum`.
    pub number: u32,
    #[serde(rename = "errorMessage", default)]
    /// `errorMessage`.
    pub message: String,
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Stored {
    /// Every document is stored.
    All,
    /// Perhaps not; the answer does not say which.
    NotAll,
}

/// Why a batch was not taken, by what comes next.
#[derive(Debug)]
pub enum Fault {
    /// Look for the document that is to blame in its halves.
    Unreadable(String),
    /// Send its halves.
    TooLarge(String),
    /// As for any request.
    Other(ArangoError),
}

impl Reply {
    /// The body of an error of the server, if it is one.
    pub fn error(&self) -> Option<ErrorBody> {
        let error: Option<ErrorBody> = serde_json::from_slice(&self.body).ok();
        error.filter(|error| error.number != 0)
    }

    pub(crate) fn is_json_object(&self) -> bool {
        matches!(
            serde_json::from_slice(&self.body),
            Ok(serde_json::Value::Object(_))
        )
    }

    /// For people: status, number and message, or the start of the body.
    pub fn describe(&self) -> String {
        match self.error() {
            Some(error) => format!(
                "{} {}: {}",
                self.status.as_u16(),
                error.number,
                error.message
            ),
            None => {
                let body = String::from_utf8_lossy(&self.body);
                let excerpt: String = body.trim().chars().take(EXCERPT_CHARS).collect();
                format!("{}: {excerpt:?}", self.status)
            }
        }
    }

    /// Whether the server itself says that the login is not, or no longer, good. A proxy's 401 has no `errorNum`.
    pub fn is_login_refused(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED && self.error().is_some()
    }

    /// What an answer without success means for any request: by its `errorNum`, and by its status if that does not
    /// tell. An answer without `errorNum` is not ArangoDB's, so it can pass.
    pub fn to_error(&self, doing: &str) -> ArangoError {
        let what = format!("{doing}: the database answered {}", self.describe());
        match self.error() {
            Some(error) => meaning::of(error.number, Some(self.status)).to_error(what),
            None => {
                let what = format!("{what}, which has no errorNum and so is a proxy's");
                ArangoError::unavailable(meaning::of_proxy(self.status), what)
            }
        }
    }

    /// What an answer to a batch sent with `silent=true` means. Only `{}` says that all is stored: anything else may
    /// come from a proxy in between.
    ///
    /// # Errors
    /// If the batch was not taken, or the answer can't be understood.
    pub fn to_stored(&self, doing: &str) -> Result<Stored, Fault> {
        self.check_taken(doing)?;
        let text = self.body.trim_ascii();
        if text == b"{}" {
            return Ok(Stored::All);
        }
        match serde_json::from_slice::<Vec<Slot>>(text) {
            Ok(_) => Ok(Stored::NotAll),
            Err(_) => Err(self.to_bad_answer(doing, "which is neither {} nor a list of errors")),
        }
    }

    /// What an answer to a batch of `sent` documents with `silent=false` means: what each one came to, by position.
    ///
    /// # Errors
    /// If the batch was not taken, or the answer can't be understood.
    pub fn to_each(&self, doing: &str, sent: usize) -> Result<Vec<Option<ErrorBody>>, Fault> {
        let slots = self.slots(doing, sent)?;
        let errors = slots.into_iter().map(|slot| slot.into_result().err());
        Ok(errors.collect())
    }

    /// As [`Reply::to_each`], with the revision of each document that was stored; None if the answer left it out.
    pub(crate) fn to_revisions(
        &self,
        doing: &str,
        sent: usize,
    ) -> Result<Vec<Result<Option<Revision>, ErrorBody>>, Fault> {
        let slots = self.slots(doing, sent)?;
        Ok(slots.into_iter().map(Slot::into_result).collect())
    }

    fn slots(&self, doing: &str, sent: usize) -> Result<Vec<Slot>, Fault> {
        self.check_taken(doing)?;
        let bad_answer = |what: &str| Err(self.to_bad_answer(doing, what));
        let Ok(slots) = serde_json::from_slice::<Vec<Slot>>(&self.body) else {
            return bad_answer("which is no list of results");
        };
        if slots.len() != sent {
            return bad_answer("which has another number of results than documents were sent");
        }
        if !slots.iter().all(|slot| slot.error || slot.key.is_some()) {
            return bad_answer("which names neither an error nor a key for a document");
        }
        Ok(slots)
    }

    /// Whether the status says that the batch was taken: stored (201), or about to be on disk (202).
    fn check_taken(&self, doing: &str) -> Result<(), Fault> {
        match self.status {
            StatusCode::CREATED | StatusCode::ACCEPTED => Ok(()),
            status if status.is_success() => {
                Err(self.to_bad_answer(doing, "which is no answer to a batch"))
            }
            _ => Err(self.to_fault(doing)),
        }
    }

    fn to_bad_answer(&self, doing: &str, what: &str) -> Fault {
        let what = format!(
            "{doing}: the database, or a proxy, answered {}, {what}",
            self.describe()
        );
        Fault::Other(ArangoError::unavailable(RetryKind::BadAnswer, what))
    }

    fn to_fault(&self, doing: &str) -> Fault {
        let number = self.error().map_or(0, |error| error.number);
        if number == CORRUPTED_JSON || DATA_ERRORS.contains(&number) {
            return Fault::Unreadable(self.describe());
        }
        match self.status {
            // Also of a proxy: its limit is met by smaller batches.
            StatusCode::PAYLOAD_TOO_LARGE => Fault::TooLarge(self.describe()),
            _ => Fault::Other(self.to_error(doing)),
        }
    }
}

/// What the answer says of one document.
#[derive(Debug, Deserialize)]
struct Slot {
    #[serde(rename = "_key")]
    key: Option<String>,
    #[serde(rename = "_rev")]
    revision: Option<Revision>,
    #[serde(default)]
    error: bool,
    #[serde(rename = "errorNum", default)]
    number: u32,
    #[serde(rename = "errorMessage", default)]
    message: String,
}

impl Slot {
    fn into_result(self) -> Result<Option<Revision>, ErrorBody> {
        if self.error {
            return Err(ErrorBody {
                number: self.number,
                message: self.message,
            });
        }
        Ok(self.revision)
    }
}

impl ErrorBody {
    /// Whether the document itself is to blame.
    pub fn is_of_data(&self) -> bool {
        DATA_ERRORS.contains(&self.number)
    }

    /// What an error of one document that is not to blame means.
    pub fn to_error(&self, doing: &str) -> ArangoError {
        let what = format!(
            "{doing}: the database answered {}: {}",
            self.number, self.message
        );
        meaning::of(self.number, None).to_error(what)
    }
}

#[cfg(test)]
mod tests;
