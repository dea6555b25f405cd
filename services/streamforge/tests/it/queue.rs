//! `streamforge queue` as a process off a terminal, and how it bears what a queue-manager rarely does.

mod api;
mod watch;

use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::process::LIMIT;
use api::{Api, Says, ended, envelope, workflow};

const ID: &str = "wf-btcusdt-api_candles_1m-20240801-abc123";

fn command(url: &str, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamforge"));
    command
        .arg("queue")
        .args(line.split_whitespace())
        .env_clear()
        .env("QUEUE_MANAGER_URL", url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What a command came to.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    fn json_lines(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[track_caller]
    fn assert_code(&self, code: i32) {
        let Self { stdout, stderr, .. } = self;
        assert_eq!(self.code, Some(code), "stdout: {stdout}\nstderr: {stderr}");
    }
}

async fn ends(mut command: Command) -> Ended {
    let running = command.output();
    tokio::time::timeout(LIMIT, running)
        .await
        .unwrap()
        .unwrap()
        .into()
}

async fn run(api: &Api, line: &str) -> Ended {
    ends(command(api.url(), line)).await
}

#[tokio::test]
async fn a_start_that_is_sent_again_carries_the_same_key() {
    let api = Api::start().await;
    let started = json!({"queues": [workflow(json!({"status": "pending"}))]});
    api.on(
        "POST /queues/start",
        [
            Says::refused(503, "too many requests at a time", 0),
            Says::data(202, started),
        ],
    );
    let ended = run(
        &api,
        "start --symbol BTCUSDT --type api_candles_1m --time-range 2024-08-01:2024-08-02",
    )
    .await;
    ended.assert_code(0);
    assert_eq!(ended.stdout, format!("{ID}\n"), "ids and nothing else");
    assert!(
        ended
            .stderr
            .contains(&format!("streamforge queue watch {ID}"))
    );
    let seen = api.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        seen[0].body,
        json!({"symbol": "BTCUSDT", "type": "api_candles_1m", "time_range": "2024-08-01:2024-08-02"})
    );
    let keys: Vec<_> = seen.iter().map(|it| it.header("idempotency-key")).collect();
    assert!(keys[0].is_some() && keys[0] == keys[1], "{keys:?}");
    run(&api, "start --symbol BTCUSDT --type api_candles_1m").await;
    let other = api.seen()[2].header("idempotency-key");
    assert!(other.is_some() && other != keys[0], "each call has its own");
}

#[tokio::test]
async fn every_refusal_has_its_words_and_its_exit_code() {
    let fields = json!({"errors": [
        {"field": "symbol", "found": "NOSUCHPAIR", "expected": "a symbol that the exchange has"},
        {"field": "time_range", "found": "nothing", "expected": "a range"},
    ]});
    for (says, code, words) in [
        (
            Says::refused(401, "a bearer token is needed", 0),
            77,
            vec!["QUEUE_MANAGER_TOKEN", "--token-file"],
        ),
        (
            Says::refused(403, "this token may only read", 0),
            77,
            vec!["may only read", "full rights"],
        ),
        (
            Says::refused(404, "there is no queue", 0),
            1,
            vec!["there is no queue", "streamforge queue list"],
        ),
        (
            Says::Json(
                409,
                envelope("error", "it has not ended: stop it", json!({})),
                None,
            ),
            1,
            vec!["stop it"],
        ),
        (
            Says::Json(
                422,
                envelope("error", "the request is not valid", fields),
                None,
            ),
            2,
            vec![
                "the request is not valid",
                "\n  symbol: found NOSUCHPAIR, expected a symbol that the exchange has\n",
                "\n  time_range: found nothing, expected a range\n",
            ],
        ),
        (
            Says::Json(500, envelope("error", "an internal error", json!({})), None),
            1,
            vec!["an internal error", "500"],
        ),
        (
            Says::refused(503, "the database can't be reached at the moment", 60),
            69,
            vec!["the database"],
        ),
        (
            Says::Html(404),
            1,
            vec!["404", "does not speak as queue-manager does", "--url"],
        ),
        (
            Says::Html(200),
            1,
            vec!["does not speak as queue-manager does"],
        ),
        (Says::Html(502), 69, vec!["502"]),
        (Says::Redirect, 1, vec!["302"]),
        (Says::Nothing, 69, vec!["no answer in time", "--url"]),
    ] {
        let api = Api::start().await;
        api.on(&format!("POST /queues/{ID}/retry"), [says]);
        let ended = run(&api, &format!("retry {ID} --timeout 1")).await;
        for words in words {
            assert!(
                ended.stderr.contains(words),
                "{words:?} is not in {}",
                ended.stderr
            );
        }
        assert_eq!(ended.stdout, "");
        ended.assert_code(code);
    }
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address_and_what_to_do() {
    let ended = ends(command("http://127.0.0.1:1", "list")).await;
    ended.assert_code(69);
    for words in ["http://127.0.0.1:1/", "streamforge up", "QUEUE_MANAGER_URL"] {
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_token_comes_from_the_environment_or_a_file_and_is_never_shown() {
    let api = Api::start().await;
    api.on(
        "GET /queues",
        [Says::refused(401, "a bearer token is needed", 0)],
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret-file\n").unwrap();
    let mut by_env = command(api.url(), "list");
    by_env.env("QUEUE_MANAGER_TOKEN", "s3cret-env");
    let by_file = format!("list --token-file {}", file.path().display());
    let mut remote = command("http://qm.example:8080", "list");
    remote.env("QUEUE_MANAGER_TOKEN", "s3cret-env");
    for (command, code) in [
        (by_env, 77),
        (command(api.url(), &by_file), 77),
        (remote, 2),
    ] {
        let ended = ends(command).await;
        ended.assert_code(code);
        assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
    }
    let sent: Vec<_> = api
        .seen()
        .iter()
        .map(|it| it.header("authorization"))
        .collect();
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    assert_eq!(sent, [bearer("s3cret-env"), bearer("s3cret-file")]);
}

#[tokio::test]
async fn a_list_follows_its_pages() {
    let api = Api::start().await;
    let page = |ids: &[&str], next: Option<&str>| {
        let queues: Vec<_> = ids
            .iter()
            .map(|id| workflow(json!({"queue_id": id})))
            .collect();
        Says::data(200, json!({"queues": queues, "next_cursor": next}))
    };
    let pages = || {
        [
            page(&["wf-a-1", "wf-b-2"], Some("c1")),
            page(&["wf-c-3"], None),
        ]
    };
    api.on("GET /queues", pages());
    let ended = run(
        &api,
        "list --all --json --status running,stalled --symbol BTCUSDT",
    )
    .await;
    ended.assert_code(0);
    let ids: Vec<_> = ended
        .json_lines()
        .iter()
        .map(|it| it["queue_id"].clone())
        .collect();
    assert_eq!(ids, ["wf-a-1", "wf-b-2", "wf-c-3"]);
    let first = "limit=500&status=running%2Cstalled&symbol=BTCUSDT";
    let queries: Vec<_> = api.seen().into_iter().map(|it| it.query).collect();
    assert_eq!(queries, [first.to_owned(), format!("{first}&cursor=c1")]);

    api.on("GET /queues", pages());
    let ended = run(&api, "list").await;
    ended.assert_code(0);
    assert_eq!(
        ended.stdout.lines().count(),
        3,
        "headings and a page: {}",
        ended.stdout
    );
    assert!(!ended.stdout.contains('\u{1b}'), "no colour off a terminal");
    assert!(ended.stderr.contains("--cursor c1"), "{}", ended.stderr);
}

#[tokio::test]
async fn the_last_part_of_an_id_is_enough() {
    let api = Api::start().await;
    let other = workflow(json!({"queue_id": "wf-ethusdt-dummy-20240801-xyz789"}));
    let queues = json!({"queues": [workflow(json!({})), other], "next_cursor": null});
    api.on("GET /queues", [Says::data(200, queues)]);
    api.on(
        &format!("GET /queues/{ID}"),
        [Says::data(200, workflow(json!({})))],
    );
    let ended = run(&api, "show abc123").await;
    ended.assert_code(0);
    for words in [ID, "arango-candles__abc123", "45.1 %", "Follow it"] {
        assert!(
            ended.stdout.contains(words),
            "{words} is not in {}",
            ended.stdout
        );
    }
    let json = run(&api, "show abc123 --json").await;
    assert_eq!(json.json_lines(), [workflow(json!({}))], "as it came");
    let ended = run(&api, "show nosuch").await;
    ended.assert_code(1);
    assert!(ended.stderr.contains("nosuch"), "{}", ended.stderr);
}

#[tokio::test]
async fn retry_and_delete_say_what_queue_manager_says() {
    let api = Api::start().await;
    let taken = envelope(
        "success",
        &format!("run 2 of {ID} was taken on"),
        workflow(json!({"run": 2})),
    );
    api.on(
        &format!("POST /queues/{ID}/retry"),
        [Says::Json(202, taken, None)],
    );
    let removing = envelope(
        "success",
        &format!("{ID} is being removed"),
        workflow(json!({})),
    );
    api.on(
        &format!("DELETE /queues/{ID}"),
        [Says::Json(202, removing, None)],
    );
    let retried = run(&api, &format!("retry {ID}")).await;
    retried.assert_code(0);
    assert_eq!(retried.stdout, format!("run 2 of {ID} was taken on\n"));
    let deleted = run(&api, &format!("delete {ID} --force")).await;
    deleted.assert_code(0);
    assert_eq!(deleted.stdout, format!("{ID} is being removed\n"));
    let seen = api.seen();
    assert!(seen[0].header("idempotency-key").is_some());
    assert_eq!(seen[1].query, "force=true");
    let runs = envelope("error", "it has not ended", json!({}));
    api.on(
        &format!("DELETE /queues/{ID}"),
        [Says::Json(409, runs, None)],
    );
    let refused = run(&api, &format!("delete {ID}")).await;
    refused.assert_code(1);
    let advice = format!("streamforge queue delete {ID} --force");
    assert!(refused.stderr.contains(&advice), "{}", refused.stderr);
}

#[tokio::test]
async fn events_that_are_followed_come_once_each() {
    let api = Api::start().await;
    let event = |seq: u64, kind: &str| {
        json!({"stored_at": 1, "event": {"queue_id": ID, "producer": "loader-api-candles__abc123", "instance": "018f",
            "seq": seq, "run": 1, "event": kind, "message": format!("number {seq}"), "timestamp": 1_722_470_700.25}})
    };
    let page = |events: &[Value], next: Option<&str>| {
        Says::data(200, json!({"events": events, "next_cursor": next}))
    };
    let runs = || Says::data(200, workflow(json!({})));
    api.on(
        &format!("GET /queues/{ID}"),
        [runs(), runs(), Says::data(200, ended("finished"))],
    );
    let first = event(1, "started");
    api.on(
        &format!("GET /queues/{ID}/events"),
        [
            page(&[], None),
            page(std::slice::from_ref(&first), None),
            page(&[first, event(2, "loading")], Some("c1")),
            page(&[event(3, "finished")], None),
        ],
    );
    let ended = run(&api, &format!("events {ID} --follow")).await;
    ended.assert_code(0);
    let numbers: Vec<_> = ended
        .stdout
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(numbers, ["1", "2", "3"], "{}", ended.stdout);
}

#[tokio::test]
async fn logs_are_told_apart_and_none_is_a_failure() {
    let api = Api::start().await;
    let log = |part: &str, lines: Value| json!({"part": part, "job_name": format!("job-{part}"), "lines": lines});
    let path = format!("GET /queues/{ID}/logs");
    api.on(
        &format!("GET /queues/{ID}"),
        [Says::data(200, workflow(json!({})))],
    );
    api.on(
        &path,
        [Says::data(
            200,
            json!({"logs": [
        log("loader", json!(["one", "two\u{1b}[2J"])), log("writer", Value::Null)]}),
        )],
    );
    let ended = run(&api, &format!("logs {ID}")).await;
    ended.assert_code(0);
    assert_eq!(
        ended.stdout,
        "==> loader (job-loader) <==\none\ntwo\u{fffd}[2J\n"
    );
    assert!(
        ended.stderr.contains("writer has no log"),
        "{}",
        ended.stderr
    );
    api.on(
        &path,
        [Says::data(
            200,
            json!({"logs": [log("writer", Value::Null)]}),
        )],
    );
    let ended = run(&api, &format!("logs {ID} --part arango-candles --lines 5")).await;
    ended.assert_code(1);
    assert_eq!(
        api.seen().last().unwrap().query,
        "lines=5&part=arango-candles__abc123"
    );
}

#[tokio::test]
async fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_streamforge"));
        command.args(["completions", shell]).env_clear();
        let ended = ends(command).await;
        ended.assert_code(0);
        for words in ["queue", "watch", "give-up-after"] {
            assert!(ended.stdout.contains(words), "{words} is not for {shell}");
        }
    }
}
