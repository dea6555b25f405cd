//! The writer as a process whose database stands behind a reverse proxy.

use std::time::Duration;

use streamforge_devstack::proxy::{ProxySettings, ReverseProxy};
use streamforge_utils::protocol::EventKind;

use crate::{
    process::{output, start},
    workflow::{COLLECTION, Workflow, key},
};

const DATABASE: &str = "mötör 🚗";

async fn proxy(workflow: &mut Workflow, settings: ProxySettings) -> ReverseProxy {
    let url = workflow.arango.url();
    let proxy = ReverseProxy::start(&url, settings).await.unwrap();
    workflow
        .set("ARANGO_URL", &proxy.url())
        .set("ARANGO_DB", DATABASE)
        .set("BATCH_MAX_RECORDS", "50");
    proxy
}

fn assert_holds(workflow: &Workflow, numbers: std::ops::RangeInclusive<u64>) {
    let found = workflow.arango.documents(DATABASE, COLLECTION).unwrap();
    let found: Vec<String> = found.into_keys().collect();
    let mut expected: Vec<String> = numbers.map(key).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_hides_the_server_adds_a_path_and_closes_connections_does_not_matter() {
    let mut workflow = Workflow::new().await;
    let settings = ProxySettings {
        prefix: "/data/arango".to_owned(),
        server: Some("nginx"),
        idle: Some(Duration::from_millis(50)),
    };
    let proxy = proxy(&mut workflow, settings).await;
    proxy.close_reused(true);
    workflow.publish(0, 1..=1000).await;
    workflow.finish(0, 1000, 1).await;
    let output = output(start(&workflow, &[])).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_holds(&workflow, 1..=1000);
    assert!(workflow.dead_letters().await.is_empty());
    assert_eq!(workflow.last_event().await.records.written, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_the_proxy_itself_are_asked_again_in_setup_and_in_writing() {
    let mut workflow = Workflow::new().await;
    let proxy = proxy(&mut workflow, ProxySettings::default()).await;
    for status in [502, 404, 401] {
        proxy.answer_next(status, "<h1>no upstream</h1>", 1);
    }
    workflow.publish(0, 1..=100).await;
    let writer = start(&workflow, &[]);
    workflow.wait_for_written(100).await;
    for status in [400, 401, 403, 404, 302, 500, 502, 504, 413] {
        proxy.answer_next(status, "<h1>no upstream</h1>", 1);
    }
    workflow.publish(0, 101..=1000).await;
    workflow.finish(0, 1000, 1).await;
    let output = output(writer).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(proxy.pending(), 0);
    assert_holds(&workflow, 1..=1000);
    assert!(workflow.dead_letters().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_never_lets_anything_through_is_worth_another_attempt() {
    let mut workflow = Workflow::new().await;
    let proxy = proxy(&mut workflow, ProxySettings::default()).await;
    proxy.answer_next(403, "blocked by policy 17", usize::MAX / 4);
    let output = output(start(&workflow, &[("RETRY_DEADLINE_SECS", "2")])).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let last = workflow.last_event().await;
    assert_eq!((last.event, last.retryable), (EventKind::Error, Some(true)));
    let message = last.error_message.unwrap();
    assert!(
        message.contains("403") && message.contains("blocked by policy 17"),
        "{message}"
    );
}
