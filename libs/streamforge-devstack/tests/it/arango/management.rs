//! Databases, collections and indexes.
use reqwest::Method;
use serde_json::json;

use super::{Root, steady};

#[tokio::test]
async fn databases_come_and_go() {
    let root = Root::start().await;
    let created = root
        .post("/_api/database", json!({"name": "möt ör", "users": []}))
        .await;
    assert_eq!(created.status, 201);
    assert_eq!(
        created.body,
        json!({"error": false, "code": 201, "result": true})
    );

    let result = async |path: &str| root.get(path).await.body["result"].clone();
    assert_eq!(result("/_api/database").await, json!(["_system", "möt ör"]));
    assert_eq!(
        result("/_api/database/user").await,
        json!(["_system", "möt ör"])
    );
    assert_eq!(
        steady(result("/_db/m%C3%B6t%20%C3%B6r/_api/database/current").await),
        json!({"id": "", "name": "möt ör", "isSystem": false, "path": ""})
    );
    assert_eq!(result("/_api/database/current").await["isSystem"], true);

    let deleted = root.delete("/_api/database/m%C3%B6t%20%C3%B6r").await;
    assert_eq!(
        deleted.body,
        json!({"error": false, "code": 200, "result": true})
    );
    assert_eq!(result("/_api/database").await, json!(["_system"]));
}

#[tokio::test]
async fn collections_of_one_database_are_not_those_of_another() {
    let root = Root::start().await;
    root.post("/_api/database", json!({"name": "d"})).await;
    assert_eq!(
        root.get("/_db/d/_api/collection/c").await.error(),
        (404, 1203)
    );
    root.post("/_db/d/_api/collection", json!({"name": "c"}))
        .await;
    root.post("/_db/d/_api/document/c", json!({"_key": "k"}))
        .await;
    assert_eq!(root.server.documents("d", "c").unwrap().len(), 1);
    assert_eq!(root.server.documents("_system", "c").unwrap().len(), 0);
    root.delete("/_api/database/d").await;
    assert_eq!(
        root.get("/_db/d/_api/collection").await.error(),
        (404, 1228)
    );
    assert!(root.server.documents("d", "c").is_err());
}

#[tokio::test]
async fn a_collection_describes_itself() {
    let root = Root::start().await;
    let basic = json!({
        "id": "", "name": "x", "status": 3, "type": 2, "isSystem": false,
        "globallyUniqueId": "", "error": false, "code": 200,
    });
    let mut full = basic.clone();
    for (name, value) in [
        ("statusString", json!("loaded")),
        ("waitForSync", json!(true)),
        (
            "keyOptions",
            json!({"allowUserKeys": true, "type": "traditional", "lastValue": 0}),
        ),
        ("schema", json!(null)),
        ("computedValues", json!(null)),
        ("cacheEnabled", json!(false)),
        ("syncByRevision", json!(true)),
        ("writeConcern", json!(1)),
        ("internalValidatorType", json!(0)),
    ] {
        full[name] = value;
    }
    let shown = |mut body: serde_json::Value| {
        body["globallyUniqueId"] = json!("");
        steady(body)
    };
    let options =
        json!({"name": "x", "waitForSync": true, "type": 2, "keyOptions": {"type": "traditional"}});
    let created = root.post("/_api/collection", options).await;
    assert_eq!(shown(created.body.clone()), full);
    assert_eq!(shown(root.get("/_api/collection/x").await.body), basic);
    let id = created.body["id"].as_str().unwrap();
    assert_eq!(
        shown(root.get(&format!("/_api/collection/{id}")).await.body),
        basic
    );
    assert_eq!(
        shown(root.get("/_api/collection/x/properties").await.body),
        full
    );

    root.post("/_api/document/x", json!([{}, {}, {}])).await;
    let mut counted = full.clone();
    counted["count"] = json!(3);
    assert_eq!(
        shown(root.get("/_api/collection/x/count").await.body),
        counted
    );

    let changed = root.put(
        "/_api/collection/x/properties",
        json!({"waitForSync": false, "cacheEnabled": true}),
    );
    let changed = changed.await.body;
    assert_eq!(
        (&changed["waitForSync"], &changed["cacheEnabled"]),
        (&json!(false), &json!(true))
    );

    assert_eq!(
        shown(
            root.call(Method::PUT, "/_api/collection/x/truncate", "")
                .await
                .body
        ),
        basic
    );
    assert_eq!(root.get("/_api/collection/x/count").await.body["count"], 0);

    for path in ["/_api/collection", "/_api/collection/?excludeSystem=true"] {
        let listed = root.get(path).await;
        let names: Vec<_> = listed.body["result"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| &c["name"])
            .collect();
        assert_eq!(names, ["c", "x"], "{path}");
    }
    let dropped = root.delete("/_api/collection/x").await;
    assert_eq!(dropped.body, json!({"error": false, "code": 200, "id": id}));
    assert_eq!(root.get("/_api/collection/x").await.error(), (404, 1203));
}

