//! What was measured, as a table or as JSON, and whether it is what it should be.

use serde::Serialize;

/// What one program took, in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Records a second.
    pub(crate) rate: f64,
    /// Processor time, in seconds for a million records.
    pub(crate) cpu_seconds: f64,
    /// The most memory, in MiB.
    pub(crate) peak_mib: f64,
}

/// A program with so many partitions: the median of its rounds, and the most memory of all.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    partitions: i32,
    what: String,
    rate: f64,
    cpu_seconds_per_million: f64,
    peak_mib: f64,
    rounds: usize,
}

/// What is wanted, and what came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Target {
    what: String,
    found: f64,
    wanted: String,
    is_met: bool,
}

/// All figures.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    title: String,
    rows: Vec<Row>,
    targets: Vec<Target>,
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    let middle = of.len() / 2;
    if of.len() % 2 == 1 {
        of[middle]
    } else {
        f64::midpoint(of[middle - 1], of[middle])
    }
}

impl Report {
    pub(crate) fn new(title: String) -> Self {
        eprintln!("{title}");
        Self {
            title,
            ..Self::default()
        }
    }

    pub(crate) fn row(&mut self, partitions: i32, what: &str, samples: &[Sample]) {
        let all = |of: fn(&Sample) -> f64| samples.iter().map(of).collect::<Vec<_>>();
        self.rows.push(Row {
            partitions,
            what: what.to_owned(),
            rate: median(all(|sample| sample.rate)),
            cpu_seconds_per_million: median(all(|sample| sample.cpu_seconds)),
            peak_mib: all(|sample| sample.peak_mib)
                .into_iter()
                .fold(0.0, f64::max),
            rounds: samples.len(),
        });
    }

    fn find(&self, partitions: i32, what: &str) -> Option<&Row> {
        let mut rows = self.rows.iter();
        rows.find(|row| row.partitions == partitions && row.what == what)
    }

    /// The rate of one is to be at least so much of the other's.
    pub(crate) fn target_rate(&mut self, partitions: i32, one: &str, other: &str, least: f64) {
        let found = self.ratio(partitions, one, other, |row| row.rate);
        self.target(
            format!("{partitions} partitions: rate of the {one} by that of the {other}"),
            found,
            format!("at least {least}"),
            |found| found >= least,
        );
    }

    /// The processor time of one is to be at most so much of the other's.
    pub(crate) fn target_cpu(&mut self, partitions: i32, one: &str, other: &str, most: f64) {
        let found = self.ratio(partitions, one, other, |row| row.cpu_seconds_per_million);
        self.target(
            format!("{partitions} partitions: CPU of the {one} by that of the {other}"),
            found,
            format!("at most {most}"),
            |found| found <= most,
        );
    }

    /// It is to have less memory than that.
    pub(crate) fn target_memory(&mut self, partitions: i32, what: &str, below_mib: f64) {
        let found = self.find(partitions, what).map(|row| row.peak_mib);
        self.target(
            format!("{partitions} partitions: most memory of the {what}, in MiB"),
            found,
            format!("below {below_mib}"),
            |found| found < below_mib,
        );
    }

    fn ratio(&self, partitions: i32, one: &str, other: &str, of: fn(&Row) -> f64) -> Option<f64> {
        let (one, other) = (self.find(partitions, one)?, self.find(partitions, other)?);
        Some(of(one) / of(other))
    }

    /// A target without figures is none.
    fn target(
        &mut self,
        what: String,
        found: Option<f64>,
        wanted: String,
        is_met: impl Fn(f64) -> bool,
    ) {
        let Some(found) = found else {
            return;
        };
        self.targets.push(Target {
            what,
            found,
            wanted,
            is_met: is_met(found),
        });
    }

    pub(crate) fn print(&self, as_json: bool) {
        if as_json {
            let json = serde_json::to_string_pretty(self).expect("figures are JSON");
            println!("{json}");
            return;
        }
        println!("\n{}\n", self.title);
        println!("| partitions | what | records/s | CPU, s per million | peak memory, MiB |");
        println!("|---|---|---|---|---|");
        for row in &self.rows {
            println!(
                "| {} | {} | {:.0} | {:.2} | {:.1} |",
                row.partitions, row.what, row.rate, row.cpu_seconds_per_million, row.peak_mib
            );
        }
        if !self.targets.is_empty() {
            println!("\n| target | found | wanted | |");
            println!("|---|---|---|---|");
        }
        for target in &self.targets {
            let verdict = if target.is_met { "met" } else { "NOT MET" };
            println!(
                "| {} | {:.2} | {} | {verdict} |",
                target.what, target.found, target.wanted
            );
        }
    }
}
