//! Writes batches of documents, whatever it takes: retries, splitting, and telling good documents from bad ones.
//!
//! A document that it returns as [`Refused`] is one that the database does not take for its own sake; all others
//! are stored. Everything it does can be done twice: documents are stored by key, and a batch whose answer was lost
//! is sent again.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use streamforge_arango::{
    ArangoError, ErrorBody, Fault, Reply, Retry, RetryKind, Session, Stored, Tries,
};
use url::Url;

use crate::{
    config::OverwriteMode,
    record::{RejectReason, Rejection},
};

const DOING: &str = "writing a batch";

/// How documents are written.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// The database.
    pub database: String,
    /// The collection.
    pub collection: String,
    /// What happens to a document that is there already.
    pub overwrite_mode: OverwriteMode,
    /// Whether the answer waits for the disk.
    pub wait_for_sync: bool,
}

/// Writes batches into one collection.
#[derive(Debug)]
pub struct Bulk {
    session: Arc<Session>,
    retry: Arc<Retry>,
    url: Url,
}

/// A document that the database does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its position in the batch.
    pub index: usize,
    /// Why.
    pub rejection: Rejection,
}

impl Bulk {
    /// Writes through `session`, as long as `retry` allows.
    pub fn new(session: Arc<Session>, retry: Arc<Retry>, options: &WriteOptions) -> Self {
        let path = ["document", &options.collection];
        let mut url = session.database_url(&options.database, &path);
        let sync = if options.wait_for_sync {
            "true"
        } else {
            "false"
        };
        url.query_pairs_mut()
            .append_pair("overwriteMode", options.overwrite_mode.as_str())
            .append_pair("waitForSync", sync)
            // Said explicitly, because the default has differed between versions.
            .append_pair("keepNull", "true");
        Self {
            session,
            retry,
            url,
        }
    }

    /// Stores documents, each a JSON object with a `_key` that no other one of the batch has. Returns those that
    /// the database refuses, in no order.
    ///
    /// # Errors
    /// If the database did not take the batch until the deadline, or never will.
    pub async fn write(&self, documents: &[&[u8]]) -> Result<Vec<Refused>, ArangoError> {
        let mut refused = Vec::new();
        let mut tries = self.retry.start();
        let mut parts: Vec<Vec<usize>> = vec![(0..documents.len()).collect()];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let body = array_of(part.iter().map(|&index| documents[index]));
            match self.store(body).await {
                Ok(Stored::All) => tries.progress(),
                Ok(Stored::NotAll) => {
                    let sent = part.len();
                    let trouble = self
                        .sort_out(documents, part, &mut refused, &mut parts)
                        .await;
                    settle(&mut tries, trouble, sent).await?;
                }
                Err(Fault::TooLarge(what)) => {
                    split(part, RejectReason::TooLarge, what, &mut refused, &mut parts);
                }
                Err(Fault::Unreadable(what)) => {
                    split(part, RejectReason::Refused, what, &mut refused, &mut parts);
                }
                Err(Fault::Other(error)) => {
                    tries.wait(error).await?;
                    parts.push(part);
                }
            }
        }
        Ok(refused)
    }

    /// Sends a part again, now asking for the result of each document, which the first answer did not tell. What is
    /// to be sent once more goes back to `parts`, and the trouble is returned.
    async fn sort_out(
        &self,
        documents: &[&[u8]],
        part: Vec<usize>,
        refused: &mut Vec<Refused>,
        parts: &mut Vec<Vec<usize>>,
    ) -> Option<Trouble> {
        let body = array_of(part.iter().map(|&index| documents[index]));
        let each = match self.store_each(body, part.len()).await {
            Ok(each) => each,
            Err(Fault::Other(error)) => {
                parts.push(part);
                return Some(Trouble::Batch(error));
            }
            // Taken a moment ago, refused now. The ordinary way finds out which.
            Err(Fault::TooLarge(what) | Fault::Unreadable(what)) => {
                parts.push(part);
                let what = format!("{DOING}: the database took it and then answered {what}");
                let error = ArangoError::unavailable(RetryKind::BadAnswer, what);
                return Some(Trouble::Batch(error));
            }
        };
        let (mut again, mut error_of_some) = (Vec::new(), None);
        for (index, error) in part.into_iter().zip(each) {
            match error {
                None => {}
                Some(error) if error.is_of_data() => refused.push(Refused {
                    index,
                    rejection: Rejection::new(
                        RejectReason::Refused,
                        format!(
                            "the database refuses it with {}: {}",
                            error.number, error.message
                        ),
                    ),
                }),
                Some(error) => {
                    error_of_some = Some(error.to_error(DOING));
                    again.push(index);
                }
            }
        }
        let left = again.len();
        parts.push(again);
        error_of_some.map(|error| Trouble::Documents { error, left })
    }

    async fn store(&self, body: Bytes) -> Result<Stored, Fault> {
        self.request("true", body).await?.to_stored(DOING)
    }

    async fn store_each(&self, body: Bytes, sent: usize) -> Result<Vec<Option<ErrorBody>>, Fault> {
        self.request("false", body).await?.to_each(DOING, sent)
    }

    async fn request(&self, silent: &str, body: Bytes) -> Result<Reply, Fault> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("silent", silent);
        let sent = self.session.send(DOING, Method::POST, url, body).await;
        sent.map_err(Fault::Other)
    }
}

