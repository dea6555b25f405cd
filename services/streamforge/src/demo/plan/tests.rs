use clap::Parser;
use streamforge_devstack::{exchange::Exchange, recordings::recordings_dir};

use super::*;
use crate::cli::{Cli, Command};

fn args(typed: &[&str]) -> DemoArgs {
    let command = ["streamforge", "demo"].iter().chain(typed);
    match Cli::try_parse_from(command).unwrap().command {
        Command::Demo(args) => *args,
        _ => unreachable!("demo was typed"),
    }
}

fn launched() -> TimestampMs {
    "2024-09-01T12:00:00Z".parse().unwrap()
}

fn planned(typed: &[&str]) -> Result<Vec<Workflow>, PlanError> {
    let args = args(typed);
    let source = Source::new(&args.exchange, &args.symbols, args.interval)?;
    workflows(&args, &source, launched())
}

fn refusal(typed: &[&str]) -> String {
    planned(typed).unwrap_err().to_string()
}

#[test]
fn a_demo_without_flags_loads_a_week_of_minutes() {
    let workflows = planned(&[]).unwrap();
    let [workflow] = workflows.as_slice() else {
        panic!("one workflow, not {}", workflows.len());
    };
    assert_eq!(workflow.name(), "BTCUSDT 1m");
    assert_eq!(workflow.range.as_str(), "2024-08-01:2024-08-07");
    assert_eq!(workflow.collection, "btcusdt_api_candles_1m_2024_08_01");
    assert_eq!(workflow.partitions, 1);
    let id = workflow.queue_id.as_str();
    assert!(
        id.starts_with("wf-btcusdt-api_candles_1m-20240901-"),
        "{id}"
    );
    assert_eq!(workflow.data_topic, format!("{id}-data"));
}

#[test]
fn every_symbol_has_its_workflow() {
    let workflows = planned(&[
        "--symbol",
        "ETHUSDT",
        "--symbol",
        "XYZUSDT",
        "--interval",
        "1h",
    ])
    .unwrap();
    let names: Vec<_> = workflows.iter().map(Workflow::name).collect();
    assert_eq!(names, ["ETHUSDT 1h", "XYZUSDT 1h"]);
    assert_ne!(workflows[0].queue_id, workflows[1].queue_id);
}

#[test]
fn the_broker_keeps_all_of_it() {
    for (candles, partitions) in [
        (0, 1),
        (1, 1),
        (30_000, 1),
        (30_001, 2),
        (604_800, 21),
        (MAX_CANDLES, 67),
    ] {
        assert_eq!(partitions_for(candles), partitions, "{candles} candles");
    }
    // An end in the future is no reason for more partitions: those candles do not exist yet.
    let ahead = planned(&["--time-range", "2024-08-31:2099-12-31"]).unwrap();
    assert_eq!(ahead[0].partitions, 1);
}

#[test]
fn a_replay_loads_what_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("klines.json");
    let kline = |open: i64| {
        format!(
            r#"[{open},"1","1","1","1","1",{},"1",1,"1","1","0"]"#,
            open + 3_599_999
        )
    };
    let (first, last) = (1_588_280_400_000, 1_588_291_200_000);
    std::fs::write(&file, format!("[{},{}]", kline(first), kline(last))).unwrap();
    let file = file.to_str().unwrap();

    let workflows = planned(&["--replay", file, "--interval", "1h"]).unwrap();
    assert_eq!(workflows[0].range.start(), TimestampMs(first));
    assert_eq!(workflows[0].range.end(), TimestampMs(last + 3_600_000));

    assert!(
        refusal(&[
            "--replay", file, "--symbol", "BTCUSDT", "--symbol", "ETHUSDT"
        ])
        .contains("one symbol, and 2")
    );
    let of = |range| ["--replay", file, "--interval", "1h", "--time-range", range];
    for range in [
        "2020-04-30:2020-04-30",
        "2020-05-01:2020-05-02",
        "2020-04-01:2020-06-01",
        "2020-04-30T22:30:00Z/2020-04-30T22:31:00Z",
    ] {
        assert!(planned(&of(range)).is_ok(), "{range}");
    }
    for range in [
        "2020-06-01:2020-06-02",
        "2020-05-01T01:00:00Z/2020-05-01T02:00:00Z",
        "2020-04-30T20:00:00Z/2020-04-30T21:00:00Z",
    ] {
        let refusal = refusal(&of(range));
        let wrong = format!(
            "--time-range {range} has nothing of the recording, which is of 2020-04-30T21:00Z to 2020-05-01T01:00Z"
        );
        assert_eq!(refusal, wrong);
    }
    assert!(refusal(&["--replay", "nowhere.json"]).contains("can't read nowhere.json"));
}

#[test]
fn recorded_pages_are_of_their_own_interval() {
    let Some(folder) = recordings_dir() else {
        return;
    };
    for (page, interval) in [
        (
            "klines_BTCUSDT_1h_start1588280400000_end1591880400000_limit1000",
            "1h",
        ),
        (
            "klines_BTCUSDT_1h_start1591880400000_end1593572400000_limit1000_GAP",
            "1h",
        ),
        (
            "klines_BTCUSDT_1m_start1588740088000_end1588743688000",
            "1m",
        ),
        (
            "klines_BTCUSDT_1d_start1546300800000_end1577836799000_limit1000",
            "1d",
        ),
        ("klines_BTCUSDT_5m_limit24", "5m"),
    ] {
        let file = folder.join(format!("rest/{page}.json"));
        let file = file.to_str().unwrap();
        for other in Interval::ALL.map(Interval::as_str) {
            let planned = planned(&["--replay", file, "--interval", other]);
            if other == interval {
                assert!(planned.is_ok(), "{page}: {planned:?}");
                continue;
            }
            let refusal = planned.unwrap_err().to_string();
            let wrong = format!("are of {interval}, and --interval is {other}");
            assert!(refusal.ends_with(&wrong), "{refusal}");
        }
    }
}

#[test]
fn an_address_that_no_exchange_can_have_is_refused() {
    for url in [
        "ftp://x",
        "file:///tmp/x",
        "data:x",
        "https://me:secret@x",
        "https://x/?a=b",
    ] {
        let refusal = refusal(&["--live", "--api-url", url]);
        assert!(refusal.starts_with("--api-url has to be"), "{url}");
    }
    assert!(planned(&["--live", "--api-url", "http://127.0.0.1:1/"]).is_ok());
}

#[test]
fn says_what_can_not_be_done() {
    for (typed, message) in [
        (
            &["--symbol", "BTCUSDT", "--symbol", "BTCUSDT"][..],
            "BTCUSDT was given twice",
        ),
        (
            &["--time-range", "2098-01-01:2099-01-01"],
            "starts in the future",
        ),
        (
            &["--interval", "1s", "--time-range", "2023-01-01:2023-12-31"],
            "31536000 candles is too much",
        ),
    ] {
        let refusal = refusal(typed);
        assert!(refusal.contains(message), "{typed:?} gave {refusal:?}");
    }
}

#[tokio::test]
async fn any_symbol_that_can_be_planned_can_be_listed() {
    for symbol in ["XYZUSDT", "1INCHUSDT", "AB", "ABCDEFGHIJ0123456789"] {
        let workflows = planned(&["--symbol", symbol]).unwrap();
        let exchange = Exchange::builder()
            .symbols([workflows[0].symbol.as_str()])
            .start()
            .await
            .unwrap();
        exchange.stop().await;
    }
}
