//! Makes collections ready: database, collections and indexes, each made if it is absent.
//!
//! Several processes may do this at once: what another one made first is there, and that is all that counts. Each
//! request is retried by itself, so a connection that breaks does not restart what is done already. A server is judged
//! by how it answers for the database; a proxy before it may hide what it is.

use arangors::index::{Index, IndexSettings};
use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::json;
use tracing::info;
use url::Url;

use crate::{ArangoError, Reply, Retry, Session, database::bad_answer};

pub(crate) const NO_COLLECTION: u32 = 1203;
const DUPLICATE_NAME: u32 = 1207;
const NO_DATABASE: u32 = 1228;
/// Where databases are made.
const SYSTEM_DATABASE: &str = "_system";
/// `type` of a collection that holds documents; the other one, 3, holds edges.
const DOCUMENTS: u32 = 2;

/// A collection as it is to be.
#[derive(Debug, Clone)]
pub struct CollectionSpec {
    /// Its name.
    pub name: String,
    /// The variable that sets its name, for messages.
    pub variable: Option<&'static str>,
    /// Besides the one on `_key`, which every collection has.
    pub indexes: Vec<IndexSpec>,
}

/// An index as it is to be. One of this name that is different is an error, not changed.
#[derive(Debug, Clone)]
pub struct IndexSpec {
    /// Unique in its collection.
    pub name: &'static str,
    /// The attributes it is on; the first count most.
    pub fields: &'static [&'static str],
    /// What it does.
    pub kind: IndexKind,
}

/// What an index does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexKind {
    /// Finds and sorts documents.
    Persistent,
    /// Removes documents some time after they expired. Its one field holds Unix seconds.
    Expiry,
}

impl IndexSpec {
    fn shown_fields(&self) -> String {
        self.fields.join(", ")
    }

    fn to_arangors(&self) -> Index {
        let settings = match self.kind {
            IndexKind::Persistent => IndexSettings::Persistent {
                unique: false,
                sparse: false,
                deduplicate: true,
            },
            IndexKind::Expiry => IndexSettings::Ttl { expire_after: 0 },
        };
        Index::builder()
            .name(self.name)
            .fields(self.fields.iter().map(|&field| field.to_owned()).collect())
            // A collection that is being read stays readable while it gets its index.
            .in_background(Some(true))
            .settings(settings)
            .build()
    }
}

/// Makes sure of the database, its collections and their indexes, for as long as `retry` allows.
///
/// # Errors
/// If the database can't be reached until the deadline, or the user may not do what is to be done.
pub async fn prepare(
    session: &Session,
    retry: &Retry,
    database: &str,
    collections: &[CollectionSpec],
) -> Result<(), ArangoError> {
    let setup = Setup {
        session,
        retry,
        database,
    };
    setup.database().await?;
    for spec in collections {
        setup.collection(spec).await?;
        for index in &spec.indexes {
            setup.index(&spec.name, index).await?;
        }
    }
    Ok(())
}

/// Whether this is what an ArangoDB server answers when it is asked about its database of this name.
pub(crate) fn is_database(reply: &Reply, name: &str) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        result: Current,
    }
    #[derive(Deserialize)]
    struct Current {
        name: String,
        #[serde(rename = "isSystem")]
        _is_system: bool,
    }
    let answer: Option<Answer> = serde_json::from_slice(&reply.body).ok();
    answer.is_some_and(|answer| answer.result.name == name)
}

struct Setup<'a> {
    session: &'a Session,
    retry: &'a Retry,
    database: &'a str,
}

/// One request of the set-up.
struct Ask<'a> {
    doing: &'a str,
    method: Method,
    url: Url,
    body: Bytes,
    /// The error number that the caller deals with.
    expected: Option<u32>,
}

/// The server answered with the expected error number.
struct Expected;

