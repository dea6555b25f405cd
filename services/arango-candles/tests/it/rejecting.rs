//! Records that can't be written, among good ones.

use std::process::ExitCode;

use rdkafka::Message;
use streamforge_utils::{
    kafka::headers,
    protocol::{DLQ_ERROR, DLQ_OFFSET, DLQ_PARTITION, DLQ_REASON, DLQ_TOPIC, EventKind, SEQ},
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
