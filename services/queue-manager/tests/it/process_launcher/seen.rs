//! What can be seen of Jobs: changes, logs, folders that can't be read, and no password anywhere.

use std::{fs, path::Path, process::Command};

use queue_manager::launcher::{JobPhase, Launcher};

use super::rig::{LIMIT, NAME, Rig, SECRET, spec};

#[tokio::test]
async fn no_password_is_in_arguments_or_files() {
    let rig = Rig::new(
        "echo $$ > $DIR/pid; [ -n \"$KAFKA_PASSWORD\" ] && while ! [ -e $DIR/end ]; do sleep 0.05; done",
    );
    rig.launch().await.unwrap();
    rig.pid("pid").await;
    let listed = Command::new("ps")
        .args(["-e", "-ww", "-o", "args"])
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        listed.contains(NAME) || listed.contains("queue-manager shim"),
        "the shim is listed"
    );
    assert!(!listed.contains(SECRET));
    fs::write(rig.mark("end"), "").unwrap();
    assert_eq!(
        rig.over().await.phase,
        JobPhase::Succeeded,
        "it had the password"
    );
    assert!(files_below(rig.jobs_dir()) >= 4);
}

/// How many there are; none of them has the password.
fn files_below(folder: &Path) -> usize {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let counts = entries.map(|path| {
        if path.is_dir() {
            return files_below(&path);
        }
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains(SECRET), "{}", path.display());
        1
    });
    counts.sum()
}

#[tokio::test]
async fn a_change_wakes_who_waits() {
    let rig = Rig::new("while ! [ -e $DIR/end ]; do sleep 0.05; done");
    rig.launch().await.unwrap();
    rig.job_that(|job| job.phase == JobPhase::Running).await;
    fs::write(rig.mark("end"), "").unwrap();
    let ended = async {
        while rig.jobs().await[0].phase != JobPhase::Succeeded {
            rig.launcher.changed().await;
        }
    };
    tokio::time::timeout(LIMIT, ended).await.unwrap();
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_hides_no_other() {
    let rig = Rig::new("exit 0");
    let mut other = spec();
    other.name = "job-broken".to_owned();
    rig.launch().await.unwrap();
    rig.launcher.launch(&other).await.unwrap();
    rig.job_that(|job| job.name == "job-broken" && job.ended.is_some())
        .await;
    fs::write(rig.jobs_dir().join("job-broken/job.json"), "{").unwrap();
    let jobs = rig.jobs().await;
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    assert_eq!(jobs[0].name, NAME);
    assert!(
        rig.launcher.launch(&other).await.is_err(),
        "it is no Job that is not there"
    );
    rig.launcher.delete(&other.name).await.unwrap();
    assert!(!rig.jobs_dir().join(&other.name).exists());
}

#[tokio::test]
async fn a_log_is_bounded_and_its_end_is_told() {
    let rig = Rig::with(
        "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done; while ! [ -e $DIR/end ]; do sleep 0.05; done; echo last",
        |settings| settings.log_limit_bytes = 100_000,
    );
    rig.launch().await.unwrap();
    let log = rig.jobs_dir().join(NAME).join("log");
    let old = log.with_extension("old");
    super::rig::until(async || old.exists() && fs::metadata(&log).unwrap().len() < 100_000).await;
    fs::write(rig.mark("end"), "").unwrap();
    rig.over().await;
    let told = rig.launcher.logs(NAME, 1).await.unwrap().unwrap();
    assert_eq!(told, "last\n");
    let told = rig.launcher.logs(NAME, 3).await.unwrap().unwrap();
    assert_eq!(told.lines().count(), 3, "{told}");
}
