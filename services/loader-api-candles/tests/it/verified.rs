//! What the exchange says it does not have is asked for again, and an exchange that contradicts itself is an error: no
//! answer makes a hole.

use std::time::Duration;

use loader_api_candles::{binance::CONFIRM_AFTER, metrics::DUPLICATES};
use serde_json::{Value, json};
use streamforge_devstack::exchange::GeneratedSymbol;
use streamforge_utils::protocol::{Interval, MarkerOutcome};

use crate::{
    rig::{Rig, at},
    twist::{Answer, Asked, Twisted, twisted},
};

const MINUTE: i64 = 60_000;
const START: &str = "2024-08-01T00:00:00Z";
pub(crate) const END: &str = "2024-08-04T00:00:00Z";
/// The second page of three days of minutes begins here.
pub(crate) const SECOND_PAGE: &str = "2024-08-01T16:40:00Z";

pub(crate) async fn rig(changes: &[(&str, &str)]) -> Rig {
    Rig::new(|exchange| exchange, changes).await.topic(1).await
}

/// Lets `rig` load from its exchange behind a proxy.
pub(crate) async fn twist(
    rig: &mut Rig,
    change: impl Fn(&Asked, Answer) -> Answer + Send + Sync + 'static,
) -> Twisted {
    let proxy = twisted(&rig.exchange, |_| (), change).await;
    rig.set("BINANCE_API_URL", proxy.url.as_str());
    proxy
}

fn empty(answer: Answer) -> Answer {
    answer.rows(Vec::clear)
}

fn open_time(row: &[Value]) -> i64 {
    row[0].as_i64().unwrap()
}

pub(crate) fn millis(text: &str) -> i64 {
    at(text).as_millis()
}

async fn assert_whole(rig: &Rig) {
    let progress = rig.run().await.done();
    assert_eq!(progress.message(), "4320 candles, none missing");
    let contents = rig.contents().await;
    assert_eq!(
        contents.records,
        rig.expected(Interval::Minute1, START, END)
    );
    assert_eq!(contents.markers[&0][0].outcome, MarkerOutcome::Finished);
}

/// The load fails, a restart may mend it, and the stream has no end.
async fn assert_contradiction(rig: &mut Rig, what: &str) {
    rig.set("RETRY_DEADLINE_SECS", "0.5");
    let failure = rig.run().await.failure();
    assert!(failure.is_retryable(), "{}", failure.message());
    let text = failure.message();
    assert!(
        text.contains("gave up on the exchange")
            && text.contains("the exchange contradicts itself")
            && text.contains(what),
        "{text}"
    );
    assert!(rig.contents().await.markers.is_empty());
}

#[tokio::test]
async fn an_empty_answer_leaves_no_hole() {
    let second = millis(SECOND_PAGE);
    for hidden in [0, second] {
        let mut rig = rig(&[]).await;
        let hidden_once = std::sync::Once::new();
        let proxy = twist(&mut rig, move |asked, answer| {
            let mut hides = false;
            if asked.is_klines() && asked.start() == Some(hidden) {
                hidden_once.call_once(|| hides = true);
            }
            if hides { empty(answer) } else { answer }
        })
        .await;
        assert_whole(&rig).await;
        assert!(proxy.klines().len() > 6);
    }
}

#[tokio::test]
async fn rows_that_one_answer_lacks_leave_no_hole() {
    let second = millis(SECOND_PAGE);
    for lacking in [0..1, 400..500, 999..1_000, 500..1_000] {
        let mut rig = rig(&[]).await;
        let hidden_once = std::sync::Once::new();
        twist(&mut rig, move |asked, answer| {
            let mut hides = false;
            if asked.is_klines() && asked.start() == Some(second) {
                hidden_once.call_once(|| hides = true);
            }
            if !hides {
                return answer;
            }
            let lacking = lacking.clone();
            answer.rows(move |rows| _ = rows.drain(lacking))
        })
        .await;
        assert_whole(&rig).await;
    }
}

#[tokio::test]
async fn pages_that_are_always_short_are_read_to_their_end() {
    let mut rig = rig(&[]).await;
    twist(&mut rig, |asked, answer| {
        if !asked.is_klines() || asked.start().is_none() {
            return answer;
        }
        answer.rows(|rows| rows.truncate(600))
    })
    .await;
    assert_whole(&rig).await;
}

