//! Deleting Jobs, and reading the logs that they leave.

use queue_manager::launcher::{JobSpec, Launched, Launcher};

use super::{LOADER, deafen, ready, spec, until, until_job};

#[tokio::test]
async fn a_deleted_job_is_shown_until_its_pod_is_gone() {
    let (server, launcher) = ready().await;
    launcher.launch(&spec()).await.unwrap();
    server.pod(LOADER).runs();
    until_job(&launcher, |job| job.starts == 1).await;
    server.ends_pods(false);
    launcher.delete(LOADER).await.unwrap();
    let job = until_job(&launcher, |job| job.is_deleting).await;
    assert_eq!(job.alive, 1);
    // Its worker gets SIGTERM, and ends.
    server.pod(LOADER).exits(143, "");
    until(&launcher, <[_]>::is_empty).await;
}

#[tokio::test]
async fn a_job_that_is_not_there_needs_no_deleting() {
    let (server, launcher) = ready().await;
    assert_eq!(launcher.delete("job-nowhere").await, Ok(()));
    launcher.launch(&spec()).await.unwrap();
    // Before it is heard of.
    assert_eq!(launcher.delete(LOADER).await, Ok(()));
    assert_eq!(server.job(LOADER), None);
    assert_eq!(launcher.delete(LOADER).await, Ok(()));
}

#[tokio::test]
async fn a_newer_job_of_the_same_name_is_not_deleted() {
    let (server, launcher) = ready().await;
    launcher.launch(&spec()).await.unwrap();
    until_job(&launcher, |job| job.alive == 1).await;
    let old = server.job(LOADER).unwrap();

    // Another replica replaces it, and this one has not heard of it.
    deafen(&server).await;
    server.delete_job(LOADER, true);
    let mut new = old.clone();
    new["metadata"]["annotations"]["streamforge/attempt"] = "2".into();
    server.put_job(new);

    assert_eq!(launcher.delete(LOADER).await, Ok(()));
    let there = server.job(LOADER).unwrap();
    assert_ne!(there["metadata"]["uid"], old["metadata"]["uid"]);
    assert!(there["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test]
async fn a_log_outlives_its_program() {
    let (server, launcher) = ready().await;
    assert_eq!(launcher.logs(LOADER, 10).await, Ok(None));
    launcher.launch(&spec()).await.unwrap();
    assert_eq!(launcher.logs(LOADER, 10).await, Ok(None));

    server.pod(LOADER).logs("one\ntwo\nthree\n");
    server.pod(LOADER).exits(1, "three");
    // The next pod has no log yet.
    assert_eq!(server.pods_of(LOADER).len(), 2);
    let log = launcher.logs(LOADER, 2).await.unwrap();
    assert_eq!(log.as_deref(), Some("two\nthree\n"));

    server.pod(LOADER).logs("four\n");
    let log = launcher.logs(LOADER, 2).await.unwrap();
    assert_eq!(log.as_deref(), Some("four\n"));
}

#[tokio::test]
async fn of_a_long_log_the_newest_lines_are_kept() {
    let (server, launcher) = ready().await;
    launcher.launch(&spec()).await.unwrap();
    let line = |n: usize| format!("{n} {}\n", "x".repeat(1_000));
    let log: String = (0..2_000).map(line).collect();
    server.pod(LOADER).logs(&format!("{log}the crash\n"));
    let read = launcher.logs(LOADER, 1_000).await.unwrap().unwrap();
    assert!(
        read.ends_with("\nthe crash\n"),
        "{}",
        &read[read.len() - 100..]
    );
    assert!(
        (200_000..=256 * 1024).contains(&read.len()),
        "{}",
        read.len()
    );
    let first = read.lines().next().unwrap();
    assert_eq!(first.len(), "1999 ".len() + 1_000, "it is whole");
    // And of one line that is longer than all that is kept, its end.
    let endless = format!("{}the crash", "x".repeat(1_000_000));
    server.pod(LOADER).logs(&endless);
    let read = launcher.logs(LOADER, 1_000).await.unwrap().unwrap();
    assert!(read.ends_with("xthe crash"));
    assert_eq!(read.len(), 256 * 1024);
}

#[tokio::test]
async fn a_log_that_can_not_be_read_is_no_empty_log() {
    let (server, launcher) = ready().await;
    launcher.launch(&spec()).await.unwrap();
    server.forbid("get", "pods/log");
    let error = launcher.logs(LOADER, 2).await.unwrap_err();
    assert!(error.to_string().contains("pods/log"), "{error}");
}

#[tokio::test]
async fn a_job_can_take_the_name_of_a_deleted_one() {
    let (_server, launcher) = ready().await;
    launcher.launch(&spec()).await.unwrap();
    until_job(&launcher, |job| job.alive == 1).await;
    launcher.delete(LOADER).await.unwrap();
    until(&launcher, <[_]>::is_empty).await;
    let next = JobSpec {
        attempt: 2,
        ..spec()
    };
    assert_eq!(launcher.launch(&next).await, Ok(Launched::New));
    until_job(&launcher, |job| job.attempt == 2).await;
}
