//! Makes collections ready: database, collections and indexes, each made if it is absent.
//!
//! Through arangors, over our own client ([`Session`]), which it gets by a task-local because it makes its clients
//! itself. Several processes may do this at once: what another one made first is there, and that is all that counts.

use std::sync::{Arc, Mutex, PoisonError};

use arangors::{
    ClientError, Database, GenericConnection,
    client::ClientExt,
    collection::CollectionType,
    index::{Index, IndexSettings},
};
use http::{HeaderMap, Method, Request, Response};
use tracing::info;
use url::Url;

use crate::{ArangoError, Reply, Retry, Session};

const NO_COLLECTION: u32 = 1203;
const DUPLICATE_NAME: u32 = 1207;
const NO_DATABASE: u32 = 1228;

tokio::task_local! {
    static CLIENT: Client;
}

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
    session: &Arc<Session>,
    retry: &Retry,
    database: &str,
    collections: &[CollectionSpec],
) -> Result<(), ArangoError> {
    let mut tries = retry.start();
    loop {
        let client = Client {
            session: Arc::clone(session),
            refusal: Arc::default(),
            headers: HeaderMap::new(),
        };
        let setup = Setup {
            client: client.clone(),
            database,
            collections,
        };
        match CLIENT.scope(client, setup.run()).await {
            Ok(()) => {
                retry.succeeded();
                return Ok(());
            }
            Err(error) => tries.wait(error).await?,
        }
    }
}

struct Setup<'a> {
    client: Client,
    database: &'a str,
    collections: &'a [CollectionSpec],
}

/// What the server said to one request: no to what was asked, with a number.
struct No {
    number: u32,
    error: ArangoError,
}

