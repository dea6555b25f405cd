//! Pings and pongs on a clock of ours.

use streamforge_utils::protocol::EventKind;

use super::*;
use crate::request::tests::{QUEUE, event, to};

const TIMEOUT: Duration = Duration::from_secs(2);
const WALL_MS: i64 = 1_722_500_000_123;

fn pings(repeat: u32, expect: Count) -> Pings {
    Pings::new(&Ping {
        to: to(QUEUE),
        repeat,
        interval: Duration::from_secs(1),
        timeout: TIMEOUT,
        expect: Some(expect),
    })
}

fn pong(who: &str, seq: u64, ping_ts: f64) -> Event {
    Event {
        ping_ts: Some(ping_ts),
        ..event(who, seq, EventKind::Pong)
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_stamp_survives_json_and_is_never_the_same() {
    let mut pings = pings(2_000, Count::Some);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2_000 {
        let (_, sent_at) = pings.send(Instant::now(), WALL_MS);
        let text = serde_json::to_string(&sent_at).unwrap();
        let back: f64 = serde_json::from_str(&text).unwrap();
        assert_eq!(back.to_bits(), sent_at.to_bits(), "{text}");
        assert!(seen.insert(text), "twice {sent_at}");
    }
}

#[test]
fn a_pong_counts_for_its_own_ping_only() {
    let start = Instant::now();
    let mut pings = pings(2, Count::Some);
    let (first, one) = pings.send(start, WALL_MS);
    let (second, two) = pings.send(start + ms(10), WALL_MS + 10);
    assert_eq!((first, second), (1, 2));
    assert_eq!(
        pings.pong(&pong("a", 1, two), start + ms(15)),
        Pong::Answer { n: 2, took: ms(5) }
    );
    assert_eq!(
        pings.pong(&pong("a", 2, one), start + ms(30)),
        Pong::Answer { n: 1, took: ms(30) }
    );
    assert_eq!(
        pings.pong(&pong("a", 3, one + 1e-6), start + ms(30)),
        Pong::Foreign
    );
    assert_eq!(
        pings.pong(&pong("a", 4, 1.0), start + ms(30)),
        Pong::Foreign
    );
    let nothing = Event {
        ping_ts: None,
        ..pong("a", 5, one)
    };
    assert_eq!(pings.pong(&nothing, start), Pong::Foreign);
    let elsewhere = Event {
        queue_id: "wf-other".into(),
        ..pong("b", 6, one)
    };
    assert_eq!(pings.pong(&elsewhere, start), Pong::Foreign);
    assert_eq!(pings.ignored().foreign, 4);
    assert_eq!(pings.met(), 2);
    let summary = pings.round_trip().unwrap();
    assert_eq!((summary.count, summary.min_ms), (2, 5.0));
}

#[test]
fn a_duplicate_does_not_count_and_another_worker_does() {
    let start = Instant::now();
    let mut pings = pings(1, Count::Some);
    let (_, sent_at) = pings.send(start, WALL_MS);
    let answer = |took| Pong::Answer { n: 1, took };
    assert_eq!(
        pings.pong(&pong("a", 1, sent_at), start + ms(1)),
        answer(ms(1))
    );
    assert_eq!(
        pings.pong(&pong("a", 1, sent_at), start + ms(2)),
        Pong::Duplicate
    );
    assert_eq!(
        pings.pong(&pong("a", 2, sent_at), start + ms(2)),
        Pong::Duplicate
    );
    assert_eq!(
        pings.pong(&pong("b", 1, sent_at), start + ms(3)),
        answer(ms(3))
    );
    let who: Vec<_> = pings
        .responders()
        .into_iter()
        .map(|who| (who.instance, who.answered, who.lost))
        .collect();
    assert_eq!(who, [("a".to_owned(), 1, 0), ("b".to_owned(), 1, 0)]);
    assert_eq!(pings.ignored().duplicate, 2);
}

#[test]
fn a_ping_is_given_up_by_the_clock() {
    let start = Instant::now();
    let mut pings = pings(2, Count::Some);
    let (_, one) = pings.send(start, WALL_MS);
    assert_eq!(pings.wake_at(), Some(start + TIMEOUT));
    let (_, two) = pings.send(start + ms(500), WALL_MS);
    assert_eq!(pings.expire(start + ms(1_999)), []);
    assert_eq!(
        pings.expire(start + TIMEOUT),
        [Lost {
            n: 1,
            sent_at: one,
            answers: 0
        }]
    );
    assert_eq!(pings.pong(&pong("a", 1, one), start + TIMEOUT), Pong::Late);
    assert!(
        !pings.is_done(start + TIMEOUT),
        "the second may still be answered"
    );
    pings.pong(&pong("a", 2, two), start + ms(2_400));
    assert!(!pings.is_done(start + ms(2_400)), "others may follow");
    assert_eq!(
        pings.wake_at(),
        Some(start + ms(2_500)),
        "the time of the second ends before others settle"
    );
    assert_eq!(pings.expire(start + ms(2_500)), []);
    assert!(pings.is_done(start + ms(2_500)));
    let who = pings.responders();
    assert_eq!(
        (
            pings.met(),
            who[0].answered,
            who[0].lost,
            pings.ignored().late
        ),
        (1, 1, 1, 1)
    );
}

#[test]
fn a_pong_that_took_too_long_is_late_even_if_no_timer_came_before() {
    let start = Instant::now();
    let mut pings = pings(1, Count::Some);
    let (_, sent_at) = pings.send(start, WALL_MS);
    assert_eq!(
        pings.pong(&pong("a", 1, sent_at), start + TIMEOUT + ms(1)),
        Pong::Late
    );
    assert_eq!(pings.expire(start + TIMEOUT + ms(1)).len(), 1);
}

#[test]
fn a_count_ends_the_wait_and_its_absence_lets_others_follow() {
    let start = Instant::now();
    let mut exact = pings(1, Count::AtLeast(2));
    let (_, sent_at) = exact.send(start, WALL_MS);
    exact.pong(&pong("a", 1, sent_at), start + ms(1));
    assert_eq!((exact.met(), exact.is_done(start + ms(1))), (0, false));
    exact.pong(&pong("b", 1, sent_at), start + ms(2));
    assert_eq!((exact.met(), exact.is_done(start + ms(2))), (1, true));

    let mut any = pings(1, Count::Some);
    let (_, sent_at) = any.send(start, WALL_MS);
    any.pong(&pong("a", 1, sent_at), start + ms(1));
    assert!(!any.is_done(start + ms(2)));
    assert_eq!(any.wake_at(), Some(start + ms(1) + SETTLE));
    assert!(any.is_done(start + ms(1) + SETTLE));

    let mut few = pings(1, Count::AtLeast(2));
    let (_, sent_at) = few.send(start, WALL_MS);
    few.pong(&pong("a", 1, sent_at), start + ms(1));
    assert_eq!(
        few.expire(start + TIMEOUT),
        [Lost {
            n: 1,
            sent_at,
            answers: 1
        }]
    );
}
