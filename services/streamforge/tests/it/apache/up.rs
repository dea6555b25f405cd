//! `streamforge up` on a real broker: workers are one user, people are another.

use std::{fs, os::unix::fs::PermissionsExt, process::Stdio};

use rustix::process::Signal;
use streamforge_utils::config::{Vars, process_vars};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    apache::real,
    flow::Plan,
    process::{LIMIT, Worker},
    up::{REAL_NAMES, Up, names},
};

async fn ping(vars: &Vars, queue_id: &str) -> Option<i32> {
    let command = Command::new(env!("CARGO_BIN_EXE_streamforge"))
        .args(["debug", "ping", "--queue-id", queue_id, "--timeout", "30"])
        .env_clear()
        .envs(vars)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, command).await.unwrap().unwrap();
    output.status.code()
}

#[tokio::test]
async fn workers_and_people_each_have_a_file() {
    let Some(flow) = real(Plan::three_days()).await else {
        return;
    };
    let dir = &process_vars()[streamforge_devstack::kafka::KAFKA_DIR];
    let up = Up::start(&["--kafka", dir]).await;
    let workers = up.sourced_from("streamforge.env").await;
    let people = up.sourced_from("streamforge-operator.env").await;
    assert_eq!(names(&workers), REAL_NAMES);
    assert_eq!(names(&people), REAL_NAMES);
    assert_eq!(workers["KAFKA_USER"], "user-streamforge");
    assert_eq!(people["KAFKA_USER"], "user-operator");
    let file = up.file().with_file_name("streamforge-operator.env");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let queue_id = flow.queue_id.as_str();
    let own = [
        ("QUEUE_ID", queue_id),
        ("SYMBOL", "BTCUSDT"),
        ("TYPE", "dummy"),
        ("METRICS_PORT", "0"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let vars: Vars = workers.clone().into_iter().chain(own).collect();
    let logs = TempDir::new().unwrap();
    let worker = Worker::start("dummy-service", &vars, logs.path());
    flow.events(|events| !events.is_empty()).await;
    assert_eq!(ping(&people, queue_id).await, Some(0));
    assert_ne!(
        ping(&workers, queue_id).await,
        Some(0),
        "it may not command"
    );
    worker.signal(Signal::TERM);
    worker.ends_with(143).await;

    let (code, said, folder) = up.end(Signal::INT).await;
    assert_eq!(code, Some(0), "{said}");
    for secret in [&workers["KAFKA_PASSWORD"], &people["KAFKA_PASSWORD"]] {
        assert!(!said.contains(secret.as_str()), "{said}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
