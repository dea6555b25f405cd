//! Whole workflows on a dev stack, by the commands that people type.

use std::{fs, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use streamforge_devstack::kafka::KAFKA_DIR;
use streamforge_utils::config::{Vars, process_vars};
use tokio::process::Command;

use super::{MANAGED, Up, documents};
use crate::process::LIMIT;

const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const RANGE: &str = "2024-08-01:2024-08-02";

/// A terminal that has read the file of a stack.
struct Terminal {
    vars: Vars,
}

/// What a command came to.
struct Done {
    code: Option<i32>,
    printed: String,
    said: String,
}

impl Done {
    fn assert_code(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{}\n{}", self.printed, self.said);
    }
}

impl Terminal {
    async fn of(up: &Up) -> Self {
        let mut vars = up.sourced().await;
        assert!(vars.contains_key("QUEUE_MANAGER_URL"), "{vars:?}");
        vars.insert("NO_COLOR".to_owned(), "1".to_owned());
        Self { vars }
    }

    async fn queue(&self, words: &[&str]) -> Done {
        let run = Command::new(env!("CARGO_BIN_EXE_streamforge"))
            .arg("queue")
            .args(words)
            .env_clear()
            .envs(&self.vars)
            .stdin(Stdio::null())
            .output();
        let output = tokio::time::timeout(LIMIT, run).await.unwrap().unwrap();
        Done {
            code: output.status.code(),
            printed: String::from_utf8_lossy(&output.stdout).into_owned(),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts candles of an hour, with these words more.
    async fn start(&self, symbol: &str, more: &[&str]) -> Done {
        let mut words = vec!["start", "--symbol", symbol, "--type", "api_candles_1h"];
        words.extend(["--time-range", RANGE]);
        words.extend(more);
        self.queue(&words).await
    }
}

/// As the first page of the documentation has it.
#[tokio::test]
async fn a_workflow_is_started_and_watched_with_the_queue_commands() {
    let up = Up::start(MANAGED).await;
    let terminal = Terminal::of(&up).await;
    terminal.start("BTCUSDT", &["--watch"]).await.assert_code(0);
    let listed = terminal.queue(&["list"]).await;
    listed.assert_code(0);
    assert!(listed.printed.contains("finished"), "{}", listed.printed);
    let count = documents(&terminal.vars, "btcusdt_api_candles_1h_2024_08_01").await;
    assert_eq!(count["count"], 48);
    let refused = terminal.start("NOSUCH", &[]).await;
    refused.assert_code(2);
    assert!(refused.said.contains("symbol"), "{}", refused.said);

    // What runs ends with the stack.
    let param = "DUMMY_RECORDS_TOTAL=100000";
    let started = ["start", "--flow", "dummy_flow", "--param", param];
    terminal.queue(&started).await.assert_code(0);
    let (code, said, folder) = up.end(Signal::INT).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// The built-in broker's partitions are small.
#[tokio::test]
async fn a_range_of_more_than_a_partition_keeps_is_spread() {
    let up = Up::start(MANAGED).await;
    let terminal = Terminal::of(&up).await;
    let range = [
        "--type",
        "api_candles_1m",
        "--time-range",
        "2024-08-01:2024-08-25",
    ];
    let start = ["start", "--symbol", "ETHUSDT", "--watch", "--json"];
    let started = terminal.queue(&[&start[..], &range].concat()).await;
    started.assert_code(0);
    let ended: Value = serde_json::from_str(started.printed.lines().last().unwrap()).unwrap();
    assert_eq!(ended["partitions"], 2, "{ended}");
    let count = documents(&terminal.vars, "ethusdt_api_candles_1m_2024_08_01").await;
    assert_eq!(count["count"], 36_000, "{ended}");
}

/// The topic gets the partitions that they need, though the stack was not told. On a real broker, if there is one, where
/// queue-manager makes the topic; no other test may have a stack there, as all would be one consumer group.
#[tokio::test]
async fn two_writers_share_a_collection() {
    let process = process_vars();
    let real = process.get(KAFKA_DIR);
    let mut arguments = MANAGED.to_vec();
    if let Some(dir) = real {
        arguments.extend(["--kafka", dir]);
    }
    let up = Up::start(&arguments).await;
    let terminal = Terminal::of(&up).await;
    let worker = |target: &str| json!({"target": target, "type": "api_candles_1h"});
    let pipeline = json!({
        "symbol": "BTCUSDT",
        "time_range": "2024-08-01:2024-08-20",
        "microservices": [worker("loader-api-candles"), worker("arango-candles"), worker("arango-candles")],
    });
    let file = up.folder.path().join("pipeline.json");
    fs::write(&file, pipeline.to_string()).unwrap();
    let path = file.to_str().unwrap();
    let started = terminal
        .queue(&["start", "--file", path, "--watch", "--json"])
        .await;
    started.assert_code(0);
    let ended: Value = serde_json::from_str(started.printed.lines().last().unwrap()).unwrap();
    assert_eq!(ended["status"], "finished", "{ended}");
    assert_eq!(ended["partitions"], 2);
    let parts = ended["parts"].as_array().unwrap();
    assert!(
        parts.iter().all(|part| part["status"] == "finished"),
        "{ended}"
    );
    assert_eq!(parts.len(), 3);
    let count = documents(&terminal.vars, "btcusdt_api_candles_1h_2024_08_01").await;
    assert_eq!(count["count"], 480, "{ended}");
    fs::remove_file(file).unwrap();
    let (code, said, folder) = up.end(Signal::INT).await;
    assert_eq!(code, Some(0), "{said}");
    if real.is_none() {
        assert!(said.contains("-data with 2 partitions"), "{said}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// The queue-manager that a stack has started, whichever of its threads did.
fn manager_of(stack: u32) -> Pid {
    let threads = fs::read_dir(format!("/proc/{stack}/task")).unwrap();
    let children: String = threads
        .map(|thread| fs::read_to_string(thread.unwrap().path().join("children")).unwrap() + " ")
        .collect();
    let is_it = |pid: &&str| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == "queue-manager")
    };
    let pid = children.split_whitespace().find(is_it).unwrap();
    Pid::from_raw(pid.parse().unwrap()).unwrap()
}

/// What a killed queue-manager has begun, the next one ends.
#[tokio::test]
async fn a_queue_manager_that_is_killed_is_started_again() {
    let up = Up::start(MANAGED).await;
    let terminal = Terminal::of(&up).await;
    let started = terminal.start("BTCUSDT", &[]).await;
    started.assert_code(0);
    kill_process(manager_of(up.child.id().unwrap()), Signal::KILL).unwrap();
    let id = started.printed.trim();
    let watched = terminal.queue(&["watch", id]).await;
    watched.assert_code(0);
    let count = documents(&terminal.vars, "btcusdt_api_candles_1h_2024_08_01").await;
    assert_eq!(count["count"], 48);
    let (code, said, folder) = up.end(Signal::INT).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("it is started again"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Nothing of it is left that would hold a port, or work for a database that is no more.
#[tokio::test]
async fn nothing_outlives_a_stack_whose_terminal_is_closed_or_that_is_killed() {
    for signal in [Signal::HUP, Signal::KILL] {
        let mut up = Up::start(MANAGED).await;
        let terminal = Terminal::of(&up).await;
        let param = "DUMMY_RECORDS_TOTAL=1000000";
        let started = ["start", "--flow", "dummy_flow", "--param", param];
        terminal.queue(&started).await.assert_code(0);
        let manager = manager_of(up.child.id().unwrap());
        let dummy = worker_below(manager).await;
        up.signal(signal);
        let status = tokio::time::timeout(LIMIT, up.child.wait()).await;
        let code = status.unwrap().unwrap().code();
        assert_eq!(code, (signal == Signal::HUP).then_some(0));
        assert_eq!(up.file().exists(), signal == Signal::KILL);
        until_gone(manager).await;
        until_gone(dummy).await;
    }
}

/// The process of the only worker, which its shim has started for this queue-manager.
async fn worker_below(manager: Pid) -> Pid {
    let jobs = |pid: Pid| {
        let environ = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).ok()?;
        let environ = String::from_utf8_lossy(&environ).into_owned();
        let dir = environ
            .split('\0')
            .find_map(|it| it.strip_prefix("JOBS_DIR="))?;
        Some(dir.to_owned())
    };
    let jobs = jobs(manager).unwrap();
    let look = async {
        loop {
            for job in fs::read_dir(&jobs).unwrap() {
                let status = fs::read(job.unwrap().path().join("status.json"));
                let Ok(status) = status else { continue };
                let Ok(status) = serde_json::from_slice::<Value>(&status) else {
                    continue;
                };
                let pid = status["starts"][0]["process"]["pid"].as_i64();
                if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
                    return Pid::from_raw(pid).unwrap();
                }
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    tokio::time::timeout(LIMIT, look).await.unwrap()
}

async fn until_gone(pid: Pid) {
    let look = async {
        // One that nobody has waited for is gone, too.
        while fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
            .is_ok_and(|stat| !stat.contains(") Z "))
        {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    let gone = tokio::time::timeout(LIMIT, look).await;
    assert!(gone.is_ok(), "{pid:?} is still there");
}
