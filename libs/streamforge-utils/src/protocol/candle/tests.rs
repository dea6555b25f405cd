//! What is a candle and what is not.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const RECORD: &str = r#"{"_key":"BTCUSDT_1m_1722470400000","symbol":"BTCUSDT","interval":"1m","open_time":1722470400000,"close_time":1722470459999,"open":64628.01,"high":64640.00,"low":64600.00,"close":64610.43,"volume":12.34567,"quote_asset_volume":797620.12345678,"number_of_trades":812,"taker_buy_base_asset_volume":6.1,"taker_buy_quote_asset_volume":394211.5,"exchange":"binance"}"#;

#[test]
fn passes_every_digit_through() {
    let candle = Candle::parse(RECORD.as_bytes()).unwrap();
    assert_eq!(candle.high.digits(), "64640.00");
    assert_eq!(
        serde_json::to_string(&candle).unwrap(),
        RECORD,
        "the shape of the contract, byte for byte"
    );
}

#[test]
fn writes_strings_where_asked() {
    let mut candle = Candle::parse(RECORD.as_bytes()).unwrap();
    candle.volume = Decimal::new("12.345670000000000001", Numbers::String).unwrap();
    let text = serde_json::to_string(&candle).unwrap();
    assert!(
        text.contains(r#""volume":"12.345670000000000001""#),
        "{text}"
    );
    let again = Candle::parse(text.as_bytes()).unwrap();
    assert_eq!(again.volume.digits(), "12.345670000000000001");
}

#[test]
fn keeps_to_the_number_grammar_of_json() {
    for right in [
        "0",
        "-0",
        "1.50000000",
        "12",
        "0.1",
        "1e5",
        "1E-5",
        "1.5e+10",
    ] {
        assert!(Decimal::new(right, Numbers::Json).is_some(), "{right}");
        serde_json::from_str::<Value>(right).unwrap();
    }
    for wrong in [
        "", "-", "01", ".5", "1.", "+1", "1e", "0x10", "NaN", "Infinity", "1 ", "1,5", "1_000",
        "--1", "1.5.1", "1e5.1",
    ] {
        assert!(Decimal::new(wrong, Numbers::Json).is_none(), "{wrong}");
    }
}

/// `RECORD` with one field changed.
fn changed(field: &str, value: Value) -> String {
    let mut record: Value = serde_json::from_str(RECORD).unwrap();
    record[field] = value;
    record.to_string()
}

#[test]
fn says_what_is_wrong_with_a_record() {
    let mut lacking: Value = serde_json::from_str(RECORD).unwrap();
    lacking.as_object_mut().unwrap().remove("high");
    for (record, message) in [
        (
            "gibberish".to_owned(),
            "not a candle: expected value at line 1 column 1",
        ),
        ("[1,2]".to_owned(), "expected a JSON object, found an array"),
        ("\"text\"".to_owned(), "found a string"),
        (" 12".to_owned(), "found a number"),
        (String::new(), "found nothing"),
        ("null".to_owned(), "not a candle: invalid type: null"),
        (RECORD[..100].to_owned(), "EOF while parsing"),
        (lacking.to_string(), "missing field `high`"),
        (
            changed("open", json!(-1.5)),
            "open is -1.5, expected a number from 0 on",
        ),
        (changed("open", json!("x")), "\"x\" is no decimal number"),
        (changed("open", json!(null)), "null is no decimal number"),
        (changed("high", json!(1)), "high 1 is below open 64628.01"),
        (
            changed("low", json!(64629)),
            "low 64629 is above open 64628.01",
        ),
        (
            changed("_key", json!("BTCUSDT_1m_1")),
            "_key is \"BTCUSDT_1m_1\", expected \"BTCUSDT_1m_1722470400000\"",
        ),
        (
            changed("open_time", json!("1722470400000")),
            "invalid type: string",
        ),
        (
            changed("close_time", json!(1)),
            "close_time 1 is before open_time",
        ),
        (changed("interval", json!("1H")), "unknown interval \"1H\""),
        (changed("number_of_trades", json!(-1)), "invalid value"),
        (changed("exchange", json!("")), "exchange is empty"),
        (
            RECORD.replace("64640.00", "1e999"),
            "high is 1e999, expected a number from 0 on",
        ),
        (
            RECORD.replace("\"open\":64628.01", "\"open\":1,\"open\":2"),
            "duplicate field `open`",
        ),
    ] {
        let error = Candle::parse(record.as_bytes()).unwrap_err().to_string();
        assert!(
            error.contains(message),
            "{record} gave {error:?}, not {message:?}"
        );
    }
}

#[test]
fn a_negative_zero_is_zero_and_less_is_not() {
    for zero in ["-0", "-0.00000000", "-0e5", "-0.0E-3"] {
        let record = RECORD.replace("12.34567", zero);
        let candle = Candle::parse(record.as_bytes()).unwrap();
        assert_eq!(candle.volume.digits(), zero);
    }
    // The last is a double's zero, and yet below 0.
    for negative in ["-8589934.59200000", "-0.00000001", "-1e-400"] {
        let record = RECORD.replace("12.34567", negative);
        let error = Candle::parse(record.as_bytes()).unwrap_err().to_string();
        let expected =
            format!("not a possible candle: volume is {negative}, expected a number from 0 on");
        assert_eq!(error, expected);
    }
}

#[test]
fn an_implausible_candle_is_still_a_candle() {
    for (changed, what) in [
        (
            RECORD.replace("12.34567", "-8589934.59200000"),
            "volume is -8589934.59200000, expected a number from 0 on",
        ),
        (
            RECORD.replace("64640.00", "1.5"),
            "high 1.5 is below open 64628.01",
        ),
        (
            RECORD.replace("64600.00", "70000"),
            "low 70000 is above open 64628.01",
        ),
    ] {
        let candle = Candle::read(changed.as_bytes()).unwrap();
        assert_eq!(candle.implausible().as_deref(), Some(what));
    }
    assert_eq!(Candle::read(RECORD.as_bytes()).unwrap().implausible(), None);
    let other = RECORD.replace("BTCUSDT_1m_1722470400000", "BTCUSDT_1m_1");
    assert!(
        Candle::read(other.as_bytes()).is_err(),
        "a key of another candle"
    );
}

#[test]
fn lets_unknown_fields_through() {
    let record = changed("note", json!("later versions may say more"));
    Candle::parse(record.as_bytes()).unwrap();
}

proptest! {
    #[test]
    fn what_json_takes_for_a_number_is_what_we_take(text in "[-+0-9.eE]{0,12}") {
        let json = serde_json::from_str::<&RawValue>(&text).is_ok();
        prop_assert_eq!(Decimal::new(&text, Numbers::Json).is_some(), json, "{}", text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Candle::parse(&bytes);
    }
}
