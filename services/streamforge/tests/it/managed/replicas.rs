//! Two queue-managers over one store.

use std::{collections::BTreeSet, fs::File};

use rustix::process::Signal;
use serde_json::Value;

use super::Managed;
use crate::flow::{LOADER, Plan, WRITER};

#[tokio::test]
async fn of_two_replicas_one_takes_over_when_the_other_is_killed() {
    let mut managed = Managed::set(Plan::slow_three_days()).await;
    let first = managed.manager("one").await;
    let second = managed.manager("two").await;
    // Any may serve; the first one has the lease.
    managed.start(&second).await;
    managed.until_written(&second, 1).await;
    first.kill().await;
    managed.ends_as(&second, "finished").await;
    managed.flow.assert_complete().await;
    second.end().await;
}

#[tokio::test]
async fn a_leader_that_was_frozen_in_the_middle_of_launching_launches_nothing_twice() {
    let mut managed = Managed::set(Plan::crawling_week()).await;
    let first = managed.manager("one").await;
    first.until_conducts(true).await;
    let second = managed.manager("two").await;
    // Whoever makes a Job on this machine waits for this lock: the leader has stored what it is about to do, and has not
    // done it.
    let lock = managed.jobs_dir().join(".lock");
    let lock = File::options().write(true).open(lock).unwrap();
    lock.lock().unwrap();
    managed.start(&second).await;
    let is_decided = |queue: &Value| queue["parts"][0]["attempts"] == 1;
    second
        .until("it is decided", &managed.path(), is_decided)
        .await;
    first.signal(Signal::STOP);
    lock.unlock().unwrap();
    second.until_conducts(true).await;
    // It wakes up while the other one launches.
    first.signal(Signal::CONT);
    first.until_conducts(false).await;
    managed.until_written(&second, 1).await;
    // And the other way round, while there is nothing to do but to watch.
    second.signal(Signal::STOP);
    first.until_conducts(true).await;
    second.signal(Signal::CONT);
    second.until_conducts(false).await;
    managed.flow.hurry();
    managed.ends_as(&first, "finished").await;
    managed.flow.assert_complete().await;
    managed.assert_started_once();
    // Not even for a moment: whoever starts says so.
    let events = managed.flow.events(|_| true).await;
    for service in [LOADER, WRITER] {
        let of_service = events.iter().filter(|event| event.service == service);
        let instances: BTreeSet<&str> = of_service.map(|event| event.instance.as_str()).collect();
        assert_eq!(instances.len(), 1, "processes of {service}: {events:#?}");
    }
    first.end().await;
    second.end().await;
}
