//! The writer, beside a consumer that only reads.

use std::time::Duration;

use streamforge_utils::kafka::FetchSizes;

use crate::{
    Common, WriterArgs,
    flow::WRITER,
    report::{Report, Sample},
    sink::Sink,
    stage::{Stage, alone, worker},
};

const OURS: &str = "writer";
const BASELINE: &str = "writer of the baseline";
const BARE: &str = "bare consumer";
const BARE_WITH_OURS: &str = "bare consumer with our sizes";
/// Of the bare consumer's rate with our sizes.
const LEAST_RATE: f64 = 0.8;
const MOST_MIB: f64 = 64.0;

/// Prints the table.
pub(crate) async fn measure(args: &WriterArgs) {
    let Common {
        partitions,
        records,
        rounds,
        json,
        ..
    } = &args.common;
    let mut report = Report::new(format!(
        "{records} candles, {rounds} rounds, a database that takes {} ms for a batch and discards it",
        args.latency
    ));
    for partitions in partitions {
        let stage = Stage::set(*records, *partitions).await;
        stage.load(None).await;
        if args.fetch_sizes.is_empty() {
            compare(&stage, args, &mut report).await;
        } else {
            sizes(&stage, args, &mut report).await;
        }
    }
    report.print(*json);
}

/// The writer, that of the baseline, and the two bare consumers, in turn.
async fn compare(stage: &Stage, args: &WriterArgs, report: &mut Report) {
    let partitions = stage.flow.plan.partitions;
    let (topic, group) = (stage.topic(), stage.group());
    let read = ["consumer", "--topic", topic, "--group", &group];
    let read_as_ours = [&read[..], &["--ours"]].concat();
    let mut all: [Vec<Sample>; 4] = Default::default();
    for _ in 0..args.common.rounds {
        all[0].push(stage.bare(&read).await);
        all[1].push(stage.bare(&read_as_ours).await);
        if let Some(program) = &args.common.baseline {
            all[2].push(write(stage, args, |vars| worker(Some(program), WRITER, vars)).await);
        }
        all[3].push(write(stage, args, |vars| worker(None, WRITER, vars)).await);
    }
    for (what, samples) in [BARE, BARE_WITH_OURS, BASELINE, OURS].into_iter().zip(&all) {
        if !samples.is_empty() {
            report.row(partitions, what, samples);
        }
    }
    // A slow database is what limits the rate then.
    if args.latency == 0 {
        report.target_rate(partitions, OURS, BARE_WITH_OURS, LEAST_RATE);
    }
    report.target_cpu(partitions, OURS, BASELINE, 1.0);
    report.target_memory(partitions, OURS, MOST_MIB);
}

/// The writer with other sizes.
async fn sizes(stage: &Stage, args: &WriterArgs, report: &mut Report) {
    for kib in &args.fetch_sizes {
        let partition_bytes = (kib * 1024).to_string();
        // An answer holds one fetch of a partition at least.
        let response_bytes = (kib * 1024)
            .max(FetchSizes::DATA.response_bytes)
            .to_string();
        let queue_kib = FetchSizes::DATA.queue_kib.to_string();
        let mut samples = Vec::new();
        for _ in 0..args.common.rounds {
            let sample = write(stage, args, |vars| {
                let mut command = alone();
                command.args(["writer", "--partition-bytes", &partition_bytes]);
                command.args([
                    "--response-bytes",
                    &response_bytes,
                    "--queue-kib",
                    &queue_kib,
                ]);
                command.env_clear().envs(vars);
                command
            });
            samples.push(sample.await);
        }
        let what = format!("writer, {kib} KiB a partition");
        report.row(stage.flow.plan.partitions, &what, &samples);
    }
}

async fn write(
    stage: &Stage,
    args: &WriterArgs,
    command: impl FnOnce(&streamforge_utils::config::Vars) -> std::process::Command,
) -> Sample {
    let latency = Duration::from_millis(args.latency);
    let sink = Sink::start(stage.flow.arango.url(), latency).await;
    let usage = stage.write(command(&stage.writer_vars(&sink.url()))).await;
    let taken = sink.taken();
    assert_eq!(
        taken.documents,
        u64::from(args.common.records),
        "the sink has them all"
    );
    stage.sample(&usage, taken.rate())
}
