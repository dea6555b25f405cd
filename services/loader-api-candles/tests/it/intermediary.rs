//! Answers that are not the exchange's: once they leave no trace, for ever they end the load with the exit code that
//! tells whether a restart can help.

use streamforge_utils::protocol::{EventKind, Interval};

use crate::{
    process::{command, events, output},
    rig::Rig,
    twist::{Answer, Asked, twisted},
};

const HTML: &str = "<!DOCTYPE html><html><body>sign in</body></html>";

/// What proxies, portals and firewalls answer, and how it is named.
const KINDS: [(&str, &str, &str, &str); 5] = [
    (
        "202 Accepted",
        "x-amzn-waf-action: challenge\r\n",
        "",
        "HTTP 202 x-amzn-waf-action challenge",
    ),
    ("204 No Content", "", "", "HTTP 204"),
    (
        "302 Found",
        "location: http://127.0.0.1:1/login\r\n",
        "",
        "HTTP 302 to http://127.0.0.1:1/login",
    ),
    (
        "200 OK",
        "content-type: text/html\r\n",
        HTML,
        "found <!DOCTYPE html>",
    ),
    (
        "403 Forbidden",
        "content-type: text/html\r\n",
        HTML,
        "HTTP 403",
    ),
];

/// How a loader process ends whose exchange answers `kind` where `where_` says so: its exit code and last words.
async fn ends(
    kind: &Answer,
    deadline: &str,
    where_: impl Fn(&Asked) -> bool + Send + Sync + 'static,
) -> (Rig, i32, String) {
    let mut rig = Rig::new(|exchange| exchange, &[("RETRY_DEADLINE_SECS", deadline)])
        .await
        .topic(1)
        .await;
    let kind = kind.clone();
    let change = move |asked: &Asked, answer| {
        if where_(asked) { kind.clone() } else { answer }
    };
    let proxy = twisted(&rig.exchange, |_| (), change).await;
    rig.set("BINANCE_API_URL", proxy.url.as_str());
    let ended = output(command(&rig).spawn().unwrap()).await;
    let last = events(&rig).await.pop().unwrap();
    let said = match last.event {
        EventKind::Error => last.error_message.unwrap(),
        _ => last.message,
    };
    (rig, ended.status.code().unwrap(), said)
}

#[tokio::test]
async fn once_they_leave_no_trace() {
    for (status, headers, body, _) in KINDS {
        let kind = Answer::new(status, headers, body);
        let (rig, code, said) = ends(&kind, "10", |asked| asked.nth == 1).await;
        assert_eq!(
            (code, said.as_str()),
            (0, "4320 candles, none missing"),
            "{status}"
        );
        let all = rig.expected(
            Interval::Minute1,
            "2024-08-01T00:00:00Z",
            "2024-08-04T00:00:00Z",
        );
        assert_eq!(rig.contents().await.records, all, "{status}");
    }
}

#[tokio::test]
async fn for_ever_they_are_an_error_that_a_restart_may_mend() {
    for (status, headers, body, named) in KINDS {
        let kind = Answer::new(status, headers, body);
        let from_the_second_page_on = |asked: &Asked| asked.is_klines() && asked.nth > 2;
        let (rig, code, said) = ends(&kind, "1", from_the_second_page_on).await;
        assert_eq!(code, 1, "{status}: {said}");
        assert!(
            said.contains("gave up on the exchange") && said.contains(named),
            "{said}"
        );
        assert!(rig.contents().await.markers.is_empty());
    }
}

#[tokio::test]
async fn an_address_that_is_never_served_is_final() {
    for (status, headers, body, _) in KINDS {
        let kind = Answer::new(status, headers, body);
        let (_rig, code, said) = ends(&kind, "1", |_| true).await;
        let expected = if status.starts_with("403") { 70 } else { 1 };
        assert_eq!(code, expected, "{status}: {said}");
    }
    let legal = Answer::new("451 Unavailable For Legal Reasons", "", "not here");
    let (_rig, code, said) = ends(&legal, "60", |asked| asked.is_klines() && asked.nth == 3).await;
    assert_eq!(code, 70, "at its first occurrence: {said}");
    assert!(
        said.contains("BINANCE_API_URL can name another base URL"),
        "{said}"
    );
}
