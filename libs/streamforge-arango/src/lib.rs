//! What every service that speaks to ArangoDB shares.
//!
//! - [`ArangoConfig`]: how to reach the database, from the environment.
//! - [`Session`]: one HTTP client with one login, for everything that is asked.
//! - [`Reply`], [`Stored`], [`Fault`]: what an answer means for what the caller does next.
//! - [`Retry`]: how long what can pass is tried again.
//! - [`prepare`]: makes the database, its collections and their indexes, each if it is absent.
//! - [`Database`] and [`Collection`]: single documents with their revisions, and queries, with retries.
//!
//! Databases, collections and indexes go through arangors, everything else through reqwest, and both through one
//! client with one login. arangors knows neither time-outs nor retries and takes any answer for JSON, so the client
//! below it looks at the status first. Single documents and queries do without it: what an answer means there
//! depends on its number, which arangors shows for some calls only, and its handles ask for database and collection
//! once more before each use.

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
pub use document::{Document, Revision};
pub use error::{ArangoError, DocumentError};
pub use query::{Page, Query};
pub use reply::{ErrorBody, Fault, Reply, Stored};
pub use retry::{Retry, RetryKind, Tries};
pub use session::Session;
pub use setup::{CollectionSpec, IndexKind, IndexSpec, prepare};
