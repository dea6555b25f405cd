//! What is known of Jobs and pods, over watches that break.

use std::time::Duration;

use queue_manager::launcher::{
    JobPhase, JobSpec, JobStatus, LaunchError, Launched, Launcher, TroubleKind,
    kubernetes::KubernetesSettings,
};

use super::{LOADER, launcher, launcher_with, ready, spec, until, until_job, until_unknown};
use streamforge_devstack::kubernetes::{Answer, ApiServer, Fault};

fn kind(job: &JobStatus) -> Option<TroubleKind> {
    job.trouble.as_ref().map(|trouble| trouble.kind)
}

fn on_get(path: &'static str, times: usize, answer: Answer) -> Fault {
    Fault {
        method: "GET",
        path,
        times,
        answer,
    }
}

#[tokio::test]
async fn a_job_is_followed_from_its_start_to_its_end() {
    let (server, launcher) = ready().await;
    launcher.launch(&spec()).await.unwrap();
    until_job(&launcher, |job| {
        job.phase == JobPhase::Pending && job.alive == 1
    })
    .await;

    server
        .pod(LOADER)
        .waits("ImagePullBackOff", "Back-off pulling image");
    let job = until_job(&launcher, |job| kind(job) == Some(TroubleKind::Image)).await;
    assert_eq!(job.phase, JobPhase::Pending);

    server.pod(LOADER).runs();
    let job = until_job(&launcher, |job| job.phase == JobPhase::Running).await;
    assert_eq!((job.starts, job.alive, job.trouble), (1, 1, None));

    server.pod(LOADER).succeeds();
    let job = until_job(&launcher, |job| {
        job.phase == JobPhase::Succeeded && job.alive == 0
    })
    .await;
    assert_eq!((job.starts, job.trouble), (1, None));
    assert!(job.ended.unwrap() >= job.created);
}

#[tokio::test]
async fn a_failure_that_can_pass_is_tried_again_up_to_the_limit() {
    let (server, launcher) = ready().await;
    launcher.launch(&spec()).await.unwrap();
    for start in 1..=2 {
        server.pod(LOADER).runs();
        server.pod(LOADER).exits(1, "the broker is away");
        // Jobs and pods are heard of one by one, so all of it is waited for.
        until_job(&launcher, |job| {
            (job.phase, job.starts, job.alive) == (JobPhase::Running, start, 1)
                && kind(job) == Some(TroubleKind::ExitCode(1))
        })
        .await;
    }
    server.pod(LOADER).exits(1, "the broker is away");
    let job = until_job(&launcher, |job| {
        (job.phase, job.starts, job.alive) == (JobPhase::Failed, 3, 0)
    })
    .await;
    let trouble = job.trouble.unwrap();
    assert_eq!(trouble.kind, TroubleKind::ExitCode(1));
    assert!(
        trouble.message.contains("the broker is away"),
        "{trouble:?}"
    );
}

#[tokio::test]
async fn an_exit_code_that_is_final_fails_at_once() {
    for code in [70, 78] {
        let (server, launcher) = ready().await;
        launcher.launch(&spec()).await.unwrap();
        server.pod(LOADER).exits(code, "");
        let job = until_job(&launcher, |job| job.phase == JobPhase::Failed).await;
        assert_eq!(kind(&job), Some(TroubleKind::ExitCode(code)));
        assert_eq!(server.pods_of(LOADER).len(), 1);
    }
}

#[tokio::test]
async fn an_evicted_pod_is_replaced_free_of_charge() {
    let (server, launcher) = ready().await;
    launcher.launch(&spec()).await.unwrap();
    for _ in 0..2 {
        server.pod(LOADER).is_evicted("The node was low on memory");
        server.pod(LOADER).is_preempted();
    }
    let job = until_job(&launcher, |job| job.starts == 4 && job.alive == 1).await;
    assert_eq!(job.phase, JobPhase::Running);
    assert_eq!(kind(&job), Some(TroubleKind::Evicted));
    server.pod(LOADER).succeeds();
    until_job(&launcher, |job| job.phase == JobPhase::Succeeded).await;
}

#[tokio::test]
async fn a_pod_on_a_lost_node_is_alive_until_it_is_gone() {
    let (server, launcher) = ready().await;
    launcher.launch(&spec()).await.unwrap();
    server.pod(LOADER).runs();
    let lost = server.pod(LOADER);
    lost.loses_its_node();
    let job = until_job(&launcher, |job| kind(job) == Some(TroubleKind::NodeLost)).await;
    assert_eq!((job.phase, job.alive), (JobPhase::Running, 1));
    assert_eq!(server.pods_of(LOADER).len(), 1, "two would write at once");

    let name = lost.name().to_owned();
    lost.is_gone();
    until_job(&launcher, |job| job.alive == 1 && kind(job).is_none()).await;
    assert_ne!(server.pod(LOADER).name(), name);
}

