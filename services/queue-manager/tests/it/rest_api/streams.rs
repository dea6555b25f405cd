//! Being told of changes, over both kinds of stream.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use queue_manager::state::Workflow;
use reqwest::Method;
use serde_json::Value;
use streamforge_utils::protocol::{QueueId, TimestampMs};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest},
};

use super::rig::{FULL, READ, Rig, Settings};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Longer than a busy machine needs for anything here.
const PATIENCE: Duration = Duration::from_secs(60);

async fn connect(rig: &Rig, path: &str, protocol: Option<&str>) -> Result<Socket, u16> {
    let url = format!("{}{path}", rig.url.replacen("http", "ws", 1));
    let mut request = url.into_client_request().unwrap();
    if let Some(protocol) = protocol {
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", protocol.parse().unwrap());
    }
    match connect_async(request).await {
        Ok((socket, answer)) => {
            let chosen = answer.headers().get("sec-websocket-protocol");
            let chosen = chosen.map(|it| it.to_str().unwrap());
            assert_eq!(chosen, protocol.map(|_| "bearer"));
            Ok(socket)
        }
        Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// The next message that is text.
async fn next(socket: &mut Socket) -> Value {
    let next = async {
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    };
    timeout(PATIENCE, next).await.unwrap()
}

/// The first message that is like this; what came before may be a state in between.
async fn until(socket: &mut Socket, is_it: impl Fn(&Value) -> bool) -> Value {
    loop {
        let message = next(socket).await;
        if is_it(&message) {
            return message;
        }
    }
}

async fn stop(rig: &Rig, id: &QueueId) {
    rig.change(id, |workflow| {
        workflow.request_stop(false, "a test", TimestampMs::now());
    })
    .await;
}

#[tokio::test]
async fn one_queue_is_told_with_its_workers_until_it_is_gone() {
    let rig = Rig::start().await;
    let id = rig.started().await;
    let path = format!("/ws/queues?queue_id={id}");
    let mut socket = connect(&rig, &path, None).await.unwrap();
    let snapshot = next(&mut socket).await;
    assert_eq!(snapshot["type"], "snapshot");
    assert_eq!(snapshot["queues"][0]["queue_id"], id.as_str());
    assert!(snapshot["queues"][0]["parts"].is_array());
    // By the store alone, as if another replica had done it.
    stop(&rig, &id).await;
    let is_over = |it: &Value| it["queue"]["status"] == "interrupted";
    let change = until(&mut socket, is_over).await;
    assert_eq!(change["type"], "change");
    rig.store.workflows::<Workflow>().remove(&id).await.unwrap();
    let deleted = until(&mut socket, |it| it["type"] == "deleted").await;
    assert_eq!(deleted["queue_id"], id.as_str());
    let end = timeout(PATIENCE, socket.next()).await.unwrap();
    assert!(
        matches!(end, Some(Ok(Message::Close(Some(frame)))) if frame.reason == "the queue is gone")
    );
}

#[tokio::test]
async fn all_queues_are_told_new_changed_and_gone() {
    let rig = Rig::start().await;
    let old = rig.started().await;
    let over = rig.started().await;
    stop(&rig, &over).await;
    let mut socket = connect(&rig, "/ws/queues", None).await.unwrap();
    let snapshot = next(&mut socket).await;
    assert_eq!(snapshot["queues"].as_array().unwrap().len(), 1);
    assert_eq!(snapshot["queues"][0]["queue_id"], old.as_str());
    assert!(snapshot["queues"][0].get("parts").is_none());
    let new = rig.started().await;
    until(&mut socket, |it| it["queue"]["queue_id"] == new.as_str()).await;
    let path = format!("/queues/{new}?force=true");
    let removal = rig.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(removal.status(), 202);
    let is_removal = |it: &Value| it["queue"]["removal"]["by"] == "loopback";
    until(&mut socket, is_removal).await;
    rig.store
        .workflows::<Workflow>()
        .remove(&new)
        .await
        .unwrap();
    until(&mut socket, |it| it["type"] == "deleted").await;
}

#[tokio::test]
async fn a_ping_is_answered_and_words_are_ignored() {
    let rig = Rig::start().await;
    let mut socket = connect(&rig, "/ws/queues", None).await.unwrap();
    socket.send(Message::Text("hello".into())).await.unwrap();
    socket.send(Message::Ping("x".into())).await.unwrap();
    let answered = async {
        loop {
            if let Message::Pong(said) = socket.next().await.unwrap().unwrap() {
                return said;
            }
        }
    };
    assert_eq!(timeout(PATIENCE, answered).await.unwrap(), "x");
}

#[tokio::test]
async fn a_browser_brings_its_token_as_a_subprotocol() {
    let settings = Settings {
        with_tokens: true,
        ..Settings::default()
    };
    let rig = Rig::start_with(settings).await;
    let good = format!("bearer, {READ}");
    assert!(connect(&rig, "/ws/queues", Some(&good)).await.is_ok());
    let bad = connect(&rig, "/ws/queues", Some("bearer, guessed")).await;
    assert_eq!(bad.err(), Some(401));
    assert_eq!(connect(&rig, "/ws/queues", None).await.err(), Some(401));
    let in_the_query = format!("/ws/queues?token={READ}");
    assert_eq!(connect(&rig, &in_the_query, None).await.err(), Some(401));
}

#[tokio::test]
async fn server_sent_events_say_the_same() {
    let rig = Rig::start().await;
    let id = rig.started().await;
    let path = format!("/queues/stream?queue_id={id}");
    let mut stream = rig.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while !text.contains("\n\n") {
        let chunk = timeout(PATIENCE, stream.chunk()).await.unwrap();
        text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
    }
    assert!(text.contains("event: snapshot\n"), "{text}");
    stop(&rig, &id).await;
    while !text.contains("event: change\n") || !text.contains("\"interrupted\"") {
        let chunk = timeout(PATIENCE, stream.chunk()).await.unwrap();
        text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
    }
}

/// Comes back with the code with which the server closed it.
async fn closed(socket: &mut Socket) -> u16 {
    let closing = async {
        loop {
            if let Message::Close(frame) = socket.next().await.unwrap().unwrap() {
                return frame.unwrap().code.into();
            }
        }
    };
    timeout(PATIENCE, closing).await.unwrap()
}

#[tokio::test]
async fn streams_of_a_revoked_token_are_closed() {
    let settings = Settings {
        with_tokens: true,
        ..Settings::default()
    };
    let rig = Rig::start_with(settings).await;
    let tokens = rig.folder.path().join("tokens");
    let both = std::fs::read_to_string(&tokens).unwrap();
    let protocol = |token: &str| format!("bearer, {token}");
    let connected = async |token: &str| {
        let socket = connect(&rig, "/ws/queues", Some(&protocol(token))).await;
        let mut socket = socket.unwrap();
        next(&mut socket).await;
        socket
    };
    let (mut reads, mut may_all) = (connected(READ).await, connected(FULL).await);
    // One line goes: the other token is not touched.
    let one: String = both
        .lines()
        .filter(|line| line.starts_with("ops"))
        .collect();
    std::fs::write(&tokens, format!("{one}\n")).unwrap();
    assert_eq!(closed(&mut reads).await, 1008);
    let again = connect(&rig, "/ws/queues", Some(&protocol(READ))).await;
    assert_eq!(again.err(), Some(401));
    let id = rig.started().await;
    until(&mut may_all, |it| it["queue"]["queue_id"] == id.as_str()).await;
    let mut events = rig
        .request(Method::GET, "/queues/stream")
        .send()
        .await
        .unwrap();
    // All go.
    std::fs::write(&tokens, "").unwrap();
    assert_eq!(closed(&mut may_all).await, 1008);
    let ended = async { while events.chunk().await.unwrap().is_some() {} };
    timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(rig.get("/queues").await.code, 401);
    // And are taken away with their file.
    std::fs::write(&tokens, &both).unwrap();
    let let_in = async {
        while rig.get("/queues").await.code != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, let_in).await.unwrap();
    let mut reads = connected(READ).await;
    std::fs::remove_file(&tokens).unwrap();
    assert_eq!(closed(&mut reads).await, 1008);
    assert_eq!(rig.get("/queues").await.code, 401);
}

#[tokio::test]
async fn a_token_beyond_its_share_never_keeps_another_one_out() {
    let settings = Settings {
        with_tokens: true,
        streams: 4,
        ..Settings::default()
    };
    let rig = Rig::start_with(settings).await;
    let connected = async |token: &str| {
        let protocol = format!("bearer, {token}");
        connect(&rig, "/ws/queues", Some(&protocol)).await
    };
    let mut greedy = Vec::new();
    for _ in 0..4 {
        greedy.push(connected(FULL).await.unwrap());
    }
    assert_eq!(connected(FULL).await.err(), Some(503), "all are taken");
    let mut first = connected(READ).await.unwrap();
    assert_eq!(next(&mut first).await["type"], "snapshot");
    assert_eq!(closed(greedy.last_mut().unwrap()).await, 1013);
    let mut second = connected(READ).await.unwrap();
    next(&mut second).await;
    assert_eq!(connected(READ).await.err(), Some(503), "it has its share");
    assert_eq!(closed(&mut greedy[2]).await, 1013);
    // The others of the first token go on.
    let id = rig.started().await;
    for socket in greedy[..2].iter_mut().chain([&mut first, &mut second]) {
        until(socket, |it| it["queue"]["queue_id"] == id.as_str()).await;
    }
}

#[tokio::test]
async fn one_stream_tells_of_several_queues() {
    let rig = Rig::start().await;
    let (one, two, other) = (
        rig.started().await,
        rig.started().await,
        rig.started().await,
    );
    let missing = "wf-btcusdt-dummy-20240801-abc123";
    let path = format!("/ws/queues?queue_id={one},{missing}&queue_id={two}");
    let mut socket = connect(&rig, &path, None).await.unwrap();
    let snapshot = next(&mut socket).await;
    let queues = snapshot["queues"].as_array().unwrap();
    let ids: Vec<_> = queues
        .iter()
        .map(|it| it["queue_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [one.as_str(), two.as_str()]);
    assert!(queues[0]["parts"].is_array());
    let deleted = next(&mut socket).await;
    assert_eq!(deleted["type"], "deleted");
    assert_eq!(deleted["queue_id"], missing);
    for id in [&other, &two, &one] {
        stop(&rig, id).await;
    }
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let message = next(&mut socket).await;
        let queue = &message["queue"];
        assert_ne!(queue["queue_id"], other.as_str());
        if queue["status"] == "interrupted" {
            ended.push(queue["queue_id"].as_str().unwrap().to_owned());
        }
    }
    ended.sort();
    let mut both = [one.to_string(), two.to_string()];
    both.sort();
    assert_eq!(ended, both);
    let many: Vec<String> = (0..101).map(|nth| format!("wf-{nth}")).collect();
    let answer = rig
        .get(&format!("/queues/stream?queue_id={}", many.join(",")))
        .await;
    assert_eq!(answer.code, 422);
}
