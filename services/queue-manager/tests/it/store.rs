//! What is kept in ArangoDB, by two replicas at once, and with answers that get lost.

mod changes;
mod idempotency;
mod installation;
mod lease;
mod migration;
mod quarantine;
mod telemetry;
mod workflows;

use std::{sync::Arc, time::Duration};

use queue_manager::store::{LeaseTimes, Store};
use secrecy::SecretString;
use streamforge_arango::{ArangoConfig, AuthMode, Database, Retry, Session};
use streamforge_devstack::arango::ArangoServer;
use streamforge_utils::protocol::{QueueId, TimestampMs};

const DATABASE: &str = "streamforge";
const PASSWORD: &str = "correct horse";
/// 2024-08-01T00:00Z.
const NOW: TimestampMs = TimestampMs(1_722_470_400_000);

async fn server() -> ArangoServer {
    let builder = ArangoServer::builder().root_password(PASSWORD);
    // Documents of the past must not go while a test looks at them.
    let builder = builder.ttl_interval(Duration::from_secs(3600));
    builder.start().await.unwrap()
}

/// A replica's store, with a session of its own.
async fn replica(server: &ArangoServer) -> Store {
    let store = Store::new(database(server));
    store.prepare(LeaseTimes::default()).await.unwrap();
    store
}

/// A replica's way to the database.
fn database(server: &ArangoServer) -> Database {
    let config = ArangoConfig {
        url: server.url().parse().unwrap(),
        database: DATABASE.to_owned(),
        user: "root".to_owned(),
        password: SecretString::from(PASSWORD),
        ca_path: None,
        auth: AuthMode::Jwt,
    };
    let deadline = Duration::from_secs(20);
    let session = Arc::new(Session::new(&config, deadline).unwrap());
    Database::new(session, Arc::new(Retry::new(deadline)), DATABASE)
}

fn queue_id(number: usize) -> QueueId {
    format!("wf-btcusdt-dummy-20240801-{number:06}")
        .parse()
        .unwrap()
}