impl Setup<'_> {
    async fn database(&self) -> Result<(), ArangoError> {
        let doing = format!("opening database {:?} (ARANGO_DB)", self.database);
        let open = || Ask::get(&doing, self.url(&["database", "current"]));
        let read = |reply: &Reply| is_database(reply, self.database).then_some(());
        if self
            .ask(&open().expecting(NO_DATABASE), read)
            .await?
            .is_ok()
        {
            return Ok(());
        }
        let making = format!(
            "making database {:?} (ARANGO_DB), which is absent",
            self.database
        );
        let url = self.session.database_url(SYSTEM_DATABASE, &["database"]);
        let make = Ask::post(&making, url, &json!({"name": self.database}));
        let is_made = |reply: &Reply| made(reply).then_some(());
        if self
            .ask(&make.expecting(DUPLICATE_NAME), is_made)
            .await?
            .is_ok()
        {
            info!(database = self.database, "Made the database");
        }
        self.must(&open(), read).await
    }

    async fn collection(&self, spec: &CollectionSpec) -> Result<(), ArangoError> {
        let name = spec.name.as_str();
        let variable = spec.variable.map(|name| format!(" ({name})"));
        let variable = variable.unwrap_or_default();
        let doing = format!("opening collection {name:?}{variable}");
        let open = || Ask::get(&doing, self.url(&["collection", name]));
        let read = |reply: &Reply| kind_of_collection(reply, name);
        let kind = match self.ask(&open().expecting(NO_COLLECTION), read).await? {
            Ok(kind) => kind,
            Err(Expected) => {
                let making = format!("making collection {name:?}{variable}");
                let body = json!({"name": name, "type": DOCUMENTS});
                let make = Ask::post(&making, self.url(&["collection"]), &body);
                match self.ask(&make.expecting(DUPLICATE_NAME), read).await? {
                    Ok(kind) => {
                        info!(collection = name, "Made the collection");
                        kind
                    }
                    Err(Expected) => self.must(&open(), read).await?,
                }
            }
        };
        if kind == DOCUMENTS {
            return Ok(());
        }
        Err(ArangoError::Permanent(format!(
            "collection {name:?}{variable} holds edges, expected one that holds documents"
        )))
    }

    async fn index(&self, collection: &str, spec: &IndexSpec) -> Result<(), ArangoError> {
        #[derive(Deserialize)]
        struct Made {
            id: String,
            #[serde(rename = "isNewlyCreated", default)]
            is_new: bool,
        }
        let fields = spec.shown_fields();
        let doing = format!("making the index on {fields}");
        let mut url = self.url(&["index"]);
        url.query_pairs_mut().append_pair("collection", collection);
        let wanted = serde_json::to_value(spec.to_arangors()).expect("an index is JSON");
        let made: Made = self
            .must(&Ask::post(&doing, url, &wanted), |reply| {
                serde_json::from_slice(&reply.body).ok()
            })
            .await?;
        if made.is_new {
            info!(collection, index = %made.id, "Made the index on {fields}");
        }
        Ok(())
    }

    fn url(&self, path: &[&str]) -> Url {
        self.session.database_url(self.database, path)
    }

    /// As [`Setup::ask`], where no error is expected.
    async fn must<T>(
        &self,
        ask: &Ask<'_>,
        read: impl Fn(&Reply) -> Option<T>,
    ) -> Result<T, ArangoError> {
        match self.ask(ask, read).await? {
            Ok(answer) => Ok(answer),
            Err(Expected) => unreachable!("no error number is expected"),
        }
    }

    /// Asks until there is an answer that `read` understands, or the error that is expected.
    async fn ask<T>(
        &self,
        ask: &Ask<'_>,
        read: impl Fn(&Reply) -> Option<T>,
    ) -> Result<Result<T, Expected>, ArangoError> {
        let mut tries = self.retry.start();
        loop {
            let (method, url) = (ask.method.clone(), ask.url.clone());
            let sent = self
                .session
                .send(ask.doing, method, url, ask.body.clone())
                .await;
            let error = match sent {
                Ok(reply) if reply.status.is_success() => match read(&reply) {
                    Some(answer) => {
                        tries.progress();
                        return Ok(Ok(answer));
                    }
                    None => bad_answer(ask.doing, &reply),
                },
                Ok(reply) => {
                    let number = reply.error().map(|error| error.number);
                    if number.is_some() && number == ask.expected {
                        tries.progress();
                        return Ok(Err(Expected));
                    }
                    reply.to_error(ask.doing)
                }
                Err(error) => error,
            };
            tries.wait(error).await?;
        }
    }
}

impl<'a> Ask<'a> {
    fn get(doing: &'a str, url: Url) -> Self {
        Self {
            doing,
            method: Method::GET,
            url,
            body: Bytes::new(),
            expected: None,
        }
    }

    fn post(doing: &'a str, url: Url, body: &serde_json::Value) -> Self {
        Self {
            method: Method::POST,
            body: body.to_string().into(),
            ..Self::get(doing, url)
        }
    }

    fn expecting(self, number: u32) -> Self {
        Self {
            expected: Some(number),
            ..self
        }
    }
}

/// Whether a database was made.
fn made(reply: &Reply) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        result: bool,
    }
    serde_json::from_slice(&reply.body).is_ok_and(|answer: Answer| answer.result)
}

/// `type` of the collection of this name that was asked for or made.
fn kind_of_collection(reply: &Reply, name: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Answer {
        name: String,
        #[serde(rename = "type")]
        kind: u32,
    }
    let answer: Answer = serde_json::from_slice(&reply.body).ok()?;
    (answer.name == name).then_some(answer.kind)
}
