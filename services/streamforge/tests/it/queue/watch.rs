//! Watching, and waiting: what ends it, and what does not.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::Child;

use super::{
    Ended, ID,
    api::{Api, Says, ended, envelope, workflow},
    command, run,
};
use crate::process::LIMIT;

#[tokio::test]
async fn watching_ends_with_the_workflow_and_says_how_it_ended() {
    for (status, code, next) in [
        ("finished", 0, ""),
        ("error", 1, "streamforge queue retry"),
        ("interrupted", 3, "streamforge queue retry"),
    ] {
        let api = Api::start().await;
        let part = |queue: Value| json!({"type": "change", "queue": queue});
        api.on(
            &format!("GET /queues/{ID}"),
            [Says::data(200, workflow(json!({})))],
        );
        api.on(
            "GET /queues/stream",
            [Says::stream([
                json!({"type": "snapshot", "queues": [workflow(json!({}))], "more": false}),
                part(workflow(
                    json!({"status": "stalled", "reason": "nothing was heard of it"}),
                )),
                part(ended(status)),
            ])],
        );
        let ended = run(&api, &format!("watch {ID}")).await;
        ended.assert_code(code);
        assert!(
            ended.stderr.contains("stalled: nothing was heard of it"),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains(next), "{}", ended.stderr);
        let result = format!("{ID} {status}: 100.0 %, 44,640 of 44,640 records in 5 min");
        assert!(ended.stdout.starts_with(&result), "{}", ended.stdout);
        assert_eq!(api.seen().last().unwrap().query, format!("queue_id={ID}"));
    }
}

#[tokio::test]
async fn who_waits_sees_the_row_get_shorter() {
    let api = Api::start().await;
    let pending = |before: u32| {
        let turn = json!({"before": before, "waits_for": "exchange", "limit": 4});
        workflow(json!({"status": "pending", "admitted_at": null, "totals": {}, "turn": turn}))
    };
    let mut untold = pending(0);
    untold.as_object_mut().unwrap().remove("turn");
    api.on(
        &format!("GET /queues/{ID}"),
        [
            Says::data(200, pending(2)),
            Says::data(200, pending(1)),
            Says::data(200, ended("finished")),
        ],
    );
    // It has nothing to say of the row, and stays.
    let snapshot = json!({"type": "snapshot", "queues": [untold], "more": false});
    api.on("GET /queues/stream", [Says::stream([snapshot])]);
    let ended = run(&api, &format!("watch {ID}")).await;
    ended.assert_code(0);
    let lines: Vec<&str> = ended
        .stderr
        .lines()
        .filter(|line| line.contains("pending"))
        .collect();
    let line = |place: &str| {
        format!(
            "{ID}: pending: waits for its turn, {place}: 4 loaders ask the exchange at a time (MAX_LOADERS)"
        )
    };
    assert_eq!(lines, [line("2 before it"), line("1 before it")]);
}

#[tokio::test]
async fn watching_goes_on_when_the_stream_breaks_and_nobody_answers_for_a_while() {
    let api = Api::start().await;
    let runs = || Says::data(200, workflow(json!({})));
    let snapshot = json!({"type": "snapshot", "queues": [workflow(json!({}))], "more": false});
    api.on(
        "GET /queues/stream",
        [Says::broken([snapshot]), Says::Html(404)],
    );
    api.on(
        &format!("GET /queues/{ID}"),
        [
            runs(),
            Says::refused(503, "the database can't be reached at the moment", 30),
            Says::refused(503, "the database can't be reached at the moment", 30),
            runs(),
            Says::data(200, ended("finished")),
        ],
    );
    let ended = run(&api, &format!("watch {ID}")).await;
    ended.assert_code(0);
    let said = &ended.stderr;
    assert_eq!(said.matches("asking on").count(), 1, "told once: {said}");
    assert!(said.contains("answers again"), "{said}");
    let streams = api
        .seen()
        .iter()
        .filter(|it| it.path == "/queues/stream")
        .count();
    assert!(streams >= 2, "it tries to have the stream again");
}

