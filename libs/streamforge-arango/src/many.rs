//! Many documents in one request: read by their keys, or replaced by their revisions.
//!
//! What a request costs is then shared by hundreds of documents. Each document has a result of its own, which is that
//! of [`Collection::get`] or [`Collection::replace`].

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use crate::{
    ArangoError, Collection, Document, DocumentError, ErrorBody, Fault, Reply, Revision, Tries,
    Unreadable,
    collection::{CONFLICT, NO_DOCUMENT},
    database::bad_answer,
    document::Written,
};

/// Documents of one request: of a few KiB each, well below a MiB together.
const CHUNK: usize = 200;

/// What became of one document.
type Replaced = Result<Revision, DocumentError>;

impl Collection {
    /// Reads documents, in the order of their keys here; None for those that are not there. One that is no `T` is no
    /// trouble for the others.
    ///
    /// # Errors
    /// If the database did not answer until the deadline.
    pub async fn get_many<T: DeserializeOwned>(
        &self,
        keys: &[&str],
    ) -> Result<Vec<Option<Result<Document<T>, Unreadable>>>, ArangoError> {
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(CHUNK) {
            let mut tries = self.database().retry.start();
            let reply = loop {
                match self.read_chunk(keys).await {
                    Ok(reply) => break reply,
                    Err(error) => tries.wait_alone(error).await?,
                }
            };
            tries.progress();
            for row in reply {
                found.push(row.map(|row| Document::read(&row)));
            }
        }
        Ok(found)
    }

    async fn read_chunk(&self, keys: &[&str]) -> Result<Vec<Option<Box<RawValue>>>, ArangoError> {
        let doing = format!("reading many of {}", self.name());
        let mut url = self.url(None);
        url.query_pairs_mut().append_pair("onlyget", "true");
        let body = serde_json::to_vec(keys).expect("texts are JSON").into();
        let sent = self.database().session.send(&doing, Method::PUT, url, body);
        let reply = sent.await?;
        if reply.status != StatusCode::OK {
            return Err(match reply.status.is_success() {
                true => bad_answer(&doing, &reply),
                false => reply.to_error(&doing),
            });
        }
        let rows: Option<Vec<Box<RawValue>>> = serde_json::from_slice(&reply.body).ok();
        let rows = rows.filter(|rows| rows.len() == keys.len());
        let rows = rows.ok_or_else(|| bad_answer(&doing, &reply))?;
        rows.into_iter()
            .map(|row| read_row(&doing, row, &reply))
            .collect()
    }

    /// Puts each document in the place of the one that has its revision, and says what became of each, in order.
    ///
    /// # Errors
    /// If the database did not take them until the deadline, or never will. Some may be stored then.
    pub async fn replace_many<T: Serialize>(
        &self,
        documents: &[(String, Revision, T)],
    ) -> Result<Vec<Replaced>, ArangoError> {
        let mut replaced = Vec::with_capacity(documents.len());
        for documents in documents.chunks(CHUNK) {
            let mut chunk = Vec::with_capacity(documents.len());
            for (key, revision, content) in documents {
                let mut written = Written::new(key, content)?;
                let revision = Value::from(revision.as_str());
                written.attributes.insert("_rev".to_owned(), revision);
                chunk.push((key.as_str(), written));
            }
            match self.replace_chunk(&chunk).await {
                Ok(of_chunk) => replaced.extend(of_chunk),
                // Too much for something in between, or one of them is not readable: each alone.
                Err(Fault::TooLarge(_) | Fault::Unreadable(_)) => {
                    for (key, revision, content) in documents {
                        replaced.push(self.replace(key, revision, content).await);
                    }
                }
                Err(Fault::Other(error)) => return Err(error),
            }
        }
        Ok(replaced)
    }

