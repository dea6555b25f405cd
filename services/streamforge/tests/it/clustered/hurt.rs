//! Pods, Jobs and nodes go away in the middle of it.

use kube::ResourceExt;

use super::rig::{Clustered, slow};
use crate::flow::{LOADER, WRITER};

#[tokio::test]
async fn workers_that_are_killed_are_started_again() {
    let mut clustered = Clustered::set(slow()).await;
    let manager = clustered.manager("one").await;
    clustered.start(&manager).await;
    clustered.until_written(&manager, 1).await;
    let mut killed = 0;
    for service in [WRITER, LOADER] {
        let pod = clustered.cluster.pod(clustered.id(), service).await;
        killed += u64::from(clustered.cluster.kill(&pod));
    }
    let queue = clustered.completes(manager).await;
    let starts = |index: usize| queue["parts"][index]["starts"].as_u64().unwrap();
    assert_eq!(starts(0) + starts(1), 2 + killed, "{queue:#}");
}

#[tokio::test]
async fn pods_that_are_evicted_are_replaced() {
    let mut clustered = Clustered::set(slow()).await;
    let manager = clustered.manager("one").await;
    clustered.start(&manager).await;
    clustered.until_written(&manager, 1).await;
    let writer = clustered.cluster.pod(clustered.id(), WRITER).await;
    clustered.cluster.drain(&writer).await;
    let loader = clustered.cluster.pod(clustered.id(), LOADER).await;
    clustered.cluster.evict(&loader).await;
    clustered.completes(manager).await;
}

#[tokio::test]
async fn a_node_that_is_gone_takes_nothing_with_it() {
    let mut clustered = Clustered::set(slow()).await;
    let manager = clustered.manager("one").await;
    clustered.start(&manager).await;
    clustered.until_written(&manager, 1).await;
    clustered.cluster.replace_node().await;
    clustered.completes(manager).await;
}

#[tokio::test]
async fn a_job_that_somebody_deletes_is_made_again() {
    let mut clustered = Clustered::set(slow()).await;
    let manager = clustered.manager("one").await;
    clustered.start(&manager).await;
    clustered.until_written(&manager, 1).await;
    let jobs = clustered.cluster.jobs(clustered.id()).await;
    let job = jobs.iter().find(|job| job.name_any().contains(WRITER));
    clustered.cluster.delete_job(&job.unwrap().name_any()).await;
    let queue = clustered.completes(manager).await;
    assert_eq!(queue["parts"][1]["attempts"], 2, "{queue:#}");
    assert_eq!(queue["parts"][0]["attempts"], 1, "{queue:#}");
}
