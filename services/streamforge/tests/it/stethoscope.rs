//! dummy-service under `streamforge debug`, as an operator uses them before any data moves.

use std::process::{Output, Stdio};

use serde_json::Value;
use streamforge_utils::protocol::{EventKind, InterruptReason};
use tokio::process::Command;

use crate::{
    flow::{Flow, Plan, WRITER},
    process::LIMIT,
};

const DUMMY: &str = "dummy-service";

/// Runs `streamforge debug` with the rights of an operator, to its end.
pub(crate) async fn debug(flow: &Flow, words: &[&str]) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_streamforge"))
        .arg("debug")
        .args(words)
        .args([
            "--queue-id",
            flow.queue_id.as_str(),
            "--timeout",
            "30",
            "--json",
        ])
        .env_clear()
        .envs(flow.kafka.operator_vars().unwrap())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(LIMIT, command).await.unwrap().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_ping_comes_back_from_every_worker_and_a_stop_ends_them() {
    let flow = Flow::start_without_topic(Plan::three_days()).await;
    let worker = |n: u32| {
        let id = format!("dummy-service__{n}");
        flow.worker(DUMMY, &[("TELEMETRY_PRODUCER_ID", id.as_str())])
    };
    let workers = [worker(1), worker(2)];
    flow.events(|events| events.len() >= 2).await;

    let pinged = debug(
        &flow,
        &[
            "ping",
            "--repeat",
            "20",
            "--interval",
            "0.02",
            "--expect-count",
            "2",
        ],
    )
    .await;
    let said = lines(&pinged);
    assert!(pinged.status.success(), "{pinged:?}");
    let summary = said.last().unwrap();
    assert_eq!(
        (&summary["answered"], &summary["lost"]),
        (&20.into(), &0.into()),
        "{summary}"
    );

    let stopped = debug(&flow, &["stop", "--expect-count", "2"]).await;
    assert!(stopped.status.success(), "{stopped:?}");
    for worker in workers {
        worker.ends_with(0).await;
    }
    for ending in flow.endings(DUMMY).await {
        assert_eq!(
            (ending.event, ending.reason),
            (EventKind::Interrupted, Some(InterruptReason::Stop))
        );
    }
}

#[tokio::test]
async fn nobody_answers_where_nobody_is() {
    let flow = Flow::start_without_topic(Plan::three_days()).await;
    let output = debug(&flow, &["ping", "--timeout", "1"]).await;
    assert_eq!(
        output.status.code(),
        Some(2),
        "a flag given twice is wrong usage"
    );
    let other = Command::new(env!("CARGO_BIN_EXE_streamforge"))
        .args([
            "debug",
            "ping",
            "--timeout",
            "2",
            "--queue-id",
            flow.queue_id.as_str(),
        ])
        .env_clear()
        .envs(flow.kafka.operator_vars().unwrap())
        .output();
    assert_eq!(other.await.unwrap().status.code(), Some(1));
}

#[tokio::test]
async fn a_synthetic_load_is_written_like_a_real_one() {
    let flow = Flow::start(Plan::three_days()).await;
    let loader = flow.worker(
        DUMMY,
        &[
            ("DUMMY_PUBLISH_RATE", "2000"),
            ("DUMMY_RECORDS_TOTAL", "3000"),
        ],
    );
    let consumer = flow.worker(DUMMY, &[("DUMMY_CONSUME", "true")]);
    let writer = flow.writer();
    loader.ends_with(0).await;
    consumer.ends_with(0).await;
    writer.ends_with(0).await;
    let endings = flow.endings(DUMMY).await;
    assert_eq!(endings.len(), 2);
    for ending in endings.iter().chain(&flow.endings(WRITER).await) {
        assert_eq!(
            (ending.event, ending.records.written),
            (EventKind::Finished, 3_000),
            "{ending:#?}"
        );
    }
    assert_eq!(flow.stored().len(), 3_000);
    flow.assert_stored_is_published().await;
}

#[tokio::test]
async fn a_refusal_says_which_command_it_is_and_where_the_variables_are() {
    let run = |words: &'static [&str]| {
        Command::new(env!("CARGO_BIN_EXE_streamforge"))
            .arg("debug")
            .args(words)
            .env_clear()
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
    };
    let refused = run(&["ping", "--queue-id", "wf-try"]).await.unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(
        said.starts_with("streamforge debug: bad configuration"),
        "{said}"
    );
    assert!(said.contains("See streamforge debug --help"), "{said}");

    let help = run(&["--help"]).await.unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("KAFKA_BOOTSTRAP_SERVERS"), "{help}");
}
