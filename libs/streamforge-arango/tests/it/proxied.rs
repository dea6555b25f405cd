//! A database behind a reverse proxy, which hides its name, adds a path, closes connections and answers by itself.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use secrecy::SecretString;
use serde_json::{Value, json};
use streamforge_arango::{
    ArangoConfig, ArangoError, AuthMode, Database, DocumentError, Query, Retry, RetryKind, Session,
};
use streamforge_devstack::{
    arango::ArangoServer,
    proxy::{ProxySettings, ReverseProxy},
};

use crate::{PASSWORD, specs};

/// A name that has to be percent-encoded in each URL.
const NAME: &str = "mötör 🚗?#%";

struct Behind {
    server: ArangoServer,
    proxy: ReverseProxy,
    database: Database,
    retried: Arc<Mutex<Vec<RetryKind>>>,
}

impl Behind {
    async fn new(settings: ProxySettings) -> Self {
        Self::with_deadline(settings, Duration::from_secs(20)).await
    }

    async fn with_deadline(settings: ProxySettings, deadline: Duration) -> Self {
        let server = ArangoServer::builder().root_password(PASSWORD);
        let server = server.start().await.unwrap();
        let proxy = ReverseProxy::start(&server.url(), settings).await.unwrap();
        let retried: Arc<Mutex<Vec<RetryKind>>> = Arc::default();
        let counted = Arc::clone(&retried);
        let retry = Retry::new(deadline).on_retry(move |kind| counted.lock().unwrap().push(kind));
        let config = ArangoConfig {
            url: proxy.url().parse().unwrap(),
            database: NAME.to_owned(),
            user: "root".to_owned(),
            password: SecretString::from(PASSWORD),
            ca_path: None,
            auth: AuthMode::Jwt,
        };
        let session = Arc::new(Session::new(&config, deadline).unwrap());
        Self {
            server,
            proxy,
            database: Database::new(session, Arc::new(retry), NAME),
            retried,
        }
    }

    fn retried(&self) -> Vec<RetryKind> {
        self.retried.lock().unwrap().clone()
    }

    /// Uses everything that there is.
    async fn use_it(&self) {
        self.database.prepare(&specs()).await.unwrap();
        self.database.check().await.unwrap();
        let items = self.database.collection("items");
        let revision = items.insert("a", &json!({"group": 1})).await.unwrap();
        let content = json!({"group": 2});
        items.replace("a", &revision, &content).await.unwrap();
        let more = [("b".to_owned(), json!({})), ("c".to_owned(), json!({}))];
        assert!(items.insert_absent(&more).await.unwrap().is_empty());
        let found = items.get_many::<Value>(&["a", "x"]).await.unwrap();
        assert_eq!(
            found[0].as_ref().unwrap().as_ref().unwrap().content["group"],
            2
        );
        assert!(found[1].is_none());
        let query = Query::new("FOR d IN @@items RETURN d").bind("@items", "items");
        let rows = self.database.rows::<Value>("reading", &query).await;
        assert_eq!(rows.unwrap().len(), 3);
        items.remove("b", None).await.unwrap();
        assert_eq!(self.server.documents(NAME, "items").unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_proxy_may_hide_the_server_and_add_a_path() {
    for server in [None, Some("nginx")] {
        for prefix in ["", "/data/arango"] {
            let behind = Behind::new(ProxySettings {
                prefix: prefix.to_owned(),
                server,
                idle: None,
            });
            let behind = behind.await;
            behind.use_it().await;
            assert_eq!(behind.retried(), []);
        }
    }
}

#[tokio::test]
async fn a_connection_that_is_closed_between_requests_is_replaced_at_once() {
    let behind = Behind::new(ProxySettings::default()).await;
    behind.proxy.close_reused(true);
    behind.use_it().await;
    let retried = behind.retried();
    // `Closed` is retried without a wait; anything else would not be.
    assert!(!retried.is_empty());
    assert!(
        retried.iter().all(|kind| *kind == RetryKind::Closed),
        "{retried:?}"
    );
    let seen = behind.proxy.seen();
    let setup = seen.iter().filter(|seen| {
        ["/database", "/collection", "/index"]
            .iter()
            .any(|part| seen.contains(part))
    });
    // Opened, made and opened again; two collections opened and made, two indexes; one check.
    assert_eq!(setup.count(), 3 + 4 + 2 + 1, "{seen:#?}");
    assert!(behind.proxy.connections() > 10);
}

#[tokio::test]
async fn idle_connections_that_a_proxy_closes_are_no_trouble() {
    let behind = Behind::new(ProxySettings {
        idle: Some(Duration::from_millis(30)),
        ..ProxySettings::default()
    });
    let behind = behind.await;
    behind.database.prepare(&specs()).await.unwrap();
    let items = behind.database.collection("items");
    for number in 0..20 {
        let key = format!("k{number}");
        items.insert(&key, &json!({})).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20 + number)).await;
    }
    let retried = behind.retried();
    assert!(
        retried.iter().all(|kind| *kind == RetryKind::Closed),
        "{retried:?}"
    );
    assert_eq!(behind.server.documents(NAME, "items").unwrap().len(), 20);
}

#[tokio::test]
async fn what_a_proxy_answers_by_itself_is_asked_again() {
    let behind = Behind::new(ProxySettings::default()).await;
    // Met by the login and by the first requests of the set-up.
    for status in [302, 401, 404, 502] {
        behind.proxy.answer_next(status, "not the database", 1);
    }
    behind.use_it().await;
    let items = behind.database.collection("items");
    let statuses = [302, 400, 401, 403, 404, 407, 429, 500, 501, 502, 503, 504];
    for status in statuses {
        behind.proxy.answer_next(status, "not the database", 1);
        let key = format!("s{status}");
        items.insert(&key, &json!({})).await.unwrap();
    }
    assert_eq!(behind.proxy.pending(), 0);
    assert_eq!(behind.retried().len(), 4 + statuses.len());
}

#[tokio::test]
async fn a_login_page_instead_of_the_database_is_never_believed() {
    for status in [200, 404] {
        let settings = ProxySettings::default();
        let behind = Behind::with_deadline(settings, Duration::from_secs(2)).await;
        behind.proxy.answer_next(status, "please log in", 1_000_000);
        let error = behind.database.prepare(&specs()).await.unwrap_err();
        assert!(matches!(error, ArangoError::Unavailable { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("logging in"), "{text}");
        behind.database.check().await.unwrap_err();
        assert!(behind.proxy.seen().is_empty());
    }
}

#[tokio::test]
async fn a_missing_collection_is_waited_for_some_seconds_and_no_longer() {
    let behind = Behind::new(ProxySettings::default()).await;
    behind.database.prepare(&[]).await.unwrap();
    let items = behind.database.collection("items");
    let started = Instant::now();
    let error = items.insert("a", &json!({})).await.unwrap_err();
    let DocumentError::Database(ArangoError::Permanent(what)) = error else {
        panic!("{error:?}");
    };
    assert!(what.contains("404 1203"), "{what}");
    assert!(started.elapsed() >= Duration::from_secs(3));

    let inserting = tokio::spawn(async move { items.insert("a", &json!({})).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!inserting.is_finished());
    behind.database.prepare(&specs()).await.unwrap();
    inserting.await.unwrap().unwrap();
}
