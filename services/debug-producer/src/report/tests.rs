//! Every line in both forms.

use std::time::Duration;

use streamforge_utils::{latency::Latencies, protocol::EventKind};

use super::*;
use crate::request::tests::{QUEUE, event};

fn round_trip() -> Option<LatencySummary> {
    let mut latencies = Latencies::default();
    for millis in [2, 3, 40] {
        latencies.record(Duration::from_millis(millis));
    }
    latencies.summary()
}

fn responder(who: &str, answered: u64) -> ResponderSummary {
    ResponderSummary {
        producer: format!("dummy-service__{who}"),
        service: "dummy-service".into(),
        queue_id: QUEUE.into(),
        run: 1,
        instance: who.into(),
        answered,
        lost: 3 - answered,
        round_trip: round_trip(),
    }
}

fn to() -> String {
    "every worker of wf-try".to_owned()
}

fn single_lines<'a>(raw: &'a RawValue, event: &'a Event) -> Vec<Line<'a>> {
    vec![
        Line::Ping {
            n: 1,
            sent_at: 1_722_500_000.123_456,
        },
        Line::Pong {
            n: 1,
            round_trip_ms: 2.5,
            producer: "dummy-service__a",
            service: "dummy-service",
            queue_id: QUEUE,
            run: 1,
            instance: "a",
        },
        Line::Lost {
            n: 2,
            sent_at: 1_722_500_001.123_456,
            answers: 1,
            expected: 2,
            timeout_secs: 10.0,
        },
        Line::Command {
            command: "stop",
            queue_id: QUEUE.into(),
            target: None,
            run: Some(2),
            sent_at: Some(1_722_500_000.123),
            to: to(),
        },
        Line::Event {
            expected: Some(true),
            raw,
            event,
        },
        Line::Event {
            expected: Some(false),
            raw,
            event,
        },
        Line::Event {
            expected: None,
            raw,
            event,
        },
    ]
}

fn summaries() -> Vec<Line<'static>> {
    let ignored = Ignored {
        foreign: 1,
        duplicate: 2,
        late: 3,
    };
    vec![
        Line::Pings(PingSummary {
            command: "ping",
            outcome: Outcome::Unmet,
            sent: 3,
            answered: 2,
            lost: 1,
            undelivered: 1,
            round_trip: round_trip(),
            responders: vec![responder("a", 3), responder("b", 2)],
            ignored,
            malformed: 4,
            to: to(),
        }),
        Line::Pings(PingSummary {
            command: "ping",
            outcome: Outcome::Sent,
            sent: 1,
            answered: 0,
            lost: 0,
            undelivered: 0,
            round_trip: None,
            responders: Vec::new(),
            ignored: Ignored::default(),
            malformed: 0,
            to: to(),
        }),
        Line::Order(OrderSummary {
            command: "stop",
            outcome: Outcome::Unmet,
            expected: 1,
            unexpected: 1,
            missing: vec!["dummy-service__c".into()],
            malformed: 1,
            to: to(),
        }),
    ]
}

#[test]
fn lines_as_json_and_as_text() {
    let event = event("a", 9, EventKind::Interrupted);
    let raw = one_line("{\"event\":\n\"interrupted\"}");
    let mut all = String::new();
    for line in single_lines(&raw, &event).iter().chain(&summaries()) {
        let json = serde_json::to_string(line).unwrap();
        assert!(!json.contains('\n'), "{json}");
        let text = line.to_string();
        all += &format!("{json}\n{}\n\n", anstream::adapter::strip_str(&text));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn followed_events_say_what_matters() {
    let mut failed = event("a", 2, EventKind::Error);
    failed.message = "no such symbol".into();
    failed.retryable = Some(false);
    failed.records.rejected = 2;
    failed.records.missing = 5;
    let mut started = event("a", 1, EventKind::Started);
    started.message = "started".into();
    let lines = [failed, started, event("a", 3, EventKind::Interrupted)]
        .map(|event| anstream::adapter::strip_str(&Followed(&event).to_string()).to_string());
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn what_workers_say_does_not_command_a_terminal() {
    let mut nasty = event("a", 2, EventKind::Loading);
    nasty.message = "\u{1b}[2J\nfake line".into();
    let line = Followed(&nasty).to_string();
    assert!(
        !line.contains("\u{1b}[2J") && !line.contains('\n'),
        "{line:?}"
    );
    assert!(line.contains("\\u{1b}[2J\\nfake line"), "{line:?}");
}
