//! Whatever is killed at whatever moment: the truth is told afterwards, and nothing runs unnoticed.

use std::{path::Path, process::Stdio, time::Duration};

use queue_manager::launcher::{
    JobPhase, Launched, Launcher, TroubleKind, process::ProcessLauncher,
};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::rig::{LIMIT, NAME, Rig, job_that, runs, settings_for, spec, until};

const UNTIL_TOLD: &str = "echo x >> $DIR/starts; echo $$ > $DIR/pid; while ! [ -e $DIR/end ]; do sleep 0.05; done; exit $(cat $DIR/end)";

#[tokio::test]
async fn a_second_launcher_adopts_what_the_first_started() {
    let rig = Rig::new(UNTIL_TOLD);
    rig.launch().await.unwrap();
    let worker = rig.pid("pid").await;
    let second = rig.second();
    assert_eq!(second.launch(&spec()).await, Ok(Launched::AlreadyThere));
    let job = job_that(&second, |job| job.alive == 1).await;
    assert_eq!((job.phase, job.starts), (JobPhase::Running, 1));
    std::fs::write(rig.mark("end"), "70").unwrap();
    let job = job_that(&second, |job| job.phase == JobPhase::Failed).await;
    assert_eq!(job.trouble.unwrap().kind, TroubleKind::ExitCode(70));
    assert!(!runs(worker));
}

#[tokio::test]
async fn two_launchers_make_one_job() {
    let rig = Rig::new(UNTIL_TOLD);
    let second = rig.second();
    let spec = spec();
    let found = tokio::join!(
        rig.launcher.launch(&spec),
        second.launch(&spec),
        rig.launcher.launch(&spec),
        second.launch(&spec)
    );
    let found = [found.0, found.1, found.2, found.3];
    let new = found.iter().filter(|found| **found == Ok(Launched::New));
    assert_eq!(new.count(), 1, "{found:?}");
    let there = found
        .iter()
        .filter(|found| **found == Ok(Launched::AlreadyThere));
    assert_eq!(there.count(), 3, "{found:?}");
    rig.pid("pid").await;
    std::fs::write(rig.mark("end"), "0").unwrap();
    rig.over().await;
    assert_eq!(std::fs::read_to_string(rig.mark("starts")).unwrap(), "x\n");
}

#[tokio::test]
async fn a_worker_whose_shim_was_killed_is_seen_to_its_end() {
    let rig = Rig::new(UNTIL_TOLD);
    rig.launch().await.unwrap();
    let worker = rig.pid("pid").await;
    let first = rig.shim();
    rig.kill_shim();
    until(async || rig.shim() != first).await;
    let job = rig.job_that(|job| job.alive == 1).await;
    assert_eq!(job.phase, JobPhase::Running);
    assert!(runs(worker));
    std::fs::write(rig.mark("end"), "0").unwrap();
    let job = rig.over().await;
    assert_eq!((job.phase, job.alive, job.starts), (JobPhase::Failed, 0, 1));
    assert_eq!(job.trouble.unwrap().kind, TroubleKind::Unknown);
}

#[tokio::test]
async fn a_shim_that_is_killed_at_any_moment_leaves_a_job_that_can_be_deleted() {
    let rig = Rig::new("echo $$ >> $DIR/pids; while :; do sleep 0.05; done");
    for moment in 0..20 {
        rig.launch().await.unwrap();
        tokio::time::sleep(Duration::from_millis(moment)).await;
        rig.kill_shim();
        let job = rig
            .job_that(|job| job.alive == 1 || job.ended.is_some())
            .await;
        assert_ne!(job.phase, JobPhase::Succeeded, "{moment}");
        rig.launcher.delete(NAME).await.unwrap();
        rig.gone().await;
    }
    let pids = std::fs::read_to_string(rig.mark("pids")).unwrap();
    for pid in pids.lines() {
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        assert!(!runs(pid), "{pid}");
    }
}

#[tokio::test]
async fn a_worker_whose_shim_was_killed_can_be_deleted() {
    let rig = Rig::new(UNTIL_TOLD);
    rig.launch().await.unwrap();
    let worker = rig.pid("pid").await;
    rig.kill_shim();
    rig.launcher.delete(NAME).await.unwrap();
    rig.gone().await;
    assert!(!runs(worker));
}

#[tokio::test]
async fn a_worker_whose_shim_was_killed_keeps_its_deadline() {
    let rig = Rig::new(UNTIL_TOLD);
    let mut spec = spec();
    spec.deadline = Some(Duration::from_secs(4));
    rig.launcher.launch(&spec).await.unwrap();
    let worker = rig.pid("pid").await;
    rig.kill_shim();
    let job = rig.over().await;
    assert_eq!(job.trouble.unwrap().kind, TroubleKind::Deadline);
    assert!(!runs(worker));
}

#[tokio::test]
async fn a_worker_whose_number_was_never_written_is_found_and_ended() {
    let rig = Rig::new(UNTIL_TOLD);
    rig.launch().await.unwrap();
    let worker = rig.pid("pid").await;
    rig.kill_shim();
    // As if the shim had been killed between the start and the note of it.
    let path = rig.jobs_dir().join(NAME).join("status.json");
    let mut status = rig.status();
    status["starts"][0]["process"] = serde_json::Value::Null;
    std::fs::write(&path, status.to_string()).unwrap();
    let job = rig.job_that(|job| job.alive == 1).await;
    assert_eq!(job.starts, 1);
    rig.launcher.delete(NAME).await.unwrap();
    rig.gone().await;
    assert!(!runs(worker));
}

