//! Making Jobs: once, and never in the place of another one.

use std::time::{Duration, Instant};

use queue_manager::launcher::{
    JobSpec, LaunchError, Launched, Launcher,
    kubernetes::{JobSettings, KubernetesSettings},
};

use super::{LOADER, deafen, launcher, launcher_with, ready, spec, until, until_job};
use streamforge_devstack::kubernetes::{Answer, ApiServer, Fault};

fn on_create(times: usize, answer: Answer) -> Fault {
    Fault {
        method: "POST",
        path: "/jobs",
        times,
        answer,
    }
}

#[tokio::test]
async fn a_job_is_made_once() {
    let (server, launcher) = ready().await;
    assert_eq!(launcher.launch(&spec()).await, Ok(Launched::New));
    assert_eq!(launcher.launch(&spec()).await, Ok(Launched::AlreadyThere));
    assert_eq!(server.pods_of(LOADER).len(), 1);
}

#[tokio::test]
async fn another_job_of_the_same_name_is_no_success() {
    let (server, launcher) = ready().await;
    launcher.launch(&spec()).await.unwrap();
    let others = [
        JobSpec { run: 2, ..spec() },
        JobSpec {
            attempt: 2,
            ..spec()
        },
        JobSpec {
            queue_id: "wf-other".parse().unwrap(),
            ..spec()
        },
    ];
    for other in others {
        let error = launcher.launch(&other).await.unwrap_err();
        assert!(matches!(error, LaunchError::Taken(_)), "{error:?}");
        assert!(error.to_string().contains("run 1, attempt 1"), "{error}");
    }

    server.ends_pods(false);
    launcher.delete(LOADER).await.unwrap();
    let error = launcher.launch(&spec()).await.unwrap_err();
    assert_eq!(
        error,
        LaunchError::Taken(format!("Job {LOADER} is there and is being deleted"))
    );

    let foreign =
        serde_json::json!({"metadata": {"name": "job-foreign"}, "spec": {"template": {}}});
    server.put_job(foreign);
    let named = JobSpec {
        name: "job-foreign".to_owned(),
        ..spec()
    };
    let error = launcher.launch(&named).await.unwrap_err();
    assert!(error.to_string().contains("none of ours"), "{error}");
}

#[tokio::test]
async fn a_job_whose_answer_was_lost_is_found() {
    let (server, launcher) = ready().await;
    server.fault(on_create(1, Answer::DoneAndLost));
    assert_eq!(launcher.launch(&spec()).await, Ok(Launched::AlreadyThere));
    assert_eq!(server.pods_of(LOADER).len(), 1);
}

#[tokio::test]
async fn a_job_is_shown_as_soon_as_it_is_made() {
    let (server, launcher) = ready().await;
    // Nothing is heard of it: watches and lists fail.
    deafen(&server).await;
    assert_eq!(launcher.launch(&spec()).await, Ok(Launched::New));
    let jobs = launcher.jobs().await.unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!((jobs[0].name.as_str(), jobs[0].attempt), (LOADER, 1));
}

#[tokio::test]
async fn a_name_is_taken_until_the_last_pod_is_gone() {
    let (server, launcher) = ready().await;
    launcher.launch(&spec()).await.unwrap();
    server.pod(LOADER).runs();
    until_job(&launcher, |job| job.starts == 1).await;

    // Somebody deletes the Job and does not wait for its pod.
    server.ends_pods(false);
    let pod = server.pod(LOADER);
    server.delete_job(LOADER, false);
    let left = until_job(&launcher, |job| job.is_deleting).await;
    assert_eq!(left.alive, 1);
    let next = JobSpec {
        attempt: 2,
        ..spec()
    };
    let error = launcher.launch(&next).await.unwrap_err();
    assert!(matches!(error, LaunchError::Taken(_)), "{error:?}");

    pod.is_gone();
    until(&launcher, <[_]>::is_empty).await;
    assert_eq!(launcher.launch(&next).await, Ok(Launched::New));
}

