//! Clients that a broker refuses: each ends for good, and says what is wrong.

use std::time::Duration;

use streamforge_utils::protocol::{CommandKind, EventKind, InterruptReason};

use crate::{
    apache::{apache, real},
    flow::{Flow, LOADER, Plan, WRITER},
    process::Worker,
};

/// A worker as a user of ci/kafka/less-rights.yaml, who lacks one right.
fn without(flow: &Flow, right: &str, service: &'static str, more: &[(&str, &str)]) -> Worker {
    let user = format!("user-without-{right}");
    let vars = apache(flow).vars_as(&user).unwrap();
    let mut changes = vec![
        ("KAFKA_USER", user.as_str()),
        ("KAFKA_PASSWORD", vars["KAFKA_PASSWORD"].as_str()),
    ];
    changes.extend(more);
    flow.worker(service, &changes)
}

/// Waits for its end with `code`, after a line of its log that has all of `words`.
async fn ends_having_said(worker: Worker, code: i32, words: &[&str]) {
    let log = worker.log_path();
    worker.ends_with(code).await;
    let log = std::fs::read_to_string(log).unwrap();
    let said = |line: &str| words.iter().all(|word| line.contains(word));
    assert!(
        log.lines().any(said),
        "nothing has all of {words:?}:\n{log}"
    );
}

#[tokio::test]
async fn a_password_or_a_certificate_that_is_wrong() {
    let Some(flow) = real(Plan::three_days()).await else {
        return;
    };
    let told = |name| apache(&flow).get(name).unwrap();
    let foreign = told("KAFKA_FOREIGN_CA_PATH");
    // librdkafka says no more of a certificate than that.
    let certificate = "certificate verify failed";
    let cases = [
        (vec![("KAFKA_PASSWORD", "wrong")], "invalid credentials"),
        (vec![("KAFKA_USER", "user-unknown")], "invalid credentials"),
        (vec![("KAFKA_CA_PATH", foreign)], certificate),
        (
            vec![
                ("KAFKA_CA_PATH", told("KAFKA_EXPIRED_CA_PATH")),
                ("KAFKA_BOOTSTRAP_SERVERS", told("KAFKA_EXPIRED_CA_SERVERS")),
            ],
            certificate,
        ),
        (
            vec![(
                "KAFKA_BOOTSTRAP_SERVERS",
                told("KAFKA_EXPIRED_CERT_SERVERS"),
            )],
            certificate,
        ),
        (
            vec![("KAFKA_BOOTSTRAP_SERVERS", told("KAFKA_OTHER_NAME_SERVERS"))],
            certificate,
        ),
    ];
    // All at once: each waits for answers that do not come.
    let mut workers = Vec::new();
    for (changes, said) in &cases {
        for service in [LOADER, WRITER] {
            let what = format!("{service} with {changes:?}");
            workers.push((what, *said, flow.worker(service, changes)));
        }
    }
    for (what, said, worker) in workers {
        let log = worker.log_path();
        worker.ends_with(70).await;
        let log = std::fs::read_to_string(log).unwrap();
        let failed = log.lines().find(|line| line.contains("Failed"));
        assert!(
            failed.is_some_and(|line| line.contains(said)),
            "{what} has not said {said:?} at its end:\n{log}"
        );
    }
}

#[tokio::test]
async fn a_right_that_is_missing_ends_a_worker_which_names_what_it_is_to() {
    let Some(flow) = real(Plan::three_days()).await else {
        return;
    };
    // Nobody has made the topic yet.
    let words = ["Failed", "Topic authorization failed", flow.topic.as_str()];
    let maker = without(&flow, "create", LOADER, &[]);
    ends_having_said(maker, 70, &words).await;

    flow.create_topic().await;
    let words = ["Failed", "uthorization", flow.topic.as_str()];
    let refused = [
        without(&flow, "data-write", LOADER, &[]),
        without(&flow, "data-read", WRITER, &[]),
    ];
    for worker in refused {
        ends_having_said(worker, 70, &words).await;
    }
    let words = [
        "Failed",
        "Group authorization failed",
        flow.queue_id.as_str(),
    ];
    ends_having_said(without(&flow, "group", WRITER, &[]), 70, &words).await;
    let endings = [flow.endings(LOADER).await, flow.endings(WRITER).await].concat();
    assert_eq!(endings.len(), 4);
    for ending in endings {
        let can_pass = (ending.event, ending.retryable);
        assert_eq!(can_pass, (EventKind::Error, Some(false)), "{ending:#?}");
    }
    // Nothing of that harmed the workflow.
    flow.loader().ends_with(0).await;
    flow.writer().ends_with(0).await;
    flow.assert_complete().await;
}

/// The data counts for more: whoever runs the workflow sees the warning, and its Job can be ended by a signal.
#[tokio::test]
async fn without_commands_or_events_the_data_arrives_all_the_same() {
    let Some(flow) = real(Plan::three_days()).await else {
        return;
    };
    flow.create_topic().await;
    let deaf = without(&flow, "control", LOADER, &[]);
    ends_having_said(deaf, 0, &["WARN", "queue-control", "uthorization"]).await;
    let mute = without(&flow, "events", WRITER, &[]);
    ends_having_said(mute, 0, &["WARN", "event", "uthorization"]).await;
    flow.assert_complete().await;
}

#[tokio::test]
async fn a_stop_is_looked_up_by_its_time() {
    let Some(flow) = real(Plan::three_days()).await else {
        return;
    };
    flow.send(CommandKind::Stop).await;
    let at = |seconds: i64| {
        let now = streamforge_utils::protocol::TimestampMs::now().as_millis() / 1_000;
        (now + seconds).to_string()
    };
    let launched = at(-10);
    let dummy = |name: &'static str, launched: &str| {
        let changes = [
            ("QUEUE_STARTED_AT", launched),
            ("TELEMETRY_PRODUCER_ID", name),
            ("RUN", "2"),
        ];
        flow.worker("dummy-service", &changes)
    };
    dummy("before", &launched).ends_with(0).await;
    let later = at(3_600);
    let worker = dummy("after", &later);
    // It has read all that it has to read once it answers.
    flow.events(|events| events.iter().any(|event| event.producer == "after"))
        .await;
    flow.send(CommandKind::Ping).await;
    let events = flow
        .events(|events| events.iter().any(|event| event.event == EventKind::Pong))
        .await;
    let stopped: Vec<_> = events.iter().filter(|event| event.finished).collect();
    assert_eq!(stopped.len(), 1, "{stopped:#?}");
    assert_eq!(
        (stopped[0].producer.as_str(), stopped[0].reason),
        ("before", Some(InterruptReason::Stop))
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    worker.kill().await;
}
