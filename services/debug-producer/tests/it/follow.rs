//! Events as they come, and signals.

use rustix::process::Signal;
use streamforge_utils::protocol::EventKind;

use crate::rig::{Rig, Running, event, queue_id};

/// Publishes until the first line is printed: only then it is known to listen.
async fn first_line(rig: &Rig, running: &mut Running) -> String {
    let started = event(&rig.queue, "first", EventKind::Started).to_string();
    let mut line = std::pin::pin!(running.line());
    loop {
        tokio::select! {
            line = &mut line => return line,
            () = rig.publish(&started) => {}
        }
    }
}

#[tokio::test]
async fn events_are_printed_as_they_were_published() {
    let rig = Rig::apart().await;
    let mut running = rig.spawn("--follow --json");
    first_line(&rig, &mut running).await;
    // Spread over lines, and with a field that nobody knows.
    let pretty = serde_json::to_string_pretty(&event(&rig.queue, "b", EventKind::Loading)).unwrap();
    let published = pretty.replacen('{', "{ \"colour\": 1.50,", 1);
    rig.publish(&event(&queue_id(), "c", EventKind::Started).to_string())
        .await;
    rig.publish("garbage").await;
    rig.publish(&published).await;
    let line = loop {
        let line = running.line().await;
        if !line.contains("\"first\"") {
            break line;
        }
    };
    assert_eq!(line, published.replace('\n', " "));
    running.kill(Signal::INT);
    let said = running.end().await;
    assert_eq!(said.code, Some(130), "{said:?}");
    assert!(
        said.stderr.contains("skipped a message that is no event"),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_line_for_people_says_who_and_what() {
    let rig = Rig::apart().await;
    let mut running = rig.spawn_with("--queue-id all --follow --target dummy-service", &[]);
    let line = first_line(&rig, &mut running).await;
    assert_eq!(
        line,
        format!(
            "2024-08-01T08:15:25.456Z {} dummy-service__first started: made up",
            rig.queue
        )
    );
    running.kill(Signal::TERM);
    let said = running.end().await;
    assert_eq!(said.code, Some(143), "{said:?}");
}

#[tokio::test]
async fn people_may_listen_to_everyone() {
    let rig = Rig::start();
    let said = rig
        .debug_with("--queue-id all --follow --timeout 1", &[])
        .await;
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[tokio::test]
async fn a_timeout_ends_it_well() {
    let rig = Rig::start();
    let said = rig.debug("--follow --timeout 1").await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""), "{said:?}");
    assert!(
        said.stderr
            .contains(&format!("listening to every worker of {}", rig.queue)),
        "{said:?}"
    );
}

#[tokio::test]
async fn ctrl_c_among_pings_leaves_a_summary() {
    let rig = Rig::start();
    let _worker = rig.worker("a").await;
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut running =
            rig.spawn("--command ping --expect-pong --repeat 1000 --interval 0.1 --json");
        while running.json().await["kind"] != "pong" {}
        running.kill(signal);
        let said = running.end().await;
        assert_eq!(said.code, Some(code), "{said:?}");
        let summary = said.summary();
        assert_eq!(summary["outcome"], "interrupted");
        assert!(
            summary["answered"].as_u64().unwrap() >= 1 && summary["sent"].as_u64().unwrap() < 1_000
        );
    }
}

#[tokio::test]
async fn a_signal_ends_it_while_the_broker_is_away() {
    let rig = Rig::start();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = silent.local_addr().unwrap();
    let mut running = rig.spawn_with(
        &format!("--queue-id all --follow --timeout 600 --bootstrap-servers {servers}"),
        &[("LOG_LEVEL", "debug")],
    );
    running.first_word_on_stderr().await;
    running.kill(Signal::TERM);
    assert_eq!(running.end().await.code, Some(143));
}

#[tokio::test]
async fn who_stops_reading_ends_it() {
    let rig = Rig::start();
    let mut running = rig.spawn("--command ping --repeat 600 --interval 0.1 --json");
    running.line().await;
    let said = running.close_stdout().await;
    assert_eq!((said.code, said.stderr.as_str()), (Some(1), ""), "{said:?}");
}