#[tokio::test]
async fn other_ends_have_their_own_reasons() {
    let (server, launcher) = ready().await;
    launcher.launch(&spec()).await.unwrap();
    server
        .pod(LOADER)
        .unschedulable("0/3 nodes are available: 3 Insufficient memory");
    let job = until_job(&launcher, |job| {
        kind(job) == Some(TroubleKind::Unschedulable)
    })
    .await;
    assert!(job.trouble.unwrap().message.contains("0/3 nodes"));

    server.pod(LOADER).runs_out_of_memory();
    until_job(&launcher, |job| kind(job) == Some(TroubleKind::OutOfMemory)).await;

    server.ends_pods(false);
    server.pod(LOADER).runs();
    server.deadline(LOADER);
    let job = until_job(&launcher, |job| job.phase == JobPhase::Failed).await;
    assert_eq!(kind(&job), Some(TroubleKind::Deadline));
    assert_eq!((job.alive, job.ended), (1, None));
    server.pod(LOADER).exits(143, "");
    until_job(&launcher, |job| job.alive == 0 && job.ended.is_some()).await;
}

#[tokio::test]
async fn all_pages_are_read() {
    let server = ApiServer::start().await.unwrap();
    server.runs_pods(true);
    let first = launcher(&server);
    for nth in 0..10 {
        let spec = JobSpec {
            name: format!("{LOADER}-{nth}"),
            ..spec()
        };
        assert_eq!(first.launch(&spec).await, Ok(Launched::New));
    }
    let second = launcher(&server);
    let jobs = until(&second, |jobs| jobs.len() == 10).await;
    assert!(jobs.iter().all(|job| job.phase == JobPhase::Running));
    let asked = server.requests();
    assert!(asked.iter().any(|request| request.contains("continue=")));
}

#[tokio::test]
async fn a_change_is_told() {
    let (server, launcher) = ready().await;
    launcher.launch(&spec()).await.unwrap();
    until_job(&launcher, |job| job.alive == 1).await;
    server.pod(LOADER).runs();
    let told = async {
        loop {
            launcher.changed().await;
            let jobs = launcher.jobs().await.unwrap();
            if jobs[0].phase == JobPhase::Running {
                return;
            }
        }
    };
    tokio::time::timeout(super::PATIENCE, told).await.unwrap();
}

#[tokio::test]
async fn broken_connections_and_forgotten_versions_lose_nothing() {
    let (server, launcher) = ready().await;
    launcher.launch(&spec()).await.unwrap();
    until_job(&launcher, |job| job.alive == 1).await;

    server.cut();
    server.pod(LOADER).runs();
    until_job(&launcher, |job| job.phase == JobPhase::Running).await;

    // Watches are told 410 as an event.
    server.forget();
    server.pod(LOADER).exits(1, "");
    until_job(&launcher, |job| kind(job) == Some(TroubleKind::ExitCode(1))).await;

    // And as an answer.
    server.fault(on_get("watch=true", 4, Answer::Status(410, None)));
    server.cut();
    server.pod(LOADER).waits("ErrImagePull", "");
    until_job(&launcher, |job| kind(job) == Some(TroubleKind::Image)).await;

    // The Job goes while nobody listens.
    server.away(true);
    server.delete_job(LOADER, true);
    server.forget();
    server.away(false);
    until(&launcher, <[_]>::is_empty).await;
}

#[tokio::test]
async fn a_server_that_is_too_busy_to_be_watched_is_asked_again() {
    let server = ApiServer::start().await.unwrap();
    server.fault(on_get("/jobs?", 3, Answer::Status(429, Some(1))));
    server.fault(on_get("/pods?", 3, Answer::Status(503, None)));
    let launcher = launcher(&server);
    until(&launcher, <[_]>::is_empty).await;
}

