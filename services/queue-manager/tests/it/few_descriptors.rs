//! A queue-manager of few file descriptors, under clients that never finish a request.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use queue_manager::{
    state::{Status, Workflow},
    store::Store,
};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::SecretString;
use serde_json::json;
use streamforge_arango::{ArangoConfig, AuthMode, Database, Retry, Session};
use streamforge_devstack::{arango::ArangoServer, kafka::Broker};
use streamforge_utils::protocol::QueueId;
use tokio::{io::AsyncWriteExt, net::TcpStream, process::Command, time::Instant};

const PASSWORD: &str = "correct horse";
const DATABASE: &str = "streamforge";
const LIMIT: Duration = Duration::from_secs(120);
/// More than the process has descriptors.
const CLIENTS: usize = 300;

fn store(arango: &ArangoServer) -> Store {
    let config = ArangoConfig {
        url: arango.url().parse().unwrap(),
        database: DATABASE.to_owned(),
        user: "root".to_owned(),
        password: SecretString::from(PASSWORD),
        ca_path: None,
        auth: AuthMode::Jwt,
    };
    let session = Arc::new(Session::new(&config, LIMIT).unwrap());
    let retry = Arc::new(Retry::new(LIMIT));
    Store::new(Database::new(session, retry, DATABASE))
}

fn free_address() -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    port.local_addr().unwrap().to_string()
}

/// Comes back with the first that succeeds.
async fn until<T>(what: &str, log: &std::path::Path, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        let said = || fs::read_to_string(log).unwrap_or_default();
        assert!(begun.elapsed() < LIMIT, "not until {what}:\n{}", said());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Clients that never finish their head, and connect anew when they are cut off, until the task is aborted.
async fn attack(address: &str) -> tokio::task::JoinHandle<()> {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = TcpStream::connect(address).await.unwrap();
        client
            .write_all(b"GET /queues HTTP/1.1\r\nHost: loc")
            .await
            .unwrap();
        clients.push(client);
    }
    let address = address.to_owned();
    tokio::spawn(async move {
        loop {
            for client in &mut clients {
                if client.write_all(b"a").await.is_err()
                    && let Ok(next) = TcpStream::connect(&address).await
                {
                    *client = next;
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_do_not_stop_reconciliation() {
    let broker = Broker::start().unwrap();
    let arango = ArangoServer::builder().root_password(PASSWORD);
    let arango = arango.start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (worker, log) = (folder.path().join("worker"), folder.path().join("log"));
    // It ends for good once the marker is there, without an event: only who looks at Jobs learns of that.
    let script = format!(
        "#!/bin/sh\nwhile [ ! -e {0} ]; do sleep 0.1; done\nexit 78\n",
        folder.path().join("end").display()
    );
    fs::write(&worker, script).unwrap();
    fs::set_permissions(&worker, Permissions::from_mode(0o700)).unwrap();
    let address = free_address();
    let mut vars = broker.manager_vars().unwrap();
    let own = [
        ("ARANGO_URL", arango.url()),
        ("ARANGO_DB", DATABASE.to_owned()),
        ("ARANGO_USER", "root".to_owned()),
        ("ARANGO_PASSWORD", PASSWORD.to_owned()),
        ("LAUNCHER", "process".to_owned()),
        ("JOBS_DIR", folder.path().join("jobs").display().to_string()),
        ("WORKER_PROGRAM", worker.display().to_string()),
        ("STOP_JOBS_AT_EXIT", "true".to_owned()),
        ("API_LISTEN", address.clone()),
        ("PATH", "/usr/bin:/bin".to_owned()),
    ];
    vars.extend(own.map(|(name, value)| (name.to_owned(), value)));
    let mut manager = Command::new("sh")
        .args(["-c", "ulimit -n 256; exec \"$0\""])
        .arg(env!("CARGO_BIN_EXE_queue-manager"))
        .env_clear()
        .envs(vars)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ready = format!("http://{address}/health/ready");
    until("it is ready", &log, async || {
        let answer = http.get(&ready).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    let start = http.post(format!("http://{address}/queues/start-test-flow"));
    let answer = start.json(&json!({"flow_name": "dummy_flow"})).send().await;
    let answer: serde_json::Value = answer.unwrap().json().await.unwrap();
    let id: QueueId = answer["data"]["queue_id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let workflows = store(&arango).workflows::<Workflow>();
    let status = async || Some(workflows.get(&id).await.unwrap().content.status);
    until("its workers run", &log, async || {
        (status().await? == Status::Starting).then_some(())
    })
    .await;
    let attack = attack(&address).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let ended = Instant::now();
    fs::write(folder.path().join("end"), "").unwrap();
    until("the end is noticed", &log, async || {
        (status().await? == Status::Error).then_some(())
    })
    .await;
    assert!(
        ended.elapsed() < Duration::from_secs(30),
        "{:?}",
        ended.elapsed()
    );
    attack.abort();
    let pid = i32::try_from(manager.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    let ended = tokio::time::timeout(LIMIT, manager.wait()).await;
    assert!(ended.unwrap().unwrap().success());
}
