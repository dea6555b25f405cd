//! The loader, beside a producer that only sends the same bytes.

use tempfile::TempDir;

use crate::{
    Common, bare,
    report::{Report, Sample},
    stage::Stage,
};

const OURS: &str = "loader";
const BASELINE: &str = "loader of the baseline";
const BARE: &str = "bare producer";
const BARE_WITH_OURS: &str = "bare producer with our settings";
/// Of the bare producer's processor time.
const MOST_CPU: f64 = 1.7;
const MOST_MIB: f64 = 64.0;

/// Prints the table.
pub(crate) async fn measure(common: &Common) {
    let mut report = Report::new(format!(
        "{} candles, {} rounds, a simulated exchange that answers at once",
        common.records, common.rounds
    ));
    for partitions in &common.partitions {
        let mut all: [Vec<Sample>; 4] = Default::default();
        for _ in 0..common.rounds {
            let stage = Stage::set(common.records, *partitions).await;
            if let Some(program) = &common.baseline {
                let stage = Stage::set(common.records, *partitions).await;
                all[2].push(stage.load(Some(program)).await);
            }
            all[3].push(stage.load(None).await);
            let dir = TempDir::new().unwrap();
            let file = dir.path().join("records");
            let config = stage.flow.kafka.config().unwrap();
            let (topic, to) = (stage.topic().to_owned(), file.clone());
            let dumped = tokio::task::spawn_blocking(move || bare::dump(&config, &topic, &to));
            let dumped = dumped.await.unwrap();
            assert_eq!(dumped.records, u64::from(common.records));
            all[0].push(produce(&stage, &file, "bare", &[]).await);
            all[1].push(produce(&stage, &file, "ours", &["--ours"]).await);
        }
        for (what, samples) in [BARE, BARE_WITH_OURS, BASELINE, OURS].into_iter().zip(&all) {
            if !samples.is_empty() {
                report.row(*partitions, what, samples);
            }
        }
        report.target_cpu(*partitions, OURS, BARE, MOST_CPU);
        report.target_memory(*partitions, OURS, MOST_MIB);
    }
    report.print(common.json);
}

/// Sends the records of the file to a topic of its own.
async fn produce(stage: &Stage, file: &std::path::Path, name: &str, more: &[&str]) -> Sample {
    let topic = format!("{}-{name}", stage.topic());
    let partitions = stage.flow.plan.partitions;
    stage
        .flow
        .kafka
        .create_topic(&topic, partitions)
        .await
        .unwrap();
    let file = file.to_str().unwrap();
    let words = [&["producer", "--topic", &topic, "--file", file][..], more].concat();
    stage.bare(&words).await
}
