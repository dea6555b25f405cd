//! The flows that come with the program, and what a request makes of them.

use serde_json::json;

use super::*;
use crate::plan::planner_for_tests;

fn flows() -> Flows {
    Flows::read(DEFAULT, &planner_for_tests()).unwrap()
}

fn start(body: &Value) -> Result<Plan, FieldErrors> {
    let launched = "2024-08-20T12:00:00Z".parse().unwrap();
    flows().start(
        body,
        &planner_for_tests(),
        launched,
        "abc123".parse().unwrap(),
    )
}

#[test]
fn the_flows_that_come_with_it_are_planned_as_written() {
    for name in ["default_candles_flow", "dummy_flow"] {
        let plan = start(&json!({"flow_name": name})).unwrap();
        insta::assert_json_snapshot!(name, plan);
    }
}

#[test]
fn a_request_changes_symbol_range_and_variables() {
    let plan = start(&json!({
        "flow_name": "default_candles_flow",
        "symbol": "1INCHUSDT",
        "time_range": "2024-08-02:2024-08-03",
        "extra_params": {"BATCH_MAX_RECORDS": 500, "LOG_LEVEL": "debug"},
    }))
    .unwrap();
    assert_eq!(plan.symbol.as_str(), "1INCHUSDT");
    assert_eq!(
        plan.workers[1].collection_name.as_deref(),
        Some("c_1inchusdt_api_candles_1m_2024_08_02")
    );
    let has = |nth: usize, name: &str| plan.workers[nth].env.contains_key(name);
    assert!(!has(0, "BATCH_MAX_RECORDS") && has(1, "BATCH_MAX_RECORDS"));
    assert!(has(0, "LOG_LEVEL") && has(1, "LOG_LEVEL"));
}

#[test]
fn each_fault_of_a_request_is_named() {
    for (body, field, expected) in [
        (json!({}), "flow_name", "text"),
        (
            json!({"flow_name": "x"}),
            "flow_name",
            "default_candles_flow, dummy_flow",
        ),
        (
            json!({"flow_name": "dummy_flow", "time_range": "2024-08-01:2024-08-02"}),
            "time_range",
            "none",
        ),
        (
            json!({"flow_name": "dummy_flow", "extra_params": {"KAFKA_PASSWORD": "hunter2"}}),
            "extra_params.KAFKA_PASSWORD",
            "DUMMY_NOOP",
        ),
        (
            json!({"flow_name": "dummy_flow", "extra_params": {"DUMMY_RECORDS_TOTAL": 0}}),
            "extra_params.DUMMY_RECORDS_TOTAL",
            "from 1",
        ),
        (
            json!({"flow_name": "dummy_flow", "symbol": "btc"}),
            "symbol",
            "A-Z",
        ),
    ] {
        let errors = start(&body).unwrap_err();
        let all = errors.all();
        assert_eq!(all.len(), 1, "{body} gave {errors}");
        assert_eq!(all[0].field, field);
        assert!(all[0].expected.contains(expected), "{errors}");
        assert!(!errors.to_string().contains("hunter2"));
    }
}

#[test]
fn a_bad_file_is_refused_as_a_whole() {
    for (text, said) in [
        ("", "no flow"),
        ("{}", "no flow"),
        ("[1]", "no YAML mapping"),
        ("a: {symbol: BTCUSDT, colour: red}", "colour"),
        ("a: {symbol: A1}\na: {symbol: A1}", "no YAML mapping"),
    ] {
        let error = Flows::read(text, &planner_for_tests()).unwrap_err();
        assert!(error.to_string().contains(said), "{text:?}: {error}");
    }
}
