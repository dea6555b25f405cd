//! How long answers take.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use queue_manager::{
    state::Workflow,
    store::{Filter, Store},
    view::QueueSummary,
};
use streamforge_utils::{
    latency::{Latencies, LatencySummary},
    protocol::QueueId,
};

use crate::{report::Row, stage::Stage};

/// Who asks at a time.
const AT_A_TIME: usize = 4;
/// Rows of a page, as the API gives them where nothing is asked for.
const PAGE: usize = 50;
const STARTS: u32 = 300;

/// How long each of so many took: as fast as they go, or so many a second.
async fn timed<F: Future<Output = ()>>(
    count: u32,
    rate: Option<u32>,
    one: impl Fn(u32) -> F,
) -> LatencySummary {
    let pause = rate.map(|rate| Duration::from_secs(1) / rate);
    let turns = stream::iter(0..count).then(|number| async move {
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
        number
    });
    let all = turns.map(|number| {
        let one = one(number);
        async move {
            let begun = Instant::now();
            one.await;
            begun.elapsed()
        }
    });
    let mut latencies = Latencies::default();
    let all = all.buffer_unordered(AT_A_TIME);
    let mut all = std::pin::pin!(all);
    while let Some(took) = all.next().await {
        latencies.record(took);
    }
    latencies.summary().unwrap()
}

pub(crate) async fn get(stage: &Stage, path: &str) -> String {
    let answer = stage.http.get(format!("{}{path}", stage.url)).send().await;
    let answer = answer.unwrap().error_for_status().unwrap();
    answer.text().await.unwrap()
}

/// A page of the database's own, and how long it takes.
async fn page_of(store: &Store, filter: &Filter, count: u32, rate: Option<u32>) -> f64 {
    let workflows = store.workflows::<QueueSummary>();
    let took = timed(count, rate, |_| async {
        let page = workflows.list(filter, None, PAGE).await;
        assert_eq!(page.unwrap().rows.len(), PAGE);
    });
    took.await.median_ms
}

/// Lists and single workflows, as fast as they go, or so many a second.
pub(crate) async fn reads(stage: &Stage, count: u32, rate: Option<u32>) -> Vec<Row> {
    let when = rate.map_or("", |_| ", while events come");
    let mut rows = Vec::new();
    let nobody = timed(count, rate, |_| async {
        get(stage, "/health/live").await;
    });
    let floor = nobody.await;
    rows.push(Row::latency(format!("GET /health/live{when}"), floor));

    let (store, raw_count) = (&stage.store, count / 10);
    for (path, filter) in [
        ("/queues", Filter::default()),
        (
            "/queues?status=finished&symbol=SOLUSDT",
            Filter {
                statuses: vec!["finished".to_owned()],
                symbol: Some("SOLUSDT".to_owned()),
                ..Filter::default()
            },
        ),
    ] {
        let raw = page_of(store, &filter, raw_count, rate).await;
        let took = timed(count, rate, |_| async {
            assert!(get(stage, path).await.contains("wf-solusdt"));
        });
        let row = Row::latency(format!("GET {path}{when}"), took.await);
        rows.push(row.beside(raw, "the store alone"));
    }

    let ids = some_ids(store).await;
    let workflows = store.workflows::<Workflow>();
    let id_of = |number: u32| &ids[number as usize % ids.len()];
    let raw = timed(raw_count, rate, |number| {
        let workflows = &workflows;
        async move {
            workflows.get(id_of(number)).await.unwrap();
        }
    });
    let raw = raw.await.median_ms;
    let took = timed(count, rate, |number| async move {
        get(stage, &format!("/queues/{}", id_of(number))).await;
    });
    let row = Row::latency(format!("GET /queues/ID{when}"), took.await);
    rows.push(row.beside(raw, "the store alone"));
    rows
}

/// Workflows all over the store.
async fn some_ids(store: &Store) -> Vec<QueueId> {
    let workflows = store.workflows::<QueueSummary>();
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = workflows
            .list(&Filter::default(), after.as_ref(), 500)
            .await;
        let page = page.unwrap();
        let rows = page.rows.into_iter().map(QueueSummary::from);
        ids.extend(rows.map(|row| row.queue_id).step_by(10));
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
}

/// Starts: all places are taken, so nothing is launched meanwhile.
pub(crate) async fn starts(stage: &Stage) -> Vec<Row> {
    let url = format!("{}/queues/start", stage.url);
    let took = timed(STARTS, None, |number| {
        let request = stage.http.post(&url).json(&Stage::request(number));
        async {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 202);
        }
    });
    vec![Row::latency(
        "POST /queues/start, all places taken",
        took.await,
    )]
}
