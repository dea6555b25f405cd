//! Deletion, replacement, and how long what has ended is kept.

use std::time::Duration;

use queue_manager::launcher::{JobPhase, LaunchError, Launched, Launcher};

use super::rig::{NAME, Rig, runs, spec, until};

/// Ends at SIGTERM, and says so.
const OBEDIENT: &str =
    "trap 'echo x >> $DIR/told; exit 143' TERM; echo $$ > $DIR/pid; while :; do sleep 0.05; done";
const STUBBORN: &str = "trap '' TERM; echo $$ > $DIR/pid; while :; do sleep 1; done";

#[tokio::test]
async fn a_deleted_job_ends_in_its_grace_and_is_gone() {
    let rig = Rig::new(OBEDIENT);
    rig.launch().await.unwrap();
    let worker = rig.pid("pid").await;
    rig.launcher.delete(NAME).await.unwrap();
    rig.gone().await;
    assert!(!runs(worker));
    let told = std::fs::read_to_string(rig.mark("told")).unwrap();
    assert_eq!(told, "x\n", "once: a second signal means at once");
    rig.launcher.delete(NAME).await.unwrap();
    rig.launcher.delete("../marks").await.unwrap();
    assert!(rig.mark("told").exists());
}

#[tokio::test]
async fn a_worker_that_ignores_its_end_is_killed() {
    let rig = Rig::with(STUBBORN, |settings| settings.grace = Duration::from_secs(1));
    rig.launch().await.unwrap();
    let worker = rig.pid("pid").await;
    rig.launcher.delete(NAME).await.unwrap();
    let job = rig.job_that(|job| job.is_deleting).await;
    assert_eq!((job.phase, job.alive), (JobPhase::Running, 1));
    assert!(matches!(
        rig.launch().await,
        Err(LaunchError::Unavailable(_))
    ));
    rig.gone().await;
    assert!(!runs(worker));
}

#[tokio::test]
async fn an_ended_job_is_deleted_with_its_folder() {
    let rig = Rig::new("exit 0");
    rig.launch().await.unwrap();
    rig.over().await;
    rig.launcher.delete(NAME).await.unwrap();
    rig.gone().await;
}

#[tokio::test]
async fn an_ended_job_is_kept_for_a_while() {
    let rig = Rig::with("exit 0", |settings| settings.kept = Duration::from_secs(2));
    rig.launch().await.unwrap();
    rig.over().await;
    rig.gone().await;
}

#[tokio::test]
async fn a_job_is_replaced_by_a_later_attempt_once_it_is_over() {
    let rig = Rig::new("echo $$ > $DIR/pid; while ! [ -e $DIR/end ]; do sleep 0.05; done");
    rig.launch().await.unwrap();
    let mut second = spec();
    second.attempt = 2;
    let mut other_run = spec();
    other_run.run = 2;
    let mut other = spec();
    other.queue_id = "wf-btcusdt-dummy-20240801-zzz999".parse().unwrap();
    for taken in [&second, &other_run, &other] {
        let launched = rig.launcher.launch(taken).await;
        assert!(
            matches!(launched, Err(LaunchError::Taken(_))),
            "{launched:?}"
        );
    }
    std::fs::write(rig.mark("end"), "").unwrap();
    rig.over().await;
    until(async || rig.launcher.launch(&second).await == Ok(Launched::New)).await;
    let job = rig.job_that(|job| job.attempt == 2).await;
    assert_eq!(rig.jobs().await.len(), 1, "{job:?}");
    for taken in [&spec(), &other] {
        let launched = rig.launcher.launch(taken).await;
        assert!(
            matches!(launched, Err(LaunchError::Taken(_))),
            "{launched:?}"
        );
    }
}