#[tokio::test]
async fn watching_gives_up_when_nobody_answers_for_too_long() {
    let api = Api::start().await;
    api.on("GET /queues/stream", [Says::Html(404)]);
    let away = Says::refused(503, "the database can't be reached at the moment", 30);
    api.on(
        &format!("GET /queues/{ID}"),
        [Says::data(200, workflow(json!({}))), away],
    );
    let ended = run(&api, &format!("watch {ID} --give-up-after 1")).await;
    ended.assert_code(69);
    assert!(
        ended.stderr.contains("the database can't be reached"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn a_workflow_that_is_deleted_while_it_is_watched_is_a_failure() {
    let api = Api::start().await;
    api.on(
        &format!("GET /queues/{ID}"),
        [Says::data(200, workflow(json!({})))],
    );
    let deleted = json!({"type": "deleted", "queue_id": ID});
    api.on("GET /queues/stream", [Says::stream([deleted])]);
    let ended = run(&api, &format!("watch {ID} --json")).await;
    ended.assert_code(1);
    assert!(ended.stderr.contains("was deleted"), "{}", ended.stderr);
    assert_eq!(ended.json_lines().len(), 1);
}

#[tokio::test]
async fn ctrl_c_ends_the_watching_and_not_the_workflow() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let api = Api::start().await;
        api.on(
            &format!("GET /queues/{ID}"),
            [Says::data(200, workflow(json!({})))],
        );
        let snapshot = json!({"type": "snapshot", "queues": [workflow(json!({}))], "more": false});
        api.on("GET /queues/stream", [Says::stream([snapshot])]);
        let child = command(api.url(), &format!("watch {ID}")).spawn().unwrap();
        api.wait_for("GET", "/queues/stream").await;
        signal_to(&child, signal);
        let ended = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
        let ended = Ended::from(ended.unwrap().unwrap());
        ended.assert_code(code);
        assert!(
            ended.stderr.contains("the workflows go on"),
            "{}",
            ended.stderr
        );
        assert!(
            api.seen().iter().all(|it| it.method == "GET"),
            "nothing was changed"
        );
    }
}

fn signal_to(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn a_stop_that_waits_ends_well_when_the_workflow_was_stopped() {
    for (status, code) in [("interrupted", 0), ("finished", 0), ("error", 1)] {
        let api = Api::start().await;
        let stopping = envelope(
            "success",
            &format!("{ID} is being stopped"),
            workflow(json!({})),
        );
        api.on("POST /queues/stop", [Says::Json(202, stopping, None)]);
        api.on("GET /queues/stream", [Says::Html(404)]);
        api.on(
            &format!("GET /queues/{ID}"),
            [
                Says::data(200, workflow(json!({}))),
                Says::data(200, ended(status)),
            ],
        );
        let ended = run(&api, &format!("stop {ID} --drain --wait --json")).await;
        ended.assert_code(code);
        assert_eq!(ended.json_lines()[0]["status"], status);
        assert_eq!(api.seen()[0].body, json!({"queue_id": ID, "drain": true}));
    }
}

#[tokio::test]
async fn one_stream_tells_of_all_that_are_watched() {
    const OTHER: &str = "wf-ethusdt-api_candles_1m-20240801-def456";
    let api = Api::start().await;
    let of = |id: &str, mut state: Value| {
        state["queue_id"] = json!(id);
        state
    };
    for id in [ID, OTHER] {
        // Who comes when the stream is open already asks once more.
        let asked = [
            Says::data(200, of(id, workflow(json!({})))),
            Says::data(200, of(id, ended("finished"))),
        ];
        api.on(&format!("GET /queues/{id}"), asked);
    }
    let both = [ID, OTHER].map(|id| of(id, workflow(json!({}))));
    let change = |id: &str| json!({"type": "change", "queue": of(id, ended("finished"))});
    api.on(
        "GET /queues/stream",
        [Says::stream([
            json!({"type": "snapshot", "queues": both, "more": false}),
            change(OTHER),
            change(ID),
        ])],
    );
    let ended = run(&api, &format!("watch {ID} {OTHER}")).await;
    ended.assert_code(0);
    for id in [ID, OTHER] {
        let line = format!("{id} finished: ");
        assert!(ended.stdout.contains(&line), "{}", ended.stdout);
    }
    let seen = api.seen();
    let mut streams = seen.iter().filter(|it| it.path == "/queues/stream");
    let query = &streams.next().unwrap().query;
    assert!(query.contains(ID) && query.contains(OTHER), "{query}");
    assert!(streams.next().is_none(), "a second stream was opened");
}
