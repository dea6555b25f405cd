//! A small server that speaks the part of ArangoDB's HTTP API which StreamForge needs.
//!
//! For development and tests, on loopback, on an embedded store in memory or in a folder. Its promise:
//! what it answers is what ArangoDB 3.12 answers, down to `errorNum`, status and the form of numbers, and
//! what it lacks it answers with 501 and the name of the thing, never with something that looks like
//! success. It is no database for data that matters: there are no permissions beyond grants of whole
//! databases, no transactions across requests, and one form of query, described in `cursor/query.rs`.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use streamforge_devstack::arango::{ArangoServer, Fault};
//!
//! let server = ArangoServer::builder().root_password("secret").in_memory().start().await?;
//! server.faults().next(Fault::DropAfterWrite, 1);
//! println!("{}", server.url());
//! server.stop().await;
//! # Ok(())
//! # }
//! ```
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

mod auth;
mod catalog;
mod collection;
mod connection;
mod cursor;
mod database;
mod document;
mod entry_key;
mod error;
mod faults;
mod import;
mod index;
mod jwt;
mod record;
mod router;
mod state;
mod store;
mod tables;
mod ttl;
mod write;

pub use auth::Grant;
pub use faults::{Fault, FaultScope, Faults};
pub use store::OpenError;

use error::ApiError;
use state::{AppState, Shared, Tallies};
use store::Store;

/// ArangoDB's own default of `--server.session-timeout`.
const DEFAULT_JWT_LIFETIME: Duration = Duration::from_secs(3600);

/// ArangoDB's own limit: 1 GiB.
const DEFAULT_BODY_LIMIT_BYTES: usize = 1024 * 1024 * 1024;

/// How often expired documents are looked for; ArangoDB's own default of `--ttl.frequency`.
const DEFAULT_TTL_INTERVAL: Duration = Duration::from_secs(30);

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        port: u16,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Store(#[from] OpenError),
}

/// Why documents could not be read in-process.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the collection: {0}")]
pub struct ReadError(String);

/// What a server has done since it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Requests of all kinds, also those that a fault hit.
    pub requests: u64,
    /// Documents inserted, replaced, updated or removed. Not those ignored as being there already.
    pub documents_written: u64,
}

enum Place {
    Memory,
    Folder(PathBuf),
}

struct User {
    name: String,
    password: String,
    grants: Vec<(String, Grant)>,
}

/// Settings of an [`ArangoServer`]. What is not set is as ArangoDB's default, on a free port, in memory.
pub struct ArangoBuilder {
    root_password: String,
    users: Vec<User>,
    place: Place,
    body_limit_bytes: usize,
    jwt_lifetime: Duration,
    ttl_interval: Duration,
    port: u16,
}

impl ArangoBuilder {
    /// The password of `root`. Default: empty, as in a fresh ArangoDB.
    pub fn root_password(mut self, password: impl Into<String>) -> Self {
        self.root_password = password.into();
        self
    }

    /// One more user, with what they may do in which database; `*` stands for all others. Without a
    /// grant for `_system` a user cannot create databases (401 with errorNum 11), with
    /// [`Grant::ReadOnly`] neither (403).
    pub fn user(mut self, name: &str, password: &str, grants: &[(&str, Grant)]) -> Self {
        let grants = grants
            .iter()
            .map(|(database, grant)| ((*database).to_owned(), *grant));
        self.users.push(User {
            name: name.to_owned(),
            password: password.to_owned(),
            grants: grants.collect(),
        });
        self
    }

    /// Keeps everything in memory; it is gone when the server stops.
    pub fn in_memory(mut self) -> Self {
        self.place = Place::Memory;
        self
    }

