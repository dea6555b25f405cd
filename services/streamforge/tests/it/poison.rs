//! Records that can't be written, among good ones.

use rdkafka::message::Message;
use streamforge_utils::{kafka::headers, protocol::EventKind};

use crate::flow::{Flow, LOADER, Plan, WRITER};

/// What a record can have wrong with it, and what is said of it.
const POISON: [(&str, &str); 5] = [
    ("not json", "not a candle: expected ident"),
    ("[1,2,3]", "expected a JSON object, found an array"),
    (r#"{"symbol":"BTCUSDT"}"#, "missing field"),
    (
        r#"{"_key":"BTCUSDT_1m_0","symbol":"BTCUSDT","interval":"1m","open_time":0,"close_time":59999,"open":-1,"high":1,"low":0,"close":1,"volume":1,"quote_asset_volume":1,"number_of_trades":1,"taker_buy_base_asset_volume":1,"taker_buy_quote_asset_volume":1,"exchange":"binance"}"#,
        "open is -1, expected a number from 0 on",
    ),
    (
        r#"{"_key":"BTCUSDT_1m_0","symbol":"BTCUSDT","interval":"1m","open_time":0,"close_time":59999,"open":1,"high":1,"low":2,"close":1,"volume":1,"quote_asset_volume":1,"number_of_trades":1,"taker_buy_base_asset_volume":1,"taker_buy_quote_asset_volume":1,"exchange":"binance"}"#,
        "high 1 is below low 2",
    ),
];

#[tokio::test]
async fn poison_goes_to_the_dead_letters_and_the_rest_goes_on() {
    let flow = Flow::start(Plan::slow_three_days()).await;
    let (loader, writer) = (flow.loader(), flow.writer());
    flow.until_written(LOADER, 1).await;
    for (poison, _) in POISON {
        // Without a number of its own it does not disturb the sequence.
        flow.kafka
            .publish(&flow.topic, Some(0), "BTCUSDT", poison, &[])
            .await
            .unwrap();
    }
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    flow.assert_complete().await;
    let ending = flow.ending(WRITER).await;
    assert_eq!(
        (ending.event, ending.records.rejected),
        (EventKind::Finished, 5)
    );
    let letters = flow.dead_letters().await;
    assert_eq!(letters.len(), POISON.len());
    for (letter, (poison, _)) in letters.iter().zip(POISON) {
        assert_eq!(letter.payload(), Some(poison.as_bytes()));
        assert_eq!(letter.key(), Some(&b"BTCUSDT"[..]));
        assert_eq!(
            headers::get(letter, "streamforge-dlq-topic"),
            Some(flow.topic.as_str())
        );
        assert_eq!(headers::get(letter, "streamforge-dlq-partition"), Some("0"));
        for header in [
            "streamforge-dlq-reason",
            "streamforge-dlq-error",
            "streamforge-dlq-offset",
            "streamforge-dlq-producer",
        ] {
            assert!(
                headers::get(letter, header).is_some_and(|value| !value.is_empty()),
                "{header}"
            );
        }
    }
}

#[tokio::test]
async fn numbered_poison_says_what_is_wrong_with_it() {
    let flow = Flow::start(Plan::three_days()).await;
    for ((poison, _), seq) in POISON.iter().zip(1..) {
        let seq = seq.to_string();
        flow.kafka
            .publish(
                &flow.topic,
                Some(0),
                "BTCUSDT",
                poison,
                &[("streamforge-seq", &seq)],
            )
            .await
            .unwrap();
    }
    let writer = flow.worker(WRITER, &[("MAX_REJECTED", "4")]);
    writer.ends_with(70).await;
    let ending = flow.ending(WRITER).await;
    assert_eq!(
        (ending.event, ending.retryable),
        (EventKind::Error, Some(false))
    );
    let message = ending.error_message.unwrap();
    assert!(message.contains("MAX_REJECTED"), "{message}");
    for (letter, (_, error)) in flow.dead_letters().await.iter().zip(POISON) {
        let said = headers::get(letter, "streamforge-dlq-error").unwrap();
        assert!(said.contains(error), "{said:?}, not {error:?}");
    }
}

#[tokio::test]
async fn a_hole_in_the_sequence_is_lost_data() {
    let flow = Flow::start(Plan::three_days()).await;
    let record = |n: i64| {
        format!(
            r#"{{"_key":"BTCUSDT_1m_{n}","symbol":"BTCUSDT","interval":"1m","open_time":{n},"close_time":{n},"open":1,"high":1,"low":1,"close":1,"volume":1,"quote_asset_volume":1,"number_of_trades":1,"taker_buy_base_asset_volume":1,"taker_buy_quote_asset_volume":1,"exchange":"binance"}}"#
        )
    };
    for seq in ["1", "2", "4"] {
        let payload = record(seq.parse::<i64>().unwrap() * 60_000);
        flow.kafka
            .publish(
                &flow.topic,
                Some(0),
                "BTCUSDT",
                &payload,
                &[("streamforge-seq", seq)],
            )
            .await
            .unwrap();
    }
    flow.writer().ends_with(70).await;
    let message = flow.ending(WRITER).await.error_message.unwrap();
    assert!(
        message.contains('3') && message.contains('4') && message.contains(&flow.topic),
        "{message}"
    );
}
