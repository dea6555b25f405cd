//! What a laptop and the tests need, in this process, on loopback and on free ports.
//!
//! - [`arango`]: a small ArangoDB server.
//! - [`exchange`]: Binance's REST API, fed by a generator or by recorded responses.
//! - [`kafka`]: a Kafka broker.
//! - [`proxy`]: a reverse proxy before one of these, for tests.
//! - `kubernetes`, with the feature of that name: a cluster for what launches Jobs, and a node for a real one.
//!
//! All of it is for development and tests: it says so at its start, and what it lacks it refuses by name.

pub mod arango;
pub mod exchange;
pub mod kafka;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod proxy;
pub mod recordings;
