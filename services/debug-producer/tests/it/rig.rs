//! A broker, workers on it, and the command under test.

use std::{
    path::Path,
    process::{ExitCode, Stdio},
    time::Duration,
};

use prometheus::Registry;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use streamforge_devstack::kafka::Broker;
use streamforge_utils::{
    config::{Reader, Vars},
    protocol::{CommandKind, Event, EventKind, QueueId, TimestampMs, WorkflowKind, new_queue_id},
    worker::{Failure, Outcome, WorkerContext, WorkerSettings, run_worker},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    task::JoinHandle,
};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// What the command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// Every line of stdout, which all are JSON.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub(crate) fn kinds(&self, kind: &str) -> Vec<Value> {
        self.json()
            .into_iter()
            .filter(|line| line["kind"] == kind)
            .collect()
    }

    /// The last line.
    pub(crate) fn summary(&self) -> Value {
        let last = self.json().pop().unwrap();
        assert_eq!(last["kind"], "summary", "{self:?}");
        last
    }
}

/// The command while it runs.
pub(crate) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    read: String,
}

impl Running {
    /// The next line of stdout.
    pub(crate) async fn line(&mut self) -> String {
        let line = tokio::time::timeout(LIMIT, self.lines.next_line())
            .await
            .expect("a line comes");
        let line = line.unwrap().expect("it has not ended");
        self.read += &line;
        self.read.push('\n');
        line
    }

    pub(crate) async fn json(&mut self) -> Value {
        serde_json::from_str(&self.line().await).unwrap()
    }

