//! How long an answer with 429 or 418 asks for silence. Pure.
//!
//! Sources: [Retry-After](https://www.rfc-editor.org/rfc/rfc9110#field.retry-after), seconds or an HTTP date; the
//! exchange's own messages, `… IP banned until 1722500000000. …`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use streamforge_utils::protocol::TimestampMs;

/// More than anyone means, and little enough to be added to any clock.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The clock that instants in an answer are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) now: TimestampMs,
    /// Whether the exchange has told it. Else it is this machine's.
    pub(super) is_exchanges: bool,
}

/// The silence that an answer asks for, by its header or by the end of a ban in its text, at most ten years; `None`
/// if it names neither. Of two the longer one counts, unless nothing but this machine's clock tells how far away the
/// end of the ban is.
pub(super) fn asked_for(headers: &HeaderMap, body: &[u8], clock: Clock) -> Option<Duration> {
    let by_header = retry_after(headers, clock.now);
    let by_body = banned_until(body).map(|until| until_then(until, clock.now));
    match (by_header, by_body) {
        (Some(header), Some(body)) if clock.is_exchanges => Some(header.max(body)),
        (header, body) => header.or(body),
    }
}

fn retry_after(headers: &HeaderMap, now: TimestampMs) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    // As a float, which takes numbers of any length.
    if let Ok(seconds) = text.parse::<f64>()
        && !seconds.is_nan()
    {
        let seconds = seconds.clamp(0.0, LONGEST.as_secs_f64());
        return Some(Duration::from_secs_f64(seconds));
    }
    let until = http_date(text)?;
    // By the clock of whoever wrote both, if it tells.
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let now = date.and_then(http_date).unwrap_or(now);
    Some(until_then(until, now))
}

fn http_date(text: &str) -> Option<TimestampMs> {
    let at: SystemTime = httpdate::parse_http_date(text).ok()?;
    let since_epoch = at.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since_epoch.as_millis()).ok().map(TimestampMs)
}

/// The instant in `… IP banned until 1722500000000. …`.
fn banned_until(body: &[u8]) -> Option<TimestampMs> {
    const PHRASE: &str = "banned until ";
    let text = String::from_utf8_lossy(&body[..body.len().min(4_096)]);
    let at = text.find(PHRASE)? + PHRASE.len();
    let digits = text[at..].split(|it: char| !it.is_ascii_digit()).next()?;
    if digits.is_empty() {
        return None;
    }
    Some(TimestampMs(digits.parse().unwrap_or(i64::MAX)))
}

fn until_then(until: TimestampMs, now: TimestampMs) -> Duration {
    let millis = until.as_millis().saturating_sub(now.as_millis());
    Duration::from_millis(u64::try_from(millis).unwrap_or(0)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimestampMs = TimestampMs(1_722_470_400_000);

    fn silence(headers: &[(&'static str, &str)], body: &str, is_exchanges: bool) -> Option<u64> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let clock = Clock {
            now: NOW,
            is_exchanges,
        };
        asked_for(&map, body.as_bytes(), clock).map(|silence| silence.as_secs())
    }

    #[test]
    fn seconds_and_dates_mean_the_same() {
        let longest = LONGEST.as_secs();
        for (text, seconds) in [
            ("30", Some(30)),
            (" 30 ", Some(30)),
            ("1.5", Some(1)),
            ("0", Some(0)),
            ("-5", Some(0)),
            // NOW is 00:00:00.
            ("Thu, 01 Aug 2024 00:02:10 GMT", Some(130)),
            ("Thursday, 01-Aug-24 00:02:10 GMT", Some(130)),
            ("Thu, 01 Aug 2019 00:00:00 GMT", Some(0)),
            ("18446744073709551615", Some(longest)),
            ("99999999999999999999999999999999999999", Some(longest)),
            ("inf", Some(longest)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(longest)),
            ("NaN", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(
                silence(&[("retry-after", text)], "", true),
                seconds,
                "{text:?}"
            );
        }
        assert_eq!(silence(&[], "{}", true), None);
    }

    #[test]
    fn a_date_counts_from_the_servers_own_date() {
        let headers = [
            ("retry-after", "Thu, 01 Aug 2024 06:00:30 GMT"),
            ("date", "Thu, 01 Aug 2024 06:00:00 GMT"),
        ];
        assert_eq!(silence(&headers, "", false), Some(30));
    }

    #[test]
    fn the_end_of_a_ban_in_the_text_counts() {
        let banned = r#"{"code":-1003,"msg":"Way too much request weight used; IP banned until 1722470520000. Please use WebSocket Streams for live updates to avoid bans."}"#;
        assert_eq!(silence(&[], banned, false), Some(120));
        assert_eq!(silence(&[("retry-after", "30")], banned, true), Some(120));
        assert_eq!(silence(&[("retry-after", "300")], banned, true), Some(300));
        assert_eq!(
            silence(&[("retry-after", "30")], banned, false),
            Some(30),
            "this machine's clock may be wrong, seconds can't"
        );
        for (text, seconds) in [
            ("banned until 1722470399000", Some(0)),
            (
                "banned until 99999999999999999999999",
                Some(LONGEST.as_secs()),
            ),
            ("banned until further notice", None),
            ("banned until ", None),
        ] {
            assert_eq!(silence(&[], text, true), seconds, "{text:?}");
        }
    }
}
