//! The ArangoDB stand-in as seen by a client that others wrote: the crate arangors.
//!
//! `ci/arango-clients.py` does the same with python-arango, the official driver.
use std::collections::HashMap;

use arangors::{
    ClientError, Connection, Database,
    client::reqwest::ReqwestClient,
    document::options::{InsertOptions, RemoveOptions, ReplaceOptions, UpdateOptions},
    index::{Index, IndexSettings},
};
use serde_json::{Value, json};
use streamforge_devstack::arango::{ArangoServer, Grant};

use crate::arango::PASSWORD;

async fn start() -> (ArangoServer, Connection) {
    let server = ArangoServer::builder()
        .root_password(PASSWORD)
        .start()
        .await
        .unwrap();
    let connection = Connection::establish_basic_auth(&server.url(), "root", PASSWORD)
        .await
        .unwrap();
    (server, connection)
}

async fn database(connection: &Connection) -> Database<ReqwestClient> {
    connection.create_database("market").await.unwrap()
}

fn error_num(error: ClientError) -> u16 {
    match error {
        ClientError::Arango(error) => error.error_num(),
        other => panic!("not an error of ArangoDB's: {other:?}"),
    }
}

#[tokio::test]
async fn arangors_connects_both_ways() {
    let (server, connection) = start().await;
    let version = database(&connection).await.arango_version().await.unwrap();
    assert_eq!(
        (version.server.as_str(), version.version.as_str()),
        ("arango", "3.12.4")
    );
    assert_eq!(connection.server_role().await.unwrap(), "SINGLE");

    let with_token = Connection::establish_jwt(&server.url(), "root", PASSWORD)
        .await
        .unwrap();
    assert_eq!(with_token.db("market").await.unwrap().name(), "market");
    assert!(with_token.into_admin().await.is_ok());

    let wrong = Connection::establish_jwt(&server.url(), "root", "wrong")
        .await
        .unwrap_err();
    assert_eq!(error_num(wrong), 401);
    let wrong = Connection::establish_basic_auth(&server.url(), "root", "wrong")
        .await
        .unwrap();
    assert_eq!(error_num(wrong.db("market").await.unwrap_err()), 11);
}

#[tokio::test]
async fn arangors_manages_databases_collections_and_indexes() {
    let (_server, connection) = start().await;
    let db = database(&connection).await;
    let again = connection.create_database("market").await;
    assert_eq!(error_num(again.unwrap_err()), 1207);
    let databases = connection.accessible_databases().await.unwrap();
    assert_eq!(databases.len(), 2);

    let candles = db.create_collection("candles").await.unwrap();
    assert_eq!(
        error_num(db.create_collection("candles").await.unwrap_err()),
        1207
    );
    assert_eq!(error_num(db.collection("absent").await.unwrap_err()), 1203);
    assert_eq!(candles.document_count().await.unwrap().info.count, Some(0));
    assert_eq!(
        candles.properties().await.unwrap().detail.status_string,
        "loaded"
    );
    let names: Vec<_> = db
        .accessible_collections()
        .await
        .unwrap()
        .into_iter()
        .map(|c| c.name)
        .collect();
    assert_eq!(names, ["candles"]);

    let settings = IndexSettings::Persistent {
        unique: false,
        sparse: false,
        deduplicate: false,
    };
    let index = Index::builder()
        .name("by_open_time")
        .fields(vec!["open_time".to_owned()])
        .settings(settings)
        .build();
    let created = db.create_index("candles", &index).await.unwrap();
    assert_eq!(created.is_newly_created, Some(true));
    let found = db.create_index("candles", &index).await.unwrap();
    assert_eq!(
        (found.is_newly_created, &found.id),
        (Some(false), &created.id)
    );
    let ttl = Index::builder()
        .fields(vec!["at".to_owned()])
        .settings(IndexSettings::Ttl { expire_after: 60 })
        .build();
    db.create_index("candles", &ttl).await.unwrap();
    assert_eq!(db.indexes("candles").await.unwrap().indexes.len(), 3);
    assert_eq!(db.index(&created.id).await.unwrap().name, "by_open_time");
    assert_eq!(db.delete_index(&created.id).await.unwrap().id, created.id);

    candles.truncate().await.unwrap();
    candles.drop().await.unwrap();
    connection.drop_database("market").await.unwrap();
    assert_eq!(error_num(connection.db("market").await.unwrap_err()), 1228);
}

