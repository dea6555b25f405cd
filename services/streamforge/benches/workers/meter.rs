//! What a process takes: time, processor, memory.

use std::{
    fs,
    io::Read,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Between two looks at its memory.
const LOOK: Duration = Duration::from_millis(5);
/// In which the kernel counts processor time for `/proc`, on all that it runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process took from its start to its end.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    pub(crate) wall: Duration,
    /// Processor time of all its threads, in seconds.
    pub(crate) cpu_seconds: f64,
    /// The most of memory that it had, in MiB.
    pub(crate) peak_mib: f64,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
}

/// Runs a program to its end; it is killed if that takes longer than `limit`.
pub(crate) async fn run(mut command: Command, limit: Duration) -> Usage {
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} can't be started: {error}"));
    let mut peak_kib = 0;
    loop {
        let status = read(&child, "status");
        peak_kib = peak_kib.max(field(&status, "VmHWM:").unwrap_or(0));
        // It has ended, and is kept until it is waited for: with what it took.
        if status.contains("\nState:\tZ") {
            break;
        }
        if begun.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} had not ended after {limit:?}");
        }
        tokio::time::sleep(LOOK).await;
    }
    let wall = begun.elapsed();
    let cpu_seconds = cpu_of(&read(&child, "stat"));
    let mut stdout = String::new();
    let mut pipe = child.stdout.take().unwrap();
    pipe.read_to_string(&mut stdout).unwrap();
    Usage {
        wall,
        cpu_seconds,
        peak_mib: peak_kib as f64 / 1024.0,
        code: child.wait().unwrap().code(),
        stdout,
    }
}

fn read(child: &Child, file: &str) -> String {
    let path = format!("/proc/{}/{file}", child.id());
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A field of `/proc/PID/status`, in KiB.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// User and system time of `/proc/PID/stat`, its columns 14 and 15. The second column may hold anything, in brackets.
fn cpu_of(stat: &str) -> f64 {
    let columns = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: f64 = columns
        .skip(11)
        .take(2)
        .map(|column| column.parse::<f64>().unwrap())
        .sum();
    ticks / TICKS_PER_SECOND
}
