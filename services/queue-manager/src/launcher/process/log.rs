//! A Job's log: the end of it, and how it is kept from filling the disk.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// Read at a time, from the end.
const BLOCK: u64 = 64 * 1024;
/// What is read of a log at most, however long its lines are.
const MOST: u64 = 4 * 1024 * 1024;

/// Where the older half of a log that became too long is.
fn older(log: &Path) -> PathBuf {
    log.with_extension("old")
}

/// The last lines of a log; None if there is none.
///
/// # Errors
/// It can't be read.
pub(super) fn tail(log: &Path, lines: u32) -> io::Result<Option<String>> {
    let wanted = usize::try_from(lines).unwrap_or(usize::MAX);
    let Some(mut found) = last_lines(log, wanted)? else {
        return Ok(None);
    };
    let missing = wanted.saturating_sub(found.split_inclusive(|byte| *byte == b'\n').count());
    if missing > 0
        && let Some(mut before) = last_lines(&older(log), missing)?
    {
        before.append(&mut found);
        found = before;
    }
    Ok(Some(String::from_utf8_lossy(&found).into_owned()))
}

fn last_lines(path: &Path, wanted: usize) -> io::Result<Option<Vec<u8>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut from = file.seek(SeekFrom::End(0))?;
    let mut text = Vec::new();
    while from > 0 && (text.len() as u64) < MOST && begin_of(&text, wanted).is_none() {
        let size = from.min(BLOCK);
        from -= size;
        file.seek(SeekFrom::Start(from))?;
        let mut block = Vec::new();
        Read::by_ref(&mut file).take(size).read_to_end(&mut block)?;
        block.append(&mut text);
        text = block;
    }
    let begin = begin_of(&text, wanted).unwrap_or(0);
    Ok(Some(text.split_off(begin)))
}

/// Where the last `wanted` lines begin, if a line end before them is there.
fn begin_of(text: &[u8], wanted: usize) -> Option<usize> {
    if wanted == 0 {
        return Some(text.len());
    }
    // The end of the last line is none between two lines.
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let ends = body
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'\n');
    ends.map(|(at, _)| at + 1).nth(wanted - 1)
}

/// Moves a log that is longer than `limit` bytes aside, so that there are two of them at most. The worker writes on
/// into the same file, whose end is its begin again; what it writes in between the copy and that is lost.
///
/// # Errors
/// It can't be copied; then it is as it was.
pub(super) fn bound(log: &Path, limit: u64) -> io::Result<()> {
    match fs::metadata(log) {
        Ok(found) if found.len() > limit => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let unpublished = log.with_extension("tmp");
    fs::copy(log, &unpublished)?;
    fs::rename(&unpublished, older(log))?;
    File::options().write(true).open(log)?.set_len(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_across_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(tail(&log, 1).unwrap(), None);
        let line = |n: usize| format!("{n} {}\n", "x".repeat(200));
        let text: String = (0..10_000).map(line).collect();
        fs::write(&log, &text).unwrap();
        for wanted in [0, 1, 2, 500, 1_000] {
            let expected: String = (10_000 - wanted..10_000).map(line).collect();
            let found = tail(&log, u32::try_from(wanted).unwrap()).unwrap().unwrap();
            assert_eq!(found, expected, "{wanted}");
        }
        fs::write(&log, "one\ntwo").unwrap();
        assert_eq!(tail(&log, 1).unwrap().unwrap(), "two");
        assert_eq!(tail(&log, 9).unwrap().unwrap(), "one\ntwo");
    }

    #[test]
    fn a_log_that_is_too_long_is_moved_aside_and_written_on() {
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut worker = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        worker.write_all(b"one\ntwo\n").unwrap();
        bound(&log, 8).unwrap();
        assert_eq!(
            fs::read(&log).unwrap(),
            b"one\ntwo\n",
            "not longer than it may be"
        );
        bound(&log, 7).unwrap();
        worker.write_all(b"three\n").unwrap();
        assert_eq!(fs::read(&log).unwrap(), b"three\n");
        assert_eq!(tail(&log, 2).unwrap().unwrap(), "two\nthree\n");
    }
}