#[tokio::test]
async fn indexes_are_kept_and_described() {
    let root = Root::start().await;
    let wanted = json!({"type": "persistent", "fields": ["open_time"], "name": "by_time"});
    let created = root.post("/_api/index?collection=c", wanted.clone()).await;
    assert_eq!(created.status, 201);
    let mut described = json!({
        "id": "c/", "type": "persistent", "name": "by_time", "fields": ["open_time"],
        "unique": false, "sparse": false, "deduplicate": true, "estimates": true,
        "cacheEnabled": false, "selectivityEstimate": 1, "isNewlyCreated": true,
        "error": false, "code": 201,
    });
    assert_eq!(steady(created.body.clone()), described);

    let again = root.post("/_api/index?collection=c", wanted).await;
    described["isNewlyCreated"] = json!(false);
    described["code"] = json!(200);
    assert_eq!(
        (again.status.as_u16(), steady(again.body)),
        (200, described)
    );

    let ttl = json!({"type": "ttl", "fields": ["at"], "expireAfter": 3600});
    let ttl = root.post("/_api/index?collection=c", ttl).await.body;
    assert_eq!(
        (&ttl["expireAfter"], &ttl["sparse"]),
        (&json!(3600), &json!(true))
    );

    let id = created.body["id"].as_str().unwrap();
    let listed = root.get("/_api/index?collection=c").await.body;
    let types: Vec<_> = listed["indexes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["type"])
        .collect();
    assert_eq!(types, ["primary", "persistent", "ttl"]);
    assert_eq!(listed["identifiers"][id]["name"], "by_time");
    assert_eq!(
        listed["indexes"][0],
        json!({
            "id": "c/0", "type": "primary", "name": "primary", "fields": ["_key"],
            "unique": true, "sparse": false, "selectivityEstimate": 1,
        })
    );

    for path in [
        format!("/_api/index/{id}"),
        "/_api/index/c/by_time".to_owned(),
    ] {
        assert_eq!(root.get(&path).await.body["id"], id, "{path}");
    }
    assert_eq!(root.get("/_api/index/c/0").await.body["type"], "primary");
    let deleted = root.delete("/_api/index/c/by_time").await;
    assert_eq!(deleted.body, json!({"error": false, "code": 200, "id": id}));
    assert_eq!(
        root.get(&format!("/_api/index/{id}")).await.error(),
        (404, 1212)
    );
}

#[tokio::test]
async fn a_server_tells_what_it_is() {
    let root = Root::start().await;
    assert_eq!(
        root.get("/_api/version?details=true").await.body["details"]["role"],
        "SINGLE"
    );
    assert_eq!(
        root.get("/_db/_system/_admin/version").await.body["server"],
        "arango"
    );
    assert_eq!(
        root.get("/_api/engine").await.body,
        json!({"name": "rocksdb"})
    );
    assert_eq!(root.get("/_admin/server/role").await.body["role"], "SINGLE");
    assert_eq!(
        root.get("/_admin/server/availability").await.body,
        json!({"error": false, "code": 200, "mode": "default"})
    );
}
