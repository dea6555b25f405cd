//! `streamforge demo`, as a person types it.

use std::process::{Output, Stdio};

use serde_json::Value;
use streamforge_devstack::recordings::recordings_dir;
use tokio::process::Command;

use crate::{
    process::LIMIT,
    recorded::{PAGES, RANGE},
};

async fn demo(arguments: &[&str]) -> Output {
    let running = Command::new(env!("CARGO_BIN_EXE_streamforge"))
        .arg("demo")
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(LIMIT, running).await.unwrap().unwrap()
}

fn json(output: &Output) -> Value {
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stdout.lines().count(), 1, "one object, one line: {stdout}");
    serde_json::from_str(&stdout).unwrap()
}

#[tokio::test]
async fn loads_generated_candles_of_two_symbols() {
    let summary = json(
        &demo(&[
            "--symbol",
            "BTCUSDT",
            "--symbol",
            "XYZUSDT",
            "--time-range",
            "2024-08-01:2024-08-02",
            "--json",
        ])
        .await,
    );
    for (name, count) in [
        ("fetched", 5_760),
        ("published", 5_760),
        ("written", 5_760),
        ("missing", 0),
        ("rejected", 0),
    ] {
        assert_eq!(summary[name], count, "{summary}");
    }
    assert!(
        summary["seconds"]
            .as_f64()
            .is_some_and(|seconds| seconds > 0.0)
    );
}

#[tokio::test]
async fn replays_recorded_pages() {
    let Some(folder) = recordings_dir() else {
        return;
    };
    let files = PAGES.map(|page| folder.join(page).to_string_lossy().into_owned());
    let arguments = [
        "--replay",
        &files[0],
        "--replay",
        &files[1],
        "--symbol",
        "BTCUSDT",
        "--interval",
        "1h",
        "--time-range",
        RANGE,
        "--json",
    ];
    let summary = json(&demo(&arguments).await);
    for (name, count) in [
        ("fetched", 1_468),
        ("published", 1_468),
        ("written", 1_468),
        ("missing", 3),
        ("rejected", 0),
    ] {
        assert_eq!(summary[name], count, "{summary}");
    }
}

/// The last minute of an hour ends where the hour does, and so on.
#[tokio::test]
async fn recorded_pages_are_not_taken_for_another_interval() {
    let Some(folder) = recordings_dir() else {
        return;
    };
    let hours = folder.join(PAGES[0]).to_string_lossy().into_owned();
    let minutes = folder.join("rest/klines_BTCUSDT_1m_start1588740088000_end1588743688000.json");
    let minutes = minutes.to_string_lossy().into_owned();
    for (page, more) in [
        (&minutes, &["--interval", "1h"][..]),
        (&hours, &["--interval", "1m"]),
        (
            &hours,
            &["--interval", "4h", "--time-range", "2020-05-06:2020-05-06"],
        ),
        (
            &hours,
            &["--interval", "1h", "--time-range", "2021-05-06:2021-05-06"],
        ),
    ] {
        let output = demo(&[&["--replay", page.as_str()], more].concat()).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{page} {more:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn a_load_of_nothing_is_called_so() {
    let output = demo(&["--time-range", "2010-01-01:2010-01-02"]).await;
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("0 candles: not listed yet"), "{stdout}");
    assert!(!stdout.contains("Everything"), "{stdout}");
}

#[tokio::test]
async fn says_what_it_did_in_plain_lines_where_there_is_no_terminal() {
    let output = demo(&["--time-range", "2024-08-01:2024-08-01"]).await;
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stderr}");
    assert!(
        stdout.contains("1440") || stdout.contains("1,440"),
        "{stdout}"
    );
    assert!(
        !stdout.contains('\x1b') && !stderr.contains('\x1b'),
        "no colour and no bar without a terminal"
    );
}

#[tokio::test]
async fn wrong_usage_ends_with_2() {
    for arguments in [
        &["--interval", "1H"][..],
        &["--symbol", "btc usdt"],
        &["--time-range", "2024-08-02:2024-08-01"],
        &["--replay", "/nowhere.json"],
        &["--live", "--replay", "x.json"],
        &["--live", "--api-url", "ftp://x"],
        &["--frobnicate"],
    ] {
        let output = demo(arguments).await;
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
}