#[tokio::test]
async fn what_another_question_shows_is_never_a_gap() {
    let (from, to) = (
        millis("2024-08-01T20:00:00Z"),
        millis("2024-08-01T21:00:00Z"),
    );
    let second = millis(SECOND_PAGE);
    let third = second + 1_000 * MINUTE;
    // In the middle of a page, at its end, at its beginning, and a whole page.
    for (hidden, told) in [
        (from..to, "asked backwards from the end"),
        (third - 5 * MINUTE..third, "asked backwards from the end"),
        (second..second + MINUTE, "asked backwards from the end"),
        (second..third, "asked backwards from the end"),
    ] {
        let mut rig = rig(&[]).await;
        twist(&mut rig, move |asked, answer| {
            if !asked.is_klines() || asked.start().is_none() {
                return answer;
            }
            let hidden = hidden.clone();
            answer.rows(move |rows| rows.retain(|row| !hidden.contains(&open_time(row))))
        })
        .await;
        assert_contradiction(&mut rig, told).await;
    }
}

#[tokio::test]
async fn an_exchange_that_has_lost_everything_is_no_gap() {
    let second = millis(SECOND_PAGE);
    let mut rig = rig(&[("FETCH_IN_FLIGHT", "1")]).await;
    twist(&mut rig, move |asked, answer| {
        let is_late = asked.start().is_none_or(|start| start >= second);
        if asked.is_klines() && is_late {
            return empty(answer);
        }
        answer
    })
    .await;
    assert_contradiction(&mut rig, "it gave no candle").await;
}

#[tokio::test]
async fn the_newest_first_or_the_last_ones_instead_of_the_first_are_an_error() {
    for newest_first in [false, true] {
        let mut rig = rig(&[]).await;
        let proxy = twisted(
            &rig.exchange,
            |asked| _ = asked.query.remove("startTime"),
            move |asked, answer| {
                if !asked.is_klines() {
                    return answer;
                }
                let start = asked.start().unwrap_or(0);
                answer.rows(move |rows| {
                    rows.retain(|row| open_time(row) >= start);
                    if newest_first {
                        rows.reverse();
                    }
                })
            },
        )
        .await;
        rig.set("BINANCE_API_URL", proxy.url.as_str());
        assert_contradiction(&mut rig, "it has no candle before 2024-10-01T12:00Z").await;
    }
}

#[tokio::test]
async fn rows_in_descending_order_are_final() {
    let mut rig = rig(&[]).await;
    twist(&mut rig, |asked, answer| {
        if asked.is_klines() {
            answer.rows(|rows| rows.reverse())
        } else {
            answer
        }
    })
    .await;
    let failure = rig.run().await.failure();
    assert!(!failure.is_retryable());
    assert!(
        failure.message().contains(
            "malformed, twice in the same way: kline 1, column 0 (open time): expected a time after"
        ),
        "{}",
        failure.message()
    );
}

#[tokio::test]
async fn microseconds_and_the_future_are_final_with_row_and_column() {
    let future = millis("2024-10-01T12:00:30Z") + 3_600_000;
    for (factor, added) in [(1_000, 0), (1, future)] {
        let mut rig = rig(&[]).await;
        twist(&mut rig, move |asked, answer| {
            if !asked.is_klines() {
                return answer;
            }
            answer.rows(|rows| {
                for row in rows {
                    for column in [0, 6] {
                        row[column] = json!(row[column].as_i64().unwrap() * factor + added);
                    }
                }
            })
        })
        .await;
        let failure = rig.run().await.failure();
        assert!(!failure.is_retryable());
        let text = failure.message();
        assert!(
            text.contains(
                "malformed, twice in the same way: kline 0, column 0 (open time): expected "
            ),
            "{text}"
        );
        assert!(rig.contents().await.messages.is_empty());
    }
}

#[tokio::test]
async fn duplicates_are_left_out_and_counted() {
    let mut rig = rig(&[]).await;
    let second = millis(SECOND_PAGE);
    twist(&mut rig, move |asked, answer| {
        if !asked.is_klines() || asked.start() != Some(second) {
            return answer;
        }
        answer.rows(|rows| {
            let again = rows[..3].to_vec();
            rows.splice(3..3, again);
        })
    })
    .await;
    let running = rig.start();
    running.published(4_320).await;
    assert_eq!(running.counter(DUPLICATES), 3.0);
    let progress = running.ended().await.done();
    assert_eq!(progress.message(), "4320 candles, none missing");
}

fn questions(asked: &[Asked]) -> Vec<(Option<i64>, Option<i64>, usize)> {
    let question = |it: &Asked| (it.start(), it.end(), it.limit());
    asked.iter().map(question).collect()
}

