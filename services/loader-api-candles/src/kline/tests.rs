//! What is taken for a page, and what a kline becomes.

use serde_json::{Value, json};

use super::*;

const KLINE: &str = r#"[1722470400000,"64628.01000000","64640.00000000","64600.00000000","64610.43000000","12.34567000",1722470459999,"797620.12345678",812,"6.10000000","394211.50000000","0"]"#;

fn record(numbers: Numbers) -> Record {
    let klines = read_page(format!("[{KLINE}]").as_bytes()).unwrap().klines;
    let symbol = "BTCUSDT".parse().unwrap();
    klines[0].to_record(&symbol, Interval::Minute1, numbers)
}

#[test]
fn a_record_has_the_shape_of_the_contract_and_the_digits_of_the_exchange() {
    let record = record(Numbers::Json);
    assert_eq!(record.key, "BTCUSDT_1m_1722470400000");
    assert_eq!(record.open_time, TimestampMs(1_722_470_400_000));
    let text = String::from_utf8(record.value).unwrap();
    insta::assert_snapshot!(text.replace(",\"", ",\n\""), @r#"
    {"_key":"BTCUSDT_1m_1722470400000",
    "symbol":"BTCUSDT",
    "interval":"1m",
    "open_time":1722470400000,
    "close_time":1722470459999,
    "open":64628.01000000,
    "high":64640.00000000,
    "low":64600.00000000,
    "close":64610.43000000,
    "volume":12.34567000,
    "quote_asset_volume":797620.12345678,
    "number_of_trades":812,
    "taker_buy_base_asset_volume":6.10000000,
    "taker_buy_quote_asset_volume":394211.50000000,
    "exchange":"binance"}
    "#);
    Candle::parse(text.as_bytes()).unwrap();
}

#[test]
fn numbers_can_be_strings() {
    let value: Value = serde_json::from_slice(&record(Numbers::String).value).unwrap();
    assert_eq!(value["open"], "64628.01000000");
    assert_eq!(value["number_of_trades"], 812);
    assert_eq!(value["open_time"], 1_722_470_400_000_u64);
}

#[test]
fn an_empty_page_holds_no_kline() {
    assert_eq!(read_page(b"[]").unwrap().klines, []);
}

/// `KLINE` three times, a minute apart, with one cell of the second changed.
fn page_with(column: usize, cell: Value) -> String {
    let mut rows = Vec::new();
    for minute in 0..3 {
        let mut row: Vec<Value> = serde_json::from_str(KLINE).unwrap();
        row[0] = json!(1_722_470_400_000_u64 + minute * 60_000);
        row[6] = json!(1_722_470_459_999_u64 + minute * 60_000);
        rows.push(row);
    }
    rows[1][column] = cell;
    serde_json::to_string(&rows).unwrap()
}

#[test]
fn a_bad_cell_is_named_with_its_place() {
    for (column, cell, message) in [
        (
            1,
            json!("n/a"),
            r#"kline 1, column 1 (open): expected a decimal number, found "n/a""#,
        ),
        (
            4,
            json!("64,628.01"),
            r#"kline 1, column 4 (close): expected a decimal number, found "64,628.01""#,
        ),
        (
            5,
            json!(null),
            "kline 1, column 5 (volume): expected a decimal number, found null",
        ),
        (
            10,
            json!("NaN"),
            r#"kline 1, column 10 (taker buy quote asset volume): expected a decimal number, found "NaN""#,
        ),
        (
            8,
            json!(-1),
            "kline 1, column 8 (number of trades): expected a whole number, found -1",
        ),
        (
            0,
            json!("soon"),
            r#"kline 1, column 0 (open time): expected Unix milliseconds, found "soon""#,
        ),
        (
            0,
            json!(1_722_470_400_000_u64),
            "kline 1, column 0 (open time): expected a time after 1722470400000, found 1722470400000",
        ),
        (
            0,
            json!(1_722_470_400_000_000_u64),
            "kline 1, column 0 (open time): expected Unix milliseconds, found 1722470400000000",
        ),
        (
            6,
            json!(1_722_470_459_999_999_u64),
            "kline 1, column 6 (close time): expected Unix milliseconds, found 1722470459999999",
        ),
        (
            6,
            json!(1_722_470_459_998_u64),
            "kline 1, column 6 (close time): expected a time from 1722470460000 on, found 1722470459998",
        ),
    ] {
        let error = read_page(page_with(column, cell).as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

/// `KLINE` in these minutes, in this order.
fn page_of(minutes: &[u64]) -> String {
    let rows: Vec<String> = minutes
        .iter()
        .map(|minute| {
            KLINE
                .replace(
                    "1722470400000",
                    &(1_722_470_400_000 + minute * 60_000).to_string(),
                )
                .replace(
                    "1722470459999",
                    &(1_722_470_459_999 + minute * 60_000).to_string(),
                )
        })
        .collect();
    format!("[{}]", rows.join(","))
}

#[test]
fn exact_duplicates_are_left_out_and_counted() {
    for minutes in [
        &[0, 0, 1, 1, 1, 2][..],
        &[0, 1, 2, 0, 1, 2],
        &[0, 1, 0, 2, 2, 1],
    ] {
        let rows = read_page(page_of(minutes).as_bytes()).unwrap();
        assert_eq!((rows.klines.len(), rows.duplicates), (3, 3), "{minutes:?}");
        assert!(rows.klines.is_sorted_by_key(|kline| kline.open_time));
    }
    let other_close = page_of(&[0, 0]).replacen("64610.43", "64610.44", 1);
    let error = read_page(other_close.as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "kline 1, column 0 (open time): expected a time after 1722470400000, found 1722470400000"
    );
}

#[test]
fn rows_out_of_order_are_refused() {
    let error = read_page(page_of(&[2, 1, 0]).as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "kline 1, column 0 (open time): expected a time after 1722470520000, found 1722470460000"
    );
    assert!(error.is_about_rows());
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let page = format!("\u{feff}[{KLINE}]");
    assert_eq!(read_page(page.as_bytes()).unwrap().klines.len(), 1);
    assert_eq!(
        read_page("\u{feff}".as_bytes()).unwrap_err().to_string(),
        "expected a JSON array of klines, found nothing"
    );
}

#[test]
fn implausible_values_are_named_and_kept() {
    let suspect = |from: &str, to: &str| {
        let page = format!("[{}]", KLINE.replace(from, to));
        let kline = read_page(page.as_bytes()).unwrap().klines.remove(0);
        let record = kline.to_record(
            &"BTCUSDT".parse().unwrap(),
            Interval::Minute1,
            Numbers::Json,
        );
        let text = String::from_utf8(record.value).unwrap();
        assert!(text.contains(&format!(":{to},")), "{text}");
        kline.implausible().map(str::to_owned)
    };
    assert_eq!(
        suspect("12.34567000", "-8589934.59200000").as_deref(),
        Some("volume is -8589934.59200000, expected a number from 0 on")
    );
    assert_eq!(
        suspect("64640.00000000", "64600.00000001").as_deref(),
        Some("high 64600.00000001 is below open 64628.01000000")
    );
    assert_eq!(suspect("12.34567000", "-0.00000000"), None);
}

#[test]
fn what_is_no_page_says_what_it_is() {
    let eleven = format!("[{}]", KLINE.replace(",\"0\"]", "]"));
    let cut = &page_with(11, json!("0"))[..200];
    for (body, message) in [
        (
            "<!doctype html>\n<html><body>Bad\n gateway</body></html>",
            "expected a JSON array of klines, found <!doctype html> <html><body>Bad gateway</body></html>",
        ),
        (cut, "the answer is cut short after 200 bytes"),
        ("", "expected a JSON array of klines, found nothing"),
        (
            r#"{"code":0}"#,
            r#"expected a JSON array of klines, found {"code":0}"#,
        ),
        (
            r#"[{"t":1}]"#,
            r#"kline 0: expected an array, found {"t":1}"#,
        ),
        (&eleven, "kline 0 has 11 columns, expected 12"),
    ] {
        assert_eq!(
            read_page(body.as_bytes()).unwrap_err().to_string(),
            message,
            "{body:?}"
        );
    }
}

#[test]
fn an_excerpt_is_short_and_never_splits_a_character() {
    let long = "é".repeat(1_000);
    let text = excerpt(long.as_bytes());
    assert!(
        text.chars().count() <= 81 && text.ends_with('…'),
        "{text:?}"
    );
}
