//! The exact requests, against a mock of the HTTP client.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use k8s_openapi::api::rbac::v1::Role;
use kube::{Client, client::Body};
use queue_manager::launcher::{
    Launched, Launcher,
    kubernetes::{JobSettings, KubernetesLauncher, KubernetesSettings, PerTarget, SecretKey},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{LOADER, PATIENCE, ready, spec};

/// Requests other than watches, with their bodies; and the watches.
#[derive(Default)]
struct Asked {
    calls: Vec<Value>,
    watches: Vec<String>,
}

/// Answers as an API server would where there is one Job, made by this launcher, and one pod.
fn mock() -> (KubernetesLauncher, Arc<Mutex<Asked>>, JoinHandle<()>) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let asked = Arc::new(Mutex::new(Asked::default()));
    let seen = Arc::clone(&asked);
    let server = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Some((request, send)) = handle.next_request().await {
            let line = format!("{} {}", request.method(), request.uri());
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            if line.contains("limit=") || line.contains("watch=true") {
                seen.lock().unwrap().watches.push(line.clone());
            } else {
                seen.lock()
                    .unwrap()
                    .calls
                    .push(json!({"request": line, "body": body}));
            }
            if line.contains("watch=true") {
                // It stays open, and nothing happens.
                open.push(send);
                continue;
            }
            let mut created = body.clone();
            created["metadata"]["uid"] = json!("uid-1");
            let (code, answer) = match (parts.method.as_str(), parts.uri.path()) {
                ("POST", path) if path.ends_with("reviews") => {
                    created["status"] = json!({"allowed": true});
                    (201, created)
                }
                ("POST", _) => (201, created),
                ("DELETE", _) => (200, json!({"kind": "Status", "status": "Success"})),
                (_, path) if path.ends_with("/log") => (200, json!("a line")),
                (_, path) if path.ends_with("/pods") && !line.contains("limit=") => (
                    200,
                    json!({"metadata": {"resourceVersion": "1"}, "items": [{"metadata": {"name": "pod-1"}}]}),
                ),
                _ => (
                    200,
                    json!({"metadata": {"resourceVersion": "1"}, "items": []}),
                ),
            };
            let answer = Response::builder()
                .status(code)
                .body(Body::from(serde_json::to_vec(&answer).unwrap()));
            send.send_response(answer.unwrap());
        }
    });
    let launcher = KubernetesLauncher::new(Client::new(service, "default"), settings());
    (launcher, asked, server)
}

fn settings() -> KubernetesSettings {
    KubernetesSettings {
        namespace: Some("streamforge".to_owned()),
        job: JobSettings {
            config_map: PerTarget::of_all("streamforge-workers"),
            secret: PerTarget::of_all("streamforge-workers"),
            kafka_ca: Some(SecretKey {
                secret: "kafka-cluster-ca-cert".to_owned(),
                key: "ca.crt".to_owned(),
            }),
            on_worker_nodes: true,
            ..JobSettings::default()
        },
        ..KubernetesSettings::default()
    }
}

#[tokio::test]
async fn every_request_is_as_the_api_has_it() {
    let (launcher, asked, _server) = mock();
    super::until(&launcher, |_| true).await;
    assert_eq!(launcher.ready().await, Ok(()));
    assert_eq!(launcher.launch(&spec()).await, Ok(Launched::New));
    assert_eq!(launcher.delete(LOADER).await, Ok(()));
    let log = launcher.logs(LOADER, 50).await.unwrap();
    assert_eq!(log.as_deref(), Some("\"a line\""));

    let all_watched = async {
        while asked.lock().unwrap().watches.len() < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all_watched).await.unwrap();
    let mut asked = std::mem::take(&mut *asked.lock().unwrap());
    asked.watches.sort();
    insta::with_settings!({sort_maps => true}, {
        insta::assert_json_snapshot!("requests", asked.calls);
        insta::assert_json_snapshot!("watches", asked.watches);
    });
}

#[tokio::test]
async fn its_role_allows_what_it_asks_and_no_more() {
    let text = include_str!("../../../../../k8s/queue-manager/rbac.yaml");
    let role = serde_norway::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .find(|resource| resource["kind"] == "Role")
        .unwrap();
    let role: Role = serde_json::from_value(role).unwrap();
    let mut allowed = BTreeSet::new();
    for rule in role.rules.unwrap() {
        for resource in rule.resources.unwrap() {
            for verb in &rule.verbs {
                allowed.insert((resource.clone(), verb.clone()));
            }
        }
    }

    let (server, launcher) = ready().await;
    launcher.launch(&spec()).await.unwrap();
    launcher.launch(&spec()).await.unwrap();
    server.pod(LOADER).logs("a line");
    launcher.logs(LOADER, 1).await.unwrap();
    launcher.delete(LOADER).await.unwrap();
    let is_watched = |kind: &str| {
        let right = (kind.to_owned(), "watch".to_owned());
        server.rights().contains(&right)
    };
    let all_watched = async {
        while !is_watched("jobs") || !is_watched("pods") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all_watched).await.unwrap();
    assert_eq!(server.rights(), allowed);
}
