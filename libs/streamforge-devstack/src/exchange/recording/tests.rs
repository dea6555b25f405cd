//! Bad files are refused by name, and pages become one recording.

use super::*;

const GOOD: &str = r#"[1588280400000,"8819.15000000","8849.80000000","8734.50000000","8761.92000000","3089.56054500",1588283999999,"27174569.16633405",34467,"1553.36149800","13666586.86496907","0"]"#;

fn kline(open_time: i64) -> String {
    GOOD.replace("1588280400000", &open_time.to_string())
        .replace("1588283999999", &(open_time + 3_599_999).to_string())
}

fn read(files: &[&str]) -> Result<Recording, RecordingError> {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = files
        .iter()
        .enumerate()
        .map(|(number, text)| {
            let path = folder.path().join(format!("page-{number}.json"));
            fs::write(&path, text).unwrap();
            path
        })
        .collect();
    Recording::from_files("BTCUSDT", Interval::Hour1, paths)
}

#[test]
fn pages_are_merged_by_open_time() {
    let hour = |number: i64| kline(1_588_280_400_000 + number * 3_600_000);
    let recording = read(&[
        &format!("[{},{}]", hour(2), hour(3)),
        &format!("[{},{},{}]", hour(0), hour(1), hour(2)),
    ])
    .unwrap();
    assert_eq!(recording.len(), 4);
    let query = Query {
        interval: Interval::Hour1,
        start: None,
        end: None,
        limit: 10,
    };
    let rows = recording.rows(&query, TimestampMs::now());
    assert!(rows.is_sorted_by(|a, b| a.open_time < b.open_time));
    assert_eq!(rows[0].json, GOOD, "digit for digit");
}

#[test]
fn what_has_not_opened_by_the_clock_is_not_there() {
    let recording = read(&[&format!("[{},{}]", kline(0), kline(3_600_000))]).unwrap();
    let query = Query {
        interval: Interval::Hour1,
        start: Some(TimestampMs(0)),
        end: None,
        limit: 10,
    };
    assert_eq!(recording.rows(&query, TimestampMs(3_599_999)).len(), 1);
    assert_eq!(recording.rows(&query, TimestampMs(3_600_000)).len(), 2);
    let query = Query {
        start: Some(TimestampMs(9_000_000)),
        ..query
    };
    assert_eq!(recording.rows(&query, TimestampMs(4_000_000)).len(), 0);
}

#[test]
fn a_bad_file_says_where_and_what_was_expected() {
    let other = kline(0).replace("8819.15", "8819.16");
    for (files, message) in [
        (
            vec!["{\"code\":-1121,\"msg\":\"Invalid symbol.\"}".to_owned()],
            "page-0.json: expected a JSON array of klines",
        ),
        (
            vec![format!("[{GOOD},[1,2]]")],
            "page-0.json: kline 1: expected an array of 12 columns, found [1,2]",
        ),
        (
            vec![format!(
                "[{}]",
                GOOD.replace("\"8761.92000000\"", "8761.92")
            )],
            "kline 0: expected a decimal in quotes in column 4, the close price",
        ),
        (
            vec![format!("[{}]", GOOD.replace("8761.92000000", "NaN"))],
            "column 4, the close price",
        ),
        (
            vec![format!("[{}]", GOOD.replace("34467", "\"34467\""))],
            "an integer number of trades in column 8",
        ),
        (
            vec![format!("[{}]", GOOD.replace("1588283999999", "1"))],
            "a close time that is not before the open time",
        ),
        (
            vec![format!("[{}]", kline(0)), format!("[{other}]")],
            "page-1.json: kline 0: expected the same digits as read before for the open time 1970-01-01T00:00Z",
        ),
        (
            vec!["[]".to_owned()],
            "expected at least one kline in the recording of BTCUSDT 1h, found none in 1 file(s)",
        ),
    ] {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let error = read(&files).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let error =
        Recording::from_files("BTCUSDT", Interval::Hour1, ["/does/not/exist.json"]).unwrap_err();
    assert_eq!(error.to_string(), "can't read /does/not/exist.json");
}
