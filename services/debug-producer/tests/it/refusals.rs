//! What ends it before or instead of an answer: usage, configuration, the broker.

use crate::rig::Rig;

#[tokio::test]
async fn help_is_an_answer_and_wrong_usage_is_2() {
    let rig = Rig::start();
    for ask in ["--help", "-h", "--version"] {
        let said = rig.debug_with(ask, &[]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(
            said.stdout.contains("debug-producer") && said.stderr.is_empty(),
            "{said:?}"
        );
    }
    for (typed, message) in [
        ("--command ping --follow", "cannot be used with"),
        (
            "--command stop --expect-pong",
            "--expect-pong goes with --command ping",
        ),
        ("--command fail-after", "needs --seconds"),
        ("", "required"),
    ] {
        let said = rig.debug(typed).await;
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{said:?}");
        assert!(
            said.stderr.contains(message) && said.stderr.contains("Usage: debug-producer"),
            "{said:?}"
        );
    }
    let said = rig.debug_with("--queue-id wrong --command ping", &[]).await;
    assert_eq!(said.code, Some(2), "{said:?}");
}

#[tokio::test]
async fn bad_configuration_is_78_and_names_every_fault() {
    let rig = Rig::start();
    let bad = [
        ("KAFKA_BOOTSTRAP_SERVERS", "nowhere"),
        ("QUEUE_EVENTS_TOPIC", "a b"),
        ("KAFKA_PASSWORD", "hunter2"),
    ];
    let said = rig
        .debug_with("--queue-id wf-try --command ping", &bad)
        .await;
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (Some(78), ""),
        "{said:?}"
    );
    assert!(
        said.stderr.contains("KAFKA_BOOTSTRAP_SERVERS")
            && said.stderr.contains("QUEUE_EVENTS_TOPIC"),
        "{said:?}"
    );
    assert!(!said.stderr.contains("hunter2"));
}

#[tokio::test]
async fn a_broker_that_is_away_is_named_within_the_time() {
    let rig = Rig::start();
    // It takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = silent.local_addr().unwrap();
    for what in [
        "--command ping --expect-pong",
        "--command ping",
        "--command stop",
        "--follow",
    ] {
        let said = rig
            .debug(&format!(
                "{what} --timeout 1.5 --bootstrap-servers {servers}"
            ))
            .await;
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{said:?}");
        let message = format!("no answer from the broker at {servers} within 1.5s");
        assert!(said.stderr.contains(&message), "{said:?}");
    }
}

#[tokio::test]
async fn why_there_is_no_connection_is_said() {
    let rig = Rig::start();
    let said = rig
        .debug("--command ping --timeout 3 --bootstrap-servers 127.0.0.1:1")
        .await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{said:?}");
    assert!(said.stderr.contains("Connection refused"), "{said:?}");
}

#[tokio::test]
async fn a_flag_wins_over_the_variable() {
    let rig = Rig::start();
    let (servers, typed) = (
        rig.servers(),
        format!("--queue-id {} --command ping", rig.queue),
    );
    let nowhere = [("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")];
    let said = rig
        .debug_with(&format!("{typed} --bootstrap-servers {servers}"), &nowhere)
        .await;
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_named() {
    let rig = Rig::apart().await;
    for (variable, typed) in [
        ("QUEUE_EVENTS_TOPIC", "--follow"),
        ("QUEUE_EVENTS_TOPIC", "--command ping --expect-pong"),
        ("QUEUE_CONTROL_TOPIC", "--command ping"),
    ] {
        let said = rig
            .debug_with(
                &format!("--queue-id wf-try {typed}"),
                &[(variable, "no-such-topic")],
            )
            .await;
        assert_eq!(said.code, Some(1), "{said:?}");
        let message = format!("the topic \"no-such-topic\" is not there; {variable} names it");
        assert!(said.stderr.contains(&message), "{said:?}");
    }
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "says that it was not run")]
async fn a_topic_that_may_not_be_seen_is_named() {
    let rig = Rig::start();
    if !rig.kafka.is_real() {
        eprintln!("NOT RUN: the mock knows no rights");
        return;
    }
    for (variable, typed) in [
        ("QUEUE_EVENTS_TOPIC", "--follow"),
        ("QUEUE_CONTROL_TOPIC", "--command ping"),
    ] {
        let typed = format!("--queue-id {} --timeout 5 {typed}", rig.queue);
        let said = rig.debug_with(&typed, &[(variable, "no-such-topic")]).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(
            said.stderr.contains("no-such-topic") && said.stderr.contains("authorization failed"),
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn no_password_is_ever_said() {
    let rig = Rig::start();
    let vars = [
        ("KAFKA_USER", "operator"),
        ("KAFKA_PASSWORD", "correct horse"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("LOG_LEVEL", "trace"),
    ];
    let said = rig
        .debug_with(
            "--queue-id wf-try --command ping --expect-pong --timeout 3",
            &vars,
        )
        .await;
    assert_eq!(said.code, Some(1), "this broker knows no users: {said:?}");
    assert!(
        !said.stdout.contains("correct horse") && !said.stderr.contains("correct horse"),
        "{said:?}"
    );
}
