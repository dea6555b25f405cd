//! `streamforge up`, as a person uses it from several terminals.

mod workflows;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{Arc, LazyLock},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use streamforge_utils::{config::Vars, protocol::EventKind};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    sync::{Mutex, OwnedMutexGuard},
};

use crate::{
    flow::{LOADER, WRITER},
    process::{LIMIT, Worker},
};

/// What another terminal has to know.
const NAMES: [&str; 10] = [
    "ARANGO_DB",
    "ARANGO_PASSWORD",
    "ARANGO_URL",
    "ARANGO_USER",
    "BINANCE_API_URL",
    "KAFKA_BOOTSTRAP_SERVERS",
    "KAFKA_FETCH_WAIT_MAX_MS",
    "KAFKA_OFFSETS_FOR_TIMES",
    "KAFKA_SESSION_TIMEOUT_MS",
    "KAFKA_TOPIC_ADMIN",
];

/// The same with a real broker.
pub(crate) const REAL_NAMES: [&str; 9] = [
    "ARANGO_DB",
    "ARANGO_PASSWORD",
    "ARANGO_URL",
    "ARANGO_USER",
    "BINANCE_API_URL",
    "KAFKA_BOOTSTRAP_SERVERS",
    "KAFKA_CA_PATH",
    "KAFKA_PASSWORD",
    "KAFKA_USER",
];

/// A stack with queue-manager.
const MANAGED: &[&str] = &["--json"];

/// All queue-managers want the same port, also one that is started again.
static PORT: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);

