//! Single documents of one collection, with their revisions.
//!
//! An answer can get lost after the document was written. So each write carries an id of its own (`write_id`, an
//! attribute of the document), and who is told at a second try that the document is there already, or has changed,
//! looks whether that was their own first try. Without that a lock could be held by somebody who thinks it is not.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IgnoredAny};
use serde_json::value::RawValue;
use url::Url;

use crate::{
    ArangoError, Database, Document, DocumentError, Reply, Revision, Tries, Unreadable,
    database::bad_answer, document::Written, session::Request,
};

pub(crate) const CONFLICT: u32 = 1200;
pub(crate) const NO_DOCUMENT: u32 = 1202;
const UNIQUE_CONSTRAINT: u32 = 1210;

/// A collection. Clones share everything.
#[derive(Debug, Clone)]
pub struct Collection {
    database: Database,
    name: String,
}

impl Collection {
    pub(crate) fn new(database: Database, name: &str) -> Self {
        Self {
            database,
            name: name.to_owned(),
        }
    }

    /// Its name, to be bound in a query.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The database that it is in.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Reads one document.
    ///
    /// # Errors
    /// `NotFound`; `Unreadable` if the document is no `T`; or the database did not answer until the deadline.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Document<T>, DocumentError> {
        let mut tries = self.database.retry.start();
        self.get_with(key, &mut tries, Document::read).await
    }

    /// As [`Collection::get`], whatever its size.
    ///
    /// # Errors
    /// As [`Collection::get`].
    pub async fn get_of_any_size<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Document<T>, DocumentError> {
        let mut tries = self.database.retry.start();
        self.get_with(key, &mut tries, Document::read_of_any_size)
            .await
    }

    async fn get_with<T: DeserializeOwned>(
        &self,
        key: &str,
        tries: &mut Tries<'_>,
        read: fn(&RawValue) -> Result<Document<T>, Unreadable>,
    ) -> Result<Document<T>, DocumentError> {
        let doing = format!("reading {}/{key}", self.name);
        let request = Request {
            method: Method::GET,
            url: self.url(Some(key)),
            if_match: None,
            body: Bytes::new(),
        };
        let reply = self.insist(&doing, &request, tries, is_read).await?;
        match reply.status {
            StatusCode::OK => {
                let row: &RawValue =
                    serde_json::from_slice(&reply.body).map_err(|_| bad_answer(&doing, &reply))?;
                read(row).map_err(|unreadable| DocumentError::Unreadable {
                    id: format!("{}/{key}", self.name),
                    what: unreadable.what,
                })
            }
            _ => Err(self.refusal(&doing, key, &reply)),
        }
    }

    /// Stores a new document.
    ///
    /// # Errors
    /// `AlreadyThere` if the key is taken by another write than this one; or the database did not take it until the
    /// deadline.
    pub async fn insert<T: Serialize>(
        &self,
        key: &str,
        content: &T,
    ) -> Result<Revision, DocumentError> {
        let written = Written::new(key, content)?;
        let doing = format!("inserting {}/{key}", self.name);
        let request = Request {
            method: Method::POST,
            url: self.url(None),
            if_match: None,
            body: written.to_body(),
        };
        self.write(&doing, key, &request, &written.write_id).await
    }

    /// Puts a document in the place of the one that has this revision.
    ///
    /// # Errors
    /// `Conflict` if it has another one by now, `NotFound` if there is none; or the database did not take it until
    /// the deadline. After a lost answer `Conflict` may also mean that it was stored, and has been replaced since.
    pub async fn replace<T: Serialize>(
        &self,
        key: &str,
        revision: &Revision,
        content: &T,
    ) -> Result<Revision, DocumentError> {
        let written = Written::new(key, content)?;
        let doing = format!("replacing {}/{key}", self.name);
        let request = Request {
            method: Method::PUT,
            url: self.url(Some(key)),
            if_match: Some(revision.to_header()?),
            body: written.to_body(),
        };
        self.write(&doing, key, &request, &written.write_id).await
    }

    /// Removes a document; with a revision only if it is still that one.
    ///
    /// # Errors
    /// `NotFound` if there was none at the first try, `Conflict` if it has another revision by now; or the database
    /// did not answer until the deadline.
    pub async fn remove(
        &self,
        key: &str,
        revision: Option<&Revision>,
    ) -> Result<(), DocumentError> {
        let doing = format!("removing {}/{key}", self.name);
        let request = Request {
            method: Method::DELETE,
            url: self.url(Some(key)),
            if_match: revision.map(Revision::to_header).transpose()?,
            body: Bytes::new(),
        };
        let mut tries = self.database.retry.start();
        let mut is_unsure = false;
        loop {
            let error = match self.try_once(&doing, &request, is_written).await {
                Ok(reply) if reply.status.is_success() => break,
                Ok(reply) => match self.refusal(&doing, key, &reply) {
                    DocumentError::Database(error) => error,
                    // Perhaps by this very request; in any case it is gone.
                    DocumentError::NotFound(_) if is_unsure => break,
                    refusal => return Err(refusal),
                },
                Err(error) => error,
            };
            tries.wait_alone(error).await?;
            is_unsure = true;
        }
        tries.progress();
        Ok(())
    }

    async fn write(
        &self,
        doing: &str,
        key: &str,
        request: &Request,
        write_id: &str,
    ) -> Result<Revision, DocumentError> {
        let mut tries = self.database.retry.start();
        let mut is_unsure = false;
        loop {
            let error = match self.try_once(doing, request, is_written).await {
                Ok(reply) if reply.status.is_success() => {
                    tries.progress();
                    return Ok(revision_of(&reply).expect("it was looked at"));
                }
                Ok(reply) => match self.refusal(doing, key, &reply) {
                    DocumentError::Database(error) => error,
                    refusal if is_unsure => {
                        return self.own(key, write_id, &mut tries, refusal).await;
                    }
                    refusal => return Err(refusal),
                },
                Err(error) => error,
            };
            tries.wait_alone(error).await?;
            is_unsure = true;
        }
    }

    /// After a refusal that an earlier try of the same write may have caused: the revision of the document if it is
    /// what that write made, else the refusal.
    pub(crate) async fn own(
        &self,
        key: &str,
        write_id: &str,
        tries: &mut Tries<'_>,
        refusal: DocumentError,
    ) -> Result<Revision, DocumentError> {
        match self
            .get_with::<IgnoredAny>(key, tries, Document::read_of_any_size)
            .await
        {
            Ok(found) if found.write_id.as_deref() == Some(write_id) => Ok(found.revision),
            Ok(_) | Err(DocumentError::NotFound(_)) => Err(refusal),
            Err(error) => Err(error),
        }
    }

    /// Asks until there is an answer that no retry would change.
    async fn insist(
        &self,
        doing: &str,
        request: &Request,
        tries: &mut Tries<'_>,
        is_good: fn(&Reply) -> bool,
    ) -> Result<Reply, ArangoError> {
        loop {
            let error = match self.try_once(doing, request, is_good).await {
                Ok(reply) if reply.status.is_success() || is_about_a_document(&reply) => {
                    tries.progress();
                    return Ok(reply);
                }
                Ok(reply) => reply.to_error(doing),
                Err(error) => error,
            };
            tries.wait_alone(error).await?;
        }
    }

    async fn try_once(
        &self,
        doing: &str,
        request: &Request,
        is_good: fn(&Reply) -> bool,
    ) -> Result<Reply, ArangoError> {
        let reply = self.database.session.send_request(doing, request).await?;
        if reply.status.is_success() && !is_good(&reply) {
            return Err(bad_answer(doing, &reply));
        }
        Ok(reply)
    }

    fn refusal(&self, doing: &str, key: &str, reply: &Reply) -> DocumentError {
        let number = reply.error().map_or(0, |error| error.number);
        let id = format!("{}/{key}", self.name);
        match (reply.status.as_u16(), number) {
            (404, NO_DOCUMENT) => DocumentError::NotFound(id),
            (409, UNIQUE_CONSTRAINT) => DocumentError::AlreadyThere(id),
            (412, CONFLICT) => DocumentError::Conflict(id),
            _ => DocumentError::Database(reply.to_error(doing)),
        }
    }

    pub(crate) fn url(&self, key: Option<&str>) -> Url {
        let mut path = vec!["document", &self.name];
        path.extend(key);
        self.database.url(&path)
    }
}

fn is_about_a_document(reply: &Reply) -> bool {
    reply
        .error()
        .is_some_and(|error| error.number == NO_DOCUMENT)
}

fn is_read(reply: &Reply) -> bool {
    reply.status == StatusCode::OK && revision_of(reply).is_some()
}

/// 200 and 201: on disk; 202: about to be.
fn is_written(reply: &Reply) -> bool {
    let is_expected = matches!(
        reply.status,
        StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED
    );
    is_expected && revision_of(reply).is_some()
}

fn revision_of(reply: &Reply) -> Option<Revision> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "_key")]
        _key: String,
        #[serde(rename = "_rev")]
        revision: Revision,
    }
    let answer: Answer = serde_json::from_slice(&reply.body).ok()?;
    Some(answer.revision)
}