    async fn replace_chunk(&self, chunk: &[(&str, Written)]) -> Result<Vec<Replaced>, Fault> {
        let mut tries = self.database().retry.start();
        let mut is_unsure = false;
        let mut replaced: Vec<Option<Replaced>> = chunk.iter().map(|_| None).collect();
        loop {
            let open: Vec<usize> = (0..chunk.len())
                .filter(|&at| replaced[at].is_none())
                .collect();
            if open.is_empty() {
                tries.progress();
                return Ok(replaced.into_iter().flatten().collect());
            }
            let documents: Vec<_> = open.iter().map(|&at| &chunk[at].1.attributes).collect();
            let body = serde_json::to_vec(&documents).expect("JSON values are JSON");
            let mut trouble = None;
            match self.send_chunk(body, open.len()).await {
                Ok(slots) => {
                    for (at, slot) in open.into_iter().zip(slots) {
                        match slot {
                            Ok(revision) => replaced[at] = Some(Ok(revision)),
                            Err(error) => {
                                let (key, written) = &chunk[at];
                                let own = is_unsure.then_some(written.write_id.as_str());
                                match self.refused(key, &error, own, &mut tries).await {
                                    Ok(result) => replaced[at] = Some(result),
                                    Err(error) => trouble = Some(error),
                                }
                            }
                        }
                    }
                }
                Err(Fault::Other(error)) => trouble = Some(error),
                Err(fault) => return Err(fault),
            }
            if let Some(error) = trouble {
                tries.wait_alone(error).await.map_err(Fault::Other)?;
                is_unsure = true;
            }
        }
    }

    async fn send_chunk(
        &self,
        body: Vec<u8>,
        sent: usize,
    ) -> Result<Vec<Result<Revision, ErrorBody>>, Fault> {
        let doing = format!("replacing many of {}", self.name());
        let mut url = self.url(None);
        url.query_pairs_mut()
            .append_pair("ignoreRevs", "false")
            .append_pair("silent", "false");
        let reply = self
            .database()
            .session
            .send(&doing, Method::PUT, url, body.into());
        let reply = reply.await.map_err(Fault::Other)?;
        let slots = reply.to_revisions(&doing, sent)?;
        slots
            .into_iter()
            .map(|slot| match slot {
                Ok(Some(revision)) => Ok(Ok(revision)),
                Ok(None) => Err(Fault::Other(bad_answer(&doing, &reply))),
                Err(error) => Ok(Err(error)),
            })
            .collect()
    }

    /// What an error of one document means to it; `Err` if it has to be sent again. With `own`, the id of its write,
    /// an earlier try may have stored it.
    async fn refused(
        &self,
        key: &str,
        error: &ErrorBody,
        own: Option<&str>,
        tries: &mut Tries<'_>,
    ) -> Result<Replaced, ArangoError> {
        let doing = || format!("replacing {}/{key}", self.name());
        let id = || format!("{}/{key}", self.name());
        match error.number {
            CONFLICT => {
                let conflict = DocumentError::Conflict(id());
                Ok(match own {
                    Some(write_id) => self.own(key, write_id, tries, conflict).await,
                    None => Err(conflict),
                })
            }
            NO_DOCUMENT => Ok(Err(DocumentError::NotFound(id()))),
            _ if error.is_of_data() => {
                let what = format!("{}: {}: {}", doing(), error.number, error.message);
                Ok(Err(ArangoError::Permanent(what).into()))
            }
            _ => Err(error.to_error(&doing())),
        }
    }
}

/// A document, or None if the answer says that there is none.
fn read_row(
    doing: &str,
    row: Box<RawValue>,
    reply: &Reply,
) -> Result<Option<Box<RawValue>>, ArangoError> {
    #[derive(Deserialize)]
    struct Row {
        #[serde(rename = "_key")]
        key: Option<String>,
        #[serde(default)]
        error: bool,
        #[serde(rename = "errorNum", default)]
        number: u32,
        #[serde(rename = "errorMessage", default)]
        message: String,
    }
    match serde_json::from_str::<Row>(row.get()) {
        Ok(Row { key: Some(_), .. }) => Ok(Some(row)),
        Ok(found) if found.error && found.number == NO_DOCUMENT => Ok(None),
        Ok(found) if found.error => Err(ErrorBody {
            number: found.number,
            message: found.message,
        }
        .to_error(doing)),
        _ => Err(bad_answer(doing, reply)),
    }
}