/// Why a part, or some of it, is to be sent once more.
enum Trouble {
    /// The database did not answer for the part.
    Batch(ArangoError),
    /// It did not take these documents for now.
    Documents { error: ArangoError, left: usize },
}

/// After sorting out a part of `sent` documents: waits if there was trouble.
async fn settle(
    tries: &mut Tries<'_>,
    trouble: Option<Trouble>,
    sent: usize,
) -> Result<(), ArangoError> {
    match trouble {
        Some(Trouble::Batch(error)) => tries.wait(error).await,
        Some(Trouble::Documents { error, left }) => {
            if left < sent {
                tries.progress();
            }
            tries.wait_alone(error).await
        }
        None => {
            tries.progress();
            Ok(())
        }
    }
}

/// Puts the halves of a part back; a single document has none and is refused.
fn split(
    mut part: Vec<usize>,
    reason: RejectReason,
    what: String,
    refused: &mut Vec<Refused>,
    parts: &mut Vec<Vec<usize>>,
) {
    if let [index] = part[..] {
        refused.push(Refused {
            index,
            rejection: Rejection::new(reason, format!("the database refuses it with {what}")),
        });
        return;
    }
    let second = part.split_off(part.len() / 2);
    parts.push(second);
    parts.push(part);
}

/// A JSON array of documents, byte for byte as they are.
fn array_of<'d>(documents: impl Iterator<Item = &'d [u8]> + Clone) -> Bytes {
    let length: usize = documents.clone().map(|document| document.len() + 1).sum();
    let mut body = Vec::with_capacity(length + 1);
    body.push(b'[');
    for document in documents {
        if body.len() > 1 {
            body.push(b',');
        }
        body.extend_from_slice(document);
    }
    body.push(b']');
    body.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn documents_are_passed_on_byte_for_byte() {
        let documents: [&[u8]; 2] = [br#"{"open":64640.00}"#, br#"{ "open" : 1 }"#];
        assert_eq!(
            array_of(documents.into_iter()),
            r#"[{"open":64640.00},{ "open" : 1 }]"#
        );
        assert_eq!(array_of(std::iter::empty()), "[]");
    }

    #[tokio::test(start_paused = true)]
    async fn one_document_is_not_tried_for_longer_than_the_deadline_while_others_are_stored() {
        let deadline = Duration::from_secs(30);
        let retry = Retry::new(deadline).set_by("RETRY_DEADLINE_SECS");
        let start = Instant::now();
        let mut tries = retry.start();
        let (mut sent, mut alone) = (100, start);
        let error = loop {
            retry.succeeded();
            let error = ArangoError::unavailable(RetryKind::Conflict, "1200");
            let left = if start.elapsed() < deadline / 6 { 2 } else { 1 };
            if left < sent {
                alone = Instant::now();
            }
            let trouble = Some(Trouble::Documents { error, left });
            if let Err(error) = settle(&mut tries, trouble, sent).await {
                break error;
            }
            sent = left;
        };
        assert!(alone - start >= deadline / 6, "one less was progress");
        assert!(alone.elapsed() <= deadline && alone.elapsed() > deadline / 4);
        assert!(error.to_string().contains("RETRY_DEADLINE_SECS"), "{error}");
    }

    #[test]
    fn a_part_is_halved_down_to_the_document_that_is_to_blame() {
        let (mut refused, mut parts) = (Vec::new(), Vec::new());
        split(
            vec![4, 5, 6],
            RejectReason::TooLarge,
            "413".to_owned(),
            &mut refused,
            &mut parts,
        );
        assert_eq!(parts, [vec![5, 6], vec![4]]);
        split(
            vec![4],
            RejectReason::TooLarge,
            "413".to_owned(),
            &mut refused,
            &mut parts,
        );
        assert_eq!((refused.len(), refused[0].index), (1, 4));
    }
}
