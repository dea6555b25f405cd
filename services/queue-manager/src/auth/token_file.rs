//! The file of tokens: a line each, `name role sha256-of-the-token`.
//!
//! A token is long and random, so that a plain hash tells nothing about it. Comparing takes the same time whichever
//! token was sent, known or not.

use std::{
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
    /// It is not there, open to others, or has a wrong line.
    pub fn open(path: &Path) -> Result<Self, TokenFileError> {
        let stamp = look(path)?;
        Ok(Self {
            path: path.to_owned(),
            look_every: LOOK_EVERY,
            loaded: Mutex::new(Loaded {
                entries: read(path)?,
                stamp: Some(stamp),
                looked: Instant::now(),
            }),
        })
    }

    /// Whose token this is.
    pub(super) fn find(&self, token: &str) -> Option<Caller> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut loaded = self.loaded.lock().expect("nothing in here panics");
        self.refresh(&mut loaded);
        // Every entry is looked at, the first one that fits included.
        let mut found = u64::MAX;
        for (nth, entry) in (0u64..).zip(&loaded.entries) {
            let fits: Choice = entry.hash.ct_eq(&hash);
            found.conditional_assign(&nth, fits);
        }
        let nth = usize::try_from(found).ok()?;
        loaded.entries.get(nth).map(|entry| entry.caller.clone())
    }

    /// Reads the file again if it has changed; if it is no good, what was read before stays.
    fn refresh(&self, loaded: &mut Loaded) {
        if loaded.looked.elapsed() < self.look_every {
            return;
        }
        loaded.looked = Instant::now();
        let stamp = match look(&self.path) {
            Ok(stamp) if loaded.stamp == Some(stamp) => return,
            Ok(stamp) => stamp,
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
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match parse_line(line) {
            Ok(entry) if entries.iter().any(|it| it.caller.name == entry.caller.name) => {
                faults.push(format!("line {number}: its name stands there twice"));
            }
            Ok(entry) if entries.iter().any(|it| it.hash == entry.hash) => {
                faults.push(format!("line {number}: its token stands there twice"));
            }
            Ok(entry) => entries.push(entry),
            Err(fault) => faults.push(format!("line {number}: {fault}")),
        }
    }
    if faults.is_empty() && entries.is_empty() {
        faults.push("there is no token in it".to_owned());
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
