//! Pings, and who answers.

use rdkafka::message::Message;
use streamforge_utils::kafka::headers;

use crate::rig::{Rig, obedient, queue_id};

#[tokio::test]
async fn a_ping_is_answered() {
    let rig = Rig::start();
    let _worker = rig.worker("a").await;
    let said = rig.debug("--command ping --expect-pong").await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.stdout.contains(&format!(
            "pong 1 from dummy-service__a of {}, run 1: ",
            rig.queue
        )),
        "{said:?}"
    );
    assert!(
        said.stdout.contains(&format!(
            "1 ping to every worker of {}: 1 answered, 0 lost",
            rig.queue
        )),
        "{said:?}"
    );
    assert!(
        !said.stdout.contains('\u{1b}'),
        "colour where no terminal is: {said:?}"
    );
    assert_eq!(said.stderr, "");
}

#[tokio::test]
async fn nobody_answers_and_no_message_comes() {
    let rig = Rig::start();
    let started = std::time::Instant::now();
    let said = rig
        .debug("--command ping --expect-pong --timeout 1.5")
        .await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(started.elapsed().as_millis() >= 1_500);
    assert!(
        said.stdout.contains("lost 1: 0 of 1 pongs within 1.5 s"),
        "{said:?}"
    );
    assert!(
        said.stderr.contains(
            "expected a pong of 1 worker or more to each ping within 1.5s: 1 of 1 pings lost"
        ),
        "{said:?}"
    );
}

#[tokio::test]
async fn pings_go_out_without_an_expectation() {
    let rig = Rig::apart().await;
    let said = rig
        .debug("--command ping --repeat 3 --interval 0.01 --run 2 --target x --json")
        .await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let summary = said.summary();
    assert_eq!(
        (&summary["outcome"], &summary["sent"]),
        (&"sent".into(), &3.into())
    );
    let messages = rig.kafka.read_topic(&rig.control).await.unwrap();
    assert_eq!(messages.len(), 3);
    for (message, ping) in messages.iter().zip(said.kinds("ping")) {
        let command: serde_json::Value =
            serde_json::from_slice(message.payload().unwrap()).unwrap();
        assert_eq!(
            command,
            serde_json::json!({"command": "ping", "queue_id": rig.queue, "run": 2, "target": "x", "sent_at": ping["sent_at"]})
        );
        assert_eq!(message.key(), Some(rig.queue.as_str().as_bytes()));
        assert_eq!(headers::get(message, "streamforge-schema"), Some("1"));
    }
}

#[tokio::test]
async fn two_workers_answer_everyone_and_both_are_listed() {
    let rig = Rig::apart().await;
    let _one = rig.worker("a").await;
    let other = queue_id();
    let _two = rig.worker_of(&other, "arango-candles", "b", obedient).await;
    for queue in ["*", "all"] {
        let typed = format!(
            "--queue-id {queue} --command ping --expect-pong --repeat 4 --interval 0.05 --json"
        );
        let said = rig.debug_with(&typed, &[]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        let summary = said.summary();
        let who: Vec<_> = summary["responders"].as_array().unwrap().iter().collect();
        assert_eq!(who.len(), 2, "{said:?}");
        for (found, (producer, service, queue)) in who.iter().zip([
            ("arango-candles__b", "arango-candles", &other),
            ("dummy-service__a", "dummy-service", &rig.queue),
        ]) {
            assert_eq!(found["producer"], producer);
            assert_eq!(found["service"], service);
            assert_eq!(found["queue_id"], queue.as_str());
            assert_eq!(
                (&found["run"], &found["answered"], &found["lost"]),
                (&1.into(), &4.into(), &0.into())
            );
            assert!(found["round_trip"]["median_ms"].as_f64().unwrap() > 0.0);
        }
        assert_eq!(said.kinds("pong").len(), 8);
    }
    let enough = "--queue-id all --command ping --expect-pong --expect-count 2";
    assert_eq!(rig.debug_with(enough, &[]).await.code, Some(0));
    let said = rig
        .debug_with(
            "--queue-id all --command ping --expect-pong --expect-count 3 --timeout 2",
            &[],
        )
        .await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stdout.contains("lost 1: 2 of 3 pongs"), "{said:?}");
}

#[tokio::test]
async fn a_target_is_asked_alone() {
    let rig = Rig::start();
    let _one = rig.worker("a").await;
    let _two = rig.worker("b").await;
    let said = rig
        .debug("--command ping --expect-pong --target dummy-service__b --json")
        .await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let pongs = said.kinds("pong");
    assert_eq!(
        (pongs.len(), &pongs[0]["producer"]),
        (1, &"dummy-service__b".into())
    );
    let said = rig
        .debug("--command ping --expect-pong --target dummy-service --expect-count 2")
        .await;
    assert_eq!(said.code, Some(0), "{said:?}");
    for nobody in ["--target arango-candles", "--run 2"] {
        let said = rig
            .debug(&format!(
                "--command ping --expect-pong --timeout 1 {nobody}"
            ))
            .await;
        assert_eq!(said.code, Some(1), "{said:?}");
    }
}

#[tokio::test]
async fn many_pings_have_percentiles_and_progress() {
    let rig = Rig::start();
    let _worker = rig.worker("a").await;
    let said = rig
        .debug("--command ping --expect-pong --expect-count 1 --repeat 400 --interval 0.01")
        .await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.stdout.contains(&format!(
            "400 pings to every worker of {}: 400 answered, 0 lost",
            rig.queue
        )),
        "{said:?}"
    );
    for word in ["round trip: min ", "median ", "p95 ", "p99 ", "max "] {
        assert!(said.stdout.contains(word), "{word} in {said:?}");
    }
    assert!(!said.stdout.contains("pong 1 "), "a summary says it all");
    assert!(said.stderr.contains(" of 400 sent, "), "{said:?}");
}

#[tokio::test]
async fn a_broker_that_goes_away_loses_pings() {
    let rig = Rig::with_broker_alone().await;
    let _worker = rig.worker("a").await;
    let mut running =
        rig.spawn("--command ping --expect-pong --repeat 40 --interval 0.1 --timeout 2 --json");
    while running.json().await["kind"] != "pong" {}
    rig.kafka.down().unwrap();
    let said = running.end().await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let summary = said.summary();
    assert_eq!(summary["sent"], 40, "the schedule goes on");
    assert!(summary["lost"].as_u64().unwrap() > 0 && summary["answered"].as_u64().unwrap() > 0);
    assert_eq!(
        said.kinds("lost").len() as u64,
        summary["lost"].as_u64().unwrap()
    );
    assert!(said.stderr.contains("pings lost"), "{said:?}");
}