fn is_managed(arguments: &[&str]) -> bool {
    arguments.starts_with(MANAGED) && !arguments.contains(&"--partitions")
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamforge"));
    command
        .arg("up")
        .args(arguments)
        .args((!is_managed(arguments)).then_some("--no-queue-manager"))
        .current_dir(folder)
        .env_remove("LOG_LEVEL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs one that has to end by itself.
async fn ends(folder: &Path, arguments: &[&str]) -> Output {
    let running = command(folder, arguments).output();
    tokio::time::timeout(LIMIT, running).await.unwrap().unwrap()
}

/// A stack that is up, in a folder of its own.
pub(crate) struct Up {
    child: Child,
    stdout: BufReader<ChildStdout>,
    folder: TempDir,
    /// What it printed first: all lines, or one object.
    printed: String,
    _port: Option<OwnedMutexGuard<()>>,
}

impl Up {
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), arguments).await
    }

    async fn start_in(folder: TempDir, arguments: &[&str]) -> Self {
        let port = match is_managed(arguments) {
            true => Some(Arc::clone(&PORT).lock_owned().await),
            false => None,
        };
        let mut child = command(folder.path(), arguments).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let lines = if arguments.contains(&"--json") {
            1
        } else if arguments.contains(&"--kafka") {
            REAL_NAMES.len()
        } else {
            NAMES.len()
        };
        let mut printed = String::new();
        let read = async {
            for _ in 0..lines {
                if stdout.read_line(&mut printed).await.unwrap() == 0 {
                    break;
                }
            }
        };
        tokio::time::timeout(LIMIT, read).await.unwrap();
        let mut up = Self {
            child,
            stdout,
            folder,
            printed,
            _port: port,
        };
        if up.printed.lines().count() < lines {
            panic!("it did not come up: {}", up.said().await);
        }
        up
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("streamforge.env")
    }

    /// What a shell that has read the file hands on to what it starts.
    async fn sourced(&self) -> Vars {
        self.sourced_from("streamforge.env").await
    }

    pub(crate) async fn sourced_from(&self, file: &str) -> Vars {
        let shell = Command::new("sh")
            .args(["-c", "set -a; . \"./$0\"; set +a; env", file])
            .current_dir(self.folder.path())
            .env_clear()
            .output();
        let output = shell.await.unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .map(|line| line.split_once('=').unwrap())
            .filter(|(name, _)| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Everything that it said to people, once it has ended.
    async fn said(&mut self) -> String {
        let mut text = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        let reading = stderr.read_to_string(&mut text);
        tokio::time::timeout(LIMIT, reading).await.unwrap().unwrap();
        text
    }

    /// Ends it; the exit code, and what it said.
    pub(crate) async fn end(mut self, signal: Signal) -> (Option<i32>, String, TempDir) {
        self.signal(signal);
        let said = self.said().await;
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await;
        let mut more = String::new();
        self.stdout.read_to_string(&mut more).await.unwrap();
        assert_eq!(more, "", "stdout has the variables and nothing else");
        (status.unwrap().unwrap().code(), said, self.folder)
    }
}

pub(crate) fn names(vars: &Vars) -> Vec<&str> {
    vars.keys().map(String::as_str).collect()
}

async fn documents(vars: &Vars, collection: &str) -> Value {
    let url = format!(
        "{}/_db/{}/_api/collection/{collection}/count",
        vars["ARANGO_URL"], vars["ARANGO_DB"]
    );
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client
        .get(url)
        .basic_auth(&vars["ARANGO_USER"], Some(&vars["ARANGO_PASSWORD"]))
        .send();
    answer.await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn the_lines_the_file_and_a_shell_agree() {
    let up = Up::start(&[]).await;
    let sourced = up.sourced().await;
    assert_eq!(names(&sourced), NAMES);
    for (line, (name, value)) in up.printed.lines().zip(&sourced) {
        let words = shlex::split(line).unwrap();
        assert_eq!(words, [format!("{name}={value}")]);
    }
    let file = fs::read_to_string(up.file()).unwrap();
    assert!(file.ends_with(&up.printed), "{file}");
    let mode = fs::metadata(up.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let (code, said, folder) = up.end(Signal::INT).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("set -a; . ./streamforge.env; set +a"),
        "{said}"
    );
    assert!(said.contains(&sourced["ARANGO_URL"]), "{said}");
    assert!(!said.contains(&sourced["ARANGO_PASSWORD"]), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn workers_of_other_terminals_load_and_write() {
    let up = Up::start(&["--symbol", "XYZUSDT"]).await;
    let shared = up.sourced().await;
    let with = |own: &[(&str, &str)]| -> Vars {
        let own = [
            ("QUEUE_ID", "wf-by-hand"),
            ("SYMBOL", "XYZUSDT"),
            ("TYPE", "api_candles_1h"),
            ("KAFKA_TOPIC", "wf-by-hand-data"),
            ("METRICS_PORT", "0"),
        ]
        .iter()
        .chain(own)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        shared.clone().into_iter().chain(own).collect()
    };
    let logs = TempDir::new().unwrap();
    let range = [("TIME_RANGE", "2024-08-01:2024-08-02")];
    let loader = Worker::start(LOADER, &with(&range), logs.path());
    loader.ends_with(0).await;
    let collection = [("COLLECTION_NAME", "by_hand")];
    let writer = Worker::start(WRITER, &with(&collection), logs.path());
    writer.ends_with(0).await;
    assert_eq!(documents(&shared, "by_hand").await["count"], 48);

    let kafka = streamforge_utils::config::Reader::new(&shared)
        .section()
        .unwrap();
    let finished = streamforge_devstack::kafka::wait_for_events(&kafka, LIMIT, |events| {
        let of_kind =
            |event: &&streamforge_utils::protocol::Event| event.event == EventKind::Finished;
        events.iter().filter(of_kind).count() == 2
    });
    finished.await.unwrap();
    let (code, said, _) = up.end(Signal::TERM).await;
    assert_eq!(code, Some(0), "{said}");
    for topic in ["wf-by-hand-data", "wf-by-hand-data-dlq"] {
        let made = format!("Made the topic {topic}\n");
        assert_eq!(said.matches(&made).count(), 1, "{said}");
    }
}

/// A client in the middle of a request holds up the end for some seconds.
#[tokio::test]
async fn a_second_ctrl_c_ends_at_once() {
    let mut up = Up::start(&[]).await;
    let vars = up.sourced().await;
    let address = vars["ARANGO_URL"].strip_prefix("http://").unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /_open/auth HTTP/1.1\r\nHost: {address}\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");

    up.signal(Signal::INT);
    let mut stderr = BufReader::new(up.child.stderr.take().unwrap()).lines();
    let ending = async {
        while let Some(line) = stderr.next_line().await.unwrap() {
            if line.starts_with("Ending") {
                return;
            }
        }
        panic!("it ended without a word");
    };
    tokio::time::timeout(LIMIT, ending).await.unwrap();
    assert!(!up.file().exists(), "removed before the stack ends");
    up.signal(Signal::INT);
    let status = tokio::time::timeout(LIMIT, up.child.wait()).await.unwrap();
    assert_eq!(status.unwrap().code(), Some(130));
}

#[tokio::test]
async fn json_is_one_object_of_the_same() {
    let up = Up::start(&["--json", "--partitions", "1"]).await;
    let printed: Vars = serde_json::from_str(&up.printed).unwrap();
    assert_eq!(names(&printed), NAMES);
    assert_eq!(printed, up.sourced().await);
    let (code, said, _) = up.end(Signal::TERM).await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn the_database_keeps_its_data_in_a_folder() {
    let up = Up::start(&["--data", "arango"]).await;
    let first = up.sourced().await;
    let url = format!("{}/_api/collection", first["ARANGO_URL"]);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let made = client
        .post(url)
        .basic_auth("root", Some(&first["ARANGO_PASSWORD"]))
        .body(r#"{"name": "kept"}"#)
        .send();
    assert!(made.await.unwrap().status().is_success());
    let second = ends(
        up.folder.path(),
        &["--data", "arango", "--env-file", "b.env"],
    )
    .await;
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("arango is used by another"), "{said}");
    assert!(!up.folder.path().join("b.env").exists());

    let (code, said, folder) = up.end(Signal::INT).await;
    assert_eq!(code, Some(0), "{said}");
    let up = Up::start_in(folder, &["--data", "arango"]).await;
    let vars = up.sourced().await;
    let mut system = vars.clone();
    system.insert("ARANGO_DB".to_owned(), "_system".to_owned());
    assert_eq!(documents(&system, "kept").await["count"], 0);
    up.end(Signal::INT).await;
}

#[tokio::test]
async fn a_file_that_a_killed_stack_left_is_replaced_and_one_in_use_is_not() {
    let mut up = Up::start(&[]).await;
    let in_use = ends(up.folder.path(), &[]).await;
    let said = String::from_utf8_lossy(&in_use.stderr);
    assert_eq!(in_use.status.code(), Some(1), "{said}");
    assert!(said.contains("belongs to a dev stack that is up"), "{said}");
    assert!(in_use.stdout.is_empty());

    up.child.kill().await.unwrap();
    let left = fs::read_to_string(up.file()).unwrap();
    let up = Up::start_in(up.folder, &[]).await;
    let new = fs::read_to_string(up.file()).unwrap();
    assert!(new != left && new.ends_with(&up.printed), "{new}");
    let (code, said, folder) = up.end(Signal::INT).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_file_that_is_not_ours_or_can_not_be_written_ends_with_1() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("mine.env"), "SECRET=mine\n").unwrap();
    for (path, message) in [
        (
            "mine.env",
            "mine.env is something else, and is not replaced",
        ),
        (
            "no/such/folder.env",
            "can't write no/such/folder.env: No such file",
        ),
        ("mine.env/x", "can't write mine.env/x: Not a directory"),
        (".", "no plain file"),
    ] {
        let output = ends(folder.path(), &["--env-file", path]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{path}: {said}");
        assert!(
            said.starts_with("error: ") && said.contains(message),
            "{said}"
        );
        assert!(output.stdout.is_empty());
    }
    let mine = fs::read_to_string(folder.path().join("mine.env")).unwrap();
    assert_eq!(mine, "SECRET=mine\n");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_folder_without_a_real_broker_ends_with_1() {
    let folder = TempDir::new().unwrap();
    let output = ends(folder.path(), &["--kafka", "nowhere"]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("start one with ci/kafka.sh start"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn wrong_usage_ends_with_2() {
    let folder = TempDir::new().unwrap();
    for arguments in [
        &["--frobnicate"][..],
        &["--symbol", "btcusdt"],
        &["--symbol", "BTCUSDT", "--symbol", "BTCUSDT"],
        &["--partitions", "0"],
        &["--interval", "1h"],
        &["--replay", "/nowhere.json", "--symbol", "BTCUSDT"],
        &["--live", "--seed", "1"],
        &["--live", "--api-url", "ftp://x"],
        &["--kafka", "x", "--partitions", "2"],
    ] {
        let output = ends(folder.path(), arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
