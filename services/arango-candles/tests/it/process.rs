//! The writer as a process: its exit codes, its last words, and what it never says.

use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use streamforge_utils::protocol::{EventKind, InterruptReason};
use tokio::process::{Child, Command};

use crate::workflow::{LIMIT, Workflow, candle};

pub(crate) fn start(workflow: &Workflow, changes: &[(&str, &str)]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_arango-candles"))
        .env_clear()
        .envs(workflow.vars())
        .env("LOG_LEVEL", "debug")
        .envs(changes.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

pub(crate) async fn output(child: Child) -> Output {
    tokio::time::timeout(LIMIT, child.wait_with_output())
        .await
        .expect("the process ends")
        .unwrap()
}

#[tokio::test]
async fn sigterm_ends_with_143_and_one_interrupted() {
    let workflow = Workflow::new().await;
    workflow.publish(0, 1..=10).await;
    let child = start(&workflow, &[]);
    workflow.wait_for_written(10).await;
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    workflow.assert_holds(1..=10);
    let events = workflow
        .events(|events| events.iter().any(|event| event.finished))
        .await;
    let last: Vec<_> = events.iter().filter(|event| event.finished).collect();
    assert_eq!((last.len(), last[0].event), (1, EventKind::Interrupted));
    assert_eq!(last[0].reason, Some(InterruptReason::Signal));
    assert!(
        !String::from_utf8_lossy(&output.stderr).contains("correct horse"),
        "no password in a log"
    );
}

#[tokio::test]
async fn bad_configuration_ends_with_78_and_shows_no_password() {
    let workflow = Workflow::new().await;
    let url = "http://root:hunter2@arango:notaport";
    let output = output(start(&workflow, &[("ARANGO_URL", url), ("SYMBOL", "btc")])).await;
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("ARANGO_URL") && said.contains("SYMBOL is \"btc\""),
        "{said}"
    );
    assert!(
        !said.contains("hunter2") && !said.contains("correct horse"),
        "{said}"
    );
}

#[tokio::test]
async fn a_flood_of_large_poison_does_not_fill_the_log() {
    let workflow = Workflow::new().await;
    let poison = candle(1).replace(
        r#""symbol":"BTCUSDT""#,
        &format!(r#""symbol":"{}""#, "X".repeat(600_000)),
    );
    workflow.send_large(0, 1..=200, &poison).await;
    workflow.finish(0, 200, 1).await;
    let output = output(start(&workflow, &[("LOG_LEVEL", "info")])).await;
    assert_eq!(output.status.code(), Some(0));
    let logged = output.stdout.len() + output.stderr.len();
    assert!(logged < 100_000, "{logged} bytes");
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("suppressed"), "{said}");
    assert_eq!(workflow.dead_letters().await.len(), 200);
}
