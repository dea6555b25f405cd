//! Where the logs of a demo go: one file for each worker, one for the stack. They are kept if they are needed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::Context;
use streamforge_utils::logging::TextFields;
use tempfile::TempDir;

use super::plan::Workflow;

/// Lines of a log that are shown of a worker that failed.
const TAIL_LINES: usize = 12;
/// Characters of a line that are shown: enough for what is wrong, too little for a whole configuration.
const LINE_CHARS: usize = 400;
/// As much of the end of a log as holds that many lines.
const TAIL_BYTES: usize = 16 * 1024;

/// The folder of the logs.
#[derive(Debug)]
pub(super) struct Logs {
    folder: PathBuf,
    /// Of a folder that goes with us unless it is kept.
    temporary: Option<TempDir>,
}

impl Logs {
    /// In `folder`, or in one that is removed when this is dropped.
    ///
    /// # Errors
    /// The folder can't be made.
    pub(super) fn open(folder: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(folder) = folder {
            fs::create_dir_all(folder)
                .with_context(|| format!("make the folder {}", folder.display()))?;
            return Ok(Self {
                folder: folder.to_owned(),
                temporary: None,
            });
        }
        let temporary = tempfile::Builder::new()
            .prefix("streamforge-demo-")
            .tempdir()
            .context("make a temporary folder for the logs")?;
        Ok(Self {
            folder: temporary.path().to_owned(),
            temporary: Some(temporary),
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the logs are, and for how long, for people.
    pub(super) fn place(&self) -> String {
        let folder = self.folder.display();
        match self.temporary {
            Some(_) => {
                format!("Logs are in {folder} (removed if all goes well; --logs DIR keeps them)")
            }
            None => format!("Logs are in {folder}"),
        }
    }

    /// Sends what this process logs, which is what the stack says, into `stack.log`.
    ///
    /// # Errors
    /// The file can't be made.
    pub(super) fn start_own(&self) -> anyhow::Result<()> {
        let path = self.folder.join("stack.log");
        let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
        let logging = tracing_subscriber::fmt()
            .fmt_fields(TextFields)
            .with_ansi(false)
            .with_writer(Mutex::new(file));
        // Logging was started before only if two demos run in one process; the first one's file is good enough.
        let _ = logging.try_init();
        Ok(())
    }

    /// Where the log of a worker is.
    pub(super) fn path(&self, workflow: &Workflow, service: &str) -> PathBuf {
        let name = format!("{}-{service}.log", workflow.symbol.to_lower());
        self.folder.join(name)
    }

    /// Makes the log of a worker, empty.
    ///
    /// # Errors
    /// The file can't be made.
    pub(super) fn begin(&self, workflow: &Workflow, service: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(workflow, service);
        File::create(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }

    /// The folder stays.
    pub(super) fn keep(&mut self) {
        if let Some(temporary) = &mut self.temporary {
            temporary.disable_cleanup(true);
        }
    }
}

/// The last lines of a log.
pub(super) fn tail(path: &Path) -> String {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return format!("(no log: {error})"),
    };
    let end = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
    let lines: Vec<_> = end.lines().collect();
    let shown: Vec<_> = lines[lines.len().saturating_sub(TAIL_LINES)..]
        .iter()
        .map(|line| match line.char_indices().nth(LINE_CHARS) {
            Some((end, _)) => format!("{} ...", &line[..end]),
            None => (*line).to_owned(),
        })
        .collect();
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_our_own_goes_unless_it_is_kept() {
        let logs = Logs::open(None).unwrap();
        let folder = logs.folder().to_owned();
        assert!(logs.place().contains("removed if all goes well"));
        drop(logs);
        assert!(!folder.exists());

        let mut logs = Logs::open(None).unwrap();
        let folder = logs.folder().to_owned();
        logs.keep();
        drop(logs);
        assert!(folder.exists());
        fs::remove_dir(folder).unwrap();
    }

    #[test]
    fn a_given_folder_stays() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/b");
        let logs = Logs::open(Some(&folder)).unwrap();
        assert_eq!(logs.place(), format!("Logs are in {}", folder.display()));
        drop(logs);
        assert!(folder.is_dir());
    }

    #[test]
    fn shows_the_end_of_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert!(tail(&path).starts_with("(no log:"));
        let lines: Vec<_> = (0..5_000).map(|line| format!("line {line}")).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        let tail = tail(&path);
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert!(tail.ends_with("line 4998\nline 4999"), "{tail}");

        fs::write(&path, "ä".repeat(1_000)).unwrap();
        assert_eq!(super::tail(&path).chars().count(), LINE_CHARS + 4);
    }
}
