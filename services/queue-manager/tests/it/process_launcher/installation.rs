//! A folder of Jobs is of one installation.

use queue_manager::launcher::{LaunchError, Launcher, process::ProcessLauncher};

use super::rig::Rig;

#[tokio::test]
async fn a_folder_of_another_installation_is_refused() {
    let ours = "a".repeat(32);
    let rig = Rig::with("sleep 60", |settings| {
        settings.installation = Some("a".repeat(32));
    });
    rig.launch().await.unwrap();
    rig.job_that(|job| job.alive == 1).await;
    let of = |id: &str| {
        let mut settings = rig.settings.clone();
        settings.installation = Some(id.to_owned());
        ProcessLauncher::new(settings)
    };
    assert_eq!(of(&ours).unwrap().jobs().await.unwrap().len(), 1);
    let error = of(&"b".repeat(32)).unwrap_err();
    assert!(matches!(error, LaunchError::Refused(_)), "{error:?}");
    let said = error.to_string();
    for word in ["JOBS_DIR", "ARANGO_DB", &ours, ".installation"] {
        assert!(said.contains(word), "{said}");
    }
    // It was torn by a crash, or an older release made the folder.
    for before in [Some(""), None] {
        let path = rig.jobs_dir().join(".installation");
        match before {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        of(&ours).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), ours);
    }
    assert_eq!(rig.jobs().await.len(), 1);
}
