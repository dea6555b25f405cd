//! The file of tokens: a line each, `name role sha256-of-the-token`.
//!
//! A token is long and random, so that a plain hash tells nothing about it. Comparing takes the same time whichever
//! token was sent, known or not.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::{Caller, Rights};

/// How often the file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Most wrong lines that are named.
const MOST_FAULTS: usize = 20;
/// Larger than any list of tokens that people keep in a file.
const MOST_BYTES: u64 = 1 << 20;

/// Why the file can't be used, by what its owner does next.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// Make it, or mend the path.
    #[error("the file of tokens {path} can't be read")]
    Unreadable {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// `chmod o= FILE`.
    #[error(
        "the file of tokens {path} is open to every user of this machine (mode {mode:03o}): chmod o= it"
    )]
    OpenToOthers {
        /// Where it is.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Mend these lines.
    #[error("the file of tokens {path} has wrong lines: {}", .faults.join("; "))]
    Malformed {
        /// Where it is.
        path: PathBuf,
        /// What is wrong, by number of line; never what stands there.
        faults: Vec<String>,
    },
}

impl TokenFileError {
    /// There is no file: somebody took it away.
    fn is_gone(&self) -> bool {
        use std::io::ErrorKind::{NotADirectory, NotFound};
        matches!(self, Self::Unreadable { source, .. } if matches!(source.kind(), NotFound | NotADirectory))
    }
}

struct Entry {
    caller: Caller,
    hash: [u8; 32],
}

/// What tells a file from a changed one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    bytes: u64,
}

struct Loaded {
    entries: Vec<Entry>,
    stamp: Option<Stamp>,
    looked: Instant,
}

/// The tokens of a file, as they stand there now.
pub struct TokenFile {
    path: PathBuf,
    look_every: Duration,
    loaded: Mutex<Loaded>,
}

impl std::fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl TokenFile {
    /// Reads the file.
    ///
    /// # Errors
    /// It is not there, open to others, or has a wrong line. One without tokens lets nobody in.
    pub fn open(path: &Path) -> Result<Self, TokenFileError> {
        let stamp = look(path)?;
        let entries = read(path)?;
        if entries.is_empty() {
            tracing::warn!(path = %path.display(), "The token file has no tokens: nobody is let in");
        }
        Ok(Self {
            path: path.to_owned(),
            look_every: LOOK_EVERY,
            loaded: Mutex::new(Loaded {
                entries,
                stamp: Some(stamp),
                looked: Instant::now(),
            }),
        })
    }

    /// Whose token this is.
    #[cfg(test)]
    fn find(&self, token: &str) -> Option<Caller> {
        self.find_hash(&hash_of(token))
    }

    /// Whose token has this hash.
    pub(super) fn find_hash(&self, hash: &[u8; 32]) -> Option<Caller> {
        let mut loaded = self.loaded.lock().expect("nothing in here panics");
        self.refresh(&mut loaded);
        // Every entry is looked at, the first one that fits included.
        let mut found = u64::MAX;
        for (nth, entry) in (0u64..).zip(&loaded.entries) {
            let fits: Choice = entry.hash.ct_eq(hash);
            found.conditional_assign(&nth, fits);
        }
        let nth = usize::try_from(found).ok()?;
        loaded.entries.get(nth).map(|entry| entry.caller.clone())
    }

    /// Reads the file again if it has changed. One that is gone or has no tokens revokes all; if it can't be read or has a
    /// wrong line, what was read before stays.
    fn refresh(&self, loaded: &mut Loaded) {
        if loaded.looked.elapsed() < self.look_every {
            return;
        }
        loaded.looked = Instant::now();
        let stamp = match look(&self.path) {
            Ok(stamp) if loaded.stamp == Some(stamp) => return,
            Ok(stamp) => stamp,
            Err(error) if error.is_gone() => {
                loaded.revoke_all();
                return;
            }
            Err(error) => {
                // Said once, and again after the next good look.
                if loaded.stamp.take().is_some() {
                    tracing::error!(error = %Causes(&error), "The tokens read before count on");
                }
                return;
            }
        };
        loaded.stamp = Some(stamp);
        match read(&self.path) {
            Ok(entries) if entries.is_empty() => loaded.revoke_all(),
            Err(error) if error.is_gone() => loaded.revoke_all(),
            Ok(entries) => {
                tracing::info!(tokens = entries.len(), "Read the changed file of tokens");
                loaded.entries = entries;
            }
            Err(error) => {
                tracing::error!(error = %Causes(&error), "The tokens read before count on");
            }
        }
    }
}

impl Loaded {
    fn revoke_all(&mut self) {
        if !self.entries.is_empty() {
            tracing::warn!(
                revoked = self.entries.len(),
                "The token file is gone or has no tokens: all tokens are revoked"
            );
            self.entries.clear();
        }
    }
}

/// As it stands in the file.
pub(super) fn hash_of(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// An error with what caused it.
struct Causes<'a>(&'a TokenFileError);

impl std::fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        match std::error::Error::source(self.0) {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

fn look(path: &Path) -> Result<Stamp, TokenFileError> {
    let unreadable = |source| TokenFileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MOST_BYTES {
        let what = std::io::Error::other("it is no file, or larger than 1 MiB");
        return Err(unreadable(what));
    }
    // By the group it may be read: that is how Kubernetes hands a Secret to a user that is not root.
    let mode = metadata.mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(TokenFileError::OpenToOthers {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(Stamp {
        inode: metadata.ino(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        bytes: metadata.len(),
    })
}

fn read(path: &Path) -> Result<Vec<Entry>, TokenFileError> {
    let text = fs::read_to_string(path).map_err(|source| TokenFileError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    parse(&text).map_err(|faults| TokenFileError::Malformed {
        path: path.to_owned(),
        faults,
    })
}

/// Blank lines and those that begin with # say nothing.
fn parse(text: &str) -> Result<Vec<Entry>, Vec<String>> {
    let mut entries: Vec<Entry> = Vec::new();
    let (mut names, mut hashes) = (HashSet::new(), HashSet::new());
    let mut faults = Vec::new();
    let mut more = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fault = match parse_line(line) {
            Ok(entry) if !names.insert(entry.caller.name.clone()) => "its name stands there twice",
            Ok(entry) if !hashes.insert(entry.hash) => "its token stands there twice",
            Ok(entry) => {
                entries.push(entry);
                continue;
            }
            Err(fault) => fault,
        };
        if faults.len() < MOST_FAULTS {
            faults.push(format!("line {number}: {fault}"));
        } else {
            more += 1;
        }
    }
    if more > 0 {
        faults.push(format!("and {more} more"));
    }
    if faults.is_empty() {
        Ok(entries)
    } else {
        Err(faults)
    }
}

fn parse_line(line: &str) -> Result<Entry, &'static str> {
    let mut words = line.split_whitespace();
    let (Some(name), Some(role), Some(hash), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("expected a name, read or full, and the SHA-256 of the token");
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.len() > 64 || !name.bytes().all(is_name) {
        return Err("a name has up to 64 of a-z A-Z 0-9 . _ -");
    }
    let rights = match role {
        "read" => Rights::Read,
        "full" => Rights::Full,
        _ => return Err("a role is read or full"),
    };
    let hash = from_hex(hash).ok_or("a SHA-256 has 64 hexadecimal digits")?;
    Ok(Entry {
        caller: Caller {
            name: name.to_owned(),
            rights,
        },
        hash,
    })
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (nth, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * nth..2 * nth + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
