//! What queue-manager keeps in ArangoDB, for any number of replicas at once.
//!
//! - [`Workflows`]: the state of each workflow, replaced only by who has read its last revision.
//! - [`Changes`]: which states were written since.
//! - [`Telemetry`]: the history of each workflow, each event once.
//! - [`Lease`]: which replica reconciles.
//! - [`Idempotency`]: what was answered to a request that comes again.
//!
//! Everything that can pass is tried again until the deadline of the [`Database`] that it was made with; errors say
//! what the caller does next. What stands in a state, and what follows from it, is not decided here: the store knows of
//! a workflow only what it is looked up by.

mod changes;
mod cursor;
mod error;
mod idempotency;
mod installation;
mod lease;
mod migration;
mod quarantine;
mod telemetry;
mod workflows;

pub use changes::{Changes, Mark};
pub use cursor::{Cursor, Page};
pub use error::StoreError;
pub use idempotency::{ANSWERED_FOR, Fingerprint, Idempotency, RUNNING_FOR, Reservation, Ticket};
pub use lease::{Lease, LeaseTimes, Standing};
pub use quarantine::Quarantine;
pub use telemetry::{NewEvent, StoredEvent, Telemetry};
pub use workflows::{Excerpt, Filter, Found, Row, Workflows};

use std::time::Duration;

use streamforge_arango::{CollectionSpec, Database, IndexKind, IndexSpec};

// All begin with `protocol::RESERVED_PREFIX`, which no collection of candles does.
const QUEUE_STATE: &str = "streamforge-queue_state";
const TELEMETRY: &str = "streamforge-telemetry";
const LEASE: &str = "streamforge-lease";
const IDEMPOTENCY: &str = "streamforge-idempotency";

/// All collections, over one database. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
    quarantine: Quarantine,
}

impl Store {
    /// Keeps everything in this database. Asks for nothing yet.
    pub fn new(database: Database) -> Self {
        Self {
            database,
            quarantine: Quarantine::new(),
        }
    }

    /// Makes sure of the database, the collections and their indexes, for as long as the database's deadline allows,
    /// and moves what an earlier release kept in collections of other names.
    ///
    /// # Errors
    /// If the database can't be reached until then, the user may not do what is to be done, or a replica of the
    /// earlier release still reconciles.
    pub async fn prepare(&self, times: LeaseTimes) -> Result<(), StoreError> {
        self.database.prepare(&collections()).await?;
        migration::run(&self.database, times).await
    }

    /// What could not be read.
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// Asks once, without retries, whether the database answers: for readiness.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self) -> Result<(), StoreError> {
        Ok(self.database.check().await?)
    }

    /// The id of this database's installation, made at the first time.
    ///
    /// # Errors
    /// The database can't be reached, or what stands there is no id.
    pub async fn installation(&self) -> Result<String, StoreError> {
        installation::id(&self.database.collection(LEASE)).await
    }

    /// The states of workflows, each a `W`.
    pub fn workflows<W>(&self) -> Workflows<W> {
        Workflows::new(
            self.database.collection(QUEUE_STATE),
            self.quarantine.clone(),
        )
    }

    /// The history of workflows; each event is kept for `retention`.
    pub fn telemetry(&self, retention: Duration) -> Telemetry {
        let collection = self.database.collection(TELEMETRY);
        Telemetry::new(collection, self.quarantine.clone(), retention)
    }

    /// The lease `name`, wanted by `holder`, an id that no other process has and that this one has had for no other
    /// lease of this name.
    pub fn lease(&self, name: &str, holder: &str, times: LeaseTimes) -> Lease {
        Lease::new(self.database.collection(LEASE), name, holder, times)
    }

    /// Requests that may come again.
    pub fn idempotency(&self) -> Idempotency {
        Idempotency::new(self.database.collection(IDEMPOTENCY))
    }
}

fn collections() -> Vec<CollectionSpec> {
    let expiry = IndexSpec {
        name: "expiry",
        fields: &["expires_at"],
        kind: IndexKind::Expiry,
    };
    let collection = |name: &str, indexes| CollectionSpec {
        name: name.to_owned(),
        variable: None,
        indexes,
    };
    vec![
        collection(
            QUEUE_STATE,
            vec![
                workflows::listing_index(),
                workflows::change_index(),
                workflows::retirement_index(),
                changes::write_index(),
            ],
        ),
        collection(TELEMETRY, vec![telemetry::history_index(), expiry.clone()]),
        collection(LEASE, Vec::new()),
        collection(IDEMPOTENCY, vec![expiry]),
    ]
}