#[tokio::test]
async fn a_worker_whose_folder_is_removed_is_ended() {
    let rig = Rig::new(UNTIL_TOLD);
    rig.launch().await.unwrap();
    let worker = rig.pid("pid").await;
    std::fs::remove_dir_all(rig.jobs_dir().join(NAME)).unwrap();
    until(async || !runs(worker)).await;
    assert_eq!(rig.jobs().await, []);
}

#[tokio::test]
async fn a_job_of_which_all_was_killed_is_lost() {
    let rig = Rig::new(UNTIL_TOLD);
    rig.launch().await.unwrap();
    let worker = rig.pid("pid").await;
    rig.kill_shim();
    kill_process_group(worker, Signal::KILL).unwrap();
    let job = rig.over().await;
    assert_eq!((job.phase, job.alive), (JobPhase::Failed, 0));
    assert_eq!(job.trouble.unwrap().kind, TroubleKind::Unknown);
    until(async || !rig.status()["ended"].is_null()).await;
}

#[tokio::test]
async fn numbers_that_are_used_again_are_nobody() {
    let rig = Rig::new(UNTIL_TOLD);
    rig.launch().await.unwrap();
    let worker = rig.pid("pid").await;
    rig.kill_shim();
    kill_process_group(worker, Signal::KILL).unwrap();
    rig.over().await;
    until(async || !rig.status()["ended"].is_null()).await;
    // As after a reboot: another process has the worker's number.
    let mut status = rig.status();
    status["ended"] = serde_json::Value::Null;
    status["starts"][0] = serde_json::json!({
        "started": 1_000, "process": {"pid": std::process::id(), "since": 1},
        "ended": null, "exit_code": null, "signal": null,
    });
    let path = rig.jobs_dir().join(NAME).join("status.json");
    std::fs::write(&path, status.to_string()).unwrap();
    let job = rig.over().await;
    assert_eq!((job.phase, job.alive), (JobPhase::Failed, 0));
    let trouble = job.trouble.unwrap();
    assert_eq!(trouble.kind, TroubleKind::Unknown);
    assert_eq!(trouble.message, "it is gone: the machine was started again");
}

#[tokio::test]
async fn a_shim_that_is_told_to_end_tells_its_worker() {
    let rig = Rig::new("trap 'exit 143' TERM; echo $$ > $DIR/pid; while :; do sleep 0.05; done");
    rig.launch().await.unwrap();
    let worker = rig.pid("pid").await;
    kill_process(rig.shim(), Signal::TERM).unwrap();
    let job = rig.over().await;
    assert_eq!((job.phase, job.starts), (JobPhase::Failed, 1));
    assert_eq!(job.trouble.unwrap().kind, TroubleKind::Evicted);
    assert!(!runs(worker));
}

/// This test's own program, run again as a launcher that is killed: see below.
const ONLY_LAUNCHES: &str = "STREAMFORGE_TEST_LAUNCH_INTO";

#[tokio::test]
async fn a_launcher_that_is_killed_leaves_a_whole_job_or_none() {
    let vars = streamforge_utils::config::process_vars();
    if let Some(settings) = vars.get(ONLY_LAUNCHES) {
        return launch_into(settings).await;
    }
    let mut made = 0;
    for moment in 0..24 {
        let rig = Rig::new(UNTIL_TOLD);
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "process_launcher::killed::a_launcher_that_is_killed_leaves_a_whole_job_or_none",
            ])
            .env(
                ONLY_LAUNCHES,
                format!("{}:{}", rig.jobs_dir().display(), rig.mark("").display()),
            )
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        // From before its first step to after its last one, whatever the machine.
        let begun = async {
            while std::fs::read_dir(rig.jobs_dir()).unwrap().count() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(LIMIT, begun).await.unwrap();
        tokio::time::sleep(Duration::from_millis(moment)).await;
        child.kill().await.unwrap();
        // What it started may still come.
        let before = rig.jobs().await.len();
        let launched = rig.launch().await.unwrap();
        made += u32::from(launched == Launched::AlreadyThere);
        assert!(before == 0 || launched == Launched::AlreadyThere);
        rig.pid("pid").await;
        std::fs::write(rig.mark("end"), "0").unwrap();
        let job = rig.over().await;
        assert_eq!(
            (job.phase, job.starts),
            (JobPhase::Succeeded, 1),
            "{moment}"
        );
        assert_eq!(
            std::fs::read_to_string(rig.mark("starts")).unwrap(),
            "x\n",
            "{moment}"
        );
    }
    assert!(made > 0, "it was always killed before it did anything");
}

async fn launch_into(settings: &str) {
    let [jobs_dir, marks] = settings.split(':').collect::<Vec<_>>()[..] else {
        panic!("{settings}");
    };
    let settings = settings_for(Path::new(jobs_dir), Path::new(marks), UNTIL_TOLD);
    let launcher = ProcessLauncher::new(settings).unwrap();
    launcher.launch(&spec()).await.unwrap();
    std::future::pending::<()>().await;
}
