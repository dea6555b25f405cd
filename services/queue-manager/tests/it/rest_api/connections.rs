//! Clients that are slow, or say nothing, and those that want to be served beside them.

use std::time::Duration;

use axum::{Router, body::Body, routing::get};
use futures::stream;
use queue_manager::connections::{Bounds, Server};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{connect_async, tungstenite::Message};
use tokio_util::sync::CancellationToken;

use super::rig::{Rig, Settings};

/// Longer than a busy machine needs for anything here.
const PATIENCE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(3_600);
const REQUEST: &[u8] = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Bounds of which none matters.
fn wide() -> Bounds {
    Bounds {
        connections: 64,
        head: LONG,
        idle: LONG,
        write: LONG,
    }
}

async fn rig(bounds: Bounds) -> Rig {
    let settings = Settings {
        bounds,
        own_health: true,
        ..Settings::default()
    };
    Rig::start_with(settings).await
}

async fn connect(url: &str) -> TcpStream {
    TcpStream::connect(url.trim_start_matches("http://"))
        .await
        .unwrap()
}

/// A client that begins a request, and says no more.
async fn half_sent(rig: &Rig) -> TcpStream {
    let mut stream = connect(&rig.url).await;
    stream.write_all(&REQUEST[..20]).await.unwrap();
    stream
}

/// Everything until the server closes the connection.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset is an end, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut all))
        .await
        .unwrap();
    String::from_utf8(all).unwrap()
}

/// The head of an answer, whose body may follow.
async fn answer(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut bytes = [0; 4_096];
    while !all.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = timeout(PATIENCE, stream.read(&mut bytes)).await.unwrap();
        let count = count.unwrap();
        assert!(
            count > 0,
            "closed after {:?}",
            String::from_utf8_lossy(&all)
        );
        all.extend_from_slice(&bytes[..count]);
    }
    String::from_utf8(all).unwrap()
}

async fn open_connections(rig: &Rig) -> i64 {
    let metrics = reqwest::get(format!("{}/metrics", rig.health_url)).await;
    let metrics = metrics.unwrap().text().await.unwrap();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("streamforge_manager_connections "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_head_that_is_not_complete_in_time_ends_its_connection() {
    let head = Duration::from_millis(300);
    let rig = rig(Bounds { head, ..wide() }).await;
    let mut silent = connect(&rig.url).await;
    let mut half = half_sent(&rig).await;
    // One that says a little again and again has no longer.
    let mut dripping = half_sent(&rig).await;
    let drips = async {
        while dripping.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, drips).await.unwrap();
    assert_eq!(until_closed(&mut half).await, "");
    assert_eq!(until_closed(&mut silent).await, "");
    // A second request of a connection has no longer than the first.
    let mut second = connect(&rig.url).await;
    second.write_all(REQUEST).await.unwrap();
    answer(&mut second).await;
    sleep(head * 3).await;
    second.write_all(REQUEST).await.unwrap();
    answer(&mut second).await;
    second.write_all(&REQUEST[..20]).await.unwrap();
    assert_eq!(until_closed(&mut second).await, "");
}

#[tokio::test]
async fn a_connection_without_requests_ends() {
    let idle = Duration::from_millis(300);
    let rig = rig(Bounds { idle, ..wide() }).await;
    let mut stream = connect(&rig.url).await;
    stream.write_all(REQUEST).await.unwrap();
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 404"));
    let began = Instant::now();
    until_closed(&mut stream).await;
    assert!(began.elapsed() < PATIENCE / 2);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_left() {
    let write = Duration::from_millis(300);
    let endless = || async {
        let chunks = stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 65_536]));
        Body::from_stream(chunks)
    };
    let router = Router::new().route("/", get(endless));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = listener.local_addr().unwrap().to_string();
    let open = prometheus::IntGauge::new("open", "in a test").unwrap();
    let server = Server::new(listener, router, Bounds { write, ..wide() }, open.clone());
    tokio::spawn(server.run(CancellationToken::new()));
    let mut stream = connect(&url).await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    answer(&mut stream).await;
    let left = async {
        while open.get() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, left).await.unwrap();
}

