//! The loader as a process: its exit codes and its last words.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use streamforge_devstack::{exchange::Latency, kafka::wait_for_messages};
use streamforge_utils::protocol::{Event, EventKind, InterruptReason};
use tokio::process::{Child, Command};

use crate::rig::{LIMIT, Rig, until};

pub(crate) fn command(rig: &Rig) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loader-api-candles"));
    command
        .env_clear()
        .envs(rig.vars())
        .env("METRICS_PORT", "0")
        .env("LOG_LEVEL", "warn")
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

pub(crate) async fn output(child: Child) -> Output {
    let ended = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    ended.expect("the process ends").unwrap()
}

/// Its events until the last one.
pub(crate) async fn events(rig: &Rig) -> Vec<Event> {
    rig.events(|events| events.last().is_some_and(|event| event.finished))
        .await
}

/// The most memory that the process holds until it ends, in KiB; `None` where there is no `/proc`.
async fn peak_memory_kib(child: &mut Child) -> Option<u64> {
    let status = format!("/proc/{}/status", child.id()?);
    let mut peak = None;
    while child.try_wait().unwrap().is_none() {
        let text = tokio::fs::read_to_string(&status).await.ok()?;
        let line = text.lines().find(|line| line.starts_with("VmHWM:"));
        peak = line
            .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .or(peak);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    peak
}

#[tokio::test]
#[expect(
    clippy::print_stderr,
    reason = "a figure to look at, not a limit to test"
)]
async fn a_whole_load_ends_with_0() {
    let rig = Rig::new(
        |exchange| exchange,
        &[("TIME_RANGE", "2024-08-01:2024-08-20")],
    )
    .await
    .topic(1)
    .await;
    let mut child = command(&rig).env("LOG_LEVEL", "info").spawn().unwrap();
    let peak = tokio::time::timeout(LIMIT, peak_memory_kib(&mut child)).await;
    eprintln!("peak memory of the loader: {:?} KiB", peak.unwrap());
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let logged = [output.stdout, output.stderr].concat();
    let logged = String::from_utf8_lossy(&logged);
    assert!(
        logged.contains("Planned the load") && !logged.contains("gapless"),
        "{logged}"
    );
    let events = events(&rig).await;
    assert_eq!(events[0].event, EventKind::Started);
    let last = events.last().unwrap();
    assert_eq!(last.event, EventKind::Finished);
    assert_eq!(last.message, "28800 candles, none missing");
    assert_eq!(
        (last.records.written, last.records.total),
        (28_800, Some(28_800))
    );
    assert_eq!(last.gaps, Some(Vec::new()));
}

#[tokio::test]
async fn sigterm_ends_with_143_and_one_interrupted() {
    let rig = Rig::new(
        |exchange| exchange,
        &[("FETCH_IN_FLIGHT", "1"), ("PROGRESS_INTERVAL_SECS", "0.1")],
    )
    .await
    .topic(1)
    .await;
    rig.exchange
        .handle()
        .set_latency(Latency::fixed(Duration::from_millis(300)));
    let child = command(&rig).spawn().unwrap();
    rig.events(|events| events.len() > 1).await;
    let pid = child.id().unwrap().to_string();
    let told = Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(told.unwrap().success());
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    let events = events(&rig).await;
    let last: Vec<&Event> = events.iter().filter(|event| event.finished).collect();
    assert_eq!(last.len(), 1);
    assert_eq!(last[0].event, EventKind::Interrupted);
    assert_eq!(last[0].reason, Some(InterruptReason::Signal));
    assert!(rig.contents().await.markers.is_empty());
}

#[tokio::test]
async fn sigterm_while_kafka_is_away_ends_with_143() {
    let rig = Rig::with_broker_alone(
        |exchange| exchange,
        &[
            ("FETCH_IN_FLIGHT", "1"),
            ("SHUTDOWN_GRACE_SECS", "4"),
            // So much that it is not over when this test has seen its beginning.
            ("TIME_RANGE", "2024-08-01:2024-08-20"),
        ],
    )
    .await
    .topic(1)
    .await;
    rig.exchange
        .handle()
        .set_latency(Latency::fixed(Duration::from_millis(200)));
    let child = command(&rig).spawn().unwrap();
    wait_for_messages(
        &rig.kafka.config().unwrap(),
        &rig.topic,
        LIMIT,
        |messages| !messages.is_empty(),
    )
    .await
    .unwrap();
    rig.kafka.down().unwrap();
    let asked = rig.exchange.handle().counters().klines;
    until(|| rig.exchange.handle().counters().klines > asked + 1).await;
    let pid = child.id().unwrap().to_string();
    let told = Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(told.unwrap().success());
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(143), "{output:?}");
}

#[tokio::test]
async fn an_unknown_symbol_ends_with_70_and_bad_configuration_with_78() {
    let mut rig = Rig::new(|exchange| exchange, &[("SYMBOL", "NOSUCHCOIN")]).await;
    let unknown = output(command(&rig).spawn().unwrap()).await;
    assert_eq!(unknown.status.code(), Some(70), "{unknown:?}");
    let last = events(&rig).await.pop().unwrap();
    assert_eq!(
        (last.event, last.retryable),
        (EventKind::Error, Some(false))
    );
    let said = last.error_message.unwrap();
    assert!(said.contains("-1121 Invalid symbol."), "{said}");

    rig.set("TIME_RANGE", "2024-08-02:2024-08-01");
    rig.set("NUMBERS", "float");
    let bad = output(command(&rig).spawn().unwrap()).await;
    assert_eq!(bad.status.code(), Some(78));
    let said = String::from_utf8_lossy(&bad.stderr);
    assert!(
        said.contains("TIME_RANGE") && said.contains("NUMBERS"),
        "{said}"
    );
}