    /// Keeps everything in a file in this folder, which is created if need be and may be opened again.
    pub fn in_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.place = Place::Folder(folder.into());
        self
    }

    /// Bodies above this are refused with 413.
    pub fn body_limit_bytes(mut self, bytes: usize) -> Self {
        self.body_limit_bytes = bytes;
        self
    }

    /// How long a token of `/_open/auth` is good. Whole seconds count.
    pub fn jwt_lifetime(mut self, lifetime: Duration) -> Self {
        self.jwt_lifetime = lifetime;
        self
    }

    /// How often documents that a TTL index lets expire are removed.
    pub fn ttl_interval(mut self, interval: Duration) -> Self {
        self.ttl_interval = interval;
        self
    }

    /// The port on 127.0.0.1; 0 takes a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Opens the store and serves until [`ArangoServer::stop`], or until the handle is dropped.
    pub async fn start(self) -> Result<ArangoServer, StartError> {
        let port = self.port;
        let listen_error = |source| StartError::Listen { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let store = match &self.place {
            Place::Memory => Store::open_in_memory()?,
            Place::Folder(folder) => Store::open_folder(folder)?,
        };
        let mut auth = auth::Auth::new(self.jwt_lifetime);
        auth.add_user(auth::ROOT, &self.root_password, &[]);
        for user in &self.users {
            auth.add_user(&user.name, &user.password, &user.grants);
        }
        let shared = Arc::new(Shared {
            store,
            auth,
            faults: Faults::default(),
            cursors: Default::default(),
            tallies: Tallies::default(),
            body_limit_bytes: self.body_limit_bytes,
        });
        let stop = CancellationToken::new();
        let router = router::build(AppState::clone(&shared));
        let served = tokio::spawn(connection::serve(listener, router, stop.clone()));
        let upkeep = tokio::spawn(keep_up(
            AppState::clone(&shared),
            self.ttl_interval,
            stop.clone(),
        ));
        let place = match &self.place {
            Place::Memory => "memory".to_owned(),
            Place::Folder(folder) => folder.display().to_string(),
        };
        tracing::warn!(
            %address,
            place,
            "Started a stand-in for ArangoDB that is meant for development and tests only"
        );
        Ok(ArangoServer {
            address,
            shared,
            stop,
            tasks: [served, upkeep],
        })
    }
}

/// A running server. Dropping it stops the server too, but does not wait for that.
pub struct ArangoServer {
    address: SocketAddr,
    shared: AppState,
    stop: CancellationToken,
    tasks: [JoinHandle<()>; 2],
}

impl ArangoServer {
    pub fn builder() -> ArangoBuilder {
        ArangoBuilder {
            root_password: String::new(),
            users: Vec::new(),
            place: Place::Memory,
            body_limit_bytes: DEFAULT_BODY_LIMIT_BYTES,
            jwt_lifetime: DEFAULT_JWT_LIFETIME,
            ttl_interval: DEFAULT_TTL_INTERVAL,
            port: 0,
        }
    }

    /// Where the server listens, as in `http://127.0.0.1:8529`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What can be made to go wrong.
    pub fn faults(&self) -> Faults {
        self.shared.faults.clone()
    }

    pub fn counters(&self) -> Counters {
        let tallies = &self.shared.tallies;
        Counters {
            requests: tallies.requests.load(Ordering::Relaxed),
            documents_written: tallies.documents_written.load(Ordering::Relaxed),
        }
    }

    /// All documents of a collection by their keys, read past HTTP and past every fault. They are as
    /// they were sent, `_key` included; `_id` and `_rev` are left out.
    ///
    /// Blocks while it reads. Fails if there is no such database or collection.
    pub fn documents(
        &self,
        database: &str,
        collection: &str,
    ) -> Result<BTreeMap<String, Value>, ReadError> {
        let read = || -> Result<BTreeMap<String, Value>, ApiError> {
            let (_, documents) = self.shared.store.read(database, collection)?;
            let mut found = BTreeMap::new();
            for entry in documents.iter()? {
                let (key, stored) = entry?;
                let key = key.value().to_owned();
                let mut attributes = record::Record::decode(stored.value()).attributes()?;
                attributes.insert("_key".to_owned(), Value::from(key.as_str()));
                found.insert(key, Value::Object(attributes));
            }
            Ok(found)
        };
        read().map_err(|error| ReadError(error.message))
    }

    /// Stops accepting, lets answers under way finish, brings everything to disk and closes the store.
    pub async fn stop(mut self) {
        self.stop.cancel();
        for task in &mut self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "A task of the development ArangoDB failed");
            }
        }
        self.shared.cursors.clear();
        // What fails in here has been logged as the store's fault.
        let _ = state::blocking(AppState::clone(&self.shared), |shared| shared.store.sync()).await;
    }
}

impl Drop for ArangoServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Brings to disk what was written, and removes what has expired, until the server stops.
async fn keep_up(state: AppState, ttl_interval: Duration, stop: CancellationToken) {
    let mut sync = tokio::time::interval(store::SYNC_INTERVAL);
    let mut expire = tokio::time::interval(ttl_interval);
    loop {
        let work: fn(&Shared) -> Result<(), ApiError> = tokio::select! {
            () = stop.cancelled() => break,
            _ = sync.tick() => |state| state.store.sync(),
            _ = expire.tick() => |state| {
                let now = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0;
                ttl::remove_expired(&state.store, now).map(drop)
            },
        };
        // What fails in here has been logged as the store's fault, and is tried again.
        let _ = state::blocking(AppState::clone(&state), work).await;
    }
}