#[tokio::test]
async fn arangors_writes_and_reads_documents() {
    let (server, connection) = start().await;
    let candles = database(&connection)
        .await
        .create_collection("candles")
        .await
        .unwrap();
    let candle = |close: f64| json!({"_key": "BTCUSDT_1m_0", "close": close});

    let inserted = candles
        .create_document(candle(1.5), InsertOptions::default())
        .await
        .unwrap();
    assert_eq!(inserted.header().unwrap()._key, "BTCUSDT_1m_0");
    let duplicate = candles
        .create_document(candle(2.5), InsertOptions::default())
        .await;
    assert_eq!(error_num(duplicate.err().unwrap()), 1210);
    let replace = InsertOptions::builder()
        .overwrite(true)
        .return_new(true)
        .return_old(true)
        .build();
    let replaced = candles.create_document(candle(3.5), replace).await.unwrap();
    assert_eq!(replaced.new_doc().unwrap()["close"], 3.5);
    assert_eq!(replaced.old_doc().unwrap()["close"], 1.5);
    let silent = InsertOptions::builder().silent(true).build();
    assert!(
        candles
            .create_document(json!({}), silent)
            .await
            .unwrap()
            .is_silent()
    );

    let updated =
        candles.update_document("BTCUSDT_1m_0", json!({"open": 1}), UpdateOptions::default());
    updated.await.unwrap();
    let read = candles.document::<Value>("BTCUSDT_1m_0").await.unwrap();
    assert_eq!(
        (&read.document["open"], &read.document["close"]),
        (&json!(1), &json!(3.5))
    );
    let stale = Some(inserted.header().unwrap()._rev.clone());
    let guarded =
        candles.replace_document("BTCUSDT_1m_0", json!({}), ReplaceOptions::default(), stale);
    assert_eq!(error_num(guarded.await.err().unwrap()), 1200);
    candles
        .remove_document::<Value>(
            "BTCUSDT_1m_0",
            RemoveOptions::default(),
            Some(read.header._rev.clone()),
        )
        .await
        .unwrap();
    let gone = candles.document::<Value>("BTCUSDT_1m_0").await;
    assert_eq!(error_num(gone.err().unwrap()), 1202);
    assert_eq!(server.documents("market", "candles").unwrap().len(), 1);
}

#[tokio::test]
async fn arangors_reads_back_through_aql() {
    let (_server, connection) = start().await;
    let db = database(&connection).await;
    let candles = db.create_collection("candles").await.unwrap();
    for minute in 0..25_i64 {
        let document = json!({"_key": format!("k{minute}"), "open_time": minute * 60_000});
        candles
            .create_document(document, InsertOptions::default())
            .await
            .unwrap();
    }
    let query = "FOR d IN @@collection FILTER d.open_time >= @start AND d.open_time < @end SORT d.open_time RETURN d";
    let variables = HashMap::from([
        ("@collection", json!("candles")),
        ("start", json!(120_000)),
        ("end", json!(300_000)),
    ]);
    let found: Vec<Value> = db.aql_bind_vars(query, variables).await.unwrap();
    let keys: Vec<_> = found
        .iter()
        .map(|document| document["_key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["k2", "k3", "k4"]);

    let in_batches = arangors::AqlQuery::builder()
        .query("FOR d IN candles SORT d.open_time RETURN d")
        .batch_size(10)
        .build();
    let all: Vec<Value> = db.aql_query(in_batches).await.unwrap();
    assert_eq!(all.len(), 25);
    assert!(all.is_sorted_by_key(|document| document["open_time"].as_i64()));

    let counting = db.aql_str::<Value>("RETURN LENGTH(candles)").await;
    assert_eq!(error_num(counting.unwrap_err()), 9);
}

#[tokio::test]
async fn arangors_is_told_when_a_database_may_not_be_created() {
    let server = ArangoServer::builder()
        .user("writer", "w", &[("market", Grant::ReadWrite)])
        .user("reader", "r", &[("_system", Grant::ReadOnly)])
        .start()
        .await
        .unwrap();
    for (user, password) in [("writer", "w"), ("reader", "r")] {
        let connection = Connection::establish_basic_auth(&server.url(), user, password)
            .await
            .unwrap();
        let refused = connection.create_database("market").await;
        assert_eq!(error_num(refused.unwrap_err()), 11, "{user}");
    }
}
