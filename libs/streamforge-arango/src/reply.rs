//! What an answer of the server means for what the caller does next.
//!
//! Pure. The status is looked at before the body: a proxy's 503 is HTML, and a broken answer is no answer.

use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::{ArangoError, RetryKind, Revision};

/// Errors of a document for its own sake: no retry mends them, and the other documents are fine. The list of
/// ArangoDB's Kafka Connect sink, and 1227, "invalid document type".
const DATA_ERRORS: [u32; 27] = [
    1208, 1210, 1216, 1221, 1222, 1226, 1227, 1233, 1466, 1469, 1504, 1505, 1524, 1542, 1543, 1561,
    1562, 1563, 1569, 1572, 1578, 1593, 1594, 1620, 4001, 4003, 4010,
];
const UNAUTHORISED: u32 = 11;
const CORRUPTED_JSON: u32 = 600;
const READ_ONLY: u32 = 1004;
const CONFLICT: u32 = 1200;
const NO_COLLECTION: u32 = 1203;
const NO_DATABASE: u32 = 1228;
const QUEUE_FULL: u32 = 21003;
const QUEUE_TIME_EXCEEDED: u32 = 21004;
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
    /// The body of an error, if it is one.
    pub fn error(&self) -> Option<ErrorBody> {
        serde_json::from_slice(&self.body).ok()
    }

    pub(crate) fn is_json_object(&self) -> bool {
        matches!(serde_json::from_slice(&self.body), Ok(Value::Object(_)))
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

    /// Whether the login is not, or no longer, good.
    pub fn is_login_refused(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// What an answer without success means for any request.
    pub fn to_error(&self, doing: &str) -> ArangoError {
        let number = self.error().map_or(0, |error| error.number);
        let what = format!("{doing}: the database answered {}", self.describe());
        match (self.status.as_u16(), number) {
            (_, READ_ONLY | QUEUE_FULL | QUEUE_TIME_EXCEEDED) | (503 | 429, _) => {
                ArangoError::unavailable(RetryKind::Overload, what)
            }
            (409, CONFLICT) => ArangoError::unavailable(RetryKind::Conflict, what),
            (408, _) => ArangoError::unavailable(RetryKind::Timeout, what),
            (501, _) => ArangoError::Permanent(what),
            (421 | 500.., _) => ArangoError::unavailable(RetryKind::ServerError, what),
            _ => ArangoError::Permanent(what),
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
        match self.status.as_u16() {
            413 => Fault::TooLarge(self.describe()),
            400 if number == CORRUPTED_JSON || DATA_ERRORS.contains(&number) => {
                Fault::Unreadable(self.describe())
            }
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
        match self.number {
            UNAUTHORISED | NO_COLLECTION | NO_DATABASE => ArangoError::Permanent(what),
            CONFLICT => ArangoError::unavailable(RetryKind::Conflict, what),
            READ_ONLY | QUEUE_FULL | QUEUE_TIME_EXCEEDED => {
                ArangoError::unavailable(RetryKind::Overload, what)
            }
            _ => ArangoError::unavailable(RetryKind::ServerError, what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.as_bytes().to_vec(),
        }
    }

    fn error(status: u16, number: u32) -> Reply {
        let body = format!(
            r#"{{"error":true,"code":{status},"errorNum":{number},"errorMessage":"because"}}"#
        );
        reply(status, &body)
    }

    #[test]
    fn what_can_pass_is_told_from_what_no_retry_can_mend() {
        let passing = [
            (503, 0),
            (503, 21003),
            (412, 21004),
            (403, 1004),
            (409, 1200),
            (429, 0),
            (500, 4),
            (502, 0),
            (421, 0),
            (408, 0),
        ];
        for (status, number) in passing {
            let error = error(status, number).to_error("writing");
            assert!(matches!(error, ArangoError::Unavailable { .. }), "{error}");
        }
        for (status, number) in [
            (404, 1203),
            (404, 1228),
            (403, 11),
            (401, 11),
            (501, 9),
            (405, 405),
            (301, 0),
        ] {
            let error = error(status, number).to_error("writing");
            assert!(matches!(error, ArangoError::Permanent(_)), "{error}");
        }
    }

    #[test]
    fn a_proxy_that_answers_for_the_database_is_quoted() {
        let error = reply(503, "<html>no healthy upstream</html>").to_error("writing");
        assert_eq!(
            error.to_string(),
            "writing: the database answered 503 Service Unavailable: \"<html>no healthy upstream</html>\""
        );
        assert!(matches!(
            error,
            ArangoError::Unavailable {
                kind: RetryKind::Overload,
                ..
            }
        ));
    }

    fn is_bad_answer<T>(result: Result<T, Fault>) -> bool {
        matches!(
            result,
            Err(Fault::Other(ArangoError::Unavailable {
                kind: RetryKind::BadAnswer,
                ..
            }))
        )
    }

    #[test]
    fn a_batch_is_stored_whole_or_perhaps_not() {
        for status in [201, 202] {
            let stored = |body: &str| reply(status, body).to_stored("writing").unwrap();
            assert_eq!(stored("{}"), Stored::All);
            assert_eq!(stored("{}\n"), Stored::All);
            let one_error =
                r#"[{"error":true,"errorNum":1221,"errorMessage":"illegal document key"}]"#;
            assert_eq!(stored(one_error), Stored::NotAll);
            // Not said to mean anything; asked again, each document tells.
            assert_eq!(stored("[]"), Stored::NotAll);
        }
    }

    #[test]
    fn each_document_tells_what_it_came_to() {
        let each = r#"[{"_id":"c/1","_key":"1","_rev":"_a"},{"error":true,"errorNum":1200,"errorMessage":"conflict"}]"#;
        let found = reply(202, each).to_each("writing", 2).unwrap();
        assert!(found[0].is_none());
        assert_eq!(found[1].as_ref().unwrap().number, 1200);
        for sent in [1, 3] {
            assert!(is_bad_answer(reply(202, each).to_each("writing", sent)));
        }
        for body in ["{}", "[{}]", r#"[{"error":false}]"#, "[1]", "[", ""] {
            let reply = reply(202, body);
            assert!(is_bad_answer(reply.to_each("writing", 1)), "{body:?}");
        }
    }

    #[test]
    fn what_a_proxy_answers_is_never_taken_for_stored() {
        let objects = [
            r#"{"status":"ok"}"#,
            r#"{"error":false,"code":202}"#,
            r#"{"_id":"c/1","_key":"1","_rev":"_a"}"#,
            "{} {}",
        ];
        for body in
            objects
                .into_iter()
                .chain(["", "{", "[{\"_id\":", "[1]", "<html>", "ok", "null"])
        {
            let reply = reply(202, body);
            assert!(is_bad_answer(reply.to_stored("writing")), "{body:?}");
        }
        for status in [200, 203, 204, 206] {
            assert!(is_bad_answer(reply(status, "{}").to_stored("writing")));
            let each = reply(status, r#"[{"_key":"1"}]"#).to_each("writing", 1);
            assert!(is_bad_answer(each), "{status}");
        }
    }

    #[test]
    fn a_batch_that_is_not_taken_is_split() {
        let fault = |reply: Reply| reply.to_stored("writing").unwrap_err();
        assert!(matches!(fault(error(400, 600)), Fault::Unreadable(_)));
        assert!(matches!(fault(error(400, 1227)), Fault::Unreadable(_)));
        assert!(matches!(fault(reply(413, "")), Fault::TooLarge(_)));
        assert!(matches!(
            fault(error(400, 1204)),
            Fault::Other(ArangoError::Permanent(_))
        ));
    }

    #[test]
    fn a_document_is_to_blame_or_it_is_not() {
        let body = |number| ErrorBody {
            number,
            message: String::new(),
        };
        for number in [1210, 1221, 1227, 1620] {
            assert!(body(number).is_of_data(), "{number}");
        }
        for number in [1200, 18, 28, 1429, 1457, 21003] {
            assert!(!body(number).is_of_data(), "{number}");
            let error = body(number).to_error("writing");
            assert!(matches!(error, ArangoError::Unavailable { .. }), "{number}");
        }
        for number in [1203, 1228, 11] {
            let error = body(number).to_error("writing");
            assert!(matches!(error, ArangoError::Permanent(_)), "{number}");
        }
    }
}
