//! The last event in a file: for a launcher to whom Kafka does not tell it, such as Kubernetes, which keeps the file of a
//! container as its termination message.

use std::{path::Path, time::Duration};

use crate::{protocol::Event, text::cut_to};

/// The most bytes that Kubernetes keeps.
const MAX_BYTES: usize = 4_096;
/// How long a file may take that may be anything, such as a pipe that nobody reads.
const LIMIT: Duration = Duration::from_secs(1);

/// Empties the file, so that nothing of an earlier process is taken for this one's. Only warns if that fails.
pub(super) async fn clear(path: &Path) {
    put(path, "").await;
}

/// Writes the event to the file. Only warns if that fails.
pub(super) async fn write(path: &Path, event: &Event) {
    put(path, &bounded(event)).await;
}

async fn put(path: &Path, text: &str) {
    let (file, text) = (path.to_owned(), text.to_owned());
    let written = tokio::task::spawn_blocking(move || std::fs::write(file, text));
    let error = match tokio::time::timeout(LIMIT, written).await {
        Ok(Ok(Ok(()))) => return,
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("took more than {LIMIT:?}"),
    };
    tracing::warn!(path = %path.display(), error, "Failed to write to TERMINATION_MESSAGE_PATH");
}

/// The event as JSON of at most [`MAX_BYTES`]: gaps go first, then the error and what is said to people are cut.
fn bounded(event: &Event) -> String {
    let encode =
        |event: &Event| serde_json::to_string(event).expect("an event has no key that is not text");
    let whole = encode(event);
    if whole.len() <= MAX_BYTES {
        return whole;
    }
    let short = Event {
        gaps: None,
        ..event.clone()
    };
    let longest = short.message.chars().count().max(
        short
            .error_message
            .as_ref()
            .map_or(0, |error| error.chars().count()),
    );
    let cut = |chars: usize| {
        encode(&Event {
            message: cut_to(&short.message, chars).into_owned(),
            error_message: short
                .error_message
                .as_deref()
                .map(|error| cut_to(error, chars).into_owned()),
            ..short.clone()
        })
    };
    // The most characters with which it fits.
    let (mut fits, mut longer) = (0, longest + 1);
    while fits + 1 < longer {
        let middle = usize::midpoint(fits, longer);
        if cut(middle).len() <= MAX_BYTES {
            fits = middle;
        } else {
            longer = middle;
        }
    }
    cut(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{EventKind, Gap, RecordCounts, TimestampMs};

    fn event(error: &str, gaps: i64) -> Event {
        let gap = |at| Gap {
            start: TimestampMs(at),
            end: TimestampMs(at + 60_000),
            missing: 1,
        };
        Event {
            queue_id: "wf-btcusdt-api_candles_1m-20240801-abc123".into(),
            run: 1,
            // As long as a name may be, in characters of four bytes.
            producer: "𝄞".repeat(200),
            instance: "018f0000-0000-7000-8000-000000000000".into(),
            seq: 7,
            service: "loader-api-candles".into(),
            service_version: "0.1.0".into(),
            symbol: "BTCUSDT".into(),
            kind: "api_candles_1m".into(),
            event: EventKind::Error,
            status: Some(EventKind::Error),
            message: error.to_owned(),
            records: RecordCounts::default(),
            last_progress_at: Some(1_722_500_124.9),
            finished: true,
            timestamp: 1_722_500_125.456,
            gaps: (gaps > 0).then(|| (0..gaps).map(gap).collect()),
            error_message: Some(error.to_owned()),
            retryable: Some(true),
            reason: None,
            ping_ts: None,
            ponged_at: None,
        }
    }

    fn written(event: &Event) -> Event {
        let text = bounded(event);
        assert!(text.len() <= MAX_BYTES, "{} bytes", text.len());
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn what_fits_is_written_whole() {
        let whole = event("no broker", 3);
        assert_eq!(written(&whole), whole);
    }

    #[test]
    fn gaps_go_before_a_text_is_cut() {
        let written = written(&event("no broker", 100));
        assert_eq!(written.gaps, None);
        assert_eq!(written.error_message.as_deref(), Some("no broker"));
    }

    #[test]
    fn a_text_is_cut_to_what_fits() {
        for char in ["x", "é", "𝄞", "\"", "\n", "\u{1}"] {
            let written = written(&event(&char.repeat(1_000), 100));
            let error = written.error_message.unwrap();
            assert!(error.starts_with(&char.repeat(200)), "{char:?}: {error}");
            assert_eq!(written.gaps, None);
            assert_eq!(error.ends_with('…'), char != "x", "{char:?}: {error}");
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_does_no_harm() {
        write(Path::new("/nowhere/termination-log"), &event("x", 0)).await;
    }
}
