//! Documents, queries and set-up against the development server, with faults in between.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod documents;
mod many;
mod proxied;
mod queries;
mod setting_up;

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;
use streamforge_arango::{
    ArangoConfig, AuthMode, Collection, CollectionSpec, Database, IndexKind, IndexSpec, Retry,
    Session,
};
use streamforge_devstack::arango::{ArangoBuilder, ArangoServer};

const DATABASE: &str = "streamforge";
const PASSWORD: &str = "correct horse";

struct Stack {
    server: ArangoServer,
    database: Database,
    items: Collection,
}

fn specs() -> Vec<CollectionSpec> {
    vec![
        CollectionSpec {
            name: "items".to_owned(),
            variable: None,
            indexes: vec![
                IndexSpec {
                    name: "order",
                    fields: &["group", "number"],
                    kind: IndexKind::Persistent,
                },
                IndexSpec {
                    name: "expiry",
                    fields: &["expires_at"],
                    kind: IndexKind::Expiry,
                },
            ],
        },
        CollectionSpec {
            name: "others".to_owned(),
            variable: None,
            indexes: Vec::new(),
        },
    ]
}

fn database(server: &ArangoServer, deadline: Duration) -> Database {
    let config = ArangoConfig {
        url: server.url().parse().unwrap(),
        database: DATABASE.to_owned(),
        user: "root".to_owned(),
        password: SecretString::from(PASSWORD),
        ca_path: None,
        auth: AuthMode::Jwt,
    };
    let session = Session::new(&config, deadline).unwrap();
    let retry = Retry::new(deadline);
    Database::new(Arc::new(session), Arc::new(retry), DATABASE)
}

impl Stack {
    async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    async fn start_with(change: impl FnOnce(ArangoBuilder) -> ArangoBuilder) -> Self {
        let builder = ArangoServer::builder().root_password(PASSWORD);
        let server = change(builder).start().await.unwrap();
        let database = database(&server, Duration::from_secs(20));
        database.prepare(&specs()).await.unwrap();
        let items = database.collection("items");
        Self {
            server,
            database,
            items,
        }
    }
}
