//! A topic that a real loader has filled, and programs that are measured on it.

use std::{
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use streamforge_devstack::{exchange::Exchange, kafka::KAFKA_DIR};
use streamforge_utils::{
    config::Vars,
    protocol::{Interval, TimestampMs},
};

use crate::{
    bare::Moved,
    flow::{Flow, LOADER, Plan, WRITER},
    meter::{self, Usage},
    report::Sample,
};

/// How long one program may take.
const LIMIT: Duration = Duration::from_secs(600);
/// 2023-01-01.
const FIRST: i64 = 1_672_531_200_000;
const MINUTE: i64 = 60_000;

pub(crate) struct Stage {
    pub(crate) flow: Flow,
    records: u32,
}

impl Stage {
    /// A workflow without a topic.
    pub(crate) async fn set(records: u32, partitions: i32) -> Self {
        let end = TimestampMs(FIRST + i64::from(records) * MINUTE);
        let range = format!("{}/{end}", TimestampMs(FIRST));
        let plan = Plan {
            symbol: "BTCUSDT",
            interval: Interval::Minute1,
            range: range.leak(),
            partitions,
            // Its limits are not what is measured.
            exchange: Exchange::builder().seed(7).weight_limit(10_000_000),
            stalls: false,
        };
        let flow = Flow::start_without_topic(plan).await;
        assert!(
            flow.kafka.is_real(),
            "the dev stack's broker keeps too little: run ci/kafka.sh start, and set {KAFKA_DIR}"
        );
        Self { flow, records }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.flow.topic
    }

    /// What a worker has in its environment when it is measured.
    fn vars(&self, service: &str, changes: &[(&str, &str)]) -> Vars {
        let mut vars = self.flow.vars(
            service,
            &[
                ("PROGRESS_INTERVAL_SECS", "5"),
                ("RETRY_DEADLINE_SECS", "60"),
                ("LOG_LEVEL", "warn"),
                ("FETCH_IN_FLIGHT", "4"),
            ],
        );
        vars.extend(
            changes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        vars
    }

    /// Loads all candles with the loader of `program`, by default that of this build.
    pub(crate) async fn load(&self, program: Option<&Path>) -> Sample {
        let command = worker(program, LOADER, &self.vars(LOADER, &[]));
        let usage = meter::run(command, LIMIT).await;
        assert_eq!(usage.code, Some(0), "the loader failed");
        self.sample(&usage, f64::from(self.records) / usage.wall.as_secs_f64())
    }

    /// Runs a writer to its end.
    pub(crate) async fn write(&self, command: Command) -> Usage {
        let usage = meter::run(command, LIMIT).await;
        assert_eq!(usage.code, Some(0), "the writer failed");
        usage
    }

    /// What a writer to the database at `url` needs: a collection of its own, and so a group.
    pub(crate) fn writer_vars(&self, url: &str) -> Vars {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let collection = format!("{}_{count}", self.flow.collection);
        self.vars(
            WRITER,
            &[("COLLECTION_NAME", &collection), ("ARANGO_URL", url)],
        )
    }

    /// A bare consumer or producer, by the words of its command line.
    pub(crate) async fn bare(&self, words: &[&str]) -> Sample {
        let mut command = alone();
        // The rights of a writer are those of a loader.
        command.args(words).env_clear().envs(self.vars(WRITER, &[]));
        let usage = meter::run(command, LIMIT).await;
        assert_eq!(usage.code, Some(0), "bare librdkafka failed");
        let moved: Moved = serde_json::from_str(&usage.stdout).unwrap();
        assert!(moved.records >= self.records.into(), "{moved:?}");
        self.sample(&usage, moved.records as f64 / moved.seconds)
    }

    pub(crate) fn group(&self) -> String {
        format!("{}-bench", self.flow.queue_id)
    }

    pub(crate) fn sample(&self, usage: &Usage, rate: f64) -> Sample {
        Sample {
            rate,
            cpu_seconds: usage.cpu_seconds / f64::from(self.records) * 1e6,
            peak_mib: usage.peak_mib,
        }
    }
}

/// This program, as one that is measured.
pub(crate) fn alone() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("alone");
    command
}

/// A worker: of `program`, which is the worker's own or a `streamforge`, or of this build.
pub(crate) fn worker(program: Option<&Path>, service: &str, vars: &Vars) -> Command {
    let program = program.unwrap_or(Path::new(env!("CARGO_BIN_EXE_streamforge")));
    let mut command = Command::new(program);
    if program
        .file_name()
        .is_some_and(|name| name == "streamforge")
    {
        command.args(["worker", service]);
    }
    command.env_clear().envs(vars);
    command
}
