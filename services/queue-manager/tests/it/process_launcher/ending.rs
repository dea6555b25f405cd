//! How a Job ends by itself, and when it is started again.

use std::{fs, time::Duration};

use queue_manager::launcher::{JobPhase, LaunchError, Launched, Launcher, TroubleKind};

use super::rig::{NAME, Rig, runs, spec, until};

#[tokio::test]
async fn a_job_runs_to_its_end() {
    let rig = Rig::new("echo target $1 run $RUN port $METRICS_PORT");
    rig.launcher.ready().await.unwrap();
    assert_eq!(rig.launch().await, Ok(Launched::New));
    let job = rig.over().await;
    assert_eq!(
        (job.phase, job.starts, job.trouble.clone()),
        (JobPhase::Succeeded, 1, None)
    );
    assert!(
        job.ended.is_some_and(|ended| ended >= job.created),
        "{job:?}"
    );
    let log = rig.launcher.logs(NAME, 10).await.unwrap().unwrap();
    assert_eq!(log, "target dummy-service run 1 port 0\n");
    assert_eq!(rig.launch().await, Ok(Launched::AlreadyThere));
    assert_eq!(rig.launcher.logs("job-of-nobody", 1).await, Ok(None));
}

#[tokio::test]
async fn what_can_pass_is_tried_again() {
    let rig = Rig::new("echo x >> $DIR/starts; [ $(wc -l < $DIR/starts) = 3 ]");
    rig.launch().await.unwrap();
    let job = rig.over().await;
    assert_eq!((job.phase, job.starts), (JobPhase::Succeeded, 3));
}

#[tokio::test]
async fn what_never_passes_is_tried_three_times() {
    for (script, kind) in [
        ("exit 1", TroubleKind::ExitCode(1)),
        ("exit 143", TroubleKind::ExitCode(143)),
        ("kill -9 $$", TroubleKind::Signal(9)),
    ] {
        let rig = Rig::new(script);
        rig.launch().await.unwrap();
        let job = rig.over().await;
        assert_eq!((job.phase, job.starts), (JobPhase::Failed, 3), "{script}");
        assert_eq!(job.trouble.unwrap().kind, kind, "{script}");
    }
}

#[tokio::test]
async fn what_no_retry_can_mend_is_not_tried_again() {
    for code in [70, 78] {
        let rig = Rig::new(&format!("exit {code}"));
        rig.launch().await.unwrap();
        let job = rig.over().await;
        assert_eq!((job.phase, job.starts), (JobPhase::Failed, 1), "{code}");
        assert_eq!(job.trouble.unwrap().kind, TroubleKind::ExitCode(code));
    }
}

#[tokio::test]
async fn a_deadline_ends_a_job_whatever_it_does() {
    let rig = Rig::with(
        "trap '' TERM; echo $$ > $DIR/pid; while :; do sleep 1; done",
        |settings| settings.grace = Duration::from_millis(300),
    );
    let mut spec = spec();
    spec.deadline = Some(Duration::from_millis(500));
    rig.launcher.launch(&spec).await.unwrap();
    let job = rig.over().await;
    assert_eq!((job.phase, job.alive), (JobPhase::Failed, 0));
    assert_eq!(job.trouble.unwrap().kind, TroubleKind::Deadline);
}

#[tokio::test]
async fn what_a_worker_leaves_behind_is_ended() {
    // In a session of its own, where no signal to the worker's group reaches it.
    let rig = Rig::new(
        "setsid sh -c 'echo $$ > $DIR/pid; sleep 600' & while ! [ -s $DIR/pid ]; do sleep 0.05; done",
    );
    rig.launch().await.unwrap();
    let job = rig.over().await;
    assert_eq!((job.phase, job.alive), (JobPhase::Succeeded, 0));
    let left = rig.pid("pid").await;
    until(async || !runs(left)).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_refused() {
    let rig = Rig::with("", |settings| {
        settings.program = "/nowhere/streamforge".into()
    });
    assert!(matches!(rig.launch().await, Err(LaunchError::Refused(_))));
    let ready = rig.launcher.ready().await;
    assert!(matches!(ready, Err(LaunchError::Refused(_))));
    assert_eq!(rig.jobs().await, []);
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_said() {
    let rig = Rig::with("", |settings| {
        let program = settings.jobs_dir.with_file_name("no-program");
        fs::copy("/etc/hostname", &program).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, mode).unwrap();
        settings.program = program;
    });
    rig.launch().await.unwrap();
    let job = rig.over().await;
    assert_eq!((job.phase, job.starts), (JobPhase::Failed, 0));
    assert_eq!(job.trouble.unwrap().kind, TroubleKind::Program);
}