#[tokio::test]
async fn what_is_not_listed_is_asked_for_again_two_seconds_later_by_other_questions() {
    let listed = "2024-09-01T00:00:00Z";
    let mut rig = Rig::new(
        |exchange| exchange.symbols([GeneratedSymbol::new("BTCUSDT").listed(at(listed))]),
        &[],
    )
    .await
    .topic(1)
    .await;
    rig.confirm_after = CONFIRM_AFTER;
    let proxy = twist(&mut rig, |_, answer| answer).await;
    let progress = rig.run().await.done();
    assert_eq!(
        progress.message(),
        "0 candles: not listed yet in this range"
    );
    let asked = proxy.klines();
    let first = questions(&asked)[0];
    assert_eq!((first.0, first.2), (Some(0), 1));
    assert_eq!(
        questions(&asked)[1..],
        [
            (None, Some(millis(listed) - 1), 1),
            (Some(millis(START)), Some(millis(END) - 1), 1)
        ]
    );
    assert!(asked[1].at - asked[0].at >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_symbol_without_any_candle_is_asked_for_again() {
    let mut rig = rig(&[]).await;
    let proxy = twist(&mut rig, |asked, answer| {
        if asked.is_klines() {
            empty(answer)
        } else {
            answer
        }
    })
    .await;
    let progress = rig.run().await.done();
    assert_eq!(
        progress.message(),
        "0 candles: not listed yet in this range"
    );
    assert_eq!(proxy.klines().len(), 3);

    // Hidden from whoever asks from the beginning alone.
    for by_range in [false, true] {
        let mut rig = self::rig(&[]).await;
        let start = millis(START);
        twist(&mut rig, move |asked, answer| {
            let shown = if by_range {
                asked.start() == Some(start)
            } else {
                asked.start().is_none()
            };
            if asked.is_klines() && !shown {
                empty(answer)
            } else {
                answer
            }
        })
        .await;
        assert_contradiction(&mut rig, "it has no candle, and").await;
    }
}

#[tokio::test]
async fn three_days_are_counted_from_a_beginning_that_was_confirmed() {
    let mut rig = rig(&[("TYPE", "api_candles_3d")]).await;
    let proxy = twist(&mut rig, |_, answer| answer).await;
    rig.run().await.done();
    let asked = proxy.klines();
    assert_eq!(questions(&asked)[1].0, None, "asked backwards");
    assert_eq!(asked.len(), 3, "first, before that, and one page");
}

#[tokio::test]
async fn gaps_are_confirmed_by_one_question_each_and_told() {
    let gap = |from: &str, to: &str| at(from)..at(to);
    let mut rig = Rig::new(
        |exchange| {
            exchange
                .gap(gap("2024-08-01T05:00:00Z", "2024-08-01T05:10:00Z"))
                // The end of the second page, the whole third and the beginning of the fourth one.
                .gap(gap("2024-08-02T09:00:00Z", "2024-08-03T03:00:00Z"))
        },
        &[("FETCH_IN_FLIGHT", "1")],
    )
    .await
    .topic(1)
    .await;
    let proxy = twist(&mut rig, |_, answer| answer).await;
    let progress = rig.run().await.done();
    assert_eq!(
        progress.message(),
        "3230 candles, 1090 missing in 2 gaps: 2024-08-01T05:00Z to 05:10Z, \
         2024-08-02T09:00Z to 2024-08-03T03:00Z"
    );
    let contents = rig.contents().await;
    assert_eq!(
        contents.records,
        rig.expected(Interval::Minute1, START, END)
    );
    let asked = questions(&proxy.klines());
    assert_eq!(asked.len(), 1 + 5 + 3, "{asked:?}");
    let backwards: Vec<_> = asked.iter().filter(|it| it.0.is_none()).collect();
    assert_eq!(
        backwards,
        [
            // All behind the first gap, and one before it.
            &(None, Some(millis(SECOND_PAGE) - 1), 1_000 - 310 + 1),
            &(None, Some(millis("2024-08-03T03:00:00Z") - 1), 1),
        ]
    );
}

#[tokio::test]
async fn a_finished_load_that_the_exchange_had_hidden_candles_from_is_not_called_complete() {
    let mut rig = rig(&[]).await;
    let proxy = twist(&mut rig, |asked, answer| {
        if asked.is_klines() {
            empty(answer)
        } else {
            answer
        }
    })
    .await;
    rig.run().await.done();
    assert!(!proxy.klines().is_empty());
    rig.set("BINANCE_API_URL", rig.exchange.url().clone().as_str());
    rig.set("RUN", "2");
    assert_eq!(
        rig.run().await.done().message(),
        "0 candles, published before; the exchange has more from 2024-08-01T00:00Z on, which only a new workflow loads"
    );
}
