//! What every service that speaks to ArangoDB shares.
//!
//! - [`ArangoConfig`]: how to reach the database, from the environment.
//! - [`Session`]: one HTTP client with one login, for everything that is asked.
//! - [`Reply`], [`Stored`], [`Fault`]: what an answer means for what the caller does next.
//! - [`Retry`]: how long what can pass is tried again.
//! - [`prepare`]: makes the database, its collections and their indexes, each if it is absent.
//!
//! Databases, collections and indexes go through arangors, everything else through reqwest, and both through one
//! client with one login. arangors knows neither time-outs nor retries and takes any answer for JSON, so the client
//! below it looks at the status first.

mod config;
mod error;
mod reply;
mod retry;
mod session;
mod setup;

pub use config::{ArangoConfig, AuthMode};
pub use error::ArangoError;
pub use reply::{ErrorBody, Fault, Reply, Stored};
pub use retry::{Retry, RetryKind, Tries};
pub use session::Session;
pub use setup::{CollectionSpec, IndexKind, IndexSpec, prepare};
