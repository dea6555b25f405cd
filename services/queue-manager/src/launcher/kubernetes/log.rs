//! Reads a log that may be long, and keeps its end.

use std::{io, pin::pin};

use futures::{AsyncRead, AsyncReadExt};

/// Read at a time.
const BLOCK: usize = 16 * 1024;

/// The newest whole lines of a log, at most `most` bytes; of a longer last line its end. Memory is bounded by twice that.
///
/// # Errors
/// The log could not be read to its end.
pub(super) async fn newest(log: impl AsyncRead, most: usize) -> io::Result<String> {
    let mut log = pin!(log);
    let mut kept = Vec::new();
    let mut is_cut = false;
    let mut block = vec![0; BLOCK];
    loop {
        let count = log.read(&mut block).await?;
        if count == 0 {
            break;
        }
        kept.extend_from_slice(&block[..count]);
        if kept.len() >= 2 * most {
            is_cut |= cut_front(&mut kept, most);
        }
    }
    is_cut |= cut_front(&mut kept, most);
    if is_cut {
        let line_end = kept.iter().position(|byte| *byte == b'\n');
        let at = line_end.filter(|at| at + 1 < kept.len()).unwrap_or(0);
        kept.drain(..=at);
    }
    Ok(String::from_utf8_lossy(&kept).into_owned())
}

/// Whether there was more than `most` bytes.
fn cut_front(bytes: &mut Vec<u8>, most: usize) -> bool {
    let surplus = bytes.len().saturating_sub(most);
    // One byte more stays, so that a line that begins at the cut is seen to be whole.
    bytes.drain(..surplus.saturating_sub(1));
    surplus > 0
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;

    async fn newest_of(text: &str, most: usize) -> String {
        newest(Cursor::new(text.as_bytes()), most).await.unwrap()
    }

    #[tokio::test]
    async fn the_end_of_a_log_is_kept_in_whole_lines() {
        let table = [
            ("", 10, ""),
            ("one\ntwo\n", 10, "one\ntwo\n"),
            ("one\ntwo\nthree\n", 10, "two\nthree\n"),
            ("one\ntwo\nthree\n", 9, "three\n"),
            ("one\ntwo\nthree", 9, "two\nthree"),
            ("one\nlonger than all\n", 8, "han all\n"),
        ];
        for (log, most, expected) in table {
            assert_eq!(newest_of(log, most).await, expected, "{log:?} {most}");
        }
    }

    #[tokio::test]
    async fn a_long_log_ends_as_it_ended() {
        let line = |n: usize| format!("{n} {}\n", "ü".repeat(100));
        let log: String = (0..20_000).map(line).collect();
        let kept = newest_of(&log, 100_000).await;
        assert!(log.ends_with(&kept));
        assert!((99_000..=100_000).contains(&kept.len()), "{}", kept.len());
    }
}