#[tokio::test]
async fn what_is_not_known_is_not_said_to_be_nothing() {
    let server = ApiServer::start().await.unwrap();
    server.away(true);
    let settings = KubernetesSettings {
        stale_after: Duration::from_millis(500),
        ..KubernetesSettings::default()
    };
    let launcher = launcher_with(&server, settings);
    let error = launcher.jobs().await.unwrap_err();
    assert!(matches!(error, LaunchError::Unavailable(_)), "{error:?}");
    until_unknown(&launcher, "the API server does not answer").await;
    assert!(launcher.ready().await.is_err());

    server.away(false);
    until(&launcher, <[_]>::is_empty).await;
    assert_eq!(launcher.launch(&spec()).await, Ok(Launched::New));
    until_job(&launcher, |job| job.alive == 1).await;
    assert_eq!(launcher.ready().await, Ok(()));

    // What was known is passed on for a while, and then it is not known any more.
    server.away(true);
    until_unknown(&launcher, "the API server does not answer").await;
    server.away(false);
    until_job(&launcher, |job| job.alive == 1).await;
}

#[tokio::test]
async fn a_missing_right_to_watch_is_named() {
    let server = ApiServer::start().await.unwrap();
    server.forbid("list", "pods");
    let launcher = launcher(&server);
    until_unknown(&launcher, "cannot list resource \"pods\"").await;
    let error = launcher.ready().await.unwrap_err();
    assert!(matches!(error, LaunchError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn a_worker_that_ended_beside_a_sidecar_is_noticed() {
    let (server, launcher) = ready().await;
    launcher.launch(&spec()).await.unwrap();
    server.pod(LOADER).runs();
    server
        .pod(LOADER)
        .ends_beside_a_sidecar(137, "OOMKilled", 60);
    let job = until_job(&launcher, |job| job.phase == JobPhase::Failed).await;
    assert_eq!((kind(&job), job.alive), (Some(TroubleKind::Alone), 1));
    assert!(job.trouble.unwrap().message.contains("memory"));
    // The next of its name comes once it is gone with its pod.
    launcher.delete(LOADER).await.unwrap();
    until(&launcher, <[_]>::is_empty).await;
    let next = JobSpec {
        attempt: 2,
        ..spec()
    };
    assert_eq!(launcher.launch(&next).await, Ok(Launched::New));
    server.pod(LOADER).ends_beside_a_sidecar(0, "Completed", 0);
    let job = until_job(&launcher, |job| job.phase == JobPhase::Succeeded).await;
    assert_eq!((job.alive, job.trouble), (1, None));
}

#[tokio::test]
async fn a_job_that_waits_for_its_queue_blames_no_node() {
    let (server, launcher) = ready().await;
    server.suspends_jobs(true);
    launcher.launch(&spec()).await.unwrap();
    let job = until_job(&launcher, |job| kind(job) == Some(TroubleKind::Suspended)).await;
    assert_eq!((job.phase, job.alive), (JobPhase::Pending, 0));
    server.resume(LOADER);
    until_job(&launcher, |job| job.alive == 1 && job.trouble.is_none()).await;
}

#[tokio::test]
async fn jobs_of_another_installation_are_neither_seen_nor_touched() {
    let server = ApiServer::start().await.unwrap();
    let of = |id: &str| {
        let mut settings = KubernetesSettings::default();
        settings.job.installation = Some(id.repeat(32));
        launcher_with(&server, settings)
    };
    let (ours, theirs) = (of("a"), of("b"));
    assert_eq!(ours.check_installation().await, Ok(()));
    assert_eq!(ours.launch(&spec()).await, Ok(Launched::New));
    until_job(&ours, |job| job.alive == 1).await;
    server.pod(LOADER).runs();
    // The same name, in the same instance of the same namespace.
    until(&theirs, |_| true).await;
    let refused = async {
        loop {
            if let Err(error) = theirs.check_installation().await {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let error = tokio::time::timeout(super::PATIENCE, refused)
        .await
        .unwrap();
    assert!(matches!(error, LaunchError::Refused(_)), "{error:?}");
    let said = error.to_string();
    for word in [
        LOADER,
        "K8S_INSTANCE",
        &"a".repeat(32),
        "kubectl delete jobs",
    ] {
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(theirs.jobs().await, Ok(Vec::new()));
    theirs.delete(LOADER).await.unwrap();
    let taken = theirs.launch(&spec()).await.unwrap_err();
    assert!(matches!(taken, LaunchError::Taken(_)), "{taken:?}");
    let job = until_job(&ours, |job| job.phase == JobPhase::Running).await;
    assert!(!job.is_deleting);
    // What an older release made is adopted.
    let old = launcher(&server);
    let name = format!("{LOADER}-old");
    let older = JobSpec {
        name: name.clone(),
        ..spec()
    };
    old.launch(&older).await.unwrap();
    until(&ours, |jobs| jobs.iter().any(|job| job.name == name)).await;
}
