//! Which pongs count: the test itself answers, well and badly.

use crate::rig::{Rig, queue_id};

#[tokio::test]
async fn a_pong_to_another_ping_does_not_count() {
    let rig = Rig::apart().await;
    // One that was there before.
    rig.pong(&rig.queue, "a", 1_722_500_000.5).await;
    let mut running = rig.spawn("--command ping --expect-pong --timeout 4 --json");
    let sent_at = running.json().await["sent_at"].as_f64().unwrap();
    for (queue, ping_ts) in [
        (&rig.queue, sent_at + 1e-6),
        (&rig.queue, sent_at - 1e-6),
        (&rig.queue, 1_722_500_000.5),
        (&queue_id(), sent_at),
    ] {
        rig.pong(queue, "a", ping_ts).await;
    }
    let said = running.end().await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let summary = said.summary();
    assert_eq!(summary["ignored"]["foreign"], 4, "{said:?}");
    assert_eq!(
        (&summary["answered"], &summary["lost"]),
        (&0.into(), &1.into())
    );
}

#[tokio::test]
async fn a_duplicate_does_not_count_and_a_second_worker_does() {
    let rig = Rig::start();
    let mut running = rig.spawn("--command ping --expect-pong --expect-count 2 --json");
    let sent_at = running.json().await["sent_at"].as_f64().unwrap();
    for who in ["a", "a", "b"] {
        rig.pong(&rig.queue, who, sent_at).await;
    }
    let said = running.end().await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.summary()["ignored"]["duplicate"], 1);
    assert_eq!(said.kinds("pong").len(), 2);
}

#[tokio::test]
async fn losses_are_counted() {
    let rig = Rig::start();
    let mut running =
        rig.spawn("--command ping --expect-pong --repeat 5 --interval 0.3 --timeout 3 --json");
    for n in 1..=5 {
        let mut line = running.json().await;
        while line["kind"] != "ping" {
            line = running.json().await;
        }
        assert_eq!(line["n"], n);
        if n % 2 == 1 {
            rig.pong(&rig.queue, "a", line["sent_at"].as_f64().unwrap())
                .await;
        }
    }
    let said = running.end().await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let summary = said.summary();
    assert_eq!(
        (&summary["sent"], &summary["answered"], &summary["lost"]),
        (&5.into(), &3.into(), &2.into())
    );
    assert_eq!(
        (
            &summary["responders"][0]["answered"],
            &summary["responders"][0]["lost"]
        ),
        (&3.into(), &2.into())
    );
    let lost: Vec<_> = said
        .kinds("lost")
        .iter()
        .map(|line| line["n"].as_u64().unwrap())
        .collect();
    assert_eq!(lost, [2, 4]);
}

#[tokio::test]
async fn garbage_on_the_events_topic_is_survived() {
    let rig = Rig::apart().await;
    let _worker = rig.worker("a").await;
    let mut running = rig.spawn("--command ping --expect-pong --repeat 20 --interval 0.1 --json");
    running.line().await;
    // About all that a broker takes by default.
    let large = "x".repeat(1_048_300);
    for garbage in ["not json", "[]", r#"{"event":"pong"}"#, "", large.as_str()] {
        rig.publish(garbage).await;
    }
    let said = running.end().await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.summary()["malformed"], 5);
    assert!(
        said.stderr.contains("skipped a message that is no event"),
        "{said:?}"
    );
    assert_eq!(
        said.stderr.matches("skipped").count(),
        3,
        "and then only counted"
    );
}

#[tokio::test]
async fn two_at_once_do_not_take_each_others_pongs() {
    let rig = Rig::start();
    let _worker = rig.worker("a").await;
    let ping = || rig.debug("--command ping --expect-pong --repeat 50 --interval 0.02 --json");
    for said in <[_; 2]>::from(tokio::join!(ping(), ping())) {
        assert_eq!(said.code, Some(0), "{said:?}");
        let summary = said.summary();
        assert_eq!(
            (&summary["answered"], &summary["round_trip"]["count"]),
            (&50.into(), &50.into())
        );
        assert_eq!(said.kinds("pong").len(), 50);
    }
}
