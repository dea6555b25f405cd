//! A database that is away, overloaded, strict or closed to us.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use streamforge_devstack::arango::{Fault, FaultScope, Grant};
use streamforge_utils::protocol::EventKind;

use crate::workflow::{COLLECTION, Workflow, key};

const RETRYABLE: u8 = 1;
const PERMANENT: u8 = 70;

/// Publishes, lets the writer write with these faults, and compares the collection with what was published.
async fn survives(faults: &[(Fault, usize)]) -> Workflow {
    let mut workflow = Workflow::new().await;
    workflow.set("BATCH_MAX_RECORDS", "100");
    for (fault, times) in faults {
        workflow.arango.faults().next(fault.clone(), *times);
    }
    workflow.publish(0, 1..=1000).await;
    workflow.finish(0, 1000, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    assert_eq!(workflow.arango.faults().pending(), 0, "every fault was met");
    workflow.assert_holds(1..=1000);
    assert!(
        workflow.dead_letters().await.is_empty(),
        "what can pass never goes to the dead letters"
    );
    assert_eq!(workflow.last_event().await.records.written, 1000);
    workflow
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_is_waited_for() {
    survives(&[(Fault::Unavailable, 12), (Fault::UnavailablePlainText, 12)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_before_and_after_the_write_are_made_again() {
    survives(&[(Fault::DropBeforeWrite, 6), (Fault::DropAfterWrite, 6)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_can_pass_are_waited_for() {
    let error = |num| Fault::Error {
        num,
        message: "for now".to_owned(),
    };
    survives(&[
        (error(18), 2),
        (error(1457), 2),
        (error(21004), 2),
        (error(1004), 2),
        // A whole batch that can't be read is split, and its halves can.
        (error(600), 2),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_during_the_setup_is_waited_for() {
    let workflow = Workflow::new().await;
    workflow.arango.faults().scope(FaultScope::Everything);
    workflow
        .arango
        .faults()
        .next(Fault::UnavailablePlainText, 3);
    workflow.arango.faults().next(Fault::DropBeforeWrite, 2);
    workflow.publish(0, 1..=10).await;
    workflow.finish(0, 10, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=10);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_are_refused_for_their_own_sake_go_to_the_dead_letters_alone() {
    let workflow = Workflow::new().await;
    let bad = [key(17), key(400)];
    workflow
        .arango
        .faults()
        .reject_keys(1620, move |key| bad.iter().any(|bad| bad == key));
    workflow.publish(0, 1..=500).await;
    workflow.finish(0, 500, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds((1..=500).filter(|minute| ![17, 400].contains(minute)));
    assert_eq!(workflow.dead_letters().await.len(), 2);
    let last = workflow.last_event().await;
    assert_eq!((last.records.written, last.records.rejected), (498, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_of_one_document_is_retried_and_never_a_dead_letter() {
    let workflow = Workflow::new().await;
    let (bad, met) = (key(17), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&met);
    workflow.arango.faults().reject_keys(1200, move |key| {
        key == bad && count.fetch_add(1, Ordering::Relaxed) < 5
    });
    workflow.publish(0, 1..=100).await;
    workflow.finish(0, 100, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=100);
    assert!(workflow.dead_letters().await.is_empty());
    assert!(met.load(Ordering::Relaxed) >= 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_too_large_is_split_down_to_the_record_that_is_too_large() {
    let workflow = Workflow::with_database(|builder| builder.body_limit_bytes(2_000)).await;
    workflow.publish(0, 1..=20).await;
    let large = crate::workflow::candle(21).replace("binance", &"x".repeat(3_000));
    workflow
        .send(0, &large, &[(streamforge_utils::protocol::SEQ, "21")])
        .await;
    workflow.publish(0, 22..=40).await;
    workflow.finish(0, 40, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds((1..=40).filter(|minute| *minute != 21));
    let letters = workflow.dead_letters().await;
    assert_eq!(letters.len(), 1);
    let reason = streamforge_utils::kafka::headers::get(&letters[0], "streamforge-dlq-reason");
    assert_eq!(reason, Some("too-large"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_before_and_after_it_expires() {
    let mut workflow =
        Workflow::with_database(|builder| builder.jwt_lifetime(Duration::from_secs(1))).await;
    workflow
        .set("BATCH_MAX_RECORDS", "10")
        .set("ARANGO_IN_FLIGHT", "2");
    workflow.arango.faults().delay(Duration::from_millis(120));
    workflow.publish(0, 1..=400).await;
    workflow.finish(0, 400, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=400);
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_password_can_go_with_every_request() {
    let mut workflow = Workflow::new().await;
    workflow.set("ARANGO_AUTH", "basic");
    workflow.publish(0, 1..=10).await;
    workflow.finish(0, 10, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_ends_it_at_once_and_for_good() {
    for auth in ["jwt", "basic"] {
        let mut workflow = Workflow::new().await;
        workflow
            .set("ARANGO_PASSWORD", "wrong")
            .set("ARANGO_AUTH", auth);
        assert_eq!(workflow.start().ended().await, ExitCode::from(PERMANENT));
        let last = workflow.last_event().await;
        assert_eq!(
            (last.event, last.retryable),
            (EventKind::Error, Some(false))
        );
        let message = last.error_message.unwrap();
        assert!(
            message.contains("password") && message.contains("\"root\""),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_make_the_database_is_told_so() {
    let mut workflow = Workflow::with_database(|builder| {
        builder.user("writer", "secret", &[("_system", Grant::ReadOnly)])
    })
    .await;
    workflow
        .set("ARANGO_USER", "writer")
        .set("ARANGO_PASSWORD", "secret");
    assert_eq!(workflow.start().ended().await, ExitCode::from(PERMANENT));
    let message = workflow.last_event().await.error_message.unwrap();
    assert!(
        message.contains("streamforge") && message.contains("writer"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_database_is_retried_until_the_deadline_and_is_worth_another_attempt() {
    let mut workflow = Workflow::new().await;
    workflow
        .set("ARANGO_URL", "http://127.0.0.1:9")
        .set("RETRY_DEADLINE_SECS", "1");
    assert_eq!(workflow.start().ended().await, ExitCode::from(RETRYABLE));
    let last = workflow.last_event().await;
    assert_eq!((last.event, last.retryable), (EventKind::Error, Some(true)));
    let message = last.error_message.unwrap();
    assert!(
        message.contains("no answer from the database at http://127.0.0.1:9/"),
        "{message}"
    );
    assert!(message.contains("RETRY_DEADLINE_SECS"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stays_away_fails_the_attempt_and_the_next_one_goes_on() {
    let mut workflow = Workflow::new().await;
    workflow
        .set("RETRY_DEADLINE_SECS", "2")
        .set("BATCH_MAX_RECORDS", "100");
    workflow.publish(0, 1..=100).await;
    let writer = workflow.start();
    workflow.wait_for_written(100).await;
    workflow.arango.faults().always(Fault::Unavailable);
    workflow.publish(0, 101..=300).await;
    workflow.finish(0, 300, 1).await;
    assert_eq!(writer.ended().await, ExitCode::from(RETRYABLE));
    workflow.assert_holds(1..=100);
    workflow.arango.faults().clear();
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=300);
    assert!(workflow.dead_letters().await.is_empty());
    assert_eq!(workflow.last_event().await.records.written, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_no_arangodb_is_named() {
    let mut workflow = Workflow::new().await;
    // The worker's own health server answers HTTP and is no database; here the broker, which is not even HTTP.
    let servers = workflow.kafka.config().unwrap().bootstrap_servers;
    let broker = format!("http://{servers}");
    workflow
        .set("ARANGO_URL", &broker)
        .set("RETRY_DEADLINE_SECS", "1");
    assert_ne!(workflow.start().ended().await, ExitCode::SUCCESS);
    let message = workflow.last_event().await.error_message.unwrap();
    assert!(message.contains(&servers), "{message}");
}

/// Puts documents into the writer's collection before it starts.
async fn fill(workflow: &Workflow, keys: &[String]) {
    let http = reqwest::Client::new();
    let post = async |path: &str, body: serde_json::Value| {
        let url = format!("{}{path}", workflow.arango.url());
        let sent = http.post(url).basic_auth("root", Some("correct horse"));
        let answer = sent.json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    };
    let api = "/_db/streamforge/_api";
    let name = serde_json::json!({"name": "streamforge"});
    post("/_api/database", name).await;
    let collection = serde_json::json!({"name": COLLECTION});
    post(&format!("{api}/collection"), collection).await;
    for keys in keys.chunks(500) {
        let documents = keys.iter().map(|key| serde_json::json!({"_key": key}));
        let documents: serde_json::Value = documents.collect();
        post(&format!("{api}/document/{COLLECTION}"), documents).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_of_somebody_else_is_refused_and_left_as_it_is() {
    for foreign in [
        "12345",
        "conductor",
        "wf-btcusdt-dummy-20240801-abc123",
        "Z",
    ] {
        let workflow = Workflow::new().await;
        // Among many candles, as a start that was let through would leave it.
        let mut keys: Vec<String> = (1..=1000).map(key).collect();
        keys.push(foreign.to_owned());
        fill(&workflow, &keys).await;
        workflow.publish(0, 1..=10).await;
        workflow.finish(0, 10, 1).await;
        assert_eq!(workflow.start().ended().await, ExitCode::from(PERMANENT));
        let message = workflow.last_event().await.error_message.unwrap();
        assert!(
            message.contains(foreign) && message.contains("COLLECTION_NAME"),
            "{message}"
        );
        let found = workflow.documents();
        assert_eq!(found.len(), 1001);
        assert!(
            found
                .values()
                .all(|document| document.get("open").is_none())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_an_earlier_release_filled_is_taken() {
    let workflow = Workflow::new().await;
    let mut keys: Vec<String> = (1..=1000).map(key).collect();
    keys.push("1INCHUSDT_1M_1722470400000".to_owned());
    keys.push("ETHUSDT_1s_1722470400000".to_owned());
    fill(&workflow, &keys).await;
    workflow.publish(0, 1..=10).await;
    workflow.finish(0, 10, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    assert_eq!(workflow.documents().len(), 1002);
}
