//! Where a page ended, as a text that clients hand back and do not read.
//!
//! It names the last row by what rows are sorted by, so a page begins behind it whatever has come or gone meanwhile.
//! What comes back is taken apart and checked, and reaches the database as bound values only.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use streamforge_utils::protocol::{QueueId, TimestampMs};

use super::StoreError;

/// Longest text that can be one of ours.
const MAX_CHARS: usize = 400;

/// The last row of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// Of workflows.
    Workflow {
        /// When it was made.
        created_at: TimestampMs,
        /// Which one it is.
        queue_id: QueueId,
    },
    /// Of a workflow's events.
    Event {
        /// On queue-events.
        partition: i32,
        /// On queue-events.
        offset: i64,
    },
}

/// Some rows, and where the next ones begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// In order.
    pub rows: Vec<T>,
    /// What to ask with for the next page; None at the end.
    pub next: Option<Cursor>,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Workflow {
                created_at,
                queue_id,
            } => format!("w {} {}", created_at.as_millis(), queue_id.as_str()),
            Self::Event { partition, offset } => format!("e {partition} {offset}"),
        };
        f.write_str(&URL_SAFE_NO_PAD.encode(text))
    }
}

impl FromStr for Cursor {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or(StoreError::BadCursor)
    }
}

fn parse(text: &str) -> Option<Cursor> {
    if text.len() > MAX_CHARS {
        return None;
    }
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let mut parts = text.split(' ');
    let cursor = match (parts.next()?, parts.next()?, parts.next()?) {
        ("w", created_at, queue_id) => Cursor::Workflow {
            created_at: TimestampMs(created_at.parse().ok()?),
            queue_id: queue_id.parse().ok()?,
        },
        ("e", partition, offset) => Cursor::Event {
            partition: partition.parse().ok()?,
            offset: offset.parse().ok()?,
        },
        _ => return None,
    };
    parts.next().is_none().then_some(cursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_given() {
        let longest = format!("wf-{}", "x".repeat(125));
        for cursor in [
            Cursor::Workflow {
                created_at: TimestampMs(i64::MAX),
                queue_id: longest.parse().unwrap(),
            },
            Cursor::Event {
                partition: 3,
                offset: 0,
            },
        ] {
            let text = cursor.to_string();
            assert!(text.len() <= MAX_CHARS);
            assert_eq!(text.parse::<Cursor>().unwrap(), cursor);
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let encoded = [
            "",
            "w",
            "w 1",
            "w 1 btcusdt",
            "w now wf-x",
            "w 1 wf-x 2",
            "w 1 wf-x\" RETURN 1",
            "e 1 wf-x",
            "e 99999999999 1",
            "x 1 2",
        ];
        let plain = ["", "w 1 wf-x", "!", "====", &"A".repeat(401)].map(str::to_owned);
        let encoded = encoded.map(|text| URL_SAFE_NO_PAD.encode(text));
        for text in plain.iter().chain(&encoded) {
            let error = text.parse::<Cursor>().unwrap_err();
            assert!(matches!(error, StoreError::BadCursor), "{text:?}");
        }
    }
}