    pub(crate) fn kill(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until something was said on stderr.
    pub(crate) async fn first_word_on_stderr(&mut self) {
        let mut byte = [0];
        let stderr = self.child.stderr.as_mut().unwrap();
        tokio::time::timeout(LIMIT, stderr.read_exact(&mut byte))
            .await
            .expect("it says something")
            .unwrap();
    }

    /// Reads nothing more of what it prints.
    pub(crate) async fn close_stdout(self) -> Said {
        drop(self.lines);
        let output = tokio::time::timeout(LIMIT, self.child.wait_with_output())
            .await
            .expect("the command ends");
        let output = output.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        Said {
            code: output.status.code(),
            stdout: self.read,
            stderr,
        }
    }

    pub(crate) async fn end(mut self) -> Said {
        let ended = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.read += &line;
                self.read.push('\n');
            }
            self.child.wait_with_output().await.unwrap()
        };
        let output = tokio::time::timeout(LIMIT, ended)
            .await
            .expect("the command ends");
        Said {
            code: output.status.code(),
            stdout: self.read,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A queue that no other test has.
pub(crate) fn queue_id() -> QueueId {
    let symbol = "BTCUSDT".parse().unwrap();
    new_queue_id(&symbol, WorkflowKind::Dummy, TimestampMs::now())
}

pub(crate) struct Rig {
    pub(crate) kafka: Broker,
    pub(crate) queue: QueueId,
    pub(crate) control: String,
    pub(crate) events: String,
    /// What the command uses the broker with.
    vars: Vars,
}

impl Rig {
    /// The command has the rights of people, and the workers those of workers.
    pub(crate) fn start() -> Self {
        Self::on(Broker::start().unwrap())
    }

    /// On a broker that may be taken down.
    pub(crate) async fn with_broker_alone() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ci/kafka.sh");
        Self::on(Broker::alone(&script).await.unwrap())
    }

    fn on(kafka: Broker) -> Self {
        Self {
            queue: queue_id(),
            control: "queue-control".to_owned(),
            events: "queue-events".to_owned(),
            vars: kafka.operator_vars().unwrap(),
            kafka,
        }
    }

    /// With queue topics of its own, for what would disturb other tests on the same broker, or be disturbed by them. People
    /// have no rights to those, so the command may do everything.
    pub(crate) async fn apart() -> Self {
        let mut rig = Self::start();
        rig.control = format!("{}-control", rig.queue);
        rig.events = format!("{}-events", rig.queue);
        for topic in [&rig.control, &rig.events] {
            rig.kafka.create_topic(topic, 1).await.unwrap();
        }
        rig.vars = rig.kafka.admin_vars().unwrap();
        rig
    }

    /// Where the command finds the broker.
    pub(crate) fn servers(&self) -> &str {
        &self.vars["KAFKA_BOOTSTRAP_SERVERS"]
    }

    /// Starts the command with these words, split at blanks.
    pub(crate) fn spawn_with(&self, typed: &str, vars: &[(&str, &str)]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_debug-producer"))
            .args(typed.split_whitespace())
            .env_clear()
            .envs(&self.vars)
            .env("QUEUE_CONTROL_TOPIC", &self.control)
            .env("QUEUE_EVENTS_TOPIC", &self.events)
            .envs(vars.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running {
            child,
            lines,
            read: String::new(),
        }
    }

    /// The same, to the workers of this queue.
    pub(crate) fn spawn(&self, typed: &str) -> Running {
        self.spawn_with(&format!("--queue-id {} {typed}", self.queue), &[])
    }

    pub(crate) async fn debug(&self, typed: &str) -> Said {
        self.spawn(typed).end().await
    }

    pub(crate) async fn debug_with(&self, typed: &str, vars: &[(&str, &str)]) -> Said {
        self.spawn_with(typed, vars).end().await
    }

    /// A worker called `dummy-service__{who}`, once it is up.
    pub(crate) async fn worker(&self, who: &str) -> JoinHandle<ExitCode> {
        self.worker_of(&self.queue, "dummy-service", who, obedient)
            .await
    }

    pub(crate) async fn worker_of<F, Fut>(
        &self,
        queue: &QueueId,
        service: &'static str,
        who: &str,
        body: F,
    ) -> JoinHandle<ExitCode>
    where
        F: FnOnce(WorkerContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Outcome, Failure>> + Send + 'static,
    {
        let id = format!("{service}__{who}");
        let mut vars = self.kafka.vars().unwrap();
        for (name, value) in [
            ("QUEUE_ID", queue.as_str()),
            ("QUEUE_CONTROL_TOPIC", &self.control),
            ("QUEUE_EVENTS_TOPIC", &self.events),
            ("SYMBOL", "BTCUSDT"),
            ("TYPE", "dummy"),
            ("METRICS_PORT", "0"),
            ("PROGRESS_INTERVAL_SECS", "0.05"),
            ("TELEMETRY_PRODUCER_ID", &id),
        ] {
            vars.insert(name.to_owned(), value.to_owned());
        }
        let mut reader = Reader::new(&vars);
        let (kafka, section, ops) = (reader.section(), reader.section(), reader.section());
        reader.finish().unwrap();
        let settings = WorkerSettings {
            service,
            version: "0.0.0",
            drains: true,
            listens: true,
            observer: None,
            kafka: kafka.unwrap(),
            queue: section.unwrap(),
            ops: ops.unwrap(),
        };
        let worker = tokio::spawn(run_worker(settings, Registry::new(), body));
        let is_up = |events: &[Event]| events.iter().any(|event| event.producer == id);
        let events = self
            .kafka
            .events_of(queue.as_str(), &self.events, LIMIT, is_up);
        events.await.unwrap();
        worker
    }

    /// Publishes a pong that a worker called `who` might have sent.
    pub(crate) async fn pong(&self, queue: &QueueId, who: &str, ping_ts: f64) {
        let mut pong = event(queue, who, EventKind::Pong);
        pong["ping_ts"] = ping_ts.into();
        self.publish(&pong.to_string()).await;
    }

    pub(crate) async fn publish(&self, payload: &str) {
        self.kafka
            .publish(&self.events, Some(0), self.queue.as_str(), payload, &[])
            .await
            .unwrap();
    }
}

pub(crate) fn event(queue: &QueueId, who: &str, kind: EventKind) -> Value {
    serde_json::json!({
        "queue_id": queue, "run": 1, "producer": format!("dummy-service__{who}"), "instance": who, "seq": 7,
        "service": "dummy-service", "service_version": "0.1.0", "symbol": "BTCUSDT", "type": "dummy",
        "event": kind, "message": "made up", "records_written": 0, "finished": kind.is_terminal(),
        "timestamp": 1_722_500_125.456_f64,
    })
}

/// A body that does all that it is told.
pub(crate) async fn obedient(mut ctx: WorkerContext) -> Result<Outcome, Failure> {
    let mut loading = false;
    let mut written = 0;
    loop {
        tokio::select! {
            () = ctx.stop.cancelled() => return Ok(Outcome::Stopped),
            () = ctx.stop.drain_requested() => {
                ctx.progress.set_message("emptying the topic");
                return Ok(Outcome::Stopped);
            }
            Some(command) = ctx.commands.recv() => match command.command {
                CommandKind::SimulateLoading => loading = true,
                _ => {
                    let seconds = command.payload.and_then(|payload| payload.seconds).unwrap_or_default();
                    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
                    return Err(Failure::retryable(std::io::Error::other("failed as told")));
                }
            },
            () = tokio::time::sleep(Duration::from_millis(60)), if loading => {
                written += 1;
                ctx.progress.set_written(written);
            }
        }
    }
}
