//! Every worker fits its pod: it stays below 64 MiB, and does its work in a memory cgroup of as much.
//!
//! What a reader fetches is compressed: so the records are those of the real loader, in as many batches as to be had. On a
//! machine where no memory cgroup can be made the tests say so, and still look at the highest resident set.

mod pod;

use std::time::Duration;

use streamforge_utils::protocol::Interval;

use crate::{
    flow::{Flow, LOADER, Plan, WRITER},
    memory::pod::Pod,
    process::Worker,
    sink::Sink,
};

const DUMMY: &str = "dummy-service";
/// What a pod asks for, in MiB.
const POD_MIB: u64 = 64;
/// A database that is slower than its writer.
const SLOW: Duration = Duration::from_millis(150);

/// Candles of a minute over so many partitions.
fn plan(range: &'static str, partitions: i32) -> Plan {
    Plan {
        interval: Interval::Minute1,
        range,
        partitions,
        ..Plan::three_days()
    }
}

/// Starts a worker in a pod of its own.
fn worker(flow: &Flow, service: &'static str, changes: &[(&str, &str)]) -> (Worker, Option<Pod>) {
    let pod = Pod::make(POD_MIB);
    let worker = flow.worker_in(pod.as_ref().map(Pod::processes), service, changes);
    (worker, pod)
}

/// Loads, then reads the topic as a writer with a fast database, with a slow one, and as `dummy-service --consume`.
async fn each_fits(plan: Plan) {
    let flow = Flow::start(plan).await;
    let fetching = [("FETCH_IN_FLIGHT", "4"), ("LOG_LEVEL", "info")];
    let (loader, _pod) = worker(&flow, LOADER, &fetching);
    loader.ends_below(POD_MIB).await;

    let fast = Sink::start(flow.arango.url(), Duration::ZERO).await;
    let slow = Sink::start(flow.arango.url(), SLOW).await;
    let (fast_url, slow_url) = (fast.url(), slow.url());
    let to = |url, collection| {
        let changes = [
            ("ARANGO_URL", url),
            ("COLLECTION_NAME", collection),
            ("LOG_LEVEL", "info"),
        ];
        worker(&flow, WRITER, &changes)
    };
    let (writer, _pod) = to(&fast_url, "fast");
    writer.ends_below(POD_MIB).await;
    let (writer, _pod) = to(&slow_url, "slow");
    let (consumer, _pod) = worker(&flow, DUMMY, &[("DUMMY_CONSUME", "true")]);
    consumer.ends_below(POD_MIB).await;
    writer.ends_below(POD_MIB).await;
    let all = u64::try_from(flow.source().len()).unwrap();
    assert_eq!((fast.taken().documents, slow.taken().documents), (all, all));
}

#[tokio::test]
async fn workers_fit_their_pods_with_one_partition() {
    // Five weeks, 50,400 candles: the dev stack's broker keeps that many in a partition.
    each_fits(plan("2024-05-27:2024-06-30", 1)).await;
}

#[tokio::test]
async fn workers_fit_their_pods_with_eight_partitions() {
    // Eight weeks, 80,640 candles.
    each_fits(plan("2024-05-06:2024-06-30", 8)).await;
}
