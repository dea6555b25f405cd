//! What every service that speaks to ArangoDB shares.
//!
//! - [`ArangoConfig`]: how to reach the database, from the environment.
//! - [`Session`]: one HTTP client with one login, for everything that is asked.
//! - [`Reply`], [`Stored`], [`Fault`]: what an answer means for what the caller does next.
//! - [`Retry`]: how long what can pass is tried again.
//! - [`prepare`]: makes the database, its collections and their indexes, each if it is absent.
//! - [`Database`] and [`Collection`]: single documents with their revisions, and queries, with retries.
//!
//! Everything goes through one client with one login, which looks at what an answer says before it believes it. A proxy
//! may stand before the server: what it answers by itself, and connections that it closes, are retried. Indexes are
//! described by arangors' types; its client is not used, since it judges a server by a header that proxies drop, knows
//! neither time-outs nor retries, and takes any answer for JSON.

mod absent;
mod collection;
mod config;
mod database;
mod document;
mod error;
mod many;
mod query;
mod reply;
mod retry;
mod session;
mod setup;

pub use absent::Refused;
pub use collection::Collection;
pub use config::{ArangoConfig, AuthMode};
pub use database::Database;
pub use document::{Document, Revision, Unreadable};
pub use error::{ArangoError, DocumentError};
pub use query::{Page, Query};
pub use reply::{ErrorBody, Fault, Reply, Stored};
pub use retry::{Retry, RetryKind, Tries};
pub use session::Session;
pub use setup::{CollectionSpec, IndexKind, IndexSpec, prepare};
