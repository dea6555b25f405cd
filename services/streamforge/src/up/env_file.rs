//! The file that other terminals `source`: whole or not there, readable by its owner only, and gone with its stack.
//!
//! A lock on it tells a stack that is up from one that was killed and could not remove its file. What somebody else
//! wrote is never replaced and never removed.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    os::unix::fs::MetadataExt,
    path::{self, Path, PathBuf},
    process,
};

use anyhow::{Context, bail};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use streamforge_utils::config::Vars;
use tempfile::NamedTempFile;

/// How every such file begins.
const HEADER: &str = "# The dev stack of `streamforge up`";

/// Beside the file for workers, the one for people: `streamforge-operator.env`.
pub(super) fn for_operators(path: &Path) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push("-operator");
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// The variables as a shell reads them, one a line.
///
/// # Errors
/// A value has a byte that no shell can take.
pub(super) fn lines(vars: &Vars) -> anyhow::Result<String> {
    let mut lines = String::new();
    for (name, value) in vars {
        let quoted = shlex::try_quote(value).with_context(|| format!("quote {name}"))?;
        lines.push_str(&format!("{name}={quoted}\n"));
    }
    Ok(lines)
}

/// A place for the file, which can be written and is nobody else's.
#[derive(Debug)]
pub(super) struct EnvFile {
    path: PathBuf,
    /// Beside it, so that a rename puts it there.
    unpublished: NamedTempFile,
}

impl EnvFile {
    /// Nothing is at `path` after this but what was there before.
    ///
    /// # Errors
    /// There can't be such a file, or there is one that must not be replaced.
    pub(super) fn reserve(path: &Path) -> anyhow::Result<Self> {
        let cannot_write = || format!("can't write {}", path.display());
        let place = path::absolute(path).with_context(cannot_write)?;
        let folder = place.parent().with_context(cannot_write)?;
        refuse_to_replace(&place, path)?;
        let unpublished = tempfile::Builder::new()
            .prefix(".streamforge-env-")
            .tempfile_in(folder)
            .with_context(cannot_write)?;
        flock(&unpublished, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("lock {}", path.display()))?;
        Ok(Self {
            path: place,
            unpublished,
        })
    }

    /// Puts the file there, all of it at once.
    ///
    /// # Errors
    /// It can't be written.
    pub(super) fn publish(mut self, lines: &str) -> anyhow::Result<Published> {
        let text = format!(
            "{HEADER}, process {}; removed when it ends. Read it with: set -a; . FILE; set +a\n{lines}",
            process::id()
        );
        let written = self.unpublished.write_all(text.as_bytes());
        let cannot_write = || format!("can't write {}", self.path.display());
        written.with_context(cannot_write)?;
        let file = self.unpublished.persist(&self.path);
        let file = file
            .map_err(|error| error.error)
            .with_context(cannot_write)?;
        Ok(Published {
            path: self.path,
            file,
        })
    }
}

/// A file that a stack which is gone has left may be replaced, and one that is empty; nothing else.
/// `typed` is what people call it.
fn refuse_to_replace(path: &Path, typed: &Path) -> anyhow::Result<()> {
    let shown = typed.display();
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("can't write {shown}")),
    };
    if !found.is_file() {
        bail!("can't write {shown}: it is there and no plain file; name another with --env-file");
    }
    let mut file = File::open(path).with_context(|| format!("can't read {shown}"))?;
    let mut begin = Vec::new();
    Read::by_ref(&mut file)
        .take(HEADER.len() as u64)
        .read_to_end(&mut begin)
        .with_context(|| format!("can't read {shown}"))?;
    if !begin.is_empty() && begin != HEADER.as_bytes() {
        bail!("{shown} is something else, and is not replaced; name another file with --env-file");
    }
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => bail!(
            "{shown} belongs to a dev stack that is up; use that, end it, or name another file with --env-file"
        ),
        locked => locked.with_context(|| format!("lock {shown}")),
    }
}

/// The file is there. It is removed when this is dropped, if it still is this one.
#[derive(Debug)]
pub(super) struct Published {
    path: PathBuf,
    /// Holds the lock.
    file: File,
}

impl Published {
    /// Where it is, from the root on.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn is_there(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let there = fs::symlink_metadata(&self.path).map(identity);
        matches!((there, self.file.metadata().map(identity)), (Ok(there), Ok(ours)) if there == ours)
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        if !self.is_there() {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::error!(%error, path = %self.path.display(), "Could not remove the file of variables");
        }
    }
}

#[cfg(test)]
mod tests;
