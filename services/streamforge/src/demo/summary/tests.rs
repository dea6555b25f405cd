use std::time::Duration;

use serde_json::json;
use streamforge_utils::protocol::Interval;

use super::*;
use crate::events::tests::event;

fn workflow() -> Workflow {
    Workflow {
        queue_id: "wf-btcusdt-api_candles_1h-20240801-abc123".parse().unwrap(),
        symbol: "BTCUSDT".parse().unwrap(),
        interval: Interval::Hour1,
        range: "2020-04-30T21:00:00Z/2020-07-01T04:00:00Z".parse().unwrap(),
        data_topic: "wf-btcusdt-api_candles_1h-20240801-abc123-data".to_owned(),
        collection: "btcusdt_api_candles_1h_2020_04_30".to_owned(),
        partitions: 1,
    }
}

fn ended(loader: i32, writer: i32) -> BothEnded {
    let ended = |code| Ended {
        exit_code: Some(code),
        attempts: 1,
    };
    BothEnded {
        loader: ended(loader),
        writer: ended(writer),
        took: Duration::from_millis(4_200),
    }
}

fn loader() -> Event {
    event(
        loader_api_candles::SERVICE,
        "finished",
        json!({
            "records_written": 1468, "records_total": 1471, "records_missing": 3, "finished": true,
            "gaps": [{"start": 1_593_309_600_000_i64, "end": 1_593_320_400_000_i64, "missing": 3}],
        }),
    )
}

fn writer(written: u64) -> Event {
    event(
        arango_candles::SERVICE,
        "finished",
        json!({"records_written": written, "finished": true}),
    )
}

fn counted(before: u64, after: u64) -> Counted {
    Counted {
        before,
        after: Ok(after),
    }
}

fn report(loader: &Event, writer: &Event, counted: &Counted) -> WorkflowReport {
    let events = [Some(loader), Some(writer)];
    WorkflowReport::new(&workflow(), &ended(0, 0), events, counted, false)
}

#[test]
fn a_whole_load_has_this_shape() {
    let report = Report::new(
        vec![report(&loader(), &writer(1468), &counted(0, 1468))],
        4.2,
    );
    insta::assert_json_snapshot!("json", report);
    insta::assert_snapshot!("text", report.text());
}

#[test]
fn several_workflows_are_added_up() {
    let one = report(&loader(), &writer(1468), &counted(0, 1468));
    let report = Report::new(vec![one.clone(), one], 5.0);
    insta::assert_snapshot!("text_of_two", report.text());
}

#[test]
fn a_failed_loader_is_told_in_its_own_words() {
    let failed = event(
        loader_api_candles::SERVICE,
        "error",
        json!({"records_written": 1000, "records_total": 1471, "finished": true, "error_message": "no such symbol"}),
    );
    let drained = event(
        arango_candles::SERVICE,
        "interrupted",
        json!({"records_written": 1000, "finished": true, "reason": "stop"}),
    );
    let events = [Some(&failed), Some(&drained)];
    let of = WorkflowReport::new(&workflow(), &ended(70, 0), events, &counted(0, 1000), false);
    assert_eq!(of.outcome, Outcome::Failed);
    assert_eq!(
        of.counts.fetched, 1000,
        "what a loader fetched and did not publish is not known"
    );
    insta::assert_snapshot!("text_of_a_failure", Report::new(vec![of], 4.2).text());
}

#[test]
fn numbers_that_do_not_agree_are_a_failure() {
    for (writer, counted, failure) in [
        (
            writer(1468),
            counted(0, 1467),
            "the writer says 1468 written, and the database has 1467",
        ),
        (
            writer(1467),
            counted(0, 1467),
            "1468 candles were published, 1467 written and 0 rejected",
        ),
        (
            writer(1468),
            counted(2000, 1999),
            "the writer says 1468 written, and the database, which had 2000 before, has 1999",
        ),
        (
            writer(1468),
            Counted {
                before: 0,
                after: Err(anyhow::anyhow!("no answer")),
            },
            "the documents in the database could not be counted: no answer",
        ),
    ] {
        let report = report(&loader(), &writer, &counted);
        assert_eq!(report.failures, [failure]);
        assert_eq!(report.outcome, Outcome::Failed);
    }
    let lost = event(
        loader_api_candles::SERVICE,
        "finished",
        json!({"records_written": 1468, "records_total": 1471, "finished": true}),
    );
    let report = report(&lost, &writer(1468), &counted(0, 1468));
    assert_eq!(
        report.failures,
        ["1471 candles were fetched and 1468 published"]
    );
}

#[test]
fn a_collection_that_was_there_before_may_hold_more() {
    let report = report(&loader(), &writer(1468), &counted(1000, 2000));
    assert_eq!(report.outcome, Outcome::Finished);
    assert_eq!(report.counts.written, 1468);
}

#[test]
fn a_worker_that_says_nothing_is_a_failure() {
    for (code, failure) in [
        (
            70,
            "loader-api-candles ended (exit code 70) and said nothing",
        ),
        (
            78,
            "loader-api-candles refused its configuration, see its log",
        ),
    ] {
        let events = [None, Some(&writer(0))];
        let of = WorkflowReport::new(&workflow(), &ended(code, 0), events, &counted(0, 0), false);
        assert_eq!(of.failures, [failure]);
    }
}

#[test]
fn after_ctrl_c_nothing_is_a_failure() {
    let events = [None, None];
    let of = WorkflowReport::new(&workflow(), &ended(143, 143), events, &counted(0, 0), true);
    assert_eq!((of.outcome, of.failures.len()), (Outcome::Interrupted, 0));
}

#[test]
fn nothing_is_not_everything() {
    let message = "0 candles: no candle opens in the range";
    let nothing = event(
        loader_api_candles::SERVICE,
        "finished",
        json!({"records_total": 0, "finished": true, "message": message}),
    );
    let nothing = report(&nothing, &writer(0), &counted(0, 0));
    let text = Report::new(vec![nothing.clone()], 4.2).text();
    assert!(
        text.ends_with(&format!("\nBTCUSDT 1h: {message}\n")),
        "{text}"
    );

    let all = report(&loader(), &writer(1468), &counted(0, 1468));
    let text = Report::new(vec![nothing, all], 4.2).text();
    assert!(text.contains(message), "{text}");
    assert!(text.contains("Everything that the exchange has"), "{text}");
}