#[tokio::test]
async fn probes_are_answered_while_the_api_is_full() {
    let bounds = Bounds {
        connections: 3,
        ..wide()
    };
    let rig = rig(bounds).await;
    rig.readiness.set_started();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(half_sent(&rig).await);
    }
    while open_connections(&rig).await < 3 {
        sleep(Duration::from_millis(10)).await;
    }
    let mut waiting = connect(&rig.url).await;
    waiting.write_all(REQUEST).await.unwrap();
    let mut byte = [0];
    let answered = timeout(Duration::from_millis(300), waiting.read(&mut byte)).await;
    assert!(answered.is_err(), "it should wait");
    for path in [
        "/health/live",
        "/health/ready",
        "/health/startup",
        "/metrics",
    ] {
        // The best of some, as the machine may be busy with other things.
        let mut took = PATIENCE;
        for _ in 0..10 {
            let began = Instant::now();
            let mut probe = connect(&rig.health_url).await;
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            probe.write_all(request.as_bytes()).await.unwrap();
            assert!(
                answer(&mut probe).await.starts_with("HTTP/1.1 200"),
                "{path}"
            );
            took = took.min(began.elapsed());
        }
        assert!(took < Duration::from_secs(1), "{path}: {took:?}");
    }
    assert_eq!(open_connections(&rig).await, 3);
    // Once one of the others is gone, it is served.
    held.pop();
    answer(&mut waiting).await;
}

#[tokio::test]
async fn a_full_api_closes_who_asks_nothing() {
    let bounds = Bounds {
        connections: 2,
        ..wide()
    };
    let rig = rig(bounds).await;
    let mut asked = Vec::new();
    for _ in 0..5 {
        let mut stream = connect(&rig.url).await;
        stream.write_all(REQUEST).await.unwrap();
        answer(&mut stream).await;
        asked.push(stream);
    }
    // All that were idle have made room.
    assert!((1..=2).contains(&open_connections(&rig).await));
    until_closed(&mut asked[0]).await;
}

#[tokio::test]
async fn a_stream_keeps_its_connection_and_its_place() {
    let bounds = Bounds {
        connections: 64,
        head: Duration::from_millis(200),
        idle: Duration::from_millis(200),
        write: Duration::from_millis(200),
    };
    let rig = rig(bounds).await;
    let url = format!("{}/ws/queues", rig.url.replacen("http", "ws", 1));
    let (mut socket, _) = connect_async(url).await.unwrap();
    let mut events = connect(&rig.url).await;
    let request = b"GET /queues/stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    events.write_all(request).await.unwrap();
    answer(&mut events).await;
    sleep(Duration::from_millis(800)).await;
    assert_eq!(open_connections(&rig).await, 2);
    let id = rig.started().await;
    let told = async {
        use futures::StreamExt;
        loop {
            let message = socket.next().await.unwrap().unwrap();
            let Message::Text(text) = message else {
                continue;
            };
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["queue"]["queue_id"] == id.as_str() {
                return;
            }
        }
    };
    timeout(PATIENCE, told).await.unwrap();
    let mut told = String::new();
    while !told.contains(id.as_str()) {
        let mut bytes = [0; 4_096];
        let count = timeout(PATIENCE, events.read(&mut bytes)).await.unwrap();
        told.push_str(&String::from_utf8_lossy(&bytes[..count.unwrap()]));
    }
}

#[tokio::test]
async fn what_has_its_own_listener_is_nowhere_else() {
    let rig = rig(wide()).await;
    for path in ["/health/live", "/metrics"] {
        let at_api = reqwest::get(format!("{}{path}", rig.url)).await.unwrap();
        assert_eq!(at_api.status(), 404, "{path}");
        let own = reqwest::get(format!("{}{path}", rig.health_url)).await;
        assert_eq!(own.unwrap().status(), 200, "{path}");
    }
    let queues = reqwest::get(format!("{}/queues", rig.health_url)).await;
    assert_eq!(queues.unwrap().status(), 404);
}

#[tokio::test]
async fn a_server_that_ends_answers_what_it_has_begun() {
    let slow = || async {
        sleep(Duration::from_millis(500)).await;
        "done"
    };
    let router = Router::new().route("/slow", get(slow));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = listener.local_addr().unwrap().to_string();
    let open = prometheus::IntGauge::new("open", "in a test").unwrap();
    let stop = CancellationToken::new();
    let server = Server::new(listener, router, wide(), open.clone());
    let server = tokio::spawn(server.run(stop.clone()));
    let mut begun = connect(&url).await;
    begun
        .write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut idle = connect(&url).await;
    idle.write_all(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    answer(&mut idle).await;
    sleep(Duration::from_millis(100)).await;
    stop.cancel();
    assert!(until_closed(&mut begun).await.ends_with("done"));
    until_closed(&mut idle).await;
    timeout(PATIENCE, server).await.unwrap().unwrap();
    assert!(TcpStream::connect(&url).await.is_err());
}