#[tokio::test]
async fn a_missing_right_is_refused_and_named() {
    let (server, launcher) = ready().await;
    assert_eq!(launcher.ready().await, Ok(()));
    server.forbid("create", "jobs");
    let error = launcher.ready().await.unwrap_err();
    assert_eq!(
        error,
        LaunchError::Refused(
            "queue-manager has no right to create Jobs in namespace streamforge".to_owned()
        )
    );
    let error = launcher.launch(&spec()).await.unwrap_err();
    assert!(matches!(error, LaunchError::Refused(_)), "{error:?}");
    assert!(error.to_string().contains("403 Forbidden"), "{error}");
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_what_can_pass_is_not() {
    let cases = [
        (400, false),
        (403, false),
        (422, false),
        (429, true),
        (500, true),
        (503, true),
    ];
    let (server, launcher) = ready().await;
    for (code, can_pass) in cases {
        // It asks to wait for longer than a request is tried, so it is not tried again.
        server.fault(on_create(1, Answer::Status(code, Some(600))));
        let error = launcher.launch(&spec()).await.unwrap_err();
        let is_unavailable = matches!(error, LaunchError::Unavailable(_));
        assert_eq!(is_unavailable, can_pass, "{code}: {error}");
        assert!(error.to_string().contains(&code.to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_missing_namespace_is_refused() {
    let server = ApiServer::start().await.unwrap();
    let settings = KubernetesSettings {
        namespace: Some("elsewhere".to_owned()),
        ..KubernetesSettings::default()
    };
    let launcher = launcher_with(&server, settings);
    let error = launcher.launch(&spec()).await.unwrap_err();
    assert!(matches!(error, LaunchError::Refused(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("namespaces \"elsewhere\" not found"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_asks_to_wait_is_given_that_time() {
    let (server, launcher) = ready().await;
    server.fault(on_create(2, Answer::Status(429, Some(1))));
    let begun = Instant::now();
    assert_eq!(launcher.launch(&spec()).await, Ok(Launched::New));
    assert!(begun.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn what_passes_soon_is_tried_again() {
    let (server, launcher) = ready().await;
    server.fault(on_create(3, Answer::Status(503, None)));
    assert_eq!(launcher.launch(&spec()).await, Ok(Launched::New));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unavailable() {
    let server = ApiServer::start().await.unwrap();
    let settings = KubernetesSettings {
        request_timeout: Duration::from_millis(300),
        ..KubernetesSettings::default()
    };
    let launcher = launcher_with(&server, settings);
    server.fault(on_create(1, Answer::Silence));
    let error = launcher.launch(&spec()).await.unwrap_err();
    assert_eq!(
        error,
        LaunchError::Unavailable(format!(
            "can't create Job {LOADER}, the API server did not answer within 0.3 s"
        ))
    );
}

#[tokio::test]
async fn a_password_never_stands_in_a_job() {
    let (server, launcher) = ready().await;
    let mut spec = spec();
    spec.env
        .insert("KAFKA_PASSWORD".to_owned(), "hunter2".to_owned());
    let error = launcher.launch(&spec).await.unwrap_err();
    assert!(matches!(error, LaunchError::Refused(_)), "{error:?}");
    assert!(!error.to_string().contains("hunter2"));
    assert_eq!(server.job(LOADER), None);
}

#[tokio::test]
async fn installations_in_one_namespace_do_not_see_each_other() {
    let (server, first) = ready().await;
    let settings = KubernetesSettings {
        job: JobSettings {
            instance: "staging".to_owned(),
            ..JobSettings::default()
        },
        ..KubernetesSettings::default()
    };
    let second = launcher_with(&server, settings);
    first.launch(&spec()).await.unwrap();
    until_job(&first, |_| true).await;
    let seen = until(&second, |_| true).await;
    assert_eq!(seen, []);
    let theirs = JobSpec {
        name: "job-loader-api-candles-btcusdt-xyz789".to_owned(),
        ..spec()
    };
    second.launch(&theirs).await.unwrap();
    let seen = until(&second, |jobs| !jobs.is_empty()).await;
    let names: Vec<_> = seen.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, [theirs.name.as_str()]);
    let seen = until(&first, |_| true).await;
    let names: Vec<_> = seen.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, [LOADER]);
    // One that begins later sees what the first one made.
    until_job(&launcher(&server), |_| true).await;
}