impl Setup<'_> {
    async fn run(&self) -> Result<(), ArangoError> {
        let root = self.client.session.root().to_string();
        // The login is the session's, so arangors has nothing to add.
        let connection = GenericConnection::<Client>::establish_without_auth(root);
        let connection = self.ask("connecting", connection).await?;
        let database = self.database(&connection).await?;
        for spec in self.collections {
            self.collection(&database, spec).await?;
            for index in &spec.indexes {
                self.index(&database, &spec.name, index).await?;
            }
        }
        Ok(())
    }

    async fn index(
        &self,
        database: &Database<Client>,
        collection: &str,
        spec: &IndexSpec,
    ) -> Result<(), ArangoError> {
        let fields = spec.shown_fields();
        let doing = format!("making the index on {fields}");
        let wanted = spec.to_arangors();
        let index = database.create_index(collection, &wanted);
        let index = self.ask(&doing, index).await?;
        if index.is_newly_created == Some(true) {
            info!(collection, index = %index.id, "Made the index on {fields}");
        }
        Ok(())
    }

    async fn database(
        &self,
        connection: &GenericConnection<Client>,
    ) -> Result<Database<Client>, ArangoError> {
        let doing = format!("opening database {:?} (ARANGO_DB)", self.database);
        match self.try_ask(&doing, connection.db(self.database)).await? {
            Ok(database) => return Ok(database),
            Err(no) if no.number == NO_DATABASE => {}
            Err(no) => return Err(no.error),
        }
        let making = format!(
            "making database {:?} (ARANGO_DB), which is absent",
            self.database
        );
        match self
            .try_ask(&making, connection.create_database(self.database))
            .await?
        {
            Ok(database) => {
                info!(database = self.database, "Made the database");
                Ok(database)
            }
            Err(no) if no.number == DUPLICATE_NAME => {
                self.ask(&doing, connection.db(self.database)).await
            }
            Err(no) => Err(no.error),
        }
    }

    async fn collection(
        &self,
        database: &Database<Client>,
        spec: &CollectionSpec,
    ) -> Result<(), ArangoError> {
        let name = spec.name.as_str();
        let variable = spec.variable.map(|name| format!(" ({name})"));
        let variable = variable.unwrap_or_default();
        let doing = format!("opening collection {name:?}{variable}");
        let collection = match self.try_ask(&doing, database.collection(name)).await? {
            Ok(collection) => collection,
            Err(no) if no.number == NO_COLLECTION => {
                let making = format!("making collection {name:?}{variable}");
                match self
                    .try_ask(&making, database.create_collection(name))
                    .await?
                {
                    Ok(collection) => {
                        info!(collection = name, "Made the collection");
                        collection
                    }
                    Err(no) if no.number == DUPLICATE_NAME => {
                        self.ask(&doing, database.collection(name)).await?
                    }
                    Err(no) => return Err(no.error),
                }
            }
            Err(no) => return Err(no.error),
        };
        match collection.collection_type() {
            CollectionType::Document => Ok(()),
            CollectionType::Edge => Err(ArangoError::Permanent(format!(
                "collection {name:?}{variable} holds edges, expected one that holds documents"
            ))),
        }
    }

    async fn ask<T>(
        &self,
        doing: &str,
        request: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ArangoError> {
        self.try_ask(doing, request).await?.map_err(|no| no.error)
    }

    /// Asks through arangors. What went wrong is what our client saw, since arangors' errors do not tell a broken
    /// connection from a wrong password.
    async fn try_ask<T>(
        &self,
        doing: &str,
        request: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<Result<T, No>, ArangoError> {
        self.client.set_refusal(None);
        let error = match request.await {
            Ok(answer) => return Ok(Ok(answer)),
            Err(error) => error,
        };
        match self.client.set_refusal(None) {
            Some(Refusal::NoAnswer(error)) => Err(error),
            Some(Refusal::Answer(reply)) => Ok(Err(No {
                number: reply.error().map_or(0, |error| error.number),
                error: reply.to_error(doing),
            })),
            None => Err(ArangoError::Permanent(format!(
                "{doing}: {} does not answer as an ArangoDB server does: {error}",
                self.client.session.root()
            ))),
        }
    }
}

/// Our client as arangors wants one.
#[derive(Debug, Clone)]
struct Client {
    session: Arc<Session>,
    refusal: Arc<Mutex<Option<Refusal>>>,
    headers: HeaderMap,
}

#[derive(Debug)]
enum Refusal {
    NoAnswer(ArangoError),
    Answer(Reply),
}

impl Client {
    fn set_refusal(&self, refusal: Option<Refusal>) -> Option<Refusal> {
        let mut place = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut place, refusal)
    }

    async fn exchange(&self, request: Request<String>) -> Result<Reply, ArangoError> {
        let (head, body) = request.into_parts();
        let url: Url = head
            .uri
            .to_string()
            .parse()
            .map_err(|error| ArangoError::Permanent(format!("{}: {error}", head.uri)))?;
        let doing = match head.method {
            Method::GET => format!("asking for {}", url.path()),
            _ => format!("making {}", url.path()),
        };
        self.session
            .send(&doing, head.method, url, body.into())
            .await
    }
}

#[async_trait::async_trait]
impl ClientExt for Client {
    fn new<U: Into<Option<HeaderMap>>>(headers: U) -> Result<Self, ClientError> {
        let mut client = CLIENT
            .try_with(Clone::clone)
            .map_err(|_| ClientError::HttpClient("used outside of prepare".to_owned()))?;
        client.headers = headers.into().unwrap_or_default();
        Ok(client)
    }

    fn headers(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    async fn request(&self, request: Request<String>) -> Result<Response<String>, ClientError> {
        let refused = |refusal: Refusal, what: &str| {
            self.set_refusal(Some(refusal));
            Err(ClientError::HttpClient(what.to_owned()))
        };
        let reply = match self.exchange(request).await {
            Ok(reply) => reply,
            Err(error) => return refused(Refusal::NoAnswer(error), "no answer"),
        };
        if reply.status.is_client_error() || reply.status.is_server_error() {
            return refused(Refusal::Answer(reply), "an error");
        }
        let mut response = Response::new(String::from_utf8_lossy(&reply.body).into_owned());
        *response.status_mut() = reply.status;
        *response.headers_mut() = reply.headers;
        Ok(response)
    }
}
