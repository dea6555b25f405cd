//! The API server is away, forgetful or busy: nothing is lost, and nothing is launched twice.

use std::time::Duration;

use streamforge_devstack::kubernetes::{Answer, Fault};

use super::rig::{Clustered, slow};
use crate::managed::Manager;

/// Each Job was made once, and had one pod.
async fn completes_at_once(clustered: Clustered, manager: Manager) {
    let pods = clustered.cluster.pods(clustered.id()).await;
    assert_eq!(pods.len(), 2, "{pods:#?}");
    let queue = clustered.completes(manager).await;
    for part in queue["parts"].as_array().unwrap() {
        assert_eq!(
            (&part["attempts"], &part["starts"]),
            (&1.into(), &1.into()),
            "{queue:#}"
        );
    }
}

#[tokio::test]
async fn an_api_server_that_is_away_for_a_while_loses_nothing() {
    let mut clustered = Clustered::set(slow()).await;
    let manager = clustered.manager("one").await;
    clustered.start(&manager).await;
    clustered.until_written(&manager, 1).await;
    clustered.cluster.away(true);
    // Longer than a request is tried again.
    tokio::time::sleep(Duration::from_secs(8)).await;
    if let Some(server) = clustered.cluster.server("versions that are forgotten") {
        // What happened meanwhile is not known to it any more: watches get 410.
        server.forget();
    }
    clustered.cluster.away(false);
    completes_at_once(clustered, manager).await;
}

#[tokio::test]
async fn a_busy_api_server_is_asked_again() {
    let mut clustered = Clustered::set(slow()).await;
    let manager = clustered.manager("one").await;
    if let Some(server) = clustered
        .cluster
        .server("an API server that says 429 and loses answers")
    {
        let on_create = |times, answer| Fault {
            method: "POST",
            path: "/jobs",
            times,
            answer,
        };
        server.fault(on_create(1, Answer::DoneAndLost));
        server.fault(on_create(6, Answer::Status(429, Some(1))));
        server.fault(on_create(1, Answer::Status(500, None)));
    }
    clustered.start(&manager).await;
    clustered.until_written(&manager, 1).await;
    if let Some(server) = clustered.cluster.server("watches that get 429 and 410") {
        assert_eq!(server.pending_faults(), 0, "all faults were met");
        let on_watch = |code, retry| Fault {
            method: "GET",
            path: "watch=true",
            times: 4,
            answer: Answer::Status(code, retry),
        };
        server.fault(on_watch(429, Some(1)));
        server.fault(on_watch(410, None));
        server.cut();
    }
    completes_at_once(clustered, manager).await;
}
