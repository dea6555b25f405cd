//! Records that can't be written, among good ones.

use std::process::ExitCode;

use rdkafka::{
    Message,
    admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
    client::DefaultClientContext,
};
use streamforge_utils::{
    kafka::{client_config, headers},
    protocol::{
        DLQ_ERROR, DLQ_OFFSET, DLQ_PARTITION, DLQ_REASON, DLQ_SIZE, DLQ_TOPIC, EventKind, SEQ,
    },
};

use crate::workflow::{Workflow, candle};

#[tokio::test(flavor = "multi_thread")]
async fn poison_goes_to_the_dead_letters_and_the_rest_is_written() {
    let workflow = Workflow::new().await;
    let poison = [
        ("not json".to_owned(), "not-a-candle", "expected"),
        ("[1,2]".to_owned(), "not-a-candle", "an array"),
        (
            candle(9).replace(r#""close":64610.43,"#, ""),
            "not-a-candle",
            "close",
        ),
        (
            candle(9).replace("64600.00", "-1"),
            "not-a-candle",
            "low is -1",
        ),
        (
            candle(9).replace("64640.00", "1.0"),
            "not-a-candle",
            "high 1.0 is below",
        ),
        (
            candle(9).replace("BTCUSDT", "ETHUSDT"),
            "foreign",
            "ETHUSDT",
        ),
        (String::new(), "not-a-candle", "nothing"),
    ];
    workflow.publish(0, 1..=10).await;
    for (seq, (payload, ..)) in (11..).zip(&poison) {
        let seq: u64 = seq;
        workflow.send(0, payload, &[(SEQ, &seq.to_string())]).await;
    }
    workflow.send(0, &candle(99), &[]).await;
    workflow.publish(0, 18..=30).await;
    workflow.finish(0, 30, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds((1..=10).chain(18..=30));

    let letters = workflow.dead_letters().await;
    assert_eq!(letters.len(), poison.len() + 1);
    let letter_at = |offset: usize| {
        let text = offset.to_string();
        letters
            .iter()
            .find(|letter| headers::get(*letter, DLQ_OFFSET) == Some(text.as_str()))
            .unwrap()
    };
    for (index, (payload, reason, error)) in poison.iter().enumerate() {
        let letter = letter_at(10 + index);
        assert_eq!(letter.payload().unwrap_or_default(), payload.as_bytes());
        assert_eq!(letter.key(), Some(b"BTCUSDT".as_slice()));
        assert_eq!(headers::get(letter, DLQ_REASON), Some(*reason), "{payload}");
        let found = headers::get(letter, DLQ_ERROR).unwrap();
        assert!(found.contains(error), "{found} lacks {error}");
        assert_eq!(
            headers::get(letter, DLQ_TOPIC),
            Some(workflow.topic.as_str())
        );
        assert_eq!(headers::get(letter, DLQ_PARTITION), Some("0"));
        assert_eq!(
            headers::get(letter, SEQ),
            Some((11 + index).to_string().as_str())
        );
    }
    assert_eq!(headers::get(letter_at(17), DLQ_REASON), Some("sequence"));
    let last = workflow.last_event().await;
    assert_eq!(
        (last.event, last.records.written, last.records.rejected),
        (EventKind::Finished, 23, 8)
    );
    assert_eq!(last.records.total, Some(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_marker_is_a_rejected_record() {
    let workflow = Workflow::new().await;
    workflow.publish(0, 1..=3).await;
    workflow
        .send(0, "the end", &[("streamforge-eos", "1")])
        .await;
    workflow.publish(0, 4..=5).await;
    workflow.finish(0, 5, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(1..=5);
    let letters = workflow.dead_letters().await;
    assert_eq!(headers::get(&letters[0], DLQ_REASON), Some("bad-marker"));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_rejected_records_end_it_for_good() {
    let mut workflow = Workflow::new().await;
    workflow.set("MAX_REJECTED", "3");
    workflow.publish(0, 1..=5).await;
    for seq in 6..=9 {
        let seq: u64 = seq;
        workflow.send(0, "{}", &[(SEQ, &seq.to_string())]).await;
    }
    workflow.finish(0, 9, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::from(70));
    workflow.assert_holds(1..=5);
    let last = workflow.last_event().await;
    let message = last.error_message.unwrap();
    assert!(
        message.contains("more than 3 records were rejected (MAX_REJECTED)"),
        "{message}"
    );
    assert!(message.contains("offset 8"), "{message}");

    // Restarted, it counts the whole run.
    assert_eq!(workflow.start().ended().await, ExitCode::from(70));
    assert_eq!(workflow.dead_letters().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_record_is_a_dead_letter_as_far_as_it_fits() {
    let workflow = Workflow::new().await;
    workflow.publish(0, 1..=2).await;
    // Compresses well, and fits.
    let large = format!("poison{}", " ".repeat(1_500_000));
    workflow.send_large(0, [3], &large).await;
    // Does not.
    let larger = format!("poison{}", " ".repeat(5_000_000));
    workflow.send_large(0, [4], &larger).await;
    workflow.publish(0, 5..=6).await;
    workflow.finish(0, 6, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds([1, 2, 5, 6]);
    let letters = workflow.dead_letters().await;
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0].payload(), Some(large.as_bytes()));
    assert_eq!(headers::get(&letters[0], DLQ_SIZE), None);
    assert_eq!(letters[1].payload(), None);
    for (name, value) in [
        (SEQ, "4"),
        (DLQ_REASON, "not-a-candle"),
        (DLQ_OFFSET, "3"),
        (DLQ_SIZE, "5000006"),
    ] {
        assert_eq!(headers::get(&letters[1], name), Some(value), "{name}");
    }
}

/// Text that hardly compresses.
fn noise(length: usize) -> String {
    let mut state: u64 = 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b' ' + u8::try_from((state >> 33) % 94).unwrap())
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_broker_refuses_as_a_dead_letter_goes_without_its_value() {
    let workflow = Workflow::new().await;
    if !workflow.kafka.is_real() {
        eprintln!("not run: the mock broker takes messages of any size");
        return;
    }
    let admin: AdminClient<DefaultClientContext> =
        client_config(&workflow.kafka.config().unwrap(), "test")
            .create()
            .unwrap();
    let topic = ResourceSpecifier::Topic(&workflow.topic);
    let larger = AlterConfig::new(topic).set("max.message.bytes", "4194304");
    let altered = admin.alter_configs([&larger], &AdminOptions::new());
    altered.await.unwrap()[0].as_ref().unwrap();
    let poison = noise(2_000_000);
    workflow.send_large(0, [1], &poison).await;
    workflow.publish(0, 2..=3).await;
    workflow.finish(0, 3, 1).await;
    assert_eq!(workflow.start().ended().await, ExitCode::SUCCESS);
    workflow.assert_holds(2..=3);
    let letters = workflow.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].payload(), None);
    assert_eq!(headers::get(&letters[0], DLQ_SIZE), Some("2000000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_records_are_counted_for_the_whole_group() {
    let mut workflow = Workflow::with_partitions(2).await;
    workflow.set("MAX_REJECTED", "3");
    for partition in [0, 1] {
        workflow.publish(partition, 1..=5).await;
        for seq in ["6", "7"] {
            workflow.send(partition, "{}", &[(SEQ, seq)]).await;
        }
        workflow.finish(partition, 7, 2).await;
    }
    let one = workflow.start();
    let two = workflow
        .set("TELEMETRY_PRODUCER_ID", "arango-candles__abc123-2")
        .start();
    for writer in [one, two] {
        assert_eq!(writer.ended().await, ExitCode::from(70));
    }
    let last = workflow.last_event().await;
    let message = last.error_message.unwrap();
    assert!(
        message.contains("more than 3 records were rejected (MAX_REJECTED)"),
        "{message}"
    );
}
