//! The parts of the workflow, and what can be done to them.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use rustix::process::{Pid, Signal, kill_process};
use streamforge_devstack::{
    exchange::{Exchange, Latency},
    kafka::{ApacheKafka, Broker, BrokerAction, publish},
};
use streamforge_utils::{
    config::Vars,
    protocol::{Interval, TimestampMs},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{
    Args,
    flow::{Flow, LOADER, Plan, WRITER},
    plan::{Fault, Kind, Step, Target},
    proxy::Proxy,
};

/// How long the workers may take after the last step.
const LIMIT: Duration = Duration::from_secs(600);
const TICK: Duration = Duration::from_millis(20);
/// Until a worker that ended is started again, as the first of a Job's.
const RESTART_AFTER: Duration = Duration::from_millis(500);
const PARTITIONS: i32 = 3;
const FIRST: i64 = 1_722_470_400_000;

/// A worker, started again until it is done.
struct Job {
    name: String,
    service: &'static str,
    vars: Vars,
    log: PathBuf,
    child: Option<Child>,
    start_at: Instant,
    /// How long it stays away when it ends next.
    away: Duration,
    endings: Vec<String>,
    is_done: bool,
}

impl Job {
    fn start(&mut self) {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let child = Command::new(env!("CARGO_BIN_EXE_streamforge"))
            .args(["worker", self.service])
            .env_clear()
            .envs(&self.vars)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// Looks whether it has ended, and starts it again if it is not done.
    fn tend(&mut self) {
        if self.is_done {
            return;
        }
        let Some(child) = &mut self.child else {
            if Instant::now() >= self.start_at {
                self.start();
            }
            return;
        };
        let Some(status) = child.try_wait().unwrap() else {
            return;
        };
        self.child = None;
        self.start_at = Instant::now() + std::mem::replace(&mut self.away, RESTART_AFTER);
        let how = status.code().map_or_else(
            || format!("signal {}", status.signal().unwrap()),
            |code| code.to_string(),
        );
        self.endings.push(how);
        match status.code() {
            Some(0) => self.is_done = true,
            // May be tried again.
            Some(1) | None => {}
            Some(code) => panic!("{} ended with {code}:\n{}", self.name, self.last_lines()),
        }
    }

    fn last_lines(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// All of it.
pub(crate) struct Stage {
    pub(crate) flow: Flow,
    jobs: Vec<Job>,
    arango: Child,
    arango_program: PathBuf,
    arango_address: SocketAddr,
    proxy: Proxy,
    /// What has to be undone, and when.
    undo: Vec<(Instant, Target, Kind)>,
    /// Brokers that are being started: one that was killed waits until the others miss it.
    starting: Vec<(u32, JoinHandle<()>)>,
    /// What was put in, in order.
    pub(crate) poison: Vec<String>,
    random: ChaCha8Rng,
    pub(crate) dir: TempDir,
}

impl Stage {
    /// Starts everything. The exchange is so slow that the load outlasts the steps.
    pub(crate) async fn set(args: &Args, steps: &[Step]) -> Self {
        let dir = TempDir::new().unwrap();
        let pages = args.records.div_ceil(1_000);
        let all: Duration = steps.iter().map(|step| step.after).sum();
        let range = format!(
            "{}/{}",
            TimestampMs(FIRST),
            TimestampMs(FIRST + 1_000 * i64::from(args.records))
        );
        let plan = Plan {
            symbol: "BTCUSDT",
            interval: Interval::Second1,
            range: range.leak(),
            partitions: PARTITIONS,
            exchange: Exchange::builder()
                .seed(args.seed)
                .latency(Latency::fixed(all * 3 / 2 / pages)),
            stalls: false,
        };
        let mut flow = Flow::start_without_topic(plan).await;
        let folder = dir.path().join("kafka");
        let broker = match args.brokers {
            1 => ApacheKafka::start(&args.kafka, &folder).await,
            several => ApacheKafka::start_several(&args.kafka, &folder, several).await,
        };
        flow.kafka = Broker::Apache(broker.unwrap());
        flow.create_topic().await;

        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let arango_address = free.local_addr().unwrap();
        drop(free);
        let arango = start_arango(&args.arango, arango_address, dir.path());
        let proxy = Proxy::start(arango_address).await;
        let url = format!("http://{}", proxy.address);
        let mut jobs = vec![job(&flow, dir.path(), LOADER, 1, &url)];
        for number in 1..=args.writers {
            jobs.push(job(&flow, dir.path(), WRITER, number, &url));
        }
        Self {
            flow,
            jobs,
            arango,
            arango_program: args.arango.clone(),
            arango_address,
            proxy,
            undo: Vec::new(),
            starting: Vec::new(),
            poison: Vec::new(),
            random: ChaCha8Rng::seed_from_u64(args.seed ^ 1),
            dir,
        }
    }

    /// Lets time pass, while workers are started again and what was done is undone.
    pub(crate) async fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.tend().await;
            tokio::time::sleep(TICK).await;
        }
    }

    pub(crate) async fn until_done(&mut self) {
        let begun = Instant::now();
        while !(self.undo.is_empty()
            && self.starting.is_empty()
            && self.jobs.iter().all(|job| job.is_done))
        {
            self.tend().await;
            tokio::time::sleep(TICK).await;
            if begun.elapsed() > LIMIT {
                let logs: Vec<_> = self.jobs.iter().map(Job::last_lines).collect();
                panic!("not done after {LIMIT:?}:\n{}", logs.join("\n---\n"));
            }
        }
        for job in &self.jobs {
            println!("{}: ended with {}", job.name, job.endings.join(", "));
        }
    }

    /// What is odd about the moment.
    pub(crate) fn state(&self) -> String {
        let done = self.jobs.iter().filter(|job| job.is_done);
        let done: Vec<_> = done.map(|job| job.name.as_str()).collect();
        if done.is_empty() {
            String::new()
        } else {
            format!(" ({} done)", done.join(", "))
        }
    }

    async fn tend(&mut self) {
        for job in &mut self.jobs {
            job.tend();
        }
        let now = Instant::now();
        let due = self.undo.iter().position(|(at, ..)| *at <= now);
        if let Some(index) = due {
            let (_, target, kind) = self.undo.remove(index);
            self.mend(target, kind);
        }
        while let Some(index) = self
            .starting
            .iter()
            .position(|(_, task)| task.is_finished())
        {
            let (_, task) = self.starting.remove(index);
            task.await.unwrap();
        }
    }

    pub(crate) fn strike(&mut self, fault: &Fault) {
        let Fault {
            target,
            kind,
            lasts,
        } = fault;
        if let Target::Broker(number) = target
            && self.is_away(*number)
        {
            println!("           {target} is away already");
            return;
        }
        match kind {
            Kind::Restart => {
                if let Target::Broker(number) = target {
                    self.start_broker(BrokerAction::Restart, *number);
                }
                return;
            }
            Kind::Cut => self.proxy.cut(true),
            Kind::Kill => {
                if let Some(index) = index_of(*target) {
                    self.jobs[index].away = *lasts;
                }
                self.signal(*target, Signal::KILL);
            }
            Kind::Freeze => self.signal(*target, Signal::STOP),
        }
        self.undo.push((Instant::now() + *lasts, *target, *kind));
    }

    /// Whether a broker was killed or frozen, or is being started. One broker alone is struck whatever it does.
    fn is_away(&self, number: u32) -> bool {
        let is_struck =
            |(_, target, _): &(Instant, Target, Kind)| *target == Target::Broker(number);
        self.starting
            .iter()
            .any(|(starting, _)| *starting == number)
            || (self.is_several() && self.undo.iter().any(is_struck))
    }

    fn is_several(&self) -> bool {
        self.broker().get("KAFKA_BROKERS").is_ok()
    }

    fn start_broker(&mut self, action: BrokerAction, number: u32) {
        let starting = self.broker().act(action, number);
        let task = tokio::spawn(async move { starting.await.unwrap() });
        self.starting.push((number, task));
    }

    fn mend(&mut self, target: Target, kind: Kind) {
        match (kind, target) {
            (Kind::Cut, _) => self.proxy.cut(false),
            (Kind::Freeze, _) => self.signal(target, Signal::CONT),
            (Kind::Kill, Target::Broker(number)) => {
                self.start_broker(BrokerAction::Start, number);
            }
            (Kind::Kill, Target::Arango) => {
                // It may have been killed twice, and started since.
                if self.arango.try_wait().unwrap().is_some() {
                    let dir = self.dir.path();
                    self.arango = start_arango(&self.arango_program, self.arango_address, dir);
                }
            }
            // Its job starts it again.
            (Kind::Kill | Kind::Restart, _) => {}
        }
    }

    fn broker(&self) -> &ApacheKafka {
        match &self.flow.kafka {
            Broker::Apache(apache) => apache,
            Broker::Mock(_) => unreachable!("the stage is set with a real broker"),
        }
    }

    /// To whom is gone, nothing is sent.
    fn signal(&mut self, target: Target, signal: Signal) {
        let id = match target {
            Target::Loader | Target::Writer(_) => index_of(target).and_then(|job| self.job(job)),
            Target::Broker(number) => {
                let several = self.broker().get(&format!("KAFKA_PID_FILE_{number}"));
                let file = several
                    .or_else(|_| self.broker().get("KAFKA_PID_FILE"))
                    .unwrap();
                fs::read_to_string(file)
                    .ok()
                    .and_then(|id| id.trim().parse().ok())
            }
            Target::Arango => Some(self.arango.id()),
            Target::ArangoNetwork => None,
        };
        let pid = id.and_then(|id| Pid::from_raw(i32::try_from(id).unwrap()));
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }

    fn job(&self, index: usize) -> Option<u32> {
        self.jobs[index].child.as_ref().map(Child::id)
    }

    /// Puts records in that no loader wrote, unless the loader is done: nobody reads what follows its markers.
    pub(crate) async fn poison(&mut self, count: u32) {
        for _ in 0..count {
            if self.jobs[0].is_done {
                println!("           the loader is done, so no poison");
                return;
            }
            let partition = self.random.random_range(0..PARTITIONS);
            let text = format!("poison {} of partition {partition}", self.poison.len() + 1);
            // Also while the broker is away: until it is back.
            loop {
                let (kafka, topic) = (self.flow.kafka.config().unwrap(), self.flow.topic.clone());
                let value = text.clone();
                let put = tokio::spawn(async move {
                    publish(&kafka, &topic, Some(partition), "BTCUSDT", &value, &[]).await
                });
                while !put.is_finished() {
                    self.pass(TICK).await;
                }
                match put.await.unwrap() {
                    Ok(()) => break,
                    Err(error) => println!("           the poison waits: {error}"),
                }
            }
            self.poison.push(text);
        }
    }

    /// Ends ArangoDB as a power failure would, and gives its folder.
    pub(crate) fn arango_folder(&mut self) -> PathBuf {
        let _ = self.arango.kill();
        let _ = self.arango.wait();
        self.dir.path().join("arango")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.arango.kill();
        let _ = self.arango.wait();
    }
}

/// Where a worker's job is among all.
fn index_of(target: Target) -> Option<usize> {
    match target {
        Target::Loader => Some(0),
        Target::Writer(number) => Some(usize::try_from(number).unwrap()),
        Target::Broker(_) | Target::Arango | Target::ArangoNetwork => None,
    }
}

fn job(flow: &Flow, dir: &Path, service: &'static str, number: u32, arango: &str) -> Job {
    let id = format!("{service}__{number}");
    let vars = flow.vars(
        service,
        &[
            ("TELEMETRY_PRODUCER_ID", id.as_str()),
            ("ARANGO_URL", arango),
            ("ARANGO_PASSWORD", "test"),
            // The development server, unlike ArangoDB, forgets the last 100 ms also when it is killed.
            ("ARANGO_WAIT_FOR_SYNC", "true"),
            ("RETRY_DEADLINE_SECS", "60"),
            ("KAFKA_SESSION_TIMEOUT_MS", "6000"),
            ("PROGRESS_INTERVAL_SECS", "1"),
            ("LOG_LEVEL", "info"),
        ],
    );
    Job {
        name: format!("{service} {number}"),
        service,
        vars,
        log: dir.join(format!("{id}.log")),
        child: None,
        start_at: Instant::now(),
        away: RESTART_AFTER,
        endings: Vec::new(),
        is_done: false,
    }
}

/// Starts it, and waits until it says where it is.
fn start_arango(program: &Path, address: SocketAddr, dir: &Path) -> Child {
    let folder = dir.join("arango");
    fs::create_dir_all(&folder).unwrap();
    let mut child = Command::new(program)
        .arg(address.port().to_string())
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(dir.join("arango.log")).unwrap())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut url)
        .unwrap();
    assert!(!url.is_empty(), "ArangoDB did not start on {address}");
    child
}
